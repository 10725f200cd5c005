"""A file beside the ledger that keeps some room on its disk, and is given up when the disk is full."""

import errno
import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 4 * 1024 * 1024


class Reserve:
    """The file is deleted when the disk is full, so that the results of open requests can be written; it is made again when there
    is room."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(ledger.name + ".reserve")

    def free_bytes(self) -> int:
        """Of the file system, without the reserve; 0 if it cannot be asked."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def take(self) -> bool:
        """Make it. False: there is no room, or no right, for it."""
        try:
            if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
                return True
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                return False
            self.give_up()
            return False
        finally:
            os.close(fd)
        return True

    def give_up(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass
