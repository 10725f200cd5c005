"""Questions to the ledger on a connection of their own, beside the writer. No question lasts over a second."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import psycopg

from tunerd.ledger import LedgerUnavailable
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Server, connect
from tunerd.ledger.postgresql.sqlstates import outage_words
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sql.volumes import Volumes

T = TypeVar("T")

_PATIENCE_S: Final = 5.0
"""The server ends a question after a second."""


class ServerReader:
    def __init__(self, server: Server, columns: Mapping[str, Mapping[str, str]], volumes: Volumes) -> None:
        self._server, self._columns, self._volumes = server, columns, volumes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._db: PostgresqlDatabase | None = None

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Run a question in the thread. Raises LedgerUnavailable if it takes too long, or if the server does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # The thread.

    def _answer(self, question: Callable[[Store], T]) -> T:
        try:
            if self._db is None:
                connection = connect(self._server, _PATIENCE_S)
                self._db = PostgresqlDatabase(connection, self._server, self._columns, self._volumes)
            self._db.begin_question()
            try:
                return question(Store(self._db))
            finally:
                self._db.rollback()
        except psycopg.Error as exc:
            self._close()
            if exc.sqlstate == "57014":
                words = "the question took longer than a second; ask for less (a call id, a state, a time)"
                raise LedgerUnavailable(words) from None
            raise LedgerUnavailable(outage_words(exc)) from None

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
