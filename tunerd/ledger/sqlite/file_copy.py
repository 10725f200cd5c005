"""Both ends of a copy of a ledger that are files (ledger/copying.py). Blocking; the caller holds the locks."""

import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from tunerd.file_pattern import FILES, is_files_source
from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import COPIED, COPYING, MOVED, LastNumbers, Row
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import quoted
from tunerd.ledger.sqlite.connect import connect, prepare, scripts
from tunerd.ledger.sqlite.errors import words_for
from tunerd.ledger.sqlite.sqlite_database import LAST_DELETED, LAST_NUMBER, LAST_RECORDING

_OF_ONE_PROCESS: Final = frozenset({"holder", "claims", "volume", "owner"})
"""Columns that are 0 where one process owns the ledger."""
_MAY_MEET: Final = frozenset({"origin", "cut"})
"""Tables in which rows of two volumes may be the same once both are 0."""


class _FileEnd:
    def words(self, exc: Exception) -> str | None:
        return words_for(exc) if isinstance(exc, sqlite3.Error) else exc.strerror if isinstance(exc, OSError) else None


class FileSource(_FileEnd):
    def __init__(self, path: Path, now: float) -> None:
        """Raises LedgerRefused, and sqlite3.Error."""
        self._path = path
        self._db = connect(path)
        prepare(self._db, path, now, scripts())
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise LedgerRefused(f"{path} is damaged; start `tunerd run` with it once, which rebuilds it")

    def begin(self, target: str) -> int:
        number = meta.number(self._db.execute, COPYING + target, 0)
        if not number:
            number = secrets.randbits(62) | 1
            self._db.execute(meta.SET, (COPYING + target, number))
        return number

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        yield from self._db.execute(f"SELECT {quoted(columns)} FROM {table}")

    def last_numbers(self) -> LastNumbers:
        call = self._db.execute(LAST_NUMBER).fetchone()[0]
        return LastNumbers(call=max(call, meta.number(self._db.execute, LAST_DELETED, 0)),
                           recording=self._db.execute(LAST_RECORDING).fetchone()[0])  # fmt: skip

    def finish(self, target: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM meta WHERE name = ?", (COPYING + target,))
        self._db.execute(meta.SET, (MOVED + target, 1))
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class FileTarget(_FileEnd):
    """It is made under another name, and gets its own with the commit."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}.copying")
        self._now = now
        self._db: sqlite3.Connection | None = None

    def copied(self) -> int | None:
        if not self._path.exists():
            return None
        try:
            with closing(connect(self._path)) as db:
                return meta.number(db.execute, COPIED, 0)
        except sqlite3.DatabaseError:
            return 0

    def write(self, table: str, columns: Sequence[str], rows: Iterator[Row]) -> int:
        alone = partial(_of_one_process, columns=tuple(columns))
        how = "INSERT OR IGNORE" if table in _MAY_MEET else "INSERT"
        marks = ", ".join("?" * len(columns))
        written = self._open().executemany(f"{how} INTO {table} ({quoted(columns)}) VALUES ({marks})", map(alone, rows))
        return max(0, written.rowcount)

    def commit(self, number: int, last: LastNumbers) -> None:
        db = self._open()
        db.execute(meta.SET, (COPIED, number))
        known = max(db.execute(LAST_NUMBER).fetchone()[0], meta.number(db.execute, LAST_DELETED, 0))
        if last.call > known:
            db.execute(meta.SET, (LAST_DELETED, last.call))
        db.execute("COMMIT")
        db.close()  # with the last connection the log is written back
        for place, flags in ((self._unfinished, os.O_RDONLY), (self._path.parent, os.O_RDONLY | os.O_DIRECTORY)):
            if place == self._path.parent:
                self._unfinished.rename(self._path)
            fd = os.open(place, flags | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            for end in ("", "-wal", "-shm"):
                self._unfinished.with_name(self._unfinished.name + end).unlink(missing_ok=True)
            self._db = connect(self._unfinished)
            prepare(self._db, self._unfinished, self._now, scripts())
            self._db.execute("BEGIN IMMEDIATE")
        return self._db


def _of_one_process(row: Row, columns: Sequence[str]) -> Row:
    return [
        0 if name in _OF_ONE_PROCESS else FILES if name == "source" and is_files_source(str(value)) else value
        for name, value in zip(columns, row, strict=True)
    ]
