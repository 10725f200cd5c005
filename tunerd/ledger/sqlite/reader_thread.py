"""The reader thread: questions to the ledger on a connection of their own, beside the writer. No question lasts over a second."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from tunerd.ledger import LedgerUnavailable
from tunerd.ledger.sql.columns import Unsound
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.errors import is_damage
from tunerd.ledger.sqlite.sqlite_database import SqliteDatabase, sqlite_of

T = TypeVar("T")

_LONGEST_S: Final = 1.0
_STEPS: Final = 10_000
"""Of SQLite's machine between two looks at the clock."""


class ReaderThread:
    """`suspect` is called, in the thread, when what was read is damaged: the next start rebuilds the ledger."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], suspect: Callable[[], None]) -> None:
        self._connect, self._suspect = connect, suspect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._store: Store | None = None

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Run a question in the thread. Raises LedgerUnavailable if it takes too long, or if the disk does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # The thread.

    def _answer(self, question: Callable[[Store], T]) -> T:
        try:
            if self._store is None:
                self._store = Store(SqliteDatabase(self._connect()))
            until = time.monotonic() + _LONGEST_S
            sqlite_of(self._store).connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            return question(self._store)
        except (sqlite3.Error, Unsound) as exc:
            if getattr(exc, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
                raise LedgerUnavailable(
                    "the question took longer than a second; ask for less (a call id, a state, a time)"
                ) from exc
            self._close()
            if is_damage(exc):
                self._suspect()
                raise LedgerUnavailable("the ledger is damaged; tunerd rebuilds it at its next start") from None
            name = getattr(exc, "sqlite_errorname", "unknown")
            raise LedgerUnavailable(f"the ledger cannot be read now ({name})") from None  # its own words may quote a row

    def _close(self) -> None:
        if self._store is not None:
            self._store.db.close()
            self._store = None
