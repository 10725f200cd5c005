"""SqliteLedger: a ledger on one file, and what only a file needs: its lock, the room on its disk, its inode."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tunerd.clock import Clock, SystemClock
from tunerd.events import Emit
from tunerd.ledger import DiskUse
from tunerd.ledger.service.jobs import AcceptsJobs, AnswersQuestions
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import connect_reader
from tunerd.ledger.sqlite.directory import FreeSpace, disk_use
from tunerd.ledger.sqlite.errors import LedgerGone
from tunerd.ledger.sqlite.open_file import OpenFile, open_file
from tunerd.ledger.sqlite.reader_thread import ReaderThread
from tunerd.ledger.sqlite.reserve import Reserve
from tunerd.ledger.sqlite.sqlite_database import sqlite_of
from tunerd.ledger.sqlite.writer_thread import WriterThread

_VACUUM_PAGES: Final = 1000


class FilePlace:
    """A ledger's file on its disk."""

    def __init__(self, path: Path, file: OpenFile, min_free_bytes: int) -> None:
        self.path = path
        self._file = file
        self._free_space = FreeSpace(path.parent, min_free_bytes)

    def check_room(self) -> None:
        self._free_space.check()

    def keep_free(self, min_free_bytes: int) -> None:
        self._free_space.require(min_free_bytes)

    def disk_use(self) -> DiskUse:
        return disk_use(self.path)

    def is_replaced(self) -> bool:
        return self._file.is_replaced()

    def was_erased(self, store: Store) -> None:
        sqlite_of(store).wipe()

    def was_trimmed(self, store: Store) -> None:
        sqlite_of(store).give_pages_back(_VACUUM_PAGES)

    def close(self) -> None:
        self._file.close()


class SqliteLedger(StoredLedger):
    """The durable Ledger on one file. Open it with `SqliteLedger.open`."""

    def __init__(self, place: FilePlace, reader: AnswersQuestions, writer: Callable[[StoredLedger], AcceptsJobs]) -> None:
        self.path = place.path
        self._file_place = place
        super().__init__(place, reader, writer)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now: float,
        wait_for_lock_s: float = 0,
        create: bool = True,
        emit: Emit,
        min_free_bytes: int = 0,
        keep_sent_s: float = 30 * 86_400.0,
        reports: bool = True,
        clock: Clock | None = None,
    ) -> "SqliteLedger":
        """Take the lock, make sure that the file is sound, bring its schema to the newest version, and make calls due again that
        were being sent. Raises LedgerRefused with one line.

        A damaged file is set aside, and what can be read of it is taken over (LedgerRebuilt). A file that lacks commits is used
        as it is (LedgerRolledBack). `reports=False`: nobody reads what is emitted, so a damaged file is refused and left as it
        is, and missing commits are left for the next process to report. `create=False`: the ledger has to be there already.
        `min_free_bytes`: admissions are refused (LedgerUnavailable) while less is free on the disk. `keep_sent_s`: a rebuilt
        ledger reads files again that are younger."""
        file, store = await open_file(
            path, now=now, wait_for_lock_s=wait_for_lock_s, create=create, keep_sent_s=keep_sent_s, emit=emit, reports=reports
        )
        reserve, loop, used_clock = Reserve(path), asyncio.get_running_loop(), clock or SystemClock()
        reserve.take()

        def writer(ledger: StoredLedger) -> WriterThread:
            return WriterThread(store, file, reserve, loop=loop, clock=used_clock, emit=emit, committed=ledger.committed)

        reader = ReaderThread(partial(connect_reader, path), file.mark_suspect)
        return cls(FilePlace(path, file, min_free_bytes), reader, writer)

    def keep_free(self, min_free_bytes: int) -> None:
        """Another `ledger.min_free` (reload): admissions are refused while less is free on the disk."""
        self._file_place.keep_free(min_free_bytes)

    async def check_place(self) -> None:
        """Raises LedgerGone when the path no longer names the open file. Not while the ledger cannot be written: then it is
        opened again, or cannot be opened, which is reported."""
        if not self._writer.is_troubled and await asyncio.to_thread(self._file_place.is_replaced):
            raise LedgerGone(
                f"the ledger {self.path} was removed or replaced while tunerd ran; what it would write is lost, so it ends. "
                "Put the ledger back if you have it; started without it, tunerd reads the sources again"
            )
