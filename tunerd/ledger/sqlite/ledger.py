"""SqliteLedger: the Ledger protocols, each method a job for the writer or a question to the reader.

What a command means stands in ledger/commands/, how it is stored in the tables, when it is committed in writer.py.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from tunerd.call import Call, Form, RefusedDocument, State
from tunerd.clock import Clock, SystemClock
from tunerd.events import Emit, LedgerRolledBack
from tunerd.filesystem import is_network, kind_of
from tunerd.ledger import (
    Admission,
    Admitted,
    CallReceiver,
    Claim,
    FailedCall,
    FarRule,
    FileMark,
    Filter,
    Freeze,
    Gate,
    Gathered,
    Gauges,
    Group,
    GroupResult,
    LedgerRefused,
    LedgerUnavailable,
    Pick,
    Retention,
    Settlement,
    StoredCall,
    Story,
    Stranded,
)
from tunerd.ledger import lock as locks
from tunerd.ledger.commands import admit, desk, gather, send, strand, upkeep
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite import reader as ask
from tunerd.ledger.sqlite.connect import connect_reader
from tunerd.ledger.sqlite.damage import mark_suspect, open_sound, refuse_what_is_none
from tunerd.ledger.sqlite.errors import LedgerGone, Reserve
from tunerd.ledger.sqlite.inode_watch import InodeWatch
from tunerd.ledger.sqlite.reader import AnswersQuestions, ReaderThread
from tunerd.ledger.sqlite.writer import AcceptsJobs, Job, WriterThread

T = TypeVar("T")

_RIPE_KEPT: Final = 2000
"""Files remembered as candidates for `disposable`; beyond that it looks through all of them."""
_ALIVE_WITHIN_S: Final = 10.0
_FREE_CHECKED_S: Final = 1.0
_VACUUM_PAGES: Final = 1000


class SqliteLedger:
    """The durable Ledger on one file. Open it with `SqliteLedger.open`."""

    def __init__(
        self,
        path: Path,
        lock: locks.Lock | None,
        watch: InodeWatch,
        reader: AnswersQuestions,
        writer: Callable[["SqliteLedger"], AcceptsJobs],
        min_free_bytes: int,
    ) -> None:
        self.path = path
        self._lock = lock
        self._watch = watch
        self._min_free_bytes = min_free_bytes
        self._free_checked_at = -_FREE_CHECKED_S
        self._is_full = False
        self._wakes: list[Callable[[str], None]] = []
        self._taker: CallReceiver | None = None
        self._ripe: dict[str, dict[str, None]] = {}
        self._look_from: dict[str, str | None] = {}
        """Where `disposable` looks on through a source's files; None: it has seen them all."""
        self._overflowed: set[str] = set()
        self._reader = reader
        self._writer = writer(self)

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
        may_rebuild: bool = True,
        clock: Clock | None = None,
    ) -> "SqliteLedger":
        """Take the lock, make sure that the file is sound (a damaged one is set aside, and what can be read of it taken
        over: LedgerRebuilt), bring its schema to the newest version, and make due again what was being sent.

        `create=False`: a ledger that is not there is no reason to make one. `min_free_bytes`: admissions are refused
        (LedgerUnavailable) while less is free on the disk. `keep_sent_s`: a rebuilt ledger reads files again that are
        younger than this. `may_rebuild=False`: a damaged file is refused, and left as it is. Raises LedgerRefused with
        one line."""
        _check_place(path, create)
        await asyncio.to_thread(refuse_what_is_none, path)
        lock = await locks.hold(path, now, wait_for_lock_s)
        is_new = not await asyncio.to_thread(path.exists)
        try:
            store, told = await asyncio.to_thread(partial(open_sound, path, now, keep_sent_s, may_rebuild=may_rebuild))
            reserve = Reserve(path)
            reserve.take()
        except BaseException:
            lock.release()
            raise
        # The open itself may have committed what the last process had in hand: that is no change of that process.
        rolled_back = max(0, lock.commits - store.commits) if told is None and not is_new else 0
        lock.note_commits(store.commits)
        store.committed = lock.note_commits
        watch = InodeWatch(path)
        watch.remember()
        loop = asyncio.get_running_loop()

        def opened_again() -> Store:
            store, _ = open_sound(path, now, keep_sent_s, is_reopened=True)
            store.committed = lock.note_commits
            watch.remember()
            return store

        def writer(ledger: "SqliteLedger") -> WriterThread:
            return WriterThread(
                opened_again,
                store,
                reserve,
                loop=loop,
                clock=clock or SystemClock(),
                emit=emit,
                told=ledger._told,
                suspect=partial(mark_suspect, path),
            )

        ledger = cls(
            path, lock, watch, ReaderThread(partial(connect_reader, path), partial(mark_suspect, path)), writer, min_free_bytes
        )
        if told is not None:
            emit(told)
        if rolled_back:
            emit(LedgerRolledBack(commits=rolled_back))
        return ledger

    # Jobs.

    async def _do(self, run: Callable[[Store], T], *, full: bool = False, rows: int = 1, size: int = 0) -> T:
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), full=full, rows=rows, size=size)
        return await self._writer.submit(job)

    def _hand_over(self, run: Callable[[Store], None], row: int | None = None) -> "asyncio.Future[None]":
        """Queued when this returns, and tried again until it is committed. `row`: of the claim that this ends."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return self._writer.submit(Job(run=run, future=future, patient=True, row=row))

    async def _see_through(self, run: Callable[[Store], T]) -> T:
        """As `_do`, and tried again until it is committed."""
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), patient=True)
        return await self._writer.submit(job)

    async def _alone(self, run: Callable[[Store], T]) -> T:
        job = Job(run=run, future=asyncio.get_running_loop().create_future(), alone=True)
        return await self._writer.submit(job)

    def _told(self, woken: set[str], ripe: set[tuple[str, str]]) -> None:
        for source, path in ripe:
            candidates = self._ripe.setdefault(source, {})
            if len(candidates) < _RIPE_KEPT:
                candidates[path] = None
            else:
                self._overflowed.add(source)
        for destination in sorted(woken):
            for wake in self._wakes:
                wake(destination)

    # WritePath.

    def admit(self, admission: Admission, now: float) -> Awaitable[Admitted]:
        a = admission
        rows = len(a.calls) + len(a.recordings) + len(a.refused) + len(a.ignored) + len(a.fragments) + 1
        size = sum(len(c.payload) + len(c.document or b"") for c in a.calls) + sum(len(f.document) for f in a.fragments)
        future: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        try:
            self._check_free()
        except LedgerUnavailable as exc:
            future.set_exception(exc)
            return future
        if self._taker is None or not a.calls:
            job = Job(run=lambda store: admit.admit(store, admission, now), future=future, full=True, rows=rows, size=size)
            return self._writer.submit(job)
        taker, offers = self._taker, self._taker.reserve(Counter(call.destination for call in a.calls))

        def handed(job: Job[Admitted]) -> None:
            taker.handed(offers, job.result.handed if job.error is None else ())

        job = Job(
            run=lambda store: admit.admit(store, admission, now, offers),
            future=future, full=True, rows=rows, size=size, answered=handed if offers else None,
        )  # fmt: skip
        return self._writer.submit(job)

    def hand_over(self, taker: CallReceiver) -> None:
        self._taker = taker

    def keep_free(self, min_free_bytes: int) -> None:
        """Another `ledger.min_free` (reload): admissions are refused while less is free on the disk."""
        self._min_free_bytes, self._free_checked_at, self._is_full = min_free_bytes, -_FREE_CHECKED_S, False

    def _check_free(self) -> None:
        if not self._min_free_bytes:
            return
        at = asyncio.get_running_loop().time()
        if at - self._free_checked_at >= _FREE_CHECKED_S:
            self._free_checked_at = at
            try:
                disk = os.statvfs(self.path.parent)
                self._is_full = disk.f_bavail * disk.f_frsize < self._min_free_bytes
            except OSError as exc:
                raise LedgerUnavailable(f"the ledger's directory cannot be asked for its free space ({exc.strerror})") from exc
        if self._is_full:
            raise LedgerUnavailable("the disk of the ledger has less than ledger.min_free left; make room, it goes on by itself")

    def claim(
        self,
        destination: str,
        form: Form,
        freeze: Freeze,
        now: float,
        *,
        pick: Pick = Pick.OLDEST,
        not_agents: frozenset[str] = frozenset(),
        due_by: float | None = None,
        only: int | None = None,
    ) -> Awaitable[Claim]:
        ask = send.Ask(
            destination=destination, form=form, freeze=freeze, now=now, pick=pick, not_agents=not_agents, due_by=due_by, only=only
        )
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        job = Job(run=partial(_answer, ask), ask=ask, future=future, unwanted=partial(self._give_back, now))
        return self._claimed(self._writer.submit(job), now)

    async def _claimed(self, asked: "asyncio.Future[Claim]", now: float) -> Claim:
        """Whoever claims may be cancelled when the answer is there, but did not reach them: then it goes back, too."""
        try:
            return await asked
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                self._give_back(now, asked.result())
            raise

    def _give_back(self, now: float, claim: Claim) -> None:
        """Whoever claimed was cancelled: nobody got the call."""
        if claim.claimed is not None:
            self.release(claim.claimed.row, now)

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        return self._hand_over(lambda store: send.settle(store, row, settlement, now), row)

    def release(self, row: int, now: float) -> Awaitable[None]:
        return self._hand_over(lambda store: send.release(store, row, now), row)

    async def sending(self) -> Mapping[int, float]:
        return await self._do(send.sending)

    def unsettled(self) -> frozenset[int]:
        return self._writer.unsettled()

    async def reclaim(self, claims: Mapping[int, float], now: float) -> int:
        return await self._do(lambda store: send.reclaim_lost(store, claims, now), full=True)

    async def gates(self) -> Mapping[str, Gate]:
        return await self._alone(lambda store: store.gates())

    def set_gate(self, destination: str, gate: Gate, now: float) -> Awaitable[None]:
        return self._hand_over(lambda store: send.set_gate(store, destination, gate, now))

    async def is_rebuilt(self) -> bool:
        """Whether it was rebuilt after damage and nobody has said `resends_quarantined` since. Outlives the process."""
        return await self._alone(lambda store: store.is_rebuilt())

    async def resends_quarantined(self) -> None:
        """What would be sent twice is held back (tunerd/post_recovery.py): this ledger is one like any other."""
        await self._see_through(lambda store: store.resends_quarantined())

    def on_due(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    # GatherPath.

    async def groups(
        self, source: str, now: float, limit: int = 64, *, ended_by: float | None = None
    ) -> tuple[Sequence[Group], float | None]:
        return await self._reader.ask(lambda t: gather.wanting(t, source, now, limit, ended_by))

    async def gathering_sources(self) -> Sequence[str]:
        return await self._reader.ask(lambda t: t.gathering_sources())

    async def gather(self, results: Sequence[GroupResult], now: float) -> Gathered:
        return await self._do(lambda store: gather.gather(store, results, now), full=True, rows=len(results))

    # Positions.

    async def mark(self, source: str, path: str) -> FileMark | None:
        found = await self._reader.ask(lambda t: ask.mark(t, source, path))
        if found is None:
            return None
        if found[1]:
            await self._see_through(lambda store: store.come_back(source, path))
        return found[0]

    async def marks(self, source: str, after_path: str = "", limit: int = 1000, *, vanished: bool = False) -> Sequence[FileMark]:
        return await self._reader.ask(lambda t: ask.marks(t, source, after_path, limit, vanished))

    async def moved_logs(self, source: str, limit: int = 1000) -> tuple[Sequence[FileMark], int]:
        return await self._reader.ask(lambda t: ask.moved_logs(t, source, limit))

    async def logs_like(self, source: str, inode: int, head: bytes, limit: int = 200) -> Sequence[FileMark]:
        return await self._reader.ask(lambda t: ask.logs_like(t, source, inode, head, limit))

    async def set_mark(self, mark: FileMark, now: float) -> None:
        await self._see_through(lambda store: store.set_mark(mark, now, is_as_read=True))

    async def vanished(self, source: str, paths: Sequence[str], now: float) -> None:
        await self._see_through(lambda store: store.vanish(source, paths, now))

    async def disposable(
        self, source: str, limit: int = 100, *, to_the_end: bool = False, leave: Container[str] = ()
    ) -> Sequence[FileMark]:
        found = {mark.path: mark for mark in await self._among_ripe(source, limit, leave)}
        if len(found) < limit:
            found |= {mark.path: mark for mark in await self._looked_through(source, limit - len(found), leave)}
        while to_the_end and not found and self._look_from[source] is not None:
            found = {mark.path: mark for mark in await self._looked_through(source, limit, leave)}
        if not found:
            return ()
        try:  # what was settled before is synced by it
            await self._do(lambda store: store.touch(), full=True)
        except LedgerUnavailable:
            return ()
        return list(found.values())

    async def _among_ripe(self, source: str, limit: int, leave: Container[str]) -> Sequence[FileMark]:
        candidates = self._ripe.get(source, {})
        paths = list(islice((path for path in candidates if path not in leave), limit))
        for path in paths:
            del candidates[path]
        marks = await self._reader.ask(lambda t: ask.disposable_among(t, source, paths)) if paths else ()
        for mark in marks:
            candidates[mark.path] = None  # until it is disposed
        return marks

    async def _looked_through(self, source: str, limit: int, leave: Container[str]) -> Sequence[FileMark]:
        """At the start, and after an overflow, the files are looked through, a part a call."""
        if source in self._overflowed and self._look_from.get(source) is None:
            self._overflowed.discard(source)
            self._look_from[source] = ""
        after = self._look_from.setdefault(source, "")
        if after is None:
            return ()
        marks, self._look_from[source] = await self._reader.ask(lambda t: ask.disposable_after(t, source, after, limit))
        for mark in marks:
            self._ripe.setdefault(source, {})[mark.path] = None
        return [mark for mark in marks if mark.path not in leave]

    async def disposed(self, source: str, path: str, now: float) -> None:
        self._ripe.get(source, {}).pop(path, None)
        await self._see_through(lambda store: store.dispose(source, path, now))

    # Inspection.

    def gauges(self) -> Gauges:
        return self._writer.gauges

    async def calls(self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> Sequence[StoredCall]:
        return await self._reader.ask(lambda t: ask.calls(t, where, after_row, limit, newest))

    async def story(self, call_id: str) -> Sequence[Story]:
        return await self._reader.ask(lambda t: ask.story(t, call_id))

    async def document(self, row: int) -> bytes | None:
        return await self._reader.ask(lambda t: ask.document(t, row))

    async def alive(self) -> bool:
        """True while the writer thread answers within 10 s, be it "unavailable": a full disk is no reason to restart."""
        try:
            async with asyncio.timeout(_ALIVE_WITHIN_S):
                await self._alone(lambda store: None)
        except LedgerUnavailable:
            return self._writer.is_troubled
        except TimeoutError:
            return False
        return True

    async def check_place(self) -> None:
        """Raises LedgerGone when the path no longer names the open file. Not while there is trouble: then it is opened
        again, or is not there to be opened, which the trouble tells."""
        if not self._writer.is_troubled and await asyncio.to_thread(self._watch.is_replaced):
            raise LedgerGone(
                f"the ledger {self.path} was removed or replaced while tunerd ran; what it would write is lost, so it ends. "
                "Put the ledger back if you have it; started without it, tunerd reads the sources again"
            )

    # Desk.

    async def replace(self, row: int, mapped: Call | RefusedDocument, now: float) -> State:
        return await self._do(lambda store: desk.replace(store, row, mapped, now), full=True)

    async def requeue(self, row: int, now: float) -> State:
        return await self._do(lambda store: desk.requeue(store, row, now))

    async def dismiss(self, rows: Sequence[int], now: float) -> int:
        return await self._do(lambda store: desk.dismiss(store, rows, now), rows=len(rows))

    async def forget(self, call_id: str, now: float) -> int:
        erased = await self._do(lambda store: desk.forget(store, call_id), full=True)
        await self._alone(lambda store: store.wipe())
        return erased

    # Stranding.

    async def stranded(self, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
        return await self._do(lambda store: strand.stranded(store, configured, sources))

    async def follow(self, old: str, new: str, workspace: str, now: float) -> int:
        moved, after_row = 0, 0
        while True:
            page = partial(strand.follow, old=old, new=new, workspace=workspace, now=now, after_row=after_row)
            done, goes_on_at = await self._do(page)
            moved += done
            if goes_on_at is None:
                break
            after_row = goes_on_at
        return moved

    # Upkeep.

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        try:
            return await self._do(lambda store: upkeep.tick(store, now))
        except LedgerUnavailable:
            return (), now + 1.0

    async def set_far_rule(self, rule: FarRule, now: float) -> Sequence[FailedCall]:
        await self._alone(lambda store: setattr(store, "far", rule))
        failed, next_at = await self.tick(now)
        told = [*failed]
        while next_at is not None and next_at <= now:
            failed, next_at = await self.tick(now)
            told += failed
        return told

    async def trim(self, keep: Retention, now: float) -> int:
        try:
            gone = await self._do(lambda store: upkeep.trim(store, keep, now))
            await self._alone(lambda store: store.give_pages_back(_VACUUM_PAGES))
        except LedgerUnavailable:
            return 0
        return gone

    async def shift(self, seconds: float) -> None:
        await self._see_through(lambda store: store.shift(seconds))

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()
        self._watch.forget()
        if self._lock is not None:
            self._lock.release()


def _answer(ask: send.Ask, store: Store) -> Claim:
    (claim,) = send.claim(store, [ask])
    return claim


def _check_place(path: Path, create: bool) -> None:
    kind = kind_of(path)
    if is_network(kind):
        raise LedgerRefused(
            f"{path} lies on a network file system ({kind}), where its locks do not hold; "
            "put ledger.url on a local disk (the sources may stay where they are)"
        )
    if not create and not path.exists():
        raise LedgerRefused(f"there is no ledger at {path}; `tunerd run` makes it")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise LedgerRefused(f"the directory {path.parent} of the ledger cannot be made: {exc.strerror}") from exc
    if path.is_dir():
        raise LedgerRefused(f"{path} is a directory; ledger.url names a file")
    for place in (path.parent, path) if path.exists() else (path.parent,):
        if not os.access(place, os.W_OK):
            raise LedgerRefused(f"{place} cannot be written (read-only, or another owner); the ledger needs a place of its own")
