"""Whether somebody still has a file open for writing. The kernel knows it of a local file system, and tells by a lease."""

import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import Final

from tunerd.filesystem import is_network, kind_of

QUIET_S: Final = 3600.0
"""Where nobody can know it: how long a file must not have changed before its writer counts as gone."""
_SET_LEASE: Final = getattr(fcntl, "F_SETLEASE", None)
_SET_SIGNAL: Final = getattr(fcntl, "F_SETSIG", None)
_SHARED: Final = ("fuse", "virtiofs", "vboxsf", "prl_fs", "drvfs")
"""File systems whose files another kernel, or a process behind this one, may write to."""


def has_writer(fd: int) -> bool | None:
    """Of a regular file that is open for reading: whether somebody has it open for writing now. None: nobody can know
    here (the file is another user's and this process has no CAP_LEASE, or the file system gives no leases).

    The lease is given back at once, so that whoever opens the file for writing waits for microseconds at most; the
    kernel's signal about that is one that every process ignores unless it asks for it."""
    if _SET_LEASE is None or _SET_SIGNAL is None:
        return None
    try:
        fcntl.fcntl(fd, _SET_SIGNAL, signal.SIGURG)  # else it were SIGIO, which ends a process
        fcntl.fcntl(fd, _SET_LEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    try:
        fcntl.fcntl(fd, _SET_LEASE, fcntl.F_UNLCK)
    except OSError:
        pass  # it ends with the descriptor
    return False


class Writers:
    """What has_writer says, where it says it of every writer there can be. Made anew for each batch of files: mounts
    come and go."""

    def __init__(self) -> None:
        self._is_shared: dict[int, bool] = {}

    def has_writer(self, fd: int, path: str) -> bool | None:
        """A lease of a shared file system says nothing about writers elsewhere."""
        found = has_writer(fd)
        if found is False:
            device = os.fstat(fd).st_dev
            if device not in self._is_shared:
                kind = kind_of(Path(path))
                self._is_shared[device] = is_network(kind) or kind.startswith(_SHARED)
            return None if self._is_shared[device] else False
        return found
