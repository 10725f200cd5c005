"""What a transaction has changed in the tables call and body and not written yet, so that it is written in few statements."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tunerd.ledger.rows import Body, LedgerRow, RowKind
from tunerd.ledger.sql.bodies import BODY, body_values
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sql.database import Database


class WriteBuffer:
    """A later change of a row takes the place of an earlier one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.forget()

    def forget(self) -> None:
        """The transaction is rolled back."""
        self._new: list[LedgerRow] = []
        self._numbers: set[int] = set()
        """Of the rows in `_new`."""
        self._changed: dict[int, dict[str, object]] = {}
        self._bodies: dict[int, Body] = {}
        self._bodiless: dict[int, None] = {}
        self._is_empty = True

    def add(self, row: LedgerRow, body: Body) -> None:
        """The row is read when it is written: it includes every change until then."""
        self._is_empty = False
        self._new.append(row)
        self._numbers.add(row.row)
        if row.kind is not RowKind.IGNORED:
            self._bodies[row.row] = body

    def change(self, row: LedgerRow, columns: dict[str, object]) -> None:
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
        """Call it before the two tables are read, and before the commit."""
        if self._is_empty:
            return
        if self._changed:  # first: a new row may take the id that another one gave up
            self._write_changes()
        if self._new:
            self._db.insert("call", CALL.names, [CALL.values(row) for row in self._new])
        if self._bodies:
            self._db.insert("body", BODY, [body_values(row, body) for row, body in self._bodies.items()], ("row",))
        if self._bodiless:
            self._db.delete("body", list(self._bodiless))
        self.forget()

    def _write_changes(self) -> None:
        alike: dict[tuple[str, ...], list[Sequence[object]]] = {}
        for row, columns in self._changed.items():
            alike.setdefault(tuple(columns), []).append((row, *columns.values()))
        for names, changes in alike.items():
            self._db.update("call", names, [_converted(names, values) for values in changes])


def _converted(names: tuple[str, ...], values: Sequence[object]) -> Sequence[object]:
    """`values` begin with the row's number."""
    found = _conversions(names)
    if not found:
        return values
    changed = list(values)
    for at, convert in found:
        changed[at] = convert(changed[at])
    return changed


@cache
def _conversions(names: tuple[str, ...]) -> Sequence[tuple[int, Callable[[Any], object]]]:
    return [(at, CALL.conversions[name]) for at, name in enumerate(names, 1) if name in CALL.conversions]
