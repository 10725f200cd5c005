"""Faults of the disk under the ledger: which they are, in whose words, and the reserve that is given up for them."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from tunerd.ledger.sql.codec import Unsound

RESERVE_BYTES: Final = 4 * 1024 * 1024

_WORDS: Final = {
    sqlite3.SQLITE_FULL: "the disk of the ledger is full",
    sqlite3.SQLITE_IOERR: "the disk of the ledger gives I/O errors",
    sqlite3.SQLITE_READONLY: "the ledger's file system is read-only",
    sqlite3.SQLITE_CANTOPEN: "the ledger's files cannot be opened (descriptors used up, or the directory is gone)",
    sqlite3.SQLITE_BUSY: "another program holds the ledger's file",
    sqlite3.SQLITE_LOCKED: "another program holds the ledger's file",
    sqlite3.SQLITE_NOMEM: "no memory is left for the ledger",
    sqlite3.SQLITE_PERM: "the ledger's file may not be written",
    sqlite3.SQLITE_PROTOCOL: "the ledger's file is locked by another program",
}
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _code(exc: BaseException) -> int:
    return getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_trouble(exc: sqlite3.Error) -> bool:
    """It may pass, and the same command may be tried again."""
    return _code(exc) in _WORDS


class LedgerDamaged(sqlite3.DatabaseError):
    """Damage was met while running: not to be mended in here. The process ends, and the next open rebuilds."""


class LedgerGone(Exception):
    """The ledger's file was removed or replaced while tunerd ran: what is written would be lost, so the process ends."""


def is_damage(exc: BaseException) -> bool:
    """What the file holds is no sound database. (sqlite3 tells of text that is no UTF-8 without any code.)"""
    if isinstance(exc, sqlite3.OperationalError) and str(exc).startswith("Could not decode to UTF-8"):
        return True
    return isinstance(exc, (Unsound, UnicodeDecodeError)) or (isinstance(exc, sqlite3.Error) and _code(exc) in _DAMAGE)


def is_full(exc: BaseException) -> bool:
    return _code(exc) == sqlite3.SQLITE_FULL


def needs_reopening(exc: BaseException) -> bool:
    """After a failed sync or read nobody knows what the kernel still holds of the file; a connection that was open
    while the file system was away is of no use either."""
    return _code(exc) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)


def words_for(exc: BaseException) -> str:
    """One line for an operator; never what the statement was about."""
    return f"{_WORDS.get(_code(exc), 'the ledger cannot be written')} ({getattr(exc, 'sqlite_errorname', 'unknown')})"


class Reserve:
    """A file beside the ledger that is deleted when the disk is full, so that the results of open requests can be
    written; made again when there is room."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(ledger.name + ".reserve")

    def free_bytes(self) -> int:
        """Of the file system, beside the reserve; 0 where it can't be asked."""
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def take(self) -> bool:
        """Make it; False where there is no room (or no right) for it."""
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
