"""Whether the ledger's path still names the file that is open. SQLite itself continues to write to a file that was deleted."""

import os
from pathlib import Path


class InodeWatch:
    """Remembers the open file by a descriptor that neither reads nor writes (O_PATH: closing it drops no lock of SQLite's).
    Blocking; call `remember` again when another file was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def remember(self) -> None:
        """Watch the file that the path names now. Where it cannot be opened, or where inodes mean nothing on its file system,
        `is_replaced` is never true."""
        self.forget()
        try:
            self._fd = os.open(self._path, os.O_PATH | os.O_CLOEXEC)
            opened = os.fstat(self._fd)
            if not opened.st_nlink or not os.path.samestat(opened, self._path.stat()):
                self.forget()
        except OSError:
            self.forget()

    def is_replaced(self) -> bool:
        """The file was deleted, moved away or replaced. A file system that was mounted or unmounted in between does not
        count, and neither does any error: both may pass."""
        if self._fd < 0:
            return False
        try:
            opened = os.fstat(self._fd)
            if not opened.st_nlink:
                return True
            try:
                there = self._path.stat()
            except FileNotFoundError:
                return self._path.parent.stat().st_dev == opened.st_dev
        except OSError:
            return False
        return there.st_dev == opened.st_dev and there.st_ino != opened.st_ino

    def forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
