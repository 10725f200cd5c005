"""The seam of sql/database.py on PostgreSQL: transactions, row numbers, statements for many rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.postgresql_server import Connection, Server
from tunerd.ledger.sql.database import Cursor

_NUMBERS_AT_ONCE: Final = 32
_LOCK_TIMEOUT_MS: Final = 5_000
_STATEMENT_TIMEOUT_MS: Final = 30_000
_IDLE_TIMEOUT_MS: Final = 30_000
_QUESTION_TIMEOUT_MS: Final = 1_000


class PostgresqlDatabase:
    """`columns` as dialect.columns gives them."""

    def __init__(self, connection: Connection, server: Server, columns: Mapping[str, Mapping[str, str]]) -> None:
        self.connection = connection
        self._columns = columns
        self._begin = (
            f"BEGIN; {server.search_path}; SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; "
            f"SET LOCAL statement_timeout = {_STATEMENT_TIMEOUT_MS}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS}; SET LOCAL synchronous_commit = on"
        )
        self._begin_question = (
            f"BEGIN READ ONLY; {server.search_path}; SET LOCAL statement_timeout = {_QUESTION_TIMEOUT_MS}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS}"
        )
        self._numbers: dict[str, list[int]] = {}

    def execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = (), /) -> Cursor:
        return self.connection.execute(dialect.translated(sql), values)

    def begin(self, *, durable: bool) -> None:
        """Every commit is synced: the server gathers those of several connections."""
        self._run(self._begin)

    def begin_question(self) -> None:
        """A transaction that only reads, and that the server ends after a second."""
        self._run(self._begin_question)

    def commit(self) -> None:
        self._run("COMMIT")

    def rollback(self) -> bool:
        with suppress(psycopg.Error):
            if not self.connection.closed:
                self._run("ROLLBACK")
                return True
        return False

    def _run(self, statement: str) -> None:
        self.connection.execute(statement)

    def next_number(self, table: str) -> int:
        kept = self._numbers.setdefault(table, [])
        if not kept:
            found = self.connection.execute(f"SELECT nextval('{table}_row') FROM generate_series(1, {_NUMBERS_AT_ONCE})")
            kept += sorted((number for (number,) in found), reverse=True)
        return kept.pop()

    def retire_number(self, table: str, number: int) -> None:
        """A sequence gives no number twice."""

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]], key: Sequence[str] = ()) -> None:
        if len(rows) == 1:
            self._many(dialect.insert_one(table, tuple(names), tuple(key)), rows[0])
        elif rows:
            types = self._types(table, names)
            self._many(dialect.insert_many(table, tuple(names), tuple(key), types), _arrays(rows, types))

    def update(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if len(rows) == 1:
            number, *values = rows[0]
            self._many(dialect.update_one(table, tuple(names)), [*values, number])
        elif rows:
            types = self._types(table, ("row", *names))
            self._many(dialect.update_many(table, tuple(names), types), _arrays(rows, types))

    def delete(self, table: str, numbers: Sequence[int]) -> None:
        self._many(dialect.delete_many(table), (list(numbers),))

    def _many(self, statement: str, values: Sequence[object]) -> None:
        self.connection.execute(statement, values)

    def _types(self, table: str, names: Sequence[str]) -> tuple[str, ...]:
        known = self._columns[table]
        return tuple(known[name] for name in names)

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.connection.close()


def _arrays(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[list[object]]:
    """The rows column by column, each of one type: psycopg takes no mixed lists."""
    found: list[list[object]] = []
    for at, kind in enumerate(types):
        values = [row[at] for row in rows]
        if kind == "REAL":
            found.append([None if value is None else float(value) for value in values])
        elif kind == "INTEGER":
            found.append([None if value is None else int(value) for value in values])
        else:
            found.append(values)
    return found
