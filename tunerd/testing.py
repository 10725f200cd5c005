"""What tests of tunerd, and tests of others who build on it, need: a clock to advance, a recorder, made-up calls.

Shipped with the package on purpose (docs/decisions/). MemoryLedger is the SQLite ledger without a disk.
"""

import asyncio
import heapq
import itertools
import sqlite3
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson

from tunerd.call import AudioPlan, Call, Fail, Form, Hold, Origin, SendAnyway, Strategy, UrlStrategy
from tunerd.events import Event
from tunerd.ledger import Gauges, LedgerUnavailable
from tunerd.ledger.commands.reclaim import reclaim_all
from tunerd.ledger.service.jobs import Job
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import connect, prepare, scripts
from tunerd.ledger.sqlite.ledger import FilePlace, SqliteLedger
from tunerd.ledger.sqlite.open_file import OpenFile
from tunerd.ledger.sqlite.sqlite_database import SqliteDatabase

__all__ = ["FakeClock", "MemoryLedger", "Recorder", "make_call"]

E = TypeVar("E")
T = TypeVar("T")


class FakeClock:
    """A Clock whose time moves only by `advance`. Starts at a fixed instant."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._waiters: list[tuple[float, int, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        if event.is_set() or seconds is None:
            await event.wait()
            return True
        over = asyncio.Event()
        heapq.heappush(self._waiters, (self._monotonic + seconds, next(self._order), over))
        ends = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(over.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let time pass; every wait that ends on the way is woken in its order, and runs before the next."""
        until = self._monotonic + seconds
        await self._settle()
        while self._waiters and self._waiters[0][0] <= until:
            at, _, over = heapq.heappop(self._waiters)
            self._now += max(0.0, at - self._monotonic)
            self._monotonic = max(self._monotonic, at)
            over.set()
            await self._settle()
        self._now += until - self._monotonic
        self._monotonic = until
        await self._settle()

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator or NTP does."""
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Move both clocks while nothing runs, as on a suspended machine: what waits is late by this time."""
        self._now += seconds
        self._monotonic += seconds

    @staticmethod
    async def _settle(turns: int = 50) -> None:
        """Let everything run that can: until the loop of asyncio had nothing to call three times in a row (a read from a socket
        of this process comes a turn after the write), or `turns` times."""
        ready = getattr(asyncio.get_running_loop(), "_ready", None)  # another loop does not have it, and gets all turns
        idle = 0
        for _ in range(turns):
            await asyncio.sleep(0)
            idle = idle + 1 if ready is not None and not ready else 0
            if idle == 3:
                return


class Recorder:
    """An Emit that keeps every event; `seen(Type)` lists the facts of a type."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._told = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._told.set()

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[E], count: int = 1, ceiling_s: float = 20.0) -> list[E]:
        """Wait until `count` facts of a type were emitted; TimeoutError after `ceiling_s` of real time."""
        async with asyncio.timeout(ceiling_s):
            while len(found := self.seen(kind)) < count:
                self._told.clear()
                await self._told.wait()
        return found


class _AtOnce:
    """Writer and reader of a ledger in memory: each job is committed, and each question answered, where it is asked."""

    def __init__(self, store: Store, committed: Callable[[set[str], set[tuple[str, str]]], None]) -> None:
        self._store = store
        self._committed = committed
        self._is_closed = False

    @property
    def gauges(self) -> Gauges:
        return self._store.gauges()

    @property
    def is_troubled(self) -> bool:
        return False

    @property
    def waits_for_server(self) -> bool:
        return False

    def submit(self, job: Job[T]) -> "asyncio.Future[T]":
        try:
            if self._is_closed:
                raise LedgerUnavailable("the ledger is closed")
            job.result = job.run(self._store) if job.alone else self.change(job.run)
        except Exception as exc:
            job.error = exc
        if job.answered is not None:
            job.answered(job)
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
        return job.future

    def unsettled(self) -> frozenset[int]:
        return frozenset()

    def change(self, run: Callable[[Store], T]) -> T:
        self._store.begin(full=False)
        try:
            result = run(self._store)
            woken, disposable = self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        self._committed(woken, disposable)
        return result

    async def ask(self, question: Callable[[Store], T]) -> T:
        return question(self._store)

    async def close(self) -> None:
        self._is_closed = True


class MemoryLedger(SqliteLedger):
    """The SQLite ledger on `:memory:`, without threads: what is asked of it is done when it is asked. Needs no event loop
    to be made, and nobody has to close it."""

    def __init__(self, before: "MemoryLedger | None" = None) -> None:
        """`before`: begin with what that ledger has committed."""
        nowhere = Path(":memory:")
        db = connect(nowhere)
        if before is None:
            prepare(db, nowhere, 0.0, scripts())
        else:
            before._connection.backup(db)
        self._connection: sqlite3.Connection = db
        store = Store(SqliteDatabase(db))
        store.load()
        self.at_once = _AtOnce(store, lambda woken, disposable: self.committed(woken, disposable))
        super().__init__(FilePlace(nowhere, OpenFile(nowhere, None, 0.0, 0.0), 0), self.at_once, lambda _: self.at_once)
        weakref.finalize(self, db.close)  # Python 3.13 warns of a connection that nobody closed.

    def reopened(self, now: float) -> "MemoryLedger":
        """What another process opens after this one: all that was committed, and nothing that this one knew besides."""
        other = MemoryLedger(self)
        other.change(lambda store: reclaim_all(store, now))
        return other

    def change(self, run: Callable[[Store], T]) -> T:
        """Do something to the rows that no command does (what damage or another process would), in one transaction."""
        return self.at_once.change(run)


_PAYLOAD = {
    "call_type": "phone_call",
    "transcript_with_tool_calls": [
        {"role": "agent", "text": "Hello, this is the library.", "start_ms": 0, "end_ms": 1800},
        {"role": "user", "text": "Is it open today?", "start_ms": 2100, "end_ms": 3300},
    ],
}


def make_call(
    call_id: str = "call-1",
    *,
    started_at_ms: int = 1_767_225_000_000,
    destination: str = "tuner",
    agent: str = "support-bot",
    source: str = "agent",
    path: str | None = None,
    offset: int = 0,
    mtime_ns: int = 1,
    strategies: tuple[Strategy, ...] = (UrlStrategy(location="https://audio.example/a.wav"),),
    on_missing: Hold | Fail | SendAnyway = Hold(hold_s=14 * 86_400.0),
    audio: AudioPlan | None = None,
    settled_at: float = 1_767_225_600.0,
    text: str | None = None,
) -> Call:
    """A well-formed call; `text` replaces what the agent says, to tell two payloads apart."""
    fields = {"call_id": call_id, **_PAYLOAD, "start_timestamp": started_at_ms, "end_timestamp": started_at_ms + 60_000}
    if text is not None:
        fields["transcript_with_tool_calls"] = [{"role": "agent", "text": text, "start_ms": 0, "end_ms": 900}]
    document = orjson.dumps({"id": call_id, "said": text or "hello"})
    where = path or f"/calls/{call_id}.json"
    return Call(
        origin=Origin(source=source, path=where, offset=offset, length=len(document), mtime_ns=mtime_ns),
        document=document,
        destination=destination,
        workspace="https://tuner.example/42",
        agent=agent,
        call_id=call_id,
        started_at_ms=started_at_ms,
        payload=orjson.dumps(fields),
        checked_for=Form.CREATE_CALL,
        strategies=strategies,
        on_missing=on_missing,
        audio=audio,
        settled_at=settled_at,
    )
