"""Keeps this process's memory, with keys and transcripts in it, out of core files. How an operator gets one all the same is in
docs/personal-data.md.
"""

import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

_FILTER: Final = Path("/proc/self/coredump_filter")
"""Which kinds of memory the kernel writes. A program that it pipes cores to gets one whatever the limit is."""


def leave_memory_out_of_cores() -> None:
    """No core file, and where one is written all the same, no memory in it. The hard limit stays, so that both can be undone from
    outside. A sandbox may forbid either; systemd's unit sets the limit itself."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):
        _FILTER.write_text("0")
