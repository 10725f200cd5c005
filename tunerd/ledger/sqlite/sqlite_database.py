"""The seam of sql/database.py on SQLite: transactions and their syncing, row numbers, statements for many rows.

SQLite lets Python's lock go for each statement, and whoever wants it back waits for the event loop: a statement for each row
made a batch of 256 new calls take three times as long (docs/decisions/ledger-speed.md). So rows go into few long statements,
of few different lengths, since each length has to be prepared once.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final, TypeVar

from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import on_conflict_replace, quoted
from tunerd.ledger.sql.database import Execute
from tunerd.ledger.sql.store import Store

T = TypeVar("T")

_MOST: Final = 64
"""Rows of one statement. SQLite keeps each prepared statement with a copy of the values that it wrote last."""
_ROUND: Final = 8

LAST_NUMBER: Final = "SELECT coalesce(max(row), 0) FROM call"
LAST_RECORDING: Final = "SELECT coalesce(max(row), 0) FROM recording"
_LAST_DELETED: Final = "last_row"
"""The newest call that was deleted: its number is not given again, in case somebody still remembers it."""
_COMMITS: Final = "commits"
"""Commits of the ledger's life: a file that was put back from a copy has fewer than the lock file says."""


class SqliteDatabase:
    """A connection whose schema is prepared (connect.py)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute: Execute = connection.execute
        self.commits_found = self.commits = meta.number(self.execute, _COMMITS, 0)
        """`commits_found`: when the file was opened."""
        self.committed: Callable[[int], None] = lambda count: None
        """Called after each commit that changed something, with the number of commits."""
        self._is_durable: bool | None = None
        self._changes_before = 0
        self._numbers: dict[str, int] = {}
        """The last number that was given, for each table; read when the first is asked for."""
        self._numbers_before: dict[str, int] = {}

    def begin(self, *, durable: bool) -> None:
        if durable is not self._is_durable:
            self.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        self._changes_before = self.connection.total_changes
        self._numbers_before = self._numbers.copy()
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """A transaction that changed nothing is not counted: its commit needs no sync and leaves no trace."""
        has_changed = self.connection.total_changes != self._changes_before
        if has_changed:
            self.execute(meta.SET, (_COMMITS, self.commits + 1))
        self.execute("COMMIT")
        if has_changed:
            self.commits += 1
            self.committed(self.commits)

    def rollback(self) -> bool:
        if self.connection.in_transaction:
            try:
                self.execute("ROLLBACK")
            except sqlite3.Error:
                pass
        self._numbers = self._numbers_before
        return not self.connection.in_transaction

    def next_number(self, table: str) -> int:
        self._numbers[table] = number = self._last_number(table) + 1
        return number

    def _last_number(self, table: str) -> int:
        if table not in self._numbers:
            last: int = self.execute(LAST_NUMBER if table == "call" else LAST_RECORDING).fetchone()[0]
            self._numbers[table] = max(last, meta.number(self.execute, _LAST_DELETED, 0)) if table == "call" else last
        return self._numbers[table]

    def retire_number(self, table: str, number: int) -> None:
        if table == "call" and number >= self._last_number(table):  # the table itself may not know the number any more
            self._numbers[table] = number
            self.execute(meta.SET, (_LAST_DELETED, number))

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]], key: Sequence[str] = ()) -> None:
        for part in _parts(rows):
            self.execute(_insert(table, tuple(names), tuple(key), len(part)), _flat(part))

    def update(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        no_row = (None,) * (len(names) + 1)
        for part in _filled(rows, no_row):
            self.execute(_update(table, tuple(names), len(part)), _flat(part))

    def delete(self, table: str, numbers: Sequence[int]) -> None:
        for part in _filled(numbers, None):
            self.execute(_delete(table, len(part)), part)

    def close(self) -> None:
        self.connection.close()

    # What only a file needs.

    def write_log_back(self) -> None:
        """Write the log back into the file and cut it off."""
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def wipe(self) -> None:
        """Leave nothing in the file of what was deleted: free pages are cut off, the log is written back and emptied."""
        self.write_log_back()
        self.connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page and stop
        self.write_log_back()

    def give_pages_back(self, pages: int) -> None:
        """Return free pages to the disk where there are more than `pages`, that many at a time."""
        if self.execute("PRAGMA freelist_count").fetchone()[0] > pages:
            self.connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Powers of two, so that there are few statements to prepare."""
    at, left = 0, len(items)
    while left:
        count = min(_MOST, 1 << (left.bit_length() - 1))
        yield items[at : at + count]
        at, left = at + count, left - count


def _filled(items: Sequence[T], no_row: T) -> Iterator[Sequence[T]]:
    """In fewer parts than `_parts`, where a row that does not exist does no harm: each is filled up to a round number."""
    for at in range(0, len(items), _MOST):
        part = items[at : at + _MOST]
        left = -len(part) % _ROUND if len(part) > 1 else 0
        yield [*part, *[no_row] * left] if left else part


def _flat(rows: Sequence[Sequence[object]]) -> Sequence[object]:
    return rows[0] if len(rows) == 1 else [value for values in rows for value in values]


@cache
def _insert(table: str, names: tuple[str, ...], key: tuple[str, ...], count: int) -> str:
    marks = f"({', '.join('?' * len(names))})"
    end = f" {on_conflict_replace(key, names)}" if key else ""
    return f"INSERT INTO {table} ({quoted(names)}) VALUES {', '.join([marks] * count)}{end}"


@cache
def _update(table: str, names: tuple[str, ...], count: int) -> str:
    if count == 1:
        settings = ", ".join(f'"{name}" = ?{at}' for at, name in enumerate(names, 2))
        return f"UPDATE {table} SET {settings} WHERE row = ?1"
    settings = ", ".join(f'"{name}" = new.column{at}' for at, name in enumerate(names, 2))
    marks = f"({', '.join('?' * (len(names) + 1))})"
    return f"UPDATE {table} SET {settings} FROM (VALUES {', '.join([marks] * count)}) AS new WHERE {table}.row = new.column1"


@cache
def _delete(table: str, count: int) -> str:
    return f"DELETE FROM {table} WHERE row IN ({', '.join('?' * count)})"


def sqlite_of(store: Store) -> SqliteDatabase:
    """The database of a store on SQLite, for what only SQLite needs."""
    if not isinstance(store.db, SqliteDatabase):
        raise TypeError("not a store on SQLite")
    return store.db
