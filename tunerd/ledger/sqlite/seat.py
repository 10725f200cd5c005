"""Whether the ledger's path still names the file that is open. SQLite itself writes on into a file that was deleted."""

import os
from pathlib import Path


class Seat:
    """Remembers the open file by a descriptor that neither reads nor writes (O_PATH: closing it drops no lock of SQLite's).
    Blocking; call `take` again when another file was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def take(self) -> None:
        """Where it cannot be opened, or its inode says nothing on this file system, `is_lost` is never true."""
        self.leave()
        try:
            self._fd = os.open(self._path, os.O_PATH | os.O_CLOEXEC)
            mine = os.fstat(self._fd)
            if not mine.st_nlink or not os.path.samestat(mine, self._path.stat()):
                self.leave()
        except OSError:
            self.leave()

    def is_lost(self) -> bool:
        """It was deleted, moved away or replaced. A file system that went or came in between is another matter: that
        passes, and so may every error."""
        if self._fd < 0:
            return False
        try:
            mine = os.fstat(self._fd)
            if not mine.st_nlink:
                return True
            try:
                there = self._path.stat()
            except FileNotFoundError:
                return self._path.parent.stat().st_dev == mine.st_dev
        except OSError:
            return False
        return there.st_dev == mine.st_dev and there.st_ino != mine.st_ino

    def leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
