"""One source: its workers read the files that are due, and a sweep reads all that is there now. What happens to one file is
file_reader.py's business; sources.py holds the sources, and changes them on reload.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunerd.config import Source
from tunerd.intake.admitter import Mapper
from tunerd.intake.after_sent import AfterSent
from tunerd.intake.due_queue import Due
from tunerd.intake.file_reader import FileReader
from tunerd.intake.gather import Gather, Gatherer
from tunerd.intake.generations import Generations
from tunerd.intake.lost_logs import LostLogs
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.restore_marks import restore_marks
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import Shared, SourceEnded, SourceRuntime
from tunerd.outcome import IntakeReason
from tunerd.statuses import SourceStatus, UnreadFile

WORKERS: Final = 64
"""Files of one source that are read at the same time: their commits go to disk together."""
_SWEEPS: Final = 1_000


@dataclass(slots=True)
class _Sweep:
    incomplete: set[str] = field(default_factory=set)
    unreadable: dict[str, Due] = field(default_factory=dict)
    """Files that this sweep could not read; they are not tried twice in one sweep."""


class SourceReader:
    """One source, from its directory to the ledger."""

    def __init__(self, source: Source, mapper: Mapper, shared: Shared, gather: Gather | None = None) -> None:
        """`gather`: of a source whose calls come of several documents."""
        self.source = source
        self.ended = asyncio.Event()
        self.is_retired = False
        """A reload ends it for good, whoever's turn it is."""
        self._runtime = SourceRuntime(source, shared)
        self._clock, self._pauses = shared.clock, self._runtime.pauses
        self._files = SourceFiles.of(source, shared.descriptors, shared.spool, shared.gone_kept)
        self._monitor = DirectoryMonitor(self._runtime, self._files)
        self._after_sent = AfterSent(self._runtime, self._files, self._monitor.look_again)
        self._gatherer = Gatherer(self._runtime, self._files, self._monitor, gather) if gather is not None else None
        generations = Generations(self._files.index) if gather is not None else None
        self._reader = FileReader(
            self._runtime, self._files, self._monitor, self._after_sent, mapper, self._gatherer, generations
        )
        self._lost_logs = LostLogs(self._runtime, self._files, self._monitor, self._gatherer, generations)
        self._door = asyncio.Lock()
        """One idle worker watches the due queue; the others wait for this lock."""
        self._is_loaded = self._took_suspects = False
        self._incomplete: frozenset[str] = frozenset()
        """Files that the last sweep left because they are not complete."""

    @property
    def ending(self) -> asyncio.Event:
        return self._runtime.ending

    def anew(self) -> "SourceReader":
        """The same source, of which nothing is known yet."""
        gather = self._gatherer.rules if self._gatherer is not None else None
        return SourceReader(self.source, self._reader.admitter.mapper, self._runtime.shared, gather)

    def busy(self) -> bool:
        return self._files.due.busy or len(self._files.due) > 0

    @property
    def looked(self) -> int:
        """The last look that was asked for and is done."""
        return self._monitor.looked

    def look(self, number: int) -> None:
        self._monitor.look(number)

    def status(self) -> SourceStatus:
        is_lost = self._pauses.reason in (IntakeReason.MISSING, IntakeReason.DENIED)  # its files are not to blame
        unreadable = len(self._reader.unreadable) + len(self._monitor.unlisted)
        return SourceStatus(
            name=self.source.name, path=self._files.root, paused=self._pauses.reason, paused_since=self._pauses.since,
            detail=self._pauses.detail, files=len(self._files.index.signatures), settling=len(self._files.due),
            unread_since=self._files.due.unread_since(), inotify_fallback=self._monitor.is_fallback,
            watching=self._monitor.watching, last_scan_at=self._monitor.last_scan_at, late_parts=self._runtime.late_parts,
            unreadable=0 if is_lost else unreadable, unreadable_example=None if is_lost else next(self._errors(), None),
        )  # fmt: skip

    @property
    def gathers(self) -> bool:
        return self._gatherer is not None

    def remap(self, mapper: Mapper, gather: Gather | None) -> None:
        """Other rules (reload) for the documents that come."""
        self._reader.admitter.mapper = mapper
        if self._gatherer is not None and gather is not None:
            self._gatherer.rules = gather

    async def run(self) -> None:
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._monitor.scan_forever(self._runtime.ending))
                group.create_task(self._monitor.poll_forever(self._runtime.ending))
                group.create_task(self._lost_logs.report_when_read())
                group.create_task(self._after_sent.run(self._runtime.ending))
                if self._gatherer is not None:
                    group.create_task(self._gatherer.run())
                    group.create_task(self._lost_logs.run())
                for _ in range(WORKERS):
                    group.create_task(self._work())
        except SourceEnded:
            pass  # while the marks were loaded
        finally:
            self.ended.set()

    def end(self) -> None:
        """No new file is begun; the ones in hand are finished."""
        self._runtime.ending.set()
        self._files.due.changed.set()
        self._files.due.scan_now.set()
        if self._gatherer is not None:
            self._gatherer.changed.set()

    def leave(self) -> None:
        """As `close`, where the others go on (a reload): what it waited for is over."""
        self.close()
        self._pauses.end_all()

    def close(self) -> None:
        """The pauses stay as they are: nothing is read again because the process ends."""
        self._monitor.close()
        self._files.followed.close()
        self._runtime.close()

    async def sweep(self, *, patient: bool) -> int:
        sweep = _Sweep()
        try:
            await self._load()
            for _ in range(_SWEEPS):
                more = await self._monitor.scan_once(sweep.unreadable.keys())
                await self._monitor.poll_once()
                self._files.due.hurry(self._clock.monotonic())
                begun = len(self._files.due)
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(WORKERS, max(1, begun))):
                        group.create_task(self._sweep_work(sweep, patient=patient))
                if self._reader.progress == 0 and not more:
                    break
                self._reader.progress = 0
            if not self._runtime.ending.is_set():
                for due in sweep.unreadable.values():
                    self._files.due.put_back(due)
            await self._lost_logs.cut(0.0)  # no time can be waited for
            if self._gatherer is not None:
                await self._gatherer.look()
            self._lost_logs.report()
        except SourceEnded:
            pass
        self._incomplete = frozenset(sweep.incomplete)
        return len(sweep.incomplete)

    async def dispose(self, stop: asyncio.Event) -> None:
        """after_sent of all files that are finished now. `run` does this, too: do not call both."""
        await self._after_sent.run_once(stop)

    def kept(self) -> Sequence[UnreadFile]:
        """Files that `dispose` left because their writer has them open, or may have."""
        return [self._left(self._files.index.relative(path), why) for path, why in self._after_sent.unfinished.items()]

    def unread(self) -> Sequence[UnreadFile]:
        """What the last sweep left, and why. If the directory cannot be read, that is the only entry."""
        reason, detail = self._pauses.reason, self._pauses.detail.removeprefix(f"{self._files.root} ")
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
        for path, why in self._reader.unreadable.items():
            yield self._left(path, f"cannot be read ({why})")

    def _left(self, relative: str, why: str) -> UnreadFile:
        return UnreadFile(
            source=self.source.name, path=self._files.index.absolute(relative) if relative else self._files.root, why=why
        )

    async def _sweep_work(self, sweep: _Sweep, *, patient: bool) -> None:
        while (due := self._files.due.pop(self._clock.monotonic())) is not None:
            try:
                later = await self._reader.read(due, final=True, patient=patient)
                sweep.incomplete.discard(due.path)
                if due.path in self._reader.unreadable:
                    sweep.unreadable[due.path] = due
                elif later is not None:
                    sweep.incomplete.add(due.path)
                    due.at = self._clock.monotonic() + max(later, 0.001)
                    if not self._runtime.ending.is_set():
                        self._files.due.put_back(due)
            except SourceEnded:
                return
            finally:
                self._files.due.done(due.path)

    async def _work(self) -> None:
        while (due := await self._next()) is not None:
            try:
                later = await self._reader.read(due, final=False, patient=True)
                if later is not None:
                    due.at = self._clock.monotonic() + later
                    self._files.due.put_back(due)
            except SourceEnded:
                return
            finally:
                self._files.due.done(due.path)

    async def _next(self) -> Due | None:
        """The next file that is due; None when the source ends."""
        async with self._door:
            while not self._runtime.ending.is_set():
                now = self._clock.monotonic()
                if (due := self._files.due.pop(now)) is not None:
                    return due
                self._files.due.changed.clear()
                next_at = self._files.due.next_at()
                await self._clock.wait(self._files.due.changed, None if next_at is None else max(0.001, next_at - now))
        return None

    async def take_suspects(self) -> None:
        """Read, one after the other, the files of this source that were in hand when the process died."""
        paths = [] if self._took_suspects else self._runtime.journal.suspects(self.source.name)
        self._took_suspects = True
        try:
            for path in paths:
                await self._load()
                relative = self._files.index.relative(path)
                if path != relative and self._files.names.fits(relative):
                    now = self._clock.monotonic()
                    later = await self._reader.read(due := Due(relative, now, self._clock.now()), final=False, patient=False)
                    if later is not None:
                        due.at = now + later
                        self._files.due.put_back(due)
        except SourceEnded:
            pass  # they are taken singly when their turn comes

    async def _load(self) -> None:
        """Take over from the ledger what was read before."""
        if not self._is_loaded:
            await restore_marks(self._runtime, self._files.index)
            self._lost_logs.at_start = list(self._files.index.logs.values())
            self._is_loaded = True
