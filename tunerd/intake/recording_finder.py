"""Finds the files that calls wait for (`file:` strategies), and admits them as recordings once they are finished.

The ledger knows which names are looked for, so a call waits for its file across restarts, and a file may be there before or
after its call. All names are looked at again and again, with a pause after each turn: nothing depends on an event that may be
lost. What is on disk file_search.py says; the ledger decides which call gets a file.
"""

import asyncio
import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from tunerd.audio.audio_bytes import AudioHangs, AudioUnreadable
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.local import AudioDirectories
from tunerd.call import Origin, Recording
from tunerd.clock import Clock
from tunerd.config import FileRule, Source
from tunerd.events import Emit, RecordingAdmitted
from tunerd.file_identity import FileIdentity
from tunerd.file_pattern import FILES, FilePattern
from tunerd.intake.admission import failures_of
from tunerd.intake.file_search import FileSearch, SeenFile
from tunerd.ledger import Admission, Admitted, FileQueries, LedgerUnavailable, WantedFile
from tunerd.location import file_location
from tunerd.record import positional_record

TURN_S: Final = 0.05
"""How long the names of one turn are looked at; the next turn continues with the next name."""
PAUSE_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""How long a file must stay unchanged that does not look like a finished recording."""
_PAGE: Final = 100
_PIECE_S: Final = 1.0
"""After so long a thread gives back what it has: a hundred names in a large directory take longer than a look may (ANSWER_S)."""
_REMEMBERED: Final = 10_000
_FORGOTTEN_S: Final = 3600.0


@positional_record
class SearchedDirectory:
    """Where `file:` strategies look."""

    source: str
    """Name of a source that has such a strategy."""
    settle_s: float


def directories_of(sources: Iterable[Source]) -> Mapping[str, SearchedDirectory]:
    """By absolute path. Where several strategies look into one directory, the longest `settle` counts."""
    found: dict[str, SearchedDirectory] = {}
    for source in sources:
        for rule in source.recording or ():
            if isinstance(rule, FileRule):
                directory = os.path.abspath(rule.directory or source.path)
                if directory not in found or rule.settle_s > found[directory].settle_s:
                    found[directory] = SearchedDirectory(source.name, rule.settle_s)
    return found


def settles_in(seen: SeenFile, settle_s: float, unchanged_s: float, now: float) -> float:
    """How much longer a file must stay unchanged to count as finished; 0: it is. `unchanged_s`: for how long it was seen as it
    is. A file that was last changed a minute ago needs not be watched: clocks of other machines are hardly that wrong."""
    need_s = max(settle_s, PATIENCE_S) if seen.doubt else settle_s
    age_s = now - max(seen.identity.mtime_ns, seen.identity.ctime_ns) / 1e9
    return 0.0 if age_s >= max(need_s, PATIENCE_S) else max(0.0, need_s - unchanged_s)


@dataclass(slots=True)
class _Page:
    """What came of some names."""

    found: list[Recording] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """Those that changed."""
    settles_in: float | None = None
    """The soonest time at which a file that looks finished has been unchanged for long enough."""

    def note(self, wanted: WantedFile, note: str) -> None:
        if note != wanted.note:
            self.notes[wanted.name] = note

    def add(self, other: "_Page") -> None:
        self.found += other.found
        self.notes |= other.notes
        self.settles_in = min((one for one in (self.settles_in, other.settles_in) if one is not None), default=None)


class FinderLedger(FileQueries, Protocol):
    """What the finder needs of the ledger."""

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]": ...


class RecordingFinder:
    """For all sources together: a name may be looked for by calls of several, and its file still goes to one call."""

    def __init__(
        self,
        ledger: FinderLedger,
        clock: Clock,
        emit: Emit,
        directories: Mapping[str, SearchedDirectory],
        threads: DirectoryThreads,
    ) -> None:
        self._ledger, self._clock, self._emit, self._threads = ledger, clock, emit, threads
        self._turn = asyncio.Lock()
        self._after = ""
        """The name that was looked at last; empty: the next one is the first."""
        self._unchanged: OrderedDict[tuple[str, FileIdentity], float] = OrderedDict()
        """Since when files are seen as they are (monotonic)."""
        self._admitted: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Name, and identity, of what was admitted, and when (monotonic)."""
        self.change(directories)

    def change(self, directories: Mapping[str, SearchedDirectory]) -> None:
        """Reload."""
        self._places = directories
        self._directories = AudioDirectories(list(directories))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            until = self._clock.monotonic() + TURN_S
            async with self._turn:
                await self._look_at_page()
                while self._after and self._clock.monotonic() < until and not stop.is_set():
                    await self._look_at_page()
            await self._clock.wait(stop, PAUSE_S)

    async def sweep(self, *, patient: bool) -> None:
        """Look at each name once. `patient`: again, until the files that look finished have been unchanged for long enough."""
        while True:
            async with self._turn:
                self._after = ""
                waits = [await self._look_at_page()]
                while self._after:
                    waits.append(await self._look_at_page())
            wait_s = min((wait for wait in waits if wait is not None), default=None)
            if wait_s is None or not patient:
                return
            await self._clock.wait(asyncio.Event(), wait_s)

    async def _look_at_page(self) -> float | None:
        """The next names. While the ledger cannot be written they are left to the next turn."""
        if not self._places:
            return None
        try:
            wanted = await self._ledger.files_wanted(self._after, _PAGE)
            self._after = wanted[-1].name if len(wanted) == _PAGE else ""
            page = await self._look(wanted)
            if page.notes:
                await self._ledger.note_files(page.notes)
            if page.found:
                await self._admit(page.found)
        except LedgerUnavailable:
            return None
        return page.settles_in

    async def _admit(self, found: Sequence[Recording]) -> None:
        admitted = await self._ledger.admit(Admission(recordings=found), self._clock.now())
        for one in found:
            self._admitted[one.key, one.identity] = self._clock.monotonic()
            self._emit(RecordingAdmitted(source=one.origin.source))
        _keep_newest(self._admitted)
        for event in failures_of(admitted.failed, admitted.matched):
            self._emit(event)

    async def _look(self, wanted: Sequence[WantedFile]) -> _Page:
        """One directory after the other. One that hangs is left alone, so that it keeps the others waiting only once."""
        page, below = _Page(), defaultdict[str, list[WantedFile]](list)
        for one in wanted:
            try:
                below[self._root_of(one.name)].append(one)
            except AudioUnreadable as exc:
                page.note(one, str(exc))
        for root, names in below.items():
            left: Sequence[WantedFile] = names
            try:
                while left:
                    piece, left = await self._threads.run(root, partial(self._look_below, left))
                    page.add(piece)
            except AudioHangs as exc:
                for one in left:
                    page.note(one, str(exc))
        _keep_newest(self._unchanged)
        return page

    # In a thread.

    def _look_below(self, wanted: Sequence[WantedFile]) -> tuple[_Page, Sequence[WantedFile]]:
        """What came of the first names, and those that are left: it takes hardly longer than _PIECE_S, or than one name."""
        page, until = _Page(), self._clock.monotonic() + _PIECE_S
        with FileSearch(self._directories) as search:
            for number, one in enumerate(wanted, 1):
                try:
                    note = self._note(one, search.find(FilePattern.parse(one.name), one.times), page)
                except AudioUnreadable as exc:
                    note = str(exc)
                page.note(one, note)
                if self._clock.monotonic() >= until:
                    return page, wanted[number:]
        return page, ()

    def _note(self, wanted: WantedFile, files: Sequence[SeenFile], page: _Page) -> str:
        """What to say of the files with a name that is looked for. Those that are finished are put on the page, all or none."""
        place = self._places[self._root_of(wanted.name)]
        unfinished: list[SeenFile] = []
        for seen in files:
            wait_s = self._settles_in(seen, place.settle_s)
            if wait_s > 0:
                unfinished.append(seen)
                if not seen.doubt:
                    page.settles_in = min(wait_s, wait_s if page.settles_in is None else page.settles_in)
        if unfinished:
            return unfinished[0].doubt or f"{unfinished[0].path} was changed a moment ago"
        if not files:
            return ""
        page.found += [_recording(wanted, seen, place.source) for seen in files if self._is_new(wanted.name, str(seen.identity))]
        return f"{files[0].path} is there, but another call has it, or it was written at another time than the call"

    def _settles_in(self, seen: SeenFile, settle_s: float) -> float:
        known = (seen.path, seen.identity)
        since = self._unchanged[known] = self._unchanged.pop(known, self._clock.monotonic())
        return settles_in(seen, settle_s, self._clock.monotonic() - since, self._clock.now())

    def _is_new(self, name: str, identity: str) -> bool:
        at = self._admitted.get((name, identity))
        return at is None or self._clock.monotonic() - at > _FORGOTTEN_S

    def _root_of(self, name: str) -> str:
        return self._directories.root_of(f"{FilePattern.parse(name).directory}/.")


def _recording(wanted: WantedFile, seen: SeenFile, source: str) -> Recording:
    identity = seen.identity
    return Recording(
        origin=Origin(source=source, path=seen.path, mtime_ns=identity.mtime_ns),
        source=FILES,
        key=wanted.name,
        match="" if wanted.times is None else wanted.name,
        id=f"{identity.device}:{identity.inode}:{identity.size}:{identity.mtime_ns}",
        location=file_location(seen.path).text,
        started_at=identity.mtime_ns / 1e9,
        identity=str(identity),
    )


def _keep_newest(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
