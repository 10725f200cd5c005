"""All sources of a configuration: started, swept, changed on reload, ended. What happens
to one file is file_reader.py's business."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType

from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.spool import AudioSpool
from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.events import Emit, WatchDegraded
from tunerd.intake.abandoned_groups import AbandonedGroups, SetAside
from tunerd.intake.admission_gate import AdmissionGate, Limits
from tunerd.intake.admitter import Mapper
from tunerd.intake.crash_journal import CrashJournal
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.file_index import GONE_KEPT
from tunerd.intake.gather import Gather
from tunerd.intake.inotify import Watcher, WatchLimit
from tunerd.intake.reading_turns import ReadingTurns
from tunerd.intake.recording_finder import RecordingFinder, directories_of
from tunerd.intake.scan import FOUND_AT_ONCE
from tunerd.intake.source_reader import SourceReader
from tunerd.intake.source_runtime import IntakeLedger, Shared
from tunerd.intake.spool_sweeper import SpoolSweeper
from tunerd.record import record
from tunerd.statuses import SourceStatus, UnreadFile


@record
class IntakeOptions:
    limits: Limits = field(default_factory=Limits)
    watcher: Watcher | None = None
    """Replaces the kernel's file events."""
    crash_journal: str | None = None
    """Its file."""
    spool: AudioSpool | None = None
    """Where audio that came inside documents is kept; without one, none is taken."""
    audio_threads: DirectoryThreads | None = None
    """In which files of recordings are looked for; without them, in threads of its own."""
    set_aside: SetAside | None = None
    """Makes a refusal of documents whose source gathers no more."""
    found_at_once: int = FOUND_AT_ONCE
    """Files of a source that one scan finds; the next one follows at once."""
    gone_kept: int = GONE_KEPT
    """Files of a source that are remembered after they vanished; the ledger knows them all."""


