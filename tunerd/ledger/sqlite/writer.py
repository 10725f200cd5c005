"""The writer thread: it owns the connection, and commits whatever queued while its last commit ran.

Commands come in as jobs and their results go back to the event loop, one call_soon_threadsafe a batch. While nothing
can be committed (disk full, I/O error) impatient jobs are told so at once; patient ones (settle, release: a result
must not be lost) are kept and tried again until one commit succeeds. A disk that was full stays closed for what brings
new rows until the reserve could be taken again: what the reserve gave is for the calls that are there.
"""

import asyncio
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

from tunerd.clock import Clock
from tunerd.events import Emit, Event, LedgerHealed, LedgerTrouble
from tunerd.ledger import Gauges, LedgerUnavailable
from tunerd.ledger.commands.send import Ask, claim, take_after
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.errors import LedgerDamaged, Reserve, is_damage, is_full, is_trouble, needs_reopening, words_for

T = TypeVar("T")

_BATCH_ROWS: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
_RETRY_S: Final = 1.0
"""Between two tries while nothing can be committed."""
_SHORT_S: Final = 60.0
_OLDEST_EVERY_S: Final = 0.5
"""How far behind the oldest calls in the gauges may be while there is much to do."""
_ROOM_BYTES: Final = 1024 * 1024


@dataclass(slots=True, kw_only=True, eq=False)
class Job(Generic[T]):
    """A command for the writer. `run` may be called again after a rollback."""

    run: Callable[[Store], T]
    future: "asyncio.Future[T]"
    full: bool = False
    """Its commit has to be synced before the result is given."""
    patient: bool = False
    rows: int = 1
    size: int = 0
    ask: Ask | None = None
    """Of a claim: those of one batch that are alike are answered by one `claim`."""
    row: int | None = None
    """Of a settlement or release: the call that is in somebody's hands until it is written."""
    alone: bool = False
    """Runs outside of any transaction and batch (vacuum, checkpoint)."""
    unwanted: Callable[[T], None] | None = None
    """What becomes of the result when nobody waits for it any more (the future was cancelled). Called in the event loop."""
    answered: "Callable[[Job[T]], None] | None" = None
    """Called in the event loop before the future is set, and also if nobody waits for it: `result` or `error` is there."""
    result: Any = None
    error: BaseException | None = None

    @property
    def grows(self) -> bool:
        """It brings rows and bodies that were not there."""
        return self.rows > 1 or self.size > 0


@dataclass(slots=True)
class _Told:
    """What one batch has to say to the event loop."""

    jobs: list[Job[Any]] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)
    ripe: set[tuple[str, str]] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)


class AcceptsJobs(Protocol):
    """What a ledger needs of a writer."""

    @property
    def gauges(self) -> Gauges: ...
    @property
    def is_troubled(self) -> bool: ...
    def submit(self, job: Job[T]) -> "asyncio.Future[T]": ...
    def unsettled(self) -> frozenset[int]: ...
    async def close(self) -> None: ...


