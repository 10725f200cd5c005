"""Which errors of SQLite pass, which mean damage, and the words for an operator."""

import sqlite3
from typing import Final

from tunerd.ledger.sql.columns import Unsound

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


def is_trouble(exc: BaseException) -> bool:
    """The disk, or another program, is in the way. It may pass, and the same command may be tried again."""
    return _code(exc) in _WORDS


class LedgerDamaged(sqlite3.DatabaseError):
    """Damage was found while tunerd ran: the process ends, and the next start rebuilds the ledger."""

    def __init__(self) -> None:
        super().__init__("the ledger's file is damaged; tunerd rebuilds it when it is started again")


class LedgerGone(Exception):
    """The ledger's file was removed or replaced while tunerd ran: what is written would be lost, so the process ends."""


def is_damage(exc: BaseException) -> bool:
    """The file holds no sound database. (For text that is not UTF-8 sqlite3 gives no code.)"""
    if isinstance(exc, sqlite3.OperationalError) and str(exc).startswith("Could not decode to UTF-8"):
        return True
    return isinstance(exc, (Unsound, UnicodeDecodeError)) or (isinstance(exc, sqlite3.Error) and _code(exc) in _DAMAGE)


def is_full(exc: BaseException) -> bool:
    return _code(exc) == sqlite3.SQLITE_FULL


def needs_reopening(exc: BaseException) -> bool:
    """After a failed sync or read nobody knows what the kernel still holds of the file; and a connection that was open while the
    file system was away is useless."""
    return _code(exc) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)


def words_for(exc: BaseException) -> str:
    """One line for an operator. It never quotes the statement."""
    return f"{_WORDS.get(_code(exc), 'the ledger cannot be written')} ({getattr(exc, 'sqlite_errorname', 'unknown')})"
