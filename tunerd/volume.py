"""What tells a directory from another one that stands at the same path on another machine, or after a new volume was mounted.

It is the file system's id, and the directory's inode and birth. An inode alone is given again. Where the birth is not known (some
network file systems) the other two have to do.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_SIZE: Final = 256
_MASK_AT: Final = 0
_BTIME_AT: Final = 80
"""Offsets in struct statx: the mask of what is filled in, and the birth as seconds (64 bits) and nanoseconds (32 bits)."""


def volume_of(path: Path) -> str:
    """Empty where the directory is not there, or cannot be looked at."""
    try:
        stat, system = os.stat(path), os.statvfs(path)
    except OSError:
        return ""
    return f"{system.f_fsid:x}-{stat.st_ino}-{_birth_ns(path)}"


def _birth_ns(path: Path) -> int:
    """0: not known."""
    found = ctypes.create_string_buffer(_SIZE)
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except (AttributeError, OSError):
        return 0
    if statx(_AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), 0, _STATX_BTIME, found) != 0:
        return 0
    raw = found.raw
    if not int.from_bytes(raw[_MASK_AT : _MASK_AT + 4], "little") & _STATX_BTIME:
        return 0
    seconds = int.from_bytes(raw[_BTIME_AT : _BTIME_AT + 8], "little", signed=True)
    return seconds * 1_000_000_000 + int.from_bytes(raw[_BTIME_AT + 8 : _BTIME_AT + 12], "little")
