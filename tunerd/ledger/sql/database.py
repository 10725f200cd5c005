"""The seam between the store and a database engine: what sql/ needs that SQLite and PostgreSQL do in ways of their own.

Everything else in sql/ is written in the SQL that both understand (docs/decisions/one-ledger.md lists its rules):
parameters are `?` in order or `:name`, and a statement uses neither sign for anything else.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from tunerd.ledger.sql.other_instances import OtherInstances
from tunerd.ledger.sql.volumes import Volumes


class RunAgain(Exception):
    """Another process was in the way, or may be: the transaction has to be undone, and run again from its beginning."""


class Cursor(Protocol):
    """The rows that a statement gives. An engine may wait for them only when they are read: what can be asked together is
    asked first."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Execute(Protocol):
    def __call__(self, sql: str, values: Sequence[object] | Mapping[str, object] = (), /) -> Cursor: ...


class Database(Protocol):
    """One connection, in the hands of one thread at a time."""

    @property
    def execute(self) -> Execute:
        """Runs one statement."""
        ...

    @property
    def holder(self) -> int:
        """The number of this start of this instance (LedgerRow.holder). 0: no other process changes the tables, so that what is
        kept in memory beside them stays right."""
        ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def others(self) -> OtherInstances: ...

    @property
    def lease(self) -> int:
        """The lease of this instance under which the open transaction began (`Claimed.lease`); 0 where `holder` is 0."""
        ...

    @property
    def row_lock(self) -> str:
        """The end of a statement that reads rows of `call` to change them: others wait until this transaction ends."""
        ...

    @property
    def skip_locked(self) -> str:
        """As `row_lock`; rows that somebody else holds are left out."""
        ...

    def hold(self, *names: tuple[str, ...]) -> None:
        """What this transaction reads and writes under these names is changed by nobody else until it ends. Raises RunAgain
        where they have to be held before anything is read."""
        ...

    def pick_due(self, values: Mapping[str, object]) -> Sequence[Any]:
        """What sql/due_calls.py PICK_MANY gives; nobody else picks the same."""
        ...

    def begin(self, *, durable: bool) -> None:
        """Open a transaction for writing. `durable`: its commit is on disk when `commit` returns; without it, with the next
        commit that is."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> bool:
        """Undo the transaction. Never raises: the database may have undone it itself. False: the connection cannot undo it, and
        has to be replaced."""
        ...

    def next_number(self, table: str) -> int:
        """The number of the table's next row. A number is never given twice, except after a rollback."""
        ...

    def retire_number(self, table: str, number: int) -> None:
        """The row with this number is deleted."""
        ...

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]], key: Sequence[str] = ()) -> None:
        """Write rows in as few statements as the engine likes best. With `key` a row takes the place of one with the same key."""
        ...

    def update(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Set these columns of numbered rows: each row is its number, then its values."""
        ...

    def delete(self, table: str, numbers: Sequence[int]) -> None: ...

    def close(self) -> None: ...
