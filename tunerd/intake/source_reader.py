"""The conductor of steps 1 to 4: settled path -> documents -> calls and recordings -> ledger. `SourceReader._take` is
the order, a line a step. sources.py holds the sources, and changes them on reload.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from tunerd.call import Mapped, RefusedDocument
from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.events import Emit, Event, LinesIgnored, LogLeft, PartsLate
from tunerd.intake.admission import events_of
from tunerd.intake.admission_gate import RETRY_S, AdmissionGate, Pauses
from tunerd.intake.after_sent import AfterSent
from tunerd.intake.carry import Carry
from tunerd.intake.crash_journal import FILE, CrashJournal, JournalEntry, Phase
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.due_queue import Due, DueQueue, moved_key
from tunerd.intake.entry import Entry, FileEntry, Handed, Mapper
from tunerd.intake.fair_turns import FairTurns
from tunerd.intake.file_index import FileIndex
from tunerd.intake.followed_logs import FollowedLogs
from tunerd.intake.gather import Gather, Gatherer
from tunerd.intake.generations import LOST_S, PATIENCE_STEP_S, POSTPONED_S, Generations, Postponed
from tunerd.intake.inotify import Watcher
from tunerd.intake.inspection import (
    Batch,
    Compare,
    Inspection,
    Large,
    Later,
    LeftOut,
    Look,
    NotRegular,
    Now,
    Recognized,
    Unchanged,
    Working,
)
from tunerd.intake.log_identity import LookUp, SameFile
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.quarantine import unread
from tunerd.intake.removal import target_directory
from tunerd.intake.scan import Names
from tunerd.ledger import Admission, Admitted, FileMark, GatherPath, Gauges, LedgerUnavailable, Positions, WritePath
from tunerd.outcome import IntakeReason
from tunerd.statuses import SourceStatus, UnreadFile

T = TypeVar("T")

WORKERS: Final = 64
"""Files of one source in hand at the same time: their commits go to disk together."""
_THREADS: Final = 3
"""Of one source, at most: for reading, scanning and after_sent, so that none holds up another."""
_NOISY_FILES: Final = 1_000
_LOST_LOOK_S: Final = 2.0
_SWEEPS: Final = 1_000
_LOADED_AT_ONCE: Final = 200
_UNREADABLE_S: Final = 5.0
"""How soon a file is tried again that gave no permission or an I/O error."""


class IntakeLedger(WritePath, GatherPath, Positions, Protocol):
    """What intake needs of the ledger."""

    def gauges(self) -> Gauges: ...


@dataclass(slots=True)
class _Sweep:
    incomplete: set[str] = field(default_factory=set)
    unreadable: dict[str, Due] = field(default_factory=dict)
    """Looked at once: what this sweep would find the second time is what it found the first."""


class _Stopped(Exception):
    """Stopping while the ledger takes nothing: what is in hand stays on disk, unmarked."""


class SourceReader:
    """One source, from its directory to the ledger."""

    def __init__(
        self,
        source: Source,
        ledger: IntakeLedger,
        mapper: Mapper,
        clock: Clock,
        emit: Emit,
        gate: AdmissionGate,
        watcher: Watcher,
        turns: FairTurns,
        descriptors: DescriptorLimit,
        journal: CrashJournal,
        one_maps: threading.Lock,
        gather: Gather | None = None,
    ) -> None:
        """`gather`: of a source whose calls come of several documents."""
        self.source = source
        self.ended = asyncio.Event()
        self._ledger, self._clock, self._emit, self._gate, self._turns = ledger, clock, emit, gate, turns
        self._root = os.path.abspath(source.path)
        target = target_directory(source)
        inside = os.path.relpath(target, self._root) if target is not None else None
        self._names = Names(source, inside)
        self._index = FileIndex(self._root)
        self._due = DueQueue()
        self._followed = FollowedLogs(descriptors)
        self._pauses = Pauses(source.name, emit, clock.now)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"tunerd-{source.name}")
        self._monitor = DirectoryMonitor(
            source,
            self._names,
            self._index,
            self._due,
            self._followed,
            watcher,
            clock,
            emit,
            self._pauses,
            self._in_thread,
            self._vanished,
        )
        self._after_sent = AfterSent(
            source, self._monitor.tree, ledger, self._index, clock, emit, self._in_thread, self._monitor.look_again
        )
        self._journal = journal
        self._gatherer: Gatherer | None = None
        self._late_parts = 0
        if gather is not None:
            self._gatherer = Gatherer(
                source.name,
                ledger,
                gather,
                clock,
                self._emit_counted,
                self._patiently,
                self._in_thread,
                self._unread_since,
                self._unread_in_folders,
                journal,
            )
        self._generations = Generations(self._index) if gather is not None else None
        self._entry = Entry(
            source, mapper, ledger, clock, self._entered, self._patiently, self._in_thread, one_maps, self._generations
        )
        self._ending = asyncio.Event()
        self._door = asyncio.Lock()
        """Of the workers that have nothing to do one waits for news; the others wait for their turn to."""
        self._loaded = False
        self._logs_at_start: list[FileMark] = []
        """Until all of them were looked for."""
        self._has_calls = bool(source.destination)
        self._unreadable: dict[str, str] = {}
        """Files that gave an error when they were last looked at, and which."""
        self._noisy: set[str] = set()
        """Logs of which it was told that lines of them are ignored."""
        self._incomplete: frozenset[str] = frozenset()
        """Files that the last sweep left because they are not complete."""

    def busy(self) -> bool:
        return self._due.busy or len(self._due) > 0

    @property
    def looked(self) -> int:
        """The last look that was asked for and is done."""
        return self._monitor.looked

    def look(self, number: int) -> None:
        self._monitor.look(number)

    def status(self) -> SourceStatus:
        lost = self._pauses.reason in (IntakeReason.MISSING, IntakeReason.DENIED)  # its files are not to blame
        return SourceStatus(
            name=self.source.name, path=self._root, paused=self._pauses.reason, paused_since=self._pauses.since,
            detail=self._pauses.detail, files=len(self._index.signatures),
            settling=len(self._due), watching=self._monitor.watching, last_scan_at=self._monitor.last_scan_at,
            late_parts=self._late_parts, unreadable=0 if lost else len(self._unreadable) + len(self._monitor.unlisted),
            unreadable_example=None if lost else next(self._errors(), None),
        )  # fmt: skip

    @property
    def gathers(self) -> bool:
        return self._gatherer is not None

    def remap(self, mapper: Mapper, gather: Gather | None) -> None:
        """Other rules (reload) for the documents that come."""
        self._entry.mapper = mapper
        if self._gatherer is not None and gather is not None:
            self._gatherer.rules = gather

    async def run(self) -> None:
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._monitor.scan_forever(self._ending))
                group.create_task(self._monitor.poll_forever(self._ending))
                group.create_task(self._tell_unreachable())
                group.create_task(self._after_sent.run(self._ending))
                if self._gatherer is not None:
                    group.create_task(self._gather(self._gatherer))
                if self._generations is not None:
                    group.create_task(self._tear(self._generations))
                for _ in range(WORKERS):
                    group.create_task(self._work())
        except _Stopped:
            pass  # while the marks were loaded
        finally:
            self.ended.set()

    def end(self) -> None:
        """No new file is begun; the ones in hand are finished."""
        self._ending.set()
        self._due.changed.set()
        self._due.scan_now.set()
        if self._gatherer is not None:
            self._gatherer.news.set()

    def leave(self) -> None:
        """As `close`, where the others go on (a reload): what it waited for is over."""
        self.close()
        self._pauses.end_all()

    def close(self) -> None:
        """The pauses stay as they are: nothing is read again because the process ends."""
        self._monitor.close()
        self._followed.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def sweep(self, *, patient: bool) -> int:
        sweep = _Sweep()
        try:
            await self._load()
            for _ in range(_SWEEPS):
                more = await self._monitor.scan_once(sweep.unreadable.keys())
                await self._monitor.poll_once()
                self._due.hurry(self._clock.monotonic())
                begun = len(self._due)
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(WORKERS, max(1, begun))):
                        group.create_task(self._sweep_work(sweep, patient=patient))
                if self._news == 0 and not more:
                    break
                self._news = 0
            if not self._ending.is_set():
                for due in sweep.unreadable.values():
                    self._due.put_back(due)
            if self._generations is not None:
                await self._tear_lost(self._generations, 0.0)  # no time can be waited for
            if self._gatherer is not None:
                await self._gatherer.look()
            self._tell_lost_logs()
        except _Stopped:
            pass
        self._incomplete = frozenset(sweep.incomplete)
        return len(sweep.incomplete)

    async def dispose(self, stop: asyncio.Event) -> None:
        """after_sent of what is done with now; beside no `run`, which does it by itself."""
        await self._after_sent.run_once(stop)

    def kept(self) -> Sequence[UnreadFile]:
        """Files that `dispose` left because their writer has them open, or may have."""
        return [self._left(self._index.relative(path), why) for path, why in self._after_sent.unfinished.items()]

    def unread(self) -> Sequence[UnreadFile]:
        """What the last sweep left, and why. Of a directory that is not to be had nothing else is said."""
        reason, detail = self._pauses.reason, self._pauses.detail.removeprefix(f"{self._root} ")
        if reason is IntakeReason.MISSING:
            return [self._left("", f"it {detail.partition(';')[0]}; check `path`")]
        if reason is IntakeReason.DENIED:
            return [self._left("", f"it {detail}")]
        return [
            *([self._left("", detail)] if reason is not None else []),
            *self._errors(),
            *(self._left(path, "not complete yet") for path in self._incomplete),
        ]

    def _errors(self) -> Iterator[UnreadFile]:
        """Directories below the root and files that gave an error."""
        for folder, why in self._monitor.unlisted.items():
            yield self._left(folder, f"cannot be listed ({why})")
        for path, why in self._unreadable.items():
            yield self._left(path, f"cannot be read ({why})")

    def _left(self, relative: str, why: str) -> UnreadFile:
        return UnreadFile(source=self.source.name, path=self._index.absolute(relative) if relative else self._root, why=why)

    _news = 0
    """Files that gave documents since the last round of a sweep."""

    async def _sweep_work(self, sweep: _Sweep, *, patient: bool) -> None:
        while (due := self._due.pop(self._clock.monotonic())) is not None:
            try:
                later = await self._take(due, final=True, patient=patient)
                sweep.incomplete.discard(due.path)
                if due.path in self._unreadable:
                    sweep.unreadable[due.path] = due
                elif later is not None:
                    sweep.incomplete.add(due.path)
                    due.at = self._clock.monotonic() + max(later, 0.001)
                    if not self._ending.is_set():
                        self._due.put_back(due)
            except _Stopped:
                return
            finally:
                self._due.done(due.path)

    async def _work(self) -> None:
        while (due := await self._next()) is not None:
            try:
                later = await self._take(due, final=False, patient=True)
                if later is not None:
                    due.at = self._clock.monotonic() + later
                    self._due.put_back(due)
            except _Stopped:
                return
            finally:
                self._due.done(due.path)

    async def _next(self) -> Due | None:
        """The next file that is due; None when the source ends."""
        async with self._door:
            while not self._ending.is_set():
                now = self._clock.monotonic()
                if (due := self._due.pop(now)) is not None:
                    return due
                self._due.changed.clear()
                next_at = self._due.next_at()
                await self._clock.wait(self._due.changed, None if next_at is None else max(0.001, next_at - now))
        return None

    async def _take(self, due: Due, *, final: bool, patient: bool) -> float | None:
        """One file through steps 1 to 4. Gives the seconds after which to look at it again, if that is needed."""
        if not await self._gate.wait_open(self._pauses, self._ending, calls=self._has_calls, patient=patient):
            raise _Stopped
        await self._recall(due.path)
        inspection = self._inspection(due, Now(self._clock.now(), self._clock.monotonic(), final))
        hold = self._journal.begin(self.source.name, inspection.path)
        # Each line that is written to a file makes it due again: what counts is time, but in a sweep, which goes round and round.
        postponed = due.postponed if final else int(due.waited_s(self._clock.monotonic()) / PATIENCE_STEP_S)
        entry = self._entry.of_file(hold, final=final, postponed=postponed)
        try:
            if hold.is_quarantined(FILE) and not due.moved_log:
                await self._set_aside(due, hold)
                self._unreadable.pop(due.path, None)
                return None
            look = await entry.read(inspection.look)  # 1. settled?  2. read  3. map
            while True:
                if isinstance(look, Compare):
                    look = await self._compared(inspection, entry, due.path)
                elif isinstance(look, LookUp):
                    look = await self._looked_up(inspection, entry, look)
                if isinstance(look, Batch):
                    await entry.enter(look, inspection)  # 2b. gather  4. admit
                if isinstance(look, Compare | LookUp):
                    continue
                if not isinstance(look, Large | Working) and not (isinstance(look, Batch) and not look.last):
                    break
                await self._wait_for_room(entry, patient=patient)
                async with self._turns.turn(self.source.name):  # what takes long: a turn each, over all sources
                    hold.note(Phase.READING, FILE)
                    look = await self._more(inspection, entry)
            await entry.end()
            later = await self._after(due, look)
            self._unreadable.pop(due.path, None)
            hold.end(cleared=not isinstance(look, Later))
            return later
        except Postponed as postponed:
            hold.end(cleared=True)
            due.wait_for(postponed.read_up_to, self._clock.monotonic())
            self._news += 1
            self._due.scan_now.set()
            return POSTPONED_S
        except OSError as exc:
            hold.end(cleared=False)
            self._unreadable[due.path] = exc.strerror or type(exc).__name__
            if isinstance(exc, PermissionError) and await self._monitor.is_denied():
                return RETRY_S
            self._monitor.odd(due.path, f"cannot be read ({exc.strerror}); it is tried again until it can or is gone")
            return _UNREADABLE_S
        except (_Stopped, asyncio.CancelledError):
            hold.end(cleared=False)
            raise
        finally:  # any other exception ends the process, and the file stays noted as what it had in hand
            entry.close()
            inspection.close()

    async def _compared(self, inspection: Inspection, entry: FileEntry, relative: str) -> Look:
        """A whole file was read at this path, and has another stat now: its content says whether to read it again."""
        path = self._index.absolute(relative)
        stored = await self._patiently(lambda: self._ledger.mark(self.source.name, path))
        return await entry.read(lambda: inspection.compare(stored))

    async def _looked_up(self, inspection: Inspection, entry: FileEntry, asked: LookUp) -> Look:
        """Which logs this one may be."""
        marks = await self._patiently(lambda: self._ledger.logs_like(self.source.name, asked.inode, asked.head))
        return await entry.read(lambda: inspection.found(marks))

    async def _more(self, inspection: Inspection, entry: FileEntry) -> Look:
        try:
            return await entry.read(inspection.more)
        except OSError:
            await entry.end()  # what could be read stays read
            raise

    async def _wait_for_room(self, entry: FileEntry, *, patient: bool) -> None:
        """A large file does not go past what the ledger may hold, either."""
        if self._gate.closed() is not None:
            await entry.end()
        if not await self._gate.wait_open(self._pauses, self._ending, calls=self._has_calls, patient=patient):
            await entry.end()
            raise _Stopped

    async def _set_aside(self, due: Due, hold: JournalEntry) -> None:
        """Twice the process died while the bytes of this file were read: it stands as failed, and is not opened again
        before it changes."""
        batch = unread(self.source.name, self._index.absolute(due.path), self._index.logs.get(due.path), self._clock.now())
        made = [(one, Mapped(refused=one)) for one in batch.documents if isinstance(one, RefusedDocument)]
        carried = self._entry.gathered(Carry(), batch, made, None, final=False)
        await self._entry.see_through(self._entry.hand_over(batch, carried, None))
        hold.end(cleared=True)

    async def take_suspects(self) -> None:
        """Read, one after the other, the files of this source that were in hand when the process died."""
        paths = [] if self._suspected else self._journal.suspects(self.source.name)
        self._suspected = True
        try:
            for path in paths:
                await self._load()
                relative = self._index.relative(path)
                if path != relative and self._names.fits(relative):
                    now = self._clock.monotonic()
                    later = await self._take(due := Due(relative, now, self._clock.now()), final=False, patient=False)
                    if later is not None:
                        due.at = now + later
                        self._due.put_back(due)
        except _Stopped:
            pass  # they are taken singly when their turn comes

    _suspected = False

    async def _recall(self, relative: str) -> None:
        """More files vanished than are remembered here: ask the ledger before one that is back is read again."""
        if self._index.has_forgotten and relative not in self._index.signatures:
            path = self._index.absolute(relative)
            mark = await self._patiently(lambda: self._ledger.mark(self.source.name, path))
            if mark is not None:
                self._index.remember(mark)

    def _inspection(self, due: Due, now: Now) -> Inspection:
        return Inspection(self.source, self._monitor.tree, self._names, due, now, self._index, self._followed)

    async def _after(self, due: Due, look: Look) -> float | None:
        if due.closed or isinstance(look, Batch):
            self._after_sent.was_seen(due.path, closed=due.closed)
        match look:
            case NotRegular(why):
                self._monitor.odd(due.path, why)
            case Recognized(mark):
                await self._patiently(lambda: self._ledger.set_mark(mark, self._clock.now()))
                self._index.came_back(mark)
            case LeftOut(sign):
                self._index.leave_out(due.path, sign)
            case SameFile():
                if not due.moved_log:
                    self._index.leave_out(due.path, due.signature)
            case Later(seconds, first, is_busy):
                if first:
                    await self._monitor.read_first(first)
                self._news += bool(first) or is_busy
                return seconds
            case Batch(mark=FileMark(whole=True), first=True, documents=[]):
                self._monitor.odd(due.path, "holds an empty list: there is no document in it")
            case Batch(later_s=seconds):
                return seconds
            case Unchanged() | Compare() | LookUp() | Large() | Working():
                pass
        return None

    def _entered(self, handed: Handed, admitted: Admitted) -> None:
        """A batch is durable: first what is known, then what is told."""
        batch, made, admission = handed.batch, handed.made, handed.admission
        if batch.mark is not None:
            self._remember(batch, batch.mark, handed.inspection)
        self._news += bool(made)
        if self._gatherer is not None and (admission.fragments or admission.cuts or admission.torn or admission.refused):
            self._gatherer.news.set()
        for event in events_of(self.source.name, made, admission, admitted):
            self._emit_counted(event)
        if batch.noise and batch.mark is not None:
            path = batch.mark.path
            self._emit(LinesIgnored(source=self.source.name, path=path, count=batch.noise, is_first=path not in self._noisy))
            if len(self._noisy) < _NOISY_FILES:
                self._noisy.add(path)

    # Gather.

    async def _gather(self, gatherer: Gatherer) -> None:
        with suppress(_Stopped):
            await gatherer.run(self._ending)

    async def _tear(self, generations: Generations) -> None:
        """Tell the ledger of logs that are gone and may have had more in them."""
        with suppress(_Stopped):
            while not await self._clock.wait(self._ending, _LOST_LOOK_S):
                await self._tear_lost(generations, LOST_S)

    async def _tear_lost(self, generations: Generations, after_s: float) -> None:
        lost = generations.lost(self._clock.monotonic(), after_s)
        lost = [mark for mark in lost if self._followed.of_number(mark.log) is None]
        if not lost or not self._monitor.knows_all:
            return
        gone = Admission(lost=[(mark.source, mark.log) for mark in lost])
        await self._patiently(lambda: self._ledger.admit(gone, self._clock.now()))
        generations.told(lost)
        if self._gatherer is not None:
            self._gatherer.news.set()

    def _emit_counted(self, event: Event) -> None:
        if isinstance(event, PartsLate):
            self._late_parts += event.count
        self._emit(event)

    def _unread_since(self) -> float | None:
        """Since when there may be files that are not read. While the directory is gone, or was not listed in full yet,
        that is long ago: no wait ends then. While the ledger is full of calls that gather, nothing can be read before
        some of them end."""
        if not self._monitor.knows_all:
            return 0.0
        gauges = self._ledger.gauges()
        if self._pauses.reason is IntakeReason.FULL and gauges.gathering_bytes * 2 > gauges.pending_bytes:
            return None
        return self._due.unread_since()

    def _unread_in_folders(self) -> dict[str, float]:
        return {self._index.absolute(folder): seen_at for folder, seen_at in self._due.unread_in_folders().items()}

    def _remember(self, batch: Batch, mark: FileMark, inspection: Inspection | None) -> None:
        relative = self._index.relative(mark.path)
        if mark.is_there:
            self._index.remember(mark)
        else:
            self._index.read_elsewhere(mark)
            relative = moved_key(mark.log)
        if not mark.whole and inspection is not None and (fd := inspection.log_fd) is not None:
            now = self._clock.monotonic()
            self._followed.read(fd, mark, now=now, seen=inspection.seen if batch.last else None)
        if batch.refused_tail is not None:
            self._index.refused_tails[relative] = batch.refused_tail
        else:
            self._index.refused_tails.pop(relative, None)

    async def _load(self) -> None:
        """Take over from the ledger what was read before."""
        if self._loaded:
            return
        for vanished, load in ((True, self._index.load_vanished), (False, self._index.load)):
            after: str | None = ""
            while after is not None:
                after = await self._load_page(after, vanished, load)
        moved, last_log = await self._patiently(lambda: self._ledger.moved_logs(self.source.name))
        self._index.load_moved(moved)
        self._index.numbered(last_log)
        self._logs_at_start = list(self._index.logs.values())
        self._loaded = True

    async def _load_page(self, after: str, vanished: bool, load: Callable[[Sequence[FileMark]], None]) -> str | None:
        marks = await self._patiently(lambda: self._ledger.marks(self.source.name, after, vanished=vanished))
        for i in range(0, len(marks), _LOADED_AT_ONCE):
            load(marks[i : i + _LOADED_AT_ONCE])
            await asyncio.sleep(0)  # others get their turn
        return marks[-1].path if marks else None

    async def _tell_unreachable(self) -> None:
        """Logs that were moved while nobody held them open: once what is there was looked at."""
        while not (self._monitor.knows_all and not self.busy()):
            if await self._clock.wait(self._ending, 1.0):
                return
        self._tell_lost_logs()

    def _tell_lost_logs(self) -> None:
        why = (
            "it was moved or deleted while tunerd did not run, and is not in the directory under another name; what was written "
            "behind this is not read. If it is elsewhere, copy it back under a name that begins with its own"
        )
        for mark in self._logs_at_start:
            if not self._index.is_found(mark.log) and self._followed.of_number(mark.log) is None:
                self._emit(LogLeft(source=self.source.name, path=mark.path, offset=mark.offset, why=why))
        self._logs_at_start = []

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
