"""The ledger's directory: whether a ledger may be in it, and whether its disk has room for more."""

import asyncio
import os
from pathlib import Path
from typing import Final

from tunerd.filesystem import is_network, kind_of
from tunerd.ledger import DiskUse, LedgerRefused, LedgerUnavailable

_CHECKED_EVERY_S: Final = 1.0


def check_directory(path: Path, create: bool) -> None:
    """Raises LedgerRefused if there cannot be a ledger at this path. `create=False`: it has to be there already."""
    kind = kind_of(path)
    if is_network(kind):
        raise LedgerRefused(
            f"{path} lies on a network file system ({kind}), where its locks do not hold; "
            "put ledger.url on a local disk (the sources may stay where they are)"
        )
    if not create and not path.exists():
        raise LedgerRefused(f"there is no ledger at {path}; `tunerd run` makes it")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise LedgerRefused(f"the directory {path.parent} of the ledger cannot be made: {exc.strerror}") from exc
    if path.is_dir():
        raise LedgerRefused(f"{path} is a directory; ledger.url names a file")
    for place in (path.parent, path) if path.exists() else (path.parent,):
        if not os.access(place, os.W_OK):
            raise LedgerRefused(f"{place} cannot be written (read-only, or another owner); the ledger needs a place of its own")


def disk_use(path: Path) -> DiskUse:
    """Of the ledger at this path. Raises OSError."""
    log = path.with_name(f"{path.name}-wal")
    disk = os.statvfs(path.parent)
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    return DiskUse(ledger_bytes=size, free_bytes=disk.f_bavail * disk.f_frsize)


class FreeSpace:
    """`ledger.min_free`: whether the disk has that much room left. Asks the disk once a second at most."""

    def __init__(self, directory: Path, min_bytes: int) -> None:
        self._directory = directory
        self.require(min_bytes)

    def require(self, min_bytes: int) -> None:
        self._min_bytes, self._checked_at, self._is_full = min_bytes, -_CHECKED_EVERY_S, False

    def check(self) -> None:
        """Raises LedgerUnavailable while there is less room than required."""
        if not self._min_bytes:
            return
        at = asyncio.get_running_loop().time()
        if at - self._checked_at >= _CHECKED_EVERY_S:
            self._checked_at = at
            try:
                disk = os.statvfs(self._directory)
                self._is_full = disk.f_bavail * disk.f_frsize < self._min_bytes
            except OSError as exc:
                raise LedgerUnavailable(f"the free space of the ledger's directory cannot be read ({exc.strerror})") from exc
        if self._is_full:
            raise LedgerUnavailable(
                "the disk of the ledger has less than ledger.min_free left; free some space, then tunerd continues"
            )