class WriterThread:
    def __init__(
        self,
        connect: Callable[[], Store],
        store: Store,
        reserve: Reserve,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        emit: Emit,
        told: Callable[[set[str], set[tuple[str, str]]], None],
        suspect: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._store = store
        self._reserve = reserve
        self._loop = loop
        self._clock = clock
        self._emit = emit
        self._told_loop = told
        self._suspect = suspect
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._kept: list[Job[Any]] = []
        """Patient jobs that wait for a commit that works."""
        self._trouble_since: float | None = None
        """Nothing can be committed."""
        self._told_since: float | None = None
        """LedgerTrouble was told, LedgerHealed not yet."""
        self._short: tuple[float, int] | None = None
        """When (monotonic) the reserve was given up, and the fewest bytes that were free since; nothing new comes in until it
        could be taken again."""
        self._must_reopen = False
        self._unsettled: Counter[int] = Counter()
        """The event loop's: rows of patient jobs that have not been answered."""
        self._dead: BaseException | None = None
        self._closing = False
        self.gauges: Gauges = store.gauges()
        """As of the last commit; replaced as a whole, so any thread may read it."""
        self._is_behind = False
        """The oldest calls in the gauges are those of an earlier commit."""
        self._looked_at = 0.0
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def is_troubled(self) -> bool:
        return self._trouble_since is not None

    def submit(self, job: Job[T]) -> "asyncio.Future[T]":
        if self._dead is not None or self._closing:
            job.error = self._dead or LedgerUnavailable("the ledger is closed")
            if job.answered is not None:
                job.answered(job)
            job.future.set_exception(job.error)
        else:
            if job.row is not None:
                self._unsettled[job.row] += 1
            self._queue.put(job)
        return job.future

    def unsettled(self) -> frozenset[int]:
        """Rows whose settlement or release is queued, or waits for a commit that works."""
        return frozenset(self._unsettled)

    async def close(self) -> None:
        """Finish what is queued, try what is kept once more, close the connection."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # The thread.

    def _main(self) -> None:
        _never_preempt()
        try:
            while self._turn():
                pass
        except BaseException as exc:  # a defect: whoever waits must learn of it, and so must whoever asks later
            self._dead = exc
            told = _Told(jobs=self._kept)
            while True:
                try:
                    job = self._queue.get_nowait()
                except Empty:
                    break
                if job is not None:
                    told.jobs.append(job)
            for left in told.jobs:
                left.error = exc
            self._tell(told)
        finally:
            self._store.db.close()

    def _turn(self) -> bool:
        """Take a batch, run it, tell. False: closed."""
        batch, is_closing = self._collect()
        told = _Told()
        try:
            if self._trouble_since is not None:
                batch = self._sort_out(batch, told)
                self._heal(told)
            elif self._short is not None:
                batch = self._turn_away(batch, told)
                self._refill(told)
            if self._trouble_since is None and batch:
                self._run(batch, told)
            if is_closing:
                self._last(told)
            elif self._is_behind:
                self._look_for_oldest()
        finally:  # who was refused before it broke down is answered all the same
            self._tell(told)
        return not is_closing

    def _look_for_oldest(self) -> None:
        """When there is nothing else to do, or it was done long ago: while calls go out one after the other it would have
        to be asked at each commit."""
        now = self._clock.monotonic()
        if self._trouble_since is not None or not (self._queue.empty() or now - self._looked_at >= _OLDEST_EVERY_S):
            return
        self._looked_at = now
        try:
            self.gauges, self._is_behind = self._store.gauges(), False
        except sqlite3.Error:
            pass  # the next command finds the same, and knows what to do about it

    def _collect(self) -> tuple[list[Job[Any]], bool]:
        try:
            job = self._queue.get(timeout=_RETRY_S if self._told_since is not None else None)
        except Empty:
            return [], False
        batch: list[Job[Any]] = []
        rows = size = 0
        while job is not None:
            batch.append(job)
            rows += job.rows
            size += job.size
            if job.alone or rows >= _BATCH_ROWS or size >= _BATCH_BYTES:
                return batch, False
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _run(self, batch: list[Job[Any]], told: _Told) -> None:
        if batch[-1].alone:  # it ended its batch
            *together, alone = batch
            if together:
                self._commit(together, told)
            self._run_alone(alone, told)
        else:
            self._commit(batch, told)

    def _commit(self, batch: Sequence[Job[Any]], told: _Told) -> bool:
        """One transaction for all of them. If one raises they run singly, so that only the culprit sees it."""
        store = self._store
        try:
            store.begin(full=any(job.full for job in batch))
            asking: dict[object, list[Job[Any]]] = {}
            for job in batch:
                if job.ask is None:
                    job.result = job.run(store)
                else:  # last, and together: they see what the others of the batch did
                    asking.setdefault(job.ask.alike, []).append(job)
            for jobs in asking.values():
                for job, found in zip(jobs, claim(store, [job.ask for job in jobs if job.ask]), strict=True):
                    job.result = found
            gauges = store.tally.gauges(self.gauges.oldest_at)
            woken, ripe = store.commit()
        except Exception as exc:
            is_undone = store.rollback()
            self._must_reopen = self._must_reopen or not is_undone
            if not is_undone or (isinstance(exc, sqlite3.Error) and is_trouble(exc)):
                self._set_aside(batch, exc, told)
                return False
            if len(batch) == 1:
                batch[0].error = self._damaged() if is_damage(exc) else exc
                told.jobs.append(batch[0])
                return True
            is_fine = True
            for job in batch:
                is_fine = self._commit([job], told) and is_fine
            return is_fine
        self.gauges, self._is_behind = gauges, True
        told.woken |= woken
        told.ripe |= ripe
        told.jobs += batch
        return True

    def _damaged(self) -> sqlite3.DatabaseError:
        """Not to be mended while running: the process ends, and the next open rebuilds. SQLite's own words may quote
        what a row holds."""
        self._suspect()
        return LedgerDamaged("the ledger's file is damaged; tunerd rebuilds it when it is started again")

    def _run_alone(self, job: Job[Any], told: _Told) -> None:
        try:
            job.result = job.run(self._store)
        except Exception as exc:
            if isinstance(exc, sqlite3.Error) and is_trouble(exc):
                self._set_aside([job], exc, told)
                return
            job.error = exc
        told.jobs.append(job)

    # Trouble.

    def _set_aside(self, batch: Sequence[Job[Any]], exc: Exception, told: _Told) -> None:
        if self._trouble_since is None:
            self._trouble_since = self._clock.monotonic()
        if self._told_since is None:
            self._told_since = self._trouble_since
            told.events.append(LedgerTrouble(detail=words_for(exc)))
        self._note(exc)
        for job in batch:
            if job.patient:
                self._kept.append(job)
            else:
                self._refuse(job, words_for(exc), told, exc)

    def _note(self, exc: Exception) -> None:
        """What has to be done before the next try."""
        self._must_reopen = self._must_reopen or needs_reopening(exc)
        if is_full(exc):
            self._reserve.give_up()
            self._short = self._clock.monotonic(), self._reserve.free_bytes()

    def _sort_out(self, batch: Sequence[Job[Any]], told: _Told) -> list[Job[Any]]:
        """While there is trouble nothing new is begun; patient jobs wait."""
        for job in batch:
            if job.patient:
                self._kept.append(job)
            else:
                self._refuse(job, "the ledger cannot be written now; it is tried again every second", told, None)
        return []

    def _turn_away(self, batch: Sequence[Job[Any]], told: _Told) -> list[Job[Any]]:
        """The disk has room for what is there, but not yet for more."""
        for job in batch:
            if job.grows:
                self._refuse(job, "the disk of the ledger is nearly full; make room, it goes on by itself", told, None)
        return [job for job in batch if not job.grows]

    def _refill(self, told: _Told) -> None:
        """The disk is no longer short when there is more room than there was, and the reserve fits in. Without more room
        it is tried again after a minute (what was sent left free pages in the file): not the same failure each second."""
        at, least = self._short or (0.0, 0)
        is_late, free = self._clock.monotonic() - at >= _SHORT_S, self._reserve.free_bytes()
        self._short = at, min(least, free)
        if not (is_late or free >= least + _ROOM_BYTES):
            return
        self._shorten_log()
        if not self._reserve.take():
            return
        self._short = None
        began, self._told_since = self._told_since, None
        told.events.append(LedgerHealed(lasted_s=self._clock.monotonic() - (at if began is None else began)))

    def _shorten_log(self) -> None:
        """Write the log back into the file and give its room to the disk: on a small disk it may have taken all there was."""
        try:
            self._store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # the file has no room to grow either, or somebody reads: the log stays as it is

    @staticmethod
    def _refuse(job: Job[Any], words: str, told: _Told, cause: BaseException | None) -> None:
        job.error = LedgerUnavailable(words)
        job.error.__cause__ = cause
        told.jobs.append(job)

    def _heal(self, told: _Told) -> None:
        """Try one commit: what is kept, or a write that changes nothing."""
        try:
            if self._must_reopen:
                self._store.db.close()
                store = self._connect()
                try:
                    store.begin(full=True)
                    take_after(store, self._store, self._clock.now())
                    woken, _ = store.commit()
                    told.woken |= woken
                except BaseException:
                    store.db.close()
                    raise
                self._store = store
                self._must_reopen = False
        except sqlite3.Error as exc:
            if not is_trouble(exc):
                raise
            self._note(exc)
            return
        if self._short is not None:
            self._shorten_log()
        try:
            self._store.begin(full=True)
            self._store.touch()
            self._store.commit()
        except sqlite3.Error as exc:
            self._must_reopen = not self._store.rollback()
            if not is_trouble(exc) and not self._must_reopen:
                raise
            self._note(exc)
            return
        kept, self._kept = self._kept, []
        self._trouble_since = None
        for at, job in enumerate(kept):
            if not self._commit([job], told):  # it broke again on the way: the trouble goes on, and so does its count
                self._kept += kept[at + 1 :]
                return
        if self._short is not None:
            self._refill(told)
            return
        began, self._told_since = self._told_since, None
        told.events.append(LedgerHealed(lasted_s=self._clock.monotonic() - (began or 0.0)))
        self._reserve.take()

    def _last(self, told: _Told) -> None:
        if self._kept:
            self._heal(told)
        for job in self._kept:
            self._refuse(job, "the ledger was closed before it could be written", told, None)
        try:
            self._store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # the next open replays the log

    # To the loop.

    def _tell(self, told: _Told) -> None:
        if not (told.jobs or told.events or told.woken or told.ripe):
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, told)
        except RuntimeError:
            pass  # the loop is closed: nobody listens any more

    def _deliver(self, told: _Told) -> None:
        unwanted: list[Job[Any]] = []
        for job in told.jobs:
            if job.row is not None:
                self._unsettled[job.row] -= 1
                if not self._unsettled[job.row]:
                    del self._unsettled[job.row]
            if job.answered is not None:
                job.answered(job)
            if job.future.done():
                unwanted.append(job)
            elif job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
                if job.patient:
                    job.future.exception()  # it may be that nobody waits for it; whoever does is told all the same
        for job in unwanted:
            if job.unwanted is not None and job.error is None:
                job.unwanted(job.result)
        for event in told.events:
            self._emit(event)
        self._told_loop(told.woken, told.ripe)


def _never_preempt() -> None:
    """This thread is a batch job to the kernel: when the event loop hands it work it does not take the processor from the
    loop, and Python's lock with it, in the middle of a turn. [measured] 8 to 22 % more calls a second in a backlog."""
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):
        pass  # forbidden here, or no Linux: slower, nothing else
