"""What all parts of one source use: its ledger, clock and threads, the events, and the reasons why it is paused."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Final, Protocol, TypeVar

from tunerd.audio.spool import AudioSpool, SpoolFull
from tunerd.call import Recording
from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.daemon_threads import DaemonThreads
from tunerd.events import Emit
from tunerd.intake.admission_gate import RETRY_S, AdmissionGate, Pauses
from tunerd.intake.crash_journal import CrashJournal
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.fair_turns import FairTurns
from tunerd.intake.file_index import GONE_KEPT
from tunerd.intake.inotify import Watcher
from tunerd.intake.scan import FOUND_AT_ONCE
from tunerd.ledger import FileQueries, GatherPath, Gauges, LedgerUnavailable, NotTheReader, Positions, WritePath
from tunerd.ledger.fleet import Fleet
from tunerd.outcome import IntakeReason
from tunerd.record import record

T = TypeVar("T")

_THREADS: Final = 3
"""The most threads of one source, for reading, scanning and after_sent, so that none holds up another."""


class IntakeLedger(WritePath, GatherPath, FileQueries, Positions, Protocol):
    """What intake needs of the ledger."""

    @property
    def fleet(self) -> Fleet: ...
    def gauges(self) -> Gauges: ...


class SourceEnded(Exception):
    """The source ends while the ledger accepts nothing, or another instance reads it now: files that were being read stay on
    disk, unmarked."""


@record
class Shared:
    """What all sources have in common."""

    ledger: IntakeLedger
    clock: Clock
    emit: Emit
    gate: AdmissionGate
    watcher: Watcher
    descriptors: DescriptorLimit
    journal: CrashJournal
    spool: AudioSpool
    found_at_once: int = FOUND_AT_ONCE
    gone_kept: int = GONE_KEPT
    turns: FairTurns = field(default_factory=FairTurns)
    mapping: threading.Lock = field(default_factory=threading.Lock)
    """One document is mapped at a time: only one thread can compute, and the others would hold up the event loop in turn."""


class SourceRuntime:
    """Of one source. `close` it at the end."""

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source, self.shared = source, shared
        self.name: Final = source.name
        self.ledger, self.clock, self.journal, self.emit = shared.ledger, shared.clock, shared.journal, shared.emit
        self.pauses = Pauses(source.name, shared.emit, shared.clock.now)
        self.ending = asyncio.Event()
        """No new file is begun."""
        self.late_parts = 0
        """Documents of gathered calls that came after their call was sent, since the start."""
        self._threads = DaemonThreads(_THREADS, f"tunerd-{source.name}")

    def close(self) -> None:
        self._threads.close()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs blocking work in one of the source's threads."""
        return await self._threads.run(work)

    async def spooled(self, recording: Recording) -> Recording:
        """The recording with its audio in the spool. While that is full the source is paused and tries again each second.
        Raises SourceEnded, EntryTooLarge, and OSError."""
        while True:
            try:
                kept = await self.in_thread(lambda: self.shared.spool.keep(recording))
            except SpoolFull as exc:
                self.pauses.begin(IntakeReason.SPOOL, str(exc), by="spool")
                if await self.clock.wait(self.ending, RETRY_S):
                    raise SourceEnded from exc
                continue
            self.pauses.end(IntakeReason.SPOOL, by="spool")
            return kept

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Asks the ledger. While the ledger cannot be written the source is paused and asks again each second; nothing was
        changed meanwhile. Raises SourceEnded, also where another instance reads the source now."""
        while True:
            try:
                answer = await question()
            except NotTheReader as exc:
                raise SourceEnded from exc
            except LedgerUnavailable as exc:
                self.pauses.begin(IntakeReason.DISK, f"the ledger cannot be written ({exc}); intake waits", by="commit")
                if await self.clock.wait(self.ending, RETRY_S):
                    raise SourceEnded from exc
                continue
            self.pauses.end(IntakeReason.DISK, by="commit")
            return answer
