"""A ledger on a real file, over connections whose statements fail when the test says so, as they do on a bad disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from tunerd.clock import Clock
from tunerd.events import Emit
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ledger.sqlite.connect import connect_reader, prepare, scripts
from tunerd.ledger.sqlite.ledger import FilePlace
from tunerd.ledger.sqlite.open_file import OpenFile
from tunerd.ledger.sqlite.reader_thread import ReaderThread
from tunerd.ledger.sqlite.reserve import Reserve
from tunerd.ledger.sqlite.sqlite_database import SqliteDatabase
from tunerd.ledger.sqlite.writer_thread import WriterThread


class Fault(Enum):
    """What a commit, or a statement before it, comes to."""

    FULL = "full"
    """A statement finds no room."""
    FULL_AT_COMMIT = "full at commit"
    IO_ERROR = "io error"
    """The commit fails, and nothing of it is on disk."""
    UNCONFIRMED = "unconfirmed"
    """The commit fails, and all of it is on disk."""
    NO_ROLLBACK = "no rollback"
    """A statement fails, and so does the attempt to undo what was done before it."""


_FULL = (Fault.FULL, Fault.FULL_AT_COMMIT, Fault.NO_ROLLBACK)


class Disk:
    """`fault` is what the statements meet from now on, `after` lets so many writing statements through first (and for so long
    as it is None all of them); `cannot_open` so many openings fail. `forgets` is run on the file before it is opened again."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.after = 0
        self.cannot_open = 0
        self.forgets: Callable[[sqlite3.Connection], None] | None = None
        self.reopened = 0

    def breaks(self, fault: Fault, after: int = 0) -> None:
        self.fault, self.after = fault, after

    def heals(self) -> None:
        self.fault, self.cannot_open = None, 0

    def meets(self, sql: str) -> Fault | None:
        fault = self.fault
        is_end = sql == "COMMIT"
        if fault is None or not (is_end or sql.startswith(("INSERT", "UPDATE", "DELETE", "ROLLBACK"))):
            return None
        if sql == "ROLLBACK":
            return fault if fault is Fault.NO_ROLLBACK and not self.after else None
        if self.after:
            self.after -= 1
            return None
        if fault in (Fault.FULL, Fault.NO_ROLLBACK):
            return None if is_end else fault
        return fault if is_end else None

    def error(self, fault: Fault) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError(fault.value)
        error.sqlite_errorcode = sqlite3.SQLITE_FULL if fault in _FULL else sqlite3.SQLITE_IOERR
        error.sqlite_errorname = "SQLITE_FULL" if fault in _FULL else "SQLITE_IOERR"
        return error


class Connection(sqlite3.Connection):
    disk: Disk

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        fault = self.disk.meets(sql)
        if fault is None:
            return super().execute(sql, *values)
        if fault is Fault.UNCONFIRMED:
            super().execute(sql, *values)
        elif fault is Fault.IO_ERROR:
            super().execute("ROLLBACK")
        raise self.disk.error(fault)


@asynccontextmanager
async def ledger_on(disk: Disk, path: Path, clock: Clock, emit: Emit) -> AsyncIterator[SqliteLedger]:
    """A ledger whose file lies on this disk; closed at the end."""

    def opened() -> Store:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0, factory=Connection)
        assert isinstance(db, Connection)
        db.disk = Disk()
        prepare(db, path, clock.now(), scripts())
        store = Store(SqliteDatabase(db))
        store.load()
        db.disk = disk
        return store

    class File(OpenFile):
        def reopen(self) -> Store:
            if disk.cannot_open:
                disk.cannot_open -= 1
                raise disk.error(Fault.IO_ERROR)
            disk.reopened += 1
            if disk.forgets is not None:
                with sqlite3.connect(path) as beside:
                    disk.forgets(beside)
                beside.close()
                disk.forgets = None
            return opened()

    store, reserve, loop, file = opened(), Reserve(path), asyncio.get_running_loop(), File(path, None, clock.now(), 0.0)
    reserve.take()

    def writer(ledger: SqliteLedger) -> WriterThread:
        return WriterThread(store, file, reserve, loop=loop, clock=clock, emit=emit, committed=ledger.committed)

    ledger = SqliteLedger(FilePlace(path, file, 0), ReaderThread(partial(connect_reader, path), file.mark_suspect), writer)
    try:
        yield ledger
    finally:
        await ledger.close()


async def looked_after(ledger: SqliteLedger, times: int = 3) -> None:
    """The writer has taken what was queued, tried again what it keeps, and told the event loop."""
    for _ in range(times):
        await ledger.alive()
        await asyncio.sleep(0)
