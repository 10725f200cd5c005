"""What both ends of the control socket know: where it is."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tunerd.admin.socket_names import RUN_DIRECTORY, SUFFIX

_MAX_NAME: Final = 80


class ControlError(Exception):
    """The control socket cannot be opened or does not answer; one line for an operator."""


def socket_places(ledger: str, env: Mapping[str, str], run_directory: str = RUN_DIRECTORY) -> list[Path]:
    """Where the daemon of this ledger may listen, the likeliest first. The daemon takes the first one that it can
    use, but not the last one, which is where the service's socket would be, whoever owns the ledger."""
    full = Path(os.path.realpath(ledger))
    short = f"control-{hashlib.sha256(os.fsencode(full)).hexdigest()[:12]}{SUFFIX}"
    beside = full.with_name(full.name + SUFFIX if len(os.fsencode(full.name)) + 5 <= _MAX_NAME else short)
    run = [Path(directory) for directory in env.get("RUNTIME_DIRECTORY", "").split(":")[:1] if directory]
    return [*(directory / short for directory in run), beside, Path(run_directory) / short]