class Intake:
    """All sources. `run` until stopped, or `sweep` what is there; both may be going on at once."""

    def __init__(
        self,
        sources: Sequence[Source],
        ledger: IntakeLedger,
        mappings: Mapping[str, Mapper],
        clock: Clock,
        emit: Emit,
        options: IntakeOptions | None = None,
        gathers: Mapping[str, Gather] = MappingProxyType({}),
    ) -> None:
        """`mappings` by source name, and `gathers` for sources whose calls come of several documents."""
        options = options or IntakeOptions()
        spool = options.spool or AudioSpool("", 0)
        self._shared = Shared(
            ledger=ledger,
            clock=clock,
            emit=emit,
            gate=AdmissionGate(ledger.gauges, options.limits, clock),
            watcher=options.watcher or Watcher(),
            descriptors=DescriptorLimit(min_free_bytes=options.limits.min_free_bytes),
            journal=CrashJournal(options.crash_journal),
            spool=spool,
            found_at_once=options.found_at_once,
            gone_kept=options.gone_kept,
        )
        self._sources = {s.name: self._make(s, mappings[s.name], gathers.get(s.name)) for s in sources}
        self._turns = ReadingTurns(ledger.fleet, clock, emit)
        self._spool_sweeper = SpoolSweeper(spool, ledger, clock)
        set_aside = options.set_aside
        self._abandoned = AbandonedGroups(ledger, set_aside, clock, emit, self._gathering) if set_aside is not None else None
        self._finder = RecordingFinder(
            ledger, clock, emit, directories_of(sources), options.audio_threads or DirectoryThreads(clock, emit)
        )
        self._group: asyncio.TaskGroup | None = None
        self._asked = 0
        self._is_ending = False

    def _gathering(self) -> frozenset[str]:
        return frozenset(name for name, one in self._sources.items() if one.gathers)

    async def run(self, stop: asyncio.Event) -> None:
        """Read until `stop`, then take every complete document that is there without settle delay, and end."""
        try:
            self._shared.watcher.open()
        except WatchLimit as exc:
            for name, one in self._sources.items():
                if one.source.watch == "events":
                    self._shared.emit(WatchDegraded(source=name, detail=str(exc)))
        try:
            await self._spool_sweeper.sweep()
            await self._take_suspects([one for one in self._sources.values() if not self._turns.are_taken(one.source)])
            async with asyncio.TaskGroup() as self._group:
                for one in self._sources.values():
                    self._group.create_task(self._read(one))
                if self._abandoned is not None:
                    self._group.create_task(self._abandoned.run(stop))
                self._group.create_task(self._finder.run(stop))
                self._group.create_task(self._spool_sweeper.run(stop))
                await stop.wait()
                self._is_ending = True
                for one in self._sources.values():
                    one.end()
            self._group = None
            await self._sweep([one for one in self._sources.values() if self._turns.has(one.source)], patient=False)
            for one in self._sources.values():
                await self._turns.end(one.source)
        finally:
            self._group = None
            self.close()

    async def _read(self, one: SourceReader) -> None:
        """Until the source ends; a shared one whenever it is this instance's turn, and then from what the ledger knows by now."""
        if not self._turns.are_taken(one.source):
            await one.run()
            return
        while await self._turns.take(one.source, one.ending, waits=True):
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._turns.watch(one.source, one.ending, one.end))
                await one.take_suspects()
                await one.run()
                watching.cancel()
            if self._is_ending or one.is_retired or self._turns.has(one.source):
                return
            one = self._replaced(one)
        one.ended.set()

    def _replaced(self, one: SourceReader) -> SourceReader:
        """Another instance had the turn meanwhile: what this one knew of the files is old."""
        one.leave()
        again = self._sources[one.source.name] = one.anew()
        again.look(self._asked)
        return again

    def close(self) -> None:
        """Give threads and watches back; `run` does so itself."""
        self._shared.watcher.close()
        for one in self._sources.values():
            one.close()
        self._shared.journal.close()

    async def _take_suspects(self, sources: Collection[SourceReader]) -> None:
        """After a crash: the files that were being read go first, with nothing beside them, so that the next crash names the
        document that causes it."""
        for one in sources:
            await one.take_suspects()

    async def sweep(self, *, patient: bool = True) -> int:
        """Read every complete document that is there now, without settle delay, until a scan finds nothing new.
        Gives how many files were left because they are not complete (they are refused once unchanged for
        settle_timeout); what cannot be read is not among them (`unread`). While the ledger is full it waits for room, or
        with `patient=False` leaves the rest. A shared source that another instance reads is left to that one."""
        found = [await self._in_turn(one) for one in tuple(self._sources.values())]
        return await self._sweep([one for one in found if one is not None], patient=patient)

    async def _in_turn(self, one: SourceReader) -> SourceReader | None:
        """None: another instance reads it."""
        if await self._turns.keep(one.source):
            return one
        if not await self._turns.take(one.source, one.ending, waits=False):
            return None
        return self._replaced(one)

    async def _sweep(self, sources: Collection[SourceReader], *, patient: bool) -> int:
        await self._spool_sweeper.sweep()
        await self._take_suspects(sources)
        async with asyncio.TaskGroup() as group:
            sweeps = [group.create_task(one.sweep(patient=patient)) for one in sources]
        await self._finder.sweep(patient=patient)
        return sum(one.result() for one in sweeps)

    async def dispose(self, stop: asyncio.Event) -> None:
        """after_sent of every file that is finished now, until `stop`; `run` does this, too."""
        async with asyncio.TaskGroup() as group:
            for one in self._sources.values():
                if self._turns.has(one.source):
                    group.create_task(one.dispose(stop))

    def unread(self) -> Sequence[UnreadFile]:
        """What the last sweep left, and why: directories, files that cannot be read, files that are not complete."""
        return [left for one in self._sources.values() for left in one.unread()]

    def kept(self) -> Sequence[UnreadFile]:
        """Files that `dispose` left because their writer has them open, or may have."""
        return [left for one in self._sources.values() for left in one.kept()]

    def busy(self) -> bool:
        """Whether a file is in hand, or seen and not yet read."""
        return any(one.busy() for one in self._sources.values())

    def look(self) -> int:
        """List every directory now, whatever `rescan` says; gives the number of this look, which `looked` reaches."""
        self._asked += 1
        for one in self._sources.values():
            one.look(self._asked)
        return self._asked

    def looked(self) -> int:
        """The last look that every source has done: what was there when it was asked for has been seen. A directory that
        is not there has nothing to be seen, and one that another instance reads is not looked at here."""
        here = [one.looked for one in self._sources.values() if self._turns.reader_of(one.source) is None]
        return min(here, default=self._asked)

    async def update(
        self,
        sources: Sequence[Source],
        mappings: Mapping[str, Mapper],
        limits: Limits | None = None,
        gathers: Mapping[str, Gather] = MappingProxyType({}),
    ) -> None:
        """Reload: unchanged sources continue with their new mapping, changed ones start anew from the ledger's marks,
        removed ones end after the file in hand."""
        if limits is not None:
            self._shared.gate.change(limits)
            self._shared.spool.max_bytes = limits.max_spool_bytes
            self._shared.descriptors.min_free_bytes = limits.min_free_bytes
        self._finder.change(directories_of(sources))
        wanted = {source.name: source for source in sources}
        for name in list(self._sources):
            one = self._sources[name]  # meanwhile it may have been replaced
            if wanted.get(name) == one.source and (name in gathers) == one.gathers:
                one.remap(mappings[name], gathers.get(name))
                continue
            one.is_retired = True
            one.end()
            if self._group is not None:
                await one.ended.wait()
            one.leave()
            del self._sources[name]
            if name not in wanted or not wanted[name].shared:
                await self._turns.end(one.source)
        for name, source in wanted.items():
            if name not in self._sources:
                one = self._sources[name] = self._make(source, mappings[name], gathers.get(name))
                one.look(self._asked)
                if self._group is not None:
                    self._group.create_task(self._read(one))

    def statuses(self) -> Sequence[SourceStatus]:
        return [replace(one.status(), read_by=self._turns.reader_of(one.source)) for one in self._sources.values()]

    def _make(self, source: Source, mapper: Mapper, gather: Gather | None) -> SourceReader:
        return SourceReader(source, mapper, self._shared, gather)
