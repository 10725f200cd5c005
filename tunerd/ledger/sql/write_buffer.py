"""What a transaction has changed in the tables call and body and not written yet: it goes to SQLite in few long statements.

SQLite lets Python's lock go for each statement, and whoever wants it back waits for the event loop: a statement a row made
a batch of 256 new calls take three times as long (docs/decisions/ledger-speed.md).
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final, TypeVar

from tunerd.ledger.rows import Body, Row, RowKind
from tunerd.ledger.sql.codec import COLUMNS, conversions, matching_text, values_of

T = TypeVar("T")

BODY: Final = "checked_for, matching, head, payload, document"
_MOST: Final = 64
"""Rows of one statement. SQLite keeps each prepared statement with a copy of the values that it wrote last."""
_ROUND: Final = 8


class WriteBuffer:
    """A later change of a row takes the place of an earlier one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.forget()

    def forget(self) -> None:
        """The transaction is rolled back."""
        self._new: list[Row] = []
        self._numbers: set[int] = set()
        """Of the rows in `_new`."""
        self._changed: dict[int, dict[str, object]] = {}
        self._bodies: dict[int, Body] = {}
        self._bodiless: dict[int, None] = {}
        self._is_empty = True

    def add(self, row: Row, body: Body) -> None:
        """The row is read when it is written: changes until then are in it."""
        self._is_empty = False
        self._new.append(row)
        self._numbers.add(row.row)
        if row.kind is not RowKind.IGNORED:
            self._bodies[row.row] = body

    def change(self, row: Row, columns: dict[str, object]) -> None:
        if row.row in self._numbers:
            return
        self._is_empty = False
        known = self._changed.get(row.row)
        if known is None:
            self._changed[row.row] = columns
        else:
            known.update(columns)

    def set_body(self, row: int, body: Body) -> None:
        self._is_empty = False
        self._bodiless.pop(row, None)
        self._bodies[row] = body

    def drop_body(self, row: int) -> None:
        self._is_empty = False
        self._bodies.pop(row, None)
        self._bodiless[row] = None

    def write(self) -> None:
        """Has to be done before the two tables are read, and before the commit. Raises sqlite3.Error."""
        if self._is_empty:
            return
        run = self._db.execute
        if self._changed:  # first: a new row may take the id that another one gave up
            self._write_changes()
        for rows in _parts(self._new):
            run(_insert("INSERT", "call", COLUMNS, len(rows)), [value for row in rows for value in values_of(row)])
        for bodies in _parts([_body_values(row, body) for row, body in self._bodies.items()]):
            run(_insert("INSERT OR REPLACE", "body", f"row, {BODY}", len(bodies)), _flat(bodies))
        for gone in _filled(list(self._bodiless), None):
            run(f"DELETE FROM body WHERE row IN ({', '.join('?' * len(gone))})", gone)
        self.forget()

    def _write_changes(self) -> None:
        alike: dict[tuple[str, ...], list[Sequence[object]]] = {}
        for row, columns in self._changed.items():
            alike.setdefault(tuple(columns), []).append((row, *columns.values()))
        for names, changes in alike.items():
            nobody = (None,) * (len(names) + 1)
            for part in _filled([_converted(names, values) for values in changes], nobody):
                self._db.execute(_update(names, len(part)), _flat(part))


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Powers of two, so that there are few statements to prepare."""
    at, left = 0, len(items)
    while left:
        count = min(_MOST, 1 << (left.bit_length() - 1))
        yield items[at : at + count]
        at, left = at + count, left - count


def _filled(items: Sequence[T], nobody: T) -> Iterator[Sequence[T]]:
    """In fewer: what is missing to a round number is filled up with a row that is not there."""
    for at in range(0, len(items), _MOST):
        part = items[at : at + _MOST]
        left = -len(part) % _ROUND if len(part) > 1 else 0
        yield [*part, *[nobody] * left] if left else part


def _flat(rows: Sequence[Sequence[object]]) -> Sequence[object]:
    return [value for values in rows for value in values]


def _converted(names: tuple[str, ...], values: Sequence[object]) -> Sequence[object]:
    found = _conversions(names)
    if not found:
        return values
    changed = list(values)
    for index, convert in found:
        changed[index] = convert(changed[index])
    return changed


def _body_values(row: int, body: Body) -> Sequence[object]:
    checked_for = None if body.checked_for is None else str(body.checked_for)
    return (row, checked_for, matching_text(body), body.head, body.payload, body.document)


@cache
def _conversions(names: tuple[str, ...]) -> Sequence[tuple[int, Callable[[object], object]]]:
    return conversions(("row", *names))


@cache
def _insert(how: str, table: str, columns: str, count: int) -> str:
    marks = f"({', '.join('?' * (columns.count(',') + 1))})"
    return f"{how} INTO {table} ({columns}) VALUES {', '.join([marks] * count)}"


@cache
def _update(names: tuple[str, ...], count: int) -> str:
    """Of `count` rows, each with its number and then its values in the order of `names`."""
    if count == 1:
        settings = ", ".join(f'"{name}" = ?{at}' for at, name in enumerate(names, 2))
        return f"UPDATE call SET {settings} WHERE row = ?1"
    settings = ", ".join(f'"{name}" = new.column{at}' for at, name in enumerate(names, 2))
    marks = f"({', '.join('?' * (len(names) + 1))})"
    return f"UPDATE call SET {settings} FROM (VALUES {', '.join([marks] * count)}) AS new WHERE call.row = new.column1"
