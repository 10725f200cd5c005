"""Logs of one source that are nowhere to be found: those that were moved while tunerd did not run are reported, and the calls at
the end of those that may have had more in them are cut."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tunerd.events import LogLeft
from tunerd.intake.gather import Gatherer
from tunerd.intake.generations import LOST_S, Generations
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import SourceEnded, SourceRuntime
from tunerd.ledger import Admission, FileMark

_LOOK_S: Final = 2.0
_UNREACHABLE: Final = (
    "it was moved or deleted while tunerd did not run, and is not in the directory under another name; what was written "
    "behind this is not read. If it is elsewhere, copy it back under a name that begins with its own"
)


class LostLogs:
    def __init__(
        self,
        runtime: SourceRuntime,
        files: SourceFiles,
        monitor: DirectoryMonitor,
        gatherer: Gatherer | None,
        generations: Generations | None,
    ) -> None:
        """`gatherer` and `generations`: of a source that gathers."""
        self._runtime, self._files, self._monitor = runtime, files, monitor
        self._gatherer, self._generations = gatherer, generations
        self.at_start: Sequence[FileMark] = ()
        """The logs that the ledger knew, until all of them were looked for."""

    async def report_when_read(self) -> None:
        """Report logs that cannot be reached any more, once what is there was read."""
        files = self._files
        while not self._monitor.knows_all or files.due.busy or len(files.due):
            if await self._runtime.clock.wait(self._runtime.ending, 1.0):
                return
        self.report()

    def report(self) -> None:
        for mark in self.at_start:
            if not self._files.index.is_found(mark.log) and self._files.followed.of_number(mark.log) is None:
                self._runtime.emit(LogLeft(source=self._runtime.name, path=mark.path, offset=mark.offset, why=_UNREACHABLE))
        self.at_start = ()

    async def run(self) -> None:
        """Cut calls until the source ends."""
        with suppress(SourceEnded):
            while not await self._runtime.clock.wait(self._runtime.ending, _LOOK_S):
                await self.cut(LOST_S)

    async def cut(self, after_s: float) -> None:
        """Tell the ledger of logs that have been missing for that long and may have had more in them. Raises SourceEnded."""
        if self._generations is None or self._gatherer is None:
            return
        clock, followed = self._runtime.clock, self._files.followed
        lost = self._generations.lost(clock.monotonic(), after_s)
        lost = [mark for mark in lost if followed.of_number(mark.log) is None]
        if not lost or not self._monitor.knows_all:
            return
        gone = Admission(lost=[(mark.source, mark.log) for mark in lost])
        await self._runtime.ask(lambda: self._runtime.ledger.admit(gone, clock.now()))
        self._generations.mark_reported(lost)
        self._gatherer.changed.set()
