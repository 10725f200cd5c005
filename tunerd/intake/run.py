"""The conductor of steps 1 to 4: settled path -> documents -> calls and recordings -> ledger. `_SourceIntake._take` is
the order, a line a step; `Intake` holds the sources, and changes them on reload.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from tunerd.call import Document, Mapped, Refusal, RefusedDocument
from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.events import (
    Emit,
    FileDisposed,
    WatchDegraded,
)
from tunerd.intake import dispose
from tunerd.intake.admission import Made, admission_of, events_of
from tunerd.intake.hints import Due, Hints
from tunerd.intake.known import Known
from tunerd.intake.lookout import Lookout
from tunerd.intake.pauses import RETRY_S, Gate, Limits, Pauses
from tunerd.intake.scan import Names
from tunerd.intake.visit import LARGE_BYTES, Back, Batch, Large, Later, Look, Nothing, Now, Strange, Visit
from tunerd.intake.watch import Watcher, WatchLimit
from tunerd.ledger import FileMark, Gauges, LedgerUnavailable, Positions, WritePath
from tunerd.outcome import FailReason, IntakeReason

T = TypeVar("T")
Mapper: TypeAlias = Callable[[Document], Mapped]
"""What mapping/ makes of one document; never raises on purpose."""

WORKERS: Final = 16
"""Files of one source in hand at the same time: their commits go to disk together."""
SLICE_S: Final = 0.005
"""Mapping gives way to everything else on the loop after so long."""
_THREADS: Final = 3
"""Of one source, at most: for reading, scanning and after_sent, so that none holds up another."""
_SWEEPS: Final = 1_000
_UNREADABLE_S: Final = 5.0
"""How soon a file is tried again that gave no permission or an I/O error."""


class IntakeLedger(WritePath, Positions, Protocol):
    """What intake needs of the ledger."""

    def gauges(self) -> Gauges: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    name: str
    root: str
    paused: IntakeReason | None
    paused_since: float | None
    detail: str
    """Why it is paused, in words for an operator."""
    files: int
    """Files known (read, or left out on purpose)."""
    settling: int
    """Files seen that are not read yet."""
    watching: bool
    """Whether kernel events come in; else scans find the files."""
    last_scan_at: float | None


class _Stopped(Exception):
    """Stopping while the ledger takes nothing: what is in hand stays on disk, unmarked."""


class Intake:
    """All sources. `run` until stopped, or `sweep` what is there; both may be going on at once."""

    def __init__(
        self,
        sources: Sequence[Source],
        ledger: IntakeLedger,
        mappings: Mapping[str, Mapper],
        clock: Clock,
        emit: Emit,
        limits: Limits | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        """`mappings` by source name; `watcher` replaces the kernel's events."""
        self._ledger, self._clock, self._emit = ledger, clock, emit
        self._gate = Gate(ledger.gauges, limits or Limits(), clock)
        self._watcher = watcher or Watcher()
        self._turn = asyncio.Lock()
        """One large document, or one batch of a large file, at a time."""
        self._sources = {source.name: self._make(source, mappings[source.name]) for source in sources}
        self._group: asyncio.TaskGroup | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop`, then take every complete document that is there without settle delay, and end."""
        try:
            self._watcher.open()
        except WatchLimit as exc:
            for name, one in self._sources.items():
                if one.source.watch == "events":
                    self._emit(WatchDegraded(source=name, detail=str(exc)))
        try:
            async with asyncio.TaskGroup() as self._group:
                for one in self._sources.values():
                    self._group.create_task(one.run())
                await stop.wait()
                for one in self._sources.values():
                    one.end()
            self._group = None
            await self.sweep(patient=False)
        finally:
            self._group = None
            self.close()

    def close(self) -> None:
        """Give threads and watches back; `run` does so itself."""
        self._watcher.close()
        for one in self._sources.values():
            one.close()

    async def sweep(self, *, patient: bool = True) -> int:
        """Read every complete document that is there now, without settle delay, until a scan finds nothing new.
        Gives how many files were left because they are not complete (they are refused once unchanged for
        settle_timeout). While the ledger is full it waits for room, or with `patient=False` leaves the rest."""
        async with asyncio.TaskGroup() as group:
            sweeps = [group.create_task(one.sweep(patient=patient)) for one in self._sources.values()]
        return sum(one.result() for one in sweeps)

    def busy(self) -> bool:
        """Whether a file is in hand, or seen and not yet read."""
        return any(one.busy() for one in self._sources.values())

    async def update(self, sources: Sequence[Source], mappings: Mapping[str, Mapper], limits: Limits | None = None) -> None:
        """Reload: unchanged sources go on with their new mapping, changed ones start anew from the ledger's marks,
        removed ones end after the file in hand."""
        if limits is not None:
            self._gate.change(limits)
        wanted = {source.name: source for source in sources}
        for name, one in list(self._sources.items()):
            if wanted.get(name) == one.source:
                one.mapper = mappings[name]
                continue
            one.end()
            if self._group is not None:
                await one.ended.wait()
            one.close()
            del self._sources[name]
        for name, source in wanted.items():
            if name not in self._sources:
                one = self._sources[name] = self._make(source, mappings[name])
                if self._group is not None:
                    self._group.create_task(one.run())

    def statuses(self) -> Sequence[SourceStatus]:
        return [one.status() for one in self._sources.values()]

    def _make(self, source: Source, mapper: Mapper) -> "_SourceIntake":
        return _SourceIntake(source, self._ledger, mapper, self._clock, self._emit, self._gate, self._watcher, self._turn)


class _SourceIntake:
    """One source, from its directory to the ledger."""

    def __init__(
        self,
        source: Source,
        ledger: IntakeLedger,
        mapper: Mapper,
        clock: Clock,
        emit: Emit,
        gate: Gate,
        watcher: Watcher,
        turn: asyncio.Lock,
    ) -> None:
        self.source, self.mapper = source, mapper
        self.ended = asyncio.Event()
        self._ledger, self._clock, self._emit, self._gate, self._turn = ledger, clock, emit, gate, turn
        self._root = os.path.abspath(source.path)
        target = dispose.target_directory(source)
        inside = os.path.relpath(target, self._root) if target is not None else None
        self._names = Names(source, inside)
        self._known = Known(self._root, lambda name: self._names.log_name(name) or name)
        self._hints = Hints()
        self._pauses = Pauses(source.name, emit, clock.now)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tunerd-{source.name}")
        self._lookout = Lookout(
            source, self._names, self._known, self._hints, watcher, clock, emit, self._pauses, self._in_thread, self._vanished
        )
        self._ending = asyncio.Event()
        self._loaded = False
        self._has_calls = bool(source.destination)

    def busy(self) -> bool:
        return self._hints.busy or len(self._hints) > 0

    def status(self) -> SourceStatus:
        return SourceStatus(
            name=self.source.name, root=self._root, paused=self._pauses.reason, paused_since=self._pauses.since,
            detail=self._pauses.detail, files=len(self._known.signatures),
            settling=len(self._hints), watching=self._lookout.watching, last_scan_at=self._lookout.last_scan_at,
        )  # fmt: skip

    async def run(self) -> None:
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lookout.scan_forever(self._ending))
                group.create_task(self._lookout.glance_forever(self._ending))
                group.create_task(self._dispose_forever())
                for _ in range(WORKERS):
                    group.create_task(self._work())
        except _Stopped:
            pass  # while the marks were loaded
        finally:
            self.ended.set()

    def end(self) -> None:
        """No new file is begun; the ones in hand are finished."""
        self._ending.set()
        self._hints.changed.set()
        self._hints.scan_now.set()

    def close(self) -> None:
        self._lookout.close()
        self._pauses.end_all()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def sweep(self, *, patient: bool) -> int:
        left: dict[str, int] = {}
        try:
            await self._load()
            for _ in range(_SWEEPS):
                more = await self._lookout.scan_once()
                self._hints.hurry(self._clock.monotonic())
                begun = len(self._hints)
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(WORKERS, max(1, begun))):
                        group.create_task(self._sweep_work(left, patient=patient))
                if self._news == 0 and not more:
                    break
                self._news = 0
        except _Stopped:
            pass
        return len(left)

    _news = 0
    """Files that gave documents since the last round of a sweep."""

    async def _sweep_work(self, left: dict[str, int], *, patient: bool) -> None:
        while (due := self._hints.pop(self._clock.monotonic())) is not None:
            try:
                later = await self._take(due, final=True, patient=patient)
                if later is None:
                    left.pop(due.path, None)
                else:
                    left[due.path] = due.signature
                    due.at = self._clock.monotonic() + max(later, 0.001)
                    if not self._ending.is_set():
                        self._hints.put_back(due)
            except _Stopped:
                return
            finally:
                self._hints.done(due.path)

    async def _work(self) -> None:
        while not self._ending.is_set():
            now = self._clock.monotonic()
            due = self._hints.pop(now)
            if due is None:
                self._hints.changed.clear()
                next_at = self._hints.next_at()
                await self._clock.wait(self._hints.changed, None if next_at is None else max(0.001, next_at - now))
                continue
            try:
                later = await self._take(due, final=False, patient=True)
                if later is not None:
                    due.at = self._clock.monotonic() + later
                    self._hints.put_back(due)
            except _Stopped:
                return
            finally:
                self._hints.done(due.path)

    async def _take(self, due: Due, *, final: bool, patient: bool) -> float | None:
        """One file through steps 1 to 4. Gives the seconds after which to look at it again, if that is needed."""
        if not await self._gate.wait_open(self._pauses, self._ending, calls=self._has_calls, patient=patient):
            raise _Stopped
        visit = self._visit(due, Now(self._clock.now(), self._clock.monotonic(), final))
        try:
            look = await self._in_thread(visit.look)  # 1. settled?  2. read
            if isinstance(look, Batch):
                await self._admit(look, await self._map(look))  # 3. map  4. admit
            while isinstance(look, Large) or (isinstance(look, Batch) and not look.last):
                async with self._turn:  # large files: a batch each in turn, over all sources
                    look = await self._in_thread(visit.more)
                    if isinstance(look, Batch):
                        await self._admit(look, await self._map(look))
            return await self._after(due, look)
        except OSError as exc:
            self._lookout.odd(due.path, f"cannot be read ({exc.strerror}); it is tried again until it can or is gone")
            return _UNREADABLE_S
        finally:
            visit.close()

    def _visit(self, due: Due, now: Now) -> Visit:
        known = self._known
        return Visit(
            self.source, self._root, self._names, due, now, known=known.signatures.get(due.path), is_back=known.is_back,
            own=known.logs.get(due.path), candidates=known.candidates, refused_tail=known.refused_tails.get(due.path),
        )  # fmt: skip

    async def _after(self, due: Due, look: Look) -> float | None:
        match look:
            case Strange(why):
                self._lookout.odd(due.path, why)
            case Back(mark):
                await self._patiently(lambda: self._ledger.set_mark(mark, self._clock.now()))
                self._known.came_back(due.path)
            case Later(seconds):
                return seconds
            case Batch(later_s=seconds):
                return seconds
            case Nothing() | Large():
                pass
        return None

    async def _map(self, batch: Batch) -> list[Made]:
        """Step 3, in slices of SLICE_S on the loop; a large document in a thread, where only it is held up."""
        made: list[Made] = []
        began = self._clock.monotonic()
        for one in batch.documents:
            if isinstance(one, RefusedDocument):
                made.append((one, Mapped(refused=one)))
                continue
            if len(one.raw) > LARGE_BYTES:
                made.append((one, await self._in_thread(lambda one=one: self._map_one(one))))  # type: ignore[misc]
            else:
                made.append((one, self._map_one(one)))
            if self._clock.monotonic() - began > SLICE_S:
                await asyncio.sleep(0)
                began = self._clock.monotonic()
        return made

    def _map_one(self, document: Document) -> Mapped:
        try:
            return self.mapper(document)
        except Exception as exc:
            # A defect of ours on one document must not stop all others: it is set aside, visible, with its text.
            what = f"the mapping failed on this document ({type(exc).__name__}), a defect in tunerd: please report it"
            refusal = Refusal(reason=FailReason.CRASHED, where="mapping", what=what)
            refused = RefusedDocument(
                origin=document.origin, refusal=refusal, document=document.raw, settled_at=document.settled_at
            )
            return Mapped(refused=refused)

    async def _admit(self, batch: Batch, made: Sequence[Made]) -> None:
        """Step 4: the batch and its file's mark in one transaction, then what is known, then what is told."""
        admission = admission_of(batch, made)
        admitted = await self._patiently(lambda: self._ledger.admit(admission, self._clock.now()))
        if batch.mark is not None:
            self._remember(batch, batch.mark)
        self._news += bool(made)
        for event in events_of(self.source.name, made, admission, admitted):
            self._emit(event)

    def _remember(self, batch: Batch, mark: FileMark) -> None:
        relative = self._known.relative(mark.path)
        if not mark.whole and batch.first and (batch.continues is None or batch.continues.path != mark.path):
            self._known.replaced(relative)
        self._known.remember(mark)
        if batch.refused_tail is not None:
            self._known.refused_tails[relative] = batch.refused_tail
        else:
            self._known.refused_tails.pop(relative, None)
        if not mark.whole:
            self._lookout.grew(relative)

    async def _dispose_forever(self) -> None:
        """after_sent, beside the reading: a hundred files at a time in a thread."""
        act = dispose.disposer(self.source)
        given_up: set[str] = set()
        while act is not None and not self._ending.is_set():
            done = 0
            try:
                marks = await self._ledger.disposable(self.source.name, dispose.AT_ONCE + len(given_up))
                marks = [mark for mark in marks if mark.path not in given_up]
                for disposed in await self._in_thread(lambda marks=marks: [act(mark) for mark in marks]):  # type: ignore[misc]
                    if disposed is None:
                        continue
                    path = disposed.mark.path
                    if disposed.failed:
                        given_up.add(path)
                    else:
                        done += 1
                        self._known.disposed(self._known.relative(path))
                        await self._ledger.disposed(self.source.name, path, self._clock.now())
                    if disposed.how != "gone":
                        self._emit(FileDisposed(source=self.source.name, path=path, how=disposed.how))
            except LedgerUnavailable:
                pass
            if done == 0:
                await self._clock.wait(self._ending, dispose.PAUSE_S)

    async def _load(self) -> None:
        """Take over from the ledger what was read before."""
        after = ""
        while not self._loaded:
            marks = await self._patiently(lambda after=after: self._ledger.marks(self.source.name, after))  # type: ignore[misc]
            self._known.load(marks)
            await asyncio.sleep(0)  # a page of marks is some milliseconds: others get their turn
            self._loaded = not marks
            after = marks[-1].path if marks else after

    async def _vanished(self, paths: list[str]) -> None:
        for i in range(0, len(paths), 1000):
            await self._ledger.vanished(self.source.name, paths[i : i + 1000], self._clock.now())

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """While the ledger cannot be written, the same again each second; nothing was changed meanwhile."""
        while True:
            try:
                answer = await ask()
            except LedgerUnavailable as exc:
                self._pauses.begin(IntakeReason.DISK, f"the ledger cannot be written ({exc}); intake waits", by="commit")
                if await self._clock.wait(self._ending, RETRY_S):
                    raise _Stopped from exc
                continue
            self._pauses.end(IntakeReason.DISK, by="commit")
            return answer

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
