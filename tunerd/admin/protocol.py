"""What both ends of the control socket know: where it is, and how its path becomes an address."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MAX_SUN_PATH: Final = 107
"""Bytes that the address of a Unix socket may have."""
_MAX_NAME: Final = 80
RUN_DIRECTORY: Final = "/run/tunerd"
"""Of the service; other users may not look into it."""
BOUND_AS: Final = ".control-"
"""A control socket is bound under a name with this prefix, and then renamed to its own."""


class ControlError(Exception):
    """The control socket cannot be opened or does not answer; one line for an operator."""


def socket_places(ledger: str, env: Mapping[str, str], run_directory: str = RUN_DIRECTORY) -> list[Path]:
    """Where the daemon of this ledger may listen, the likeliest first. The daemon takes the first one; the last one is
    where the service's socket would be, whoever owns the ledger."""
    full = Path(os.path.realpath(ledger))
    short = f"control-{hashlib.sha256(os.fsencode(full)).hexdigest()[:12]}.sock"
    beside = full.with_name(full.name + ".sock" if len(os.fsencode(full.name)) + 5 <= _MAX_NAME else short)
    run = [Path(directory) for directory in env.get("RUNTIME_DIRECTORY", "").split(":")[:1] if directory]
    return [*(directory / short for directory in run), beside, Path(run_directory) / short]


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The path as a socket address; through a descriptor of its directory where it is too long for one."""
    if len(os.fsencode(path)) <= _MAX_SUN_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
