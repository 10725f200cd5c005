"""Statements of one transaction on their way to the server: they are kept until somebody reads the rows of one, or until the
commit, and then they go out together and are answered together. So the error of one may be raised by a later one.

What is sent always ends with a Sync: only then the server counts how long the transaction is idle, and ends one whose process
stalls.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import psycopg

from tunerd.ledger.postgresql.patient_connection import PatientConnection

Values = Sequence[object] | Mapping[str, object]


class Rows:
    """What a statement gives. Reading it sends what was kept."""

    __slots__ = ("_queue", "_sql", "_values", "cursor")

    def __init__(self, queue: "StatementQueue", sql: str, values: Values) -> None:
        self._queue, self._sql, self._values = queue, sql, values
        self.cursor: psycopg.Cursor[tuple[Any, ...]] | None = None

    def send(self, connection: PatientConnection) -> None:
        self.cursor = connection.execute(self._sql, self._values)

    def fetchone(self) -> Any:
        return self._answered().fetchone()

    def fetchall(self) -> list[Any]:
        return self._answered().fetchall()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._answered())

    def _answered(self) -> psycopg.Cursor[tuple[Any, ...]]:
        if self.cursor is None:
            self._queue.send()
        if self.cursor is None:
            raise psycopg.InterfaceError("the transaction of this statement is over")
        return self.cursor


class StatementQueue:
    def __init__(self, connection: PatientConnection) -> None:
        self._connection = connection
        self._kept: list[Rows] = []
        self._open = ExitStack()
        self._pipeline: psycopg.Pipeline | None = None

    def add(self, sql: str, values: Values = ()) -> Rows:
        rows = Rows(self, sql, values)
        self._kept.append(rows)
        return rows

    def send(self) -> None:
        """Send what is kept, and wait for all answers. Raises psycopg.Error. (The pipeline of psycopg stays open as long as the
        connection: closing it sends something after the Sync, and then the server does not count any more.)"""
        kept, self._kept = self._kept, []
        if self._pipeline is None:
            self._pipeline = self._open.enter_context(self._connection.pipeline())
        try:
            for rows in kept:
                rows.send(self._connection)
        except BaseException:
            with suppress(psycopg.Error):  # that the others were not run
                self._pipeline.sync()
            raise
        self._pipeline.sync()

    def forget(self) -> None:
        """The transaction is undone."""
        self._kept = []

    def close(self) -> None:
        """Before the connection is closed."""
        with suppress(psycopg.Error):
            self._open.close()
