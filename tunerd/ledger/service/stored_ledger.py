"""StoredLedger has the methods of all Ledger protocols and is long because there are forty of them, of a few lines each.

A method is a job for the writer or a question to the reader. What a command means is said in ledger/commands/, how rows are
stored in ledger/sql/, and when they are committed by the engine's writer (sqlite/writer_thread.py).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from tunerd.call import Call, Form, RefusedDocument, State
from tunerd.ledger import (
    Admission,
    Admitted,
    AudioEnded,
    CallReceiver,
    Claim,
    Claimed,
    Delivered,
    DiskUse,
    FailedCall,
    FarRule,
    FileMark,
    Filter,
    Freeze,
    Gathered,
    Gauges,
    Group,
    GroupResult,
    LedgerUnavailable,
    Pick,
    PreparedAudio,
    Retention,
    Settlement,
    StoredCall,
    StoredPauses,
    Story,
    Stranded,
    WantedFile,
)
from tunerd.ledger.commands import (
    admit,
    claim,
    group_results,
    listing,
    operator_actions,
    reclaim,
    settle,
    strand,
    timers,
)
from tunerd.ledger.disks import Disks
from tunerd.ledger.fleet import ALONE, Fleet
from tunerd.ledger.service.disposable_files import DisposableFiles
from tunerd.ledger.service.jobs import AcceptsJobs, AnswersQuestions, Job
from tunerd.ledger.service.stored_audio import StoredAudio
from tunerd.ledger.sql.store import Store
from tunerd.statuses import InstanceStatus

T = TypeVar("T")

_ALIVE_WITHIN_S: Final = 4.8
"""A little less than ops/health.py waits for it."""


class Place(Protocol):
    """Where an engine keeps a ledger. Only the ledger asks it."""

    def check_room(self) -> None:
        """Raises LedgerUnavailable while there is no room for new calls."""
        ...

    def keep_free(self, min_free_bytes: int) -> None:
        """Another `ledger.min_free`."""
        ...

    def disk_use(self) -> DiskUse:
        """See Inspection.disk_use. Blocking."""
        ...

    def was_erased(self, store: Store) -> None:
        """Make what was deleted unrecoverable. In the writer, outside of a transaction."""
        ...

    def was_trimmed(self, store: Store) -> None:
        """Give room back that retention has freed. In the writer, outside of a transaction."""
        ...

    def close(self) -> None: ...


class StoredLedger(StoredAudio):
    """The durable Ledger on a store. An engine's own class opens it."""

    fleet: Fleet = ALONE

    def __init__(self, place: Place, reader: AnswersQuestions, writer: Callable[["StoredLedger"], AcceptsJobs]) -> None:
        """`writer` makes the writer, which tells the ledger of its commits (`committed`)."""
        self._place = place
        self._wakes: list[Callable[[str], None]] = []
        self._receiver: CallReceiver | None = None
        self._reader = reader
        self._disposable = DisposableFiles(reader)
        self._writer = writer(self)

    def committed(self, woken: set[str], disposable: set[tuple[str, str]]) -> None:
        """A commit may have made calls of these destinations due, and these (source, path) disposable."""
        self._disposable.note(disposable)
        for destination in sorted(woken):
            for wake in self._wakes:
                wake(destination)

    def keep_free(self, min_free_bytes: int) -> None:
        """Another `ledger.min_free` (reload): admissions are refused while less is free on the disk."""
        self._place.keep_free(min_free_bytes)

    async def instances(self) -> Sequence[InstanceStatus]:
        """See Inspection.instances. None: one process owns the ledger."""
        return ()

    async def set_disks(self, disks: Disks) -> None:
        """The configuration was read again: other sources, other directories. Raises LedgerUnavailable."""

    async def check_place(self) -> None:
        """Raises where this process does not hold the ledger any more."""

    # WritePath.

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
        a = admission
        rows = len(a.calls) + len(a.recordings) + len(a.refused) + len(a.ignored) + len(a.fragments) + 1
        size = sum([len(c.payload) + len(c.document or b"") for c in a.calls]) + sum([len(f.document) for f in a.fragments])
        future: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        try:
            self._place.check_room()
        except LedgerUnavailable as exc:
            future.set_exception(exc)
            return future
        if self._receiver is None or not a.calls:
            run = lambda store: admit.admit(store, admission, now)  # noqa: E731
            job = Job(run=run, future=future, full=True, rows=rows, size=size, admission=admission)
            return self._writer.submit(job)
        receiver, reserved = self._receiver, self._receiver.reserve(Counter(call.destination for call in a.calls))

        def handed(job: Job[Admitted]) -> None:
            receiver.receive(reserved, job.result.handed if job.error is None else ())

        job = Job(
            run=lambda store: admit.admit(store, admission, now, reserved),
            future=future, full=True, rows=rows, size=size, answered=handed if reserved else None,
            admission=admission,
        )  # fmt: skip
        return self._writer.submit(job)

    def set_call_receiver(self, receiver: CallReceiver) -> None:
        self._receiver = receiver

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
        audio: PreparedAudio | None = None,
    ) -> Awaitable[Claim]:
        ask = claim.ClaimRequest(
            destination=destination, form=form, freeze=freeze, now=now, pick=pick, not_agents=not_agents, due_by=due_by,
            only=only, audio=audio,
        )  # fmt: skip
        future: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        job = Job(run=partial(_answer, ask), ask=ask, future=future, unwanted=partial(self._give_back, now))
        return self._claimed(self._writer.submit(job), now)

    async def _claimed(self, asked: "asyncio.Future[Claim]", now: float) -> Claim:
        """The worker may be cancelled when the answer is there but did not reach it: then the call is given back, too."""
        try:
            return await asked
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                self._give_back(now, asked.result())
            raise

    def _give_back(self, now: float, answer: Claim) -> None:
        """The worker was cancelled: nobody holds the call."""
        if answer.claimed is not None:
            self.release(answer.claimed.row, now)

    async def freeze_signed(
        self, row: int, freeze: Freeze, form: Form, url: str | AudioEnded, expires_at: float | None, now: float
    ) -> Claimed | FailedCall | None:
        return await self._do(lambda store: claim.freeze_signed(store, row, freeze, form, url, expires_at, now))

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        has_audio = isinstance(settlement, Delivered) and settlement.audio is not None
        return self._submit_patient(lambda store: settle.settle(store, row, settlement, now), row, full=has_audio)

    def release(self, row: int, now: float) -> Awaitable[None]:
        return self._submit_patient(lambda store: settle.release(store, row, now), row)

    async def sending(self) -> Mapping[int, float]:
        return await self._do(reclaim.sending)

    def unsettled(self) -> frozenset[int]:
        return self._writer.unsettled()

    async def reclaim(self, claims: Mapping[int, float], now: float) -> int:
        return await self._do(lambda store: reclaim.reclaim_lost(store, claims, now), full=True)

    async def stored_pauses(self) -> Mapping[str, StoredPauses]:
        return await self._alone(lambda store: store.destinations.stored_pauses())

    def store_pauses(
        self, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None = None
    ) -> Awaitable[None]:
        return self._submit_patient(lambda store: settle.store_pauses(store, destination, pauses, now, before))

    async def is_rebuilt(self) -> bool:
        """Whether the ledger was rebuilt after damage, and `resends_quarantined` was not called since. Outlives the process."""
        return await self._alone(lambda store: store.is_rebuilt())

    async def resends_quarantined(self) -> None:
        """What might be sent twice is quarantined (tunerd/post_recovery.py): from now on this ledger is like any other."""
        await self._do_patiently(lambda store: store.resends_quarantined())

    def on_due(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    # GatherPath.

    async def groups(
        self, source: str, now: float, limit: int = 64, *, ended_by: float | None = None
    ) -> tuple[Sequence[Group], float | None]:
        return await self._reader.ask(lambda store: group_results.groups(store, source, now, limit, ended_by))

    async def gathering_sources(self) -> Sequence[str]:
        return await self._do(lambda store: store.groups.sources())

    async def gather(self, results: Sequence[GroupResult], now: float) -> Gathered:
        return await self._do(lambda store: group_results.gather(store, results, now), full=True, rows=len(results))

    # FileQueries.

    async def files_wanted(self, after: str = "", limit: int = 500) -> Sequence[WantedFile]:
        return await self._reader.ask(lambda store: store.wants.files(after, limit))

    async def known_locations(self, locations: Sequence[str]) -> Collection[str]:
        def known(store: Store) -> list[str]:
            return [one for one in locations if store.recordings.is_at(one) or store.audios.has_spooled(one)]

        return await self._reader.ask(known)

    async def note_files(self, notes: Mapping[str, str]) -> None:
        def note(store: Store) -> None:
            for name, seen in notes.items():
                store.wants.note_file(name, seen)

        await self._do(note)

    # Positions.

    async def mark(self, source: str, path: str) -> FileMark | None:
        found = await self._reader.ask(lambda store: store.files.mark(source, path))
        if found is None:
            return None
        if found[1]:
            await self._do_patiently(lambda store: _come_back(store, source, path))
        return found[0]

    async def marks(self, source: str, after_path: str = "", limit: int = 1000, *, vanished: bool = False) -> Sequence[FileMark]:
        return await self._reader.ask(lambda store: store.files.marks(source, after_path, limit, vanished))

    async def moved_logs(self, source: str, limit: int = 1000) -> tuple[Sequence[FileMark], int]:
        return await self._reader.ask(lambda store: store.files.moved_logs(source, limit))

    async def logs_like(self, source: str, inode: int, head: bytes, limit: int = 200) -> Sequence[FileMark]:
        return await self._reader.ask(lambda store: store.files.logs_like(source, inode, head, limit))

    async def set_mark(self, mark: FileMark, now: float) -> None:
        await self._do_patiently(lambda store: store.files.set_mark(mark, now, is_as_read=True))

    async def vanished(self, source: str, paths: Sequence[str], now: float) -> None:
        await self._do_patiently(lambda store: store.files.vanish(source, paths, now))

    async def disposable(
        self, source: str, limit: int = 100, *, to_the_end: bool = False, leave: Container[str] = ()
    ) -> Sequence[FileMark]:
        found = await self._disposable.find(source, limit, to_the_end, leave)
        if not found:
            return ()
        try:  # this syncs what was settled before
            await self._do(lambda store: store.probe_write(), full=True)
        except LedgerUnavailable:
            return ()
        return found

    async def disposed(self, source: str, path: str, now: float) -> None:
        self._disposable.forget(source, path)
        await self._do_patiently(lambda store: store.files.dispose(source, path, now))

    # Inspection.

    def gauges(self) -> Gauges:
        return self._writer.gauges

    async def calls(self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> Sequence[StoredCall]:
        return await self._reader.ask(lambda store: listing.calls(store, where, after_row, limit, newest))

    async def story(self, call_id: str) -> Sequence[Story]:
        return await self._reader.ask(lambda store: listing.story(store, call_id))

    async def document(self, row: int) -> bytes | None:
        return await self._reader.ask(lambda store: store.bodies.document(row))

    async def disk_use(self) -> DiskUse:
        return await asyncio.to_thread(self._place.disk_use)

    async def unmatched_recordings(self) -> Mapping[str, int]:
        return await self._reader.ask(lambda store: store.recordings.unmatched())

    async def alive(self) -> bool:
        """True while the writer thread answers in time, or waits for a server. "Unavailable" is an answer, too: a full disk is no
        reason to restart."""
        try:
            async with asyncio.timeout(_ALIVE_WITHIN_S):
                await self._alone(lambda store: None)
        except LedgerUnavailable:
            return self._writer.is_troubled
        except TimeoutError:
            return self._writer.waits_for_server
        return True

    # OperatorActions.

    async def replace(self, row: int, mapped: Call | RefusedDocument, now: float) -> State:
        return await self._do(lambda store: operator_actions.replace(store, row, mapped, now), full=True)

    async def requeue(self, row: int, now: float) -> State:
        return await self._do(lambda store: operator_actions.requeue(store, row, now))

    async def use_recording(self, row: int, location: str, now: float) -> State:
        return await self._do(lambda store: operator_actions.use_recording(store, row, location, now))

    async def dismiss(self, rows: Sequence[int], now: float) -> int:
        return await self._do(lambda store: operator_actions.dismiss(store, rows, now), rows=len(rows))

    async def forget(self, call_id: str, now: float) -> int:
        erased = await self._do(lambda store: operator_actions.forget(store, call_id), full=True)
        await self._alone(self._place.was_erased)
        return erased

    # Stranding.

    async def stranded(self, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
        return await self._do(lambda store: strand.stranded(store, configured, sources))

    async def follow(self, old: str, new: str, workspace: str, now: float) -> int:
        moved, after_row = 0, 0
        while True:
            page = partial(strand.follow, old=old, new=new, workspace=workspace, now=now, after_row=after_row)
            done, next_after = await self._do(page)
            moved += done
            if next_after is None:
                break
            after_row = next_after
        return moved

    # Upkeep.

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        try:
            return await self._do(lambda store: timers.tick(store, now))
        except LedgerUnavailable:
            return (), now + 1.0

    async def set_far_rule(self, rule: FarRule, now: float) -> Sequence[FailedCall]:
        self._submit_patient(lambda store: timers.set_far_rule(store, rule))  # while nothing can be written, nobody waits for it
        if rule.at_once:
            try:
                await self._do(lambda store: store.wants.look_now())
            except LedgerUnavailable:
                return ()  # the next sweep sets the rule anew
        failed, next_at = await self.tick(now)
        all_failed = [*failed]
        while next_at is not None and next_at <= now:
            failed, next_at = await self.tick(now)
            all_failed += failed
        return all_failed

    async def trim(self, keep: Retention, now: float) -> int:
        try:
            gone = await self._do(lambda store: timers.trim(store, keep, now))
            await self._alone(self._place.was_trimmed)
        except LedgerUnavailable:
            return 0
        return gone

    async def shift(self, seconds: float) -> None:
        await self._do_patiently(lambda store: timers.shift(store, seconds))

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()
        self._place.close()


def _answer(ask: claim.ClaimRequest, store: Store) -> Claim:
    (answer,) = claim.claim(store, [ask])
    return answer


def _come_back(store: Store, source: str, path: str) -> None:
    store.files.come_back(source, path)
    store.disposable.add((source, path))
