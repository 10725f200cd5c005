"""Why a source is paused: each reason is reported once when it begins and once when it ends.

Also the gate before admission: the ledger is full, its disk nearly so, or it cannot be written.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tunerd.clock import Clock
from tunerd.events import Emit, IntakePaused, IntakeResumed
from tunerd.ledger import Gauges
from tunerd.outcome import IntakeReason
from tunerd.record import record

RETRY_S: Final = 1.0
"""How often a closed gate is tried again."""


@record
class Limits:
    max_pending_bytes: int = 1024 * 1024 * 1024
    """Calls are not admitted while the ledger holds more; those that wait for a recording may use half of it."""
    min_free_bytes: int = 0
    """Nor while the file system of `ledger_directory` has less room than this."""
    ledger_directory: str | None = None
    max_spool_bytes: int = 1024 * 1024 * 1024
    """Of audio that came inside documents."""


@dataclass(slots=True)
class _Held:
    detail: str
    since: float
    by: set[str] = field(default_factory=set)


class Pauses:
    """The reasons of one source. Several parts may see the same reason; it ends when none of them sees it any more."""

    def __init__(self, source: str, emit: Emit, now: Callable[[], float]) -> None:
        self._source, self._emit, self._now = source, emit, now
        self._held: dict[IntakeReason, _Held] = {}

    @property
    def reason(self) -> IntakeReason | None:
        return next(iter(self._held), None)

    @property
    def detail(self) -> str:
        """In words for an operator; empty while nothing is wrong."""
        return next((held.detail for held in self._held.values()), "")

    @property
    def since(self) -> float | None:
        """Unix seconds."""
        return next((held.since for held in self._held.values()), None)

    def begin(self, reason: IntakeReason, detail: str, *, by: str) -> None:
        if reason not in self._held:
            self._held[reason] = _Held(detail, self._now())
            self._emit(IntakePaused(source=self._source, reason=reason, detail=detail))
        self._held[reason].by.add(by)

    def end(self, reason: IntakeReason, *, by: str) -> None:
        held = self._held.get(reason)
        if held is None:
            return
        held.by.discard(by)
        if not held.by:
            del self._held[reason]
            self._emit(IntakeResumed(source=self._source, reason=reason))

    def end_all(self) -> None:
        for reason in list(self._held):
            del self._held[reason]
            self._emit(IntakeResumed(source=self._source, reason=reason))


class AdmissionGate:
    """Whether calls may be admitted; shared by all sources."""

    def __init__(self, gauges: Callable[[], Gauges], limits: Limits, clock: Clock) -> None:
        self._gauges, self._limits, self._clock = gauges, limits, clock
        self._free: tuple[float, int] | None = None

    def change(self, limits: Limits) -> None:
        """A reload."""
        self._limits, self._free = limits, None

    def closed(self) -> tuple[IntakeReason, str] | None:
        """Why not, in words for an operator; None: open."""
        gauges, most = self._gauges(), self._limits.max_pending_bytes
        if gauges.pending_bytes > most:
            detail = f"open calls hold {gauges.pending_bytes:,} bytes of the ledger (max_pending_bytes is {most:,})"
            return IntakeReason.FULL, detail
        if gauges.pending_bytes + gauges.unmapped_bytes > most:
            detail = (
                f"documents that no rule could map hold {gauges.unmapped_bytes:,} bytes of the ledger "
                f"(max_pending_bytes is {most:,}): correct the rules and `tunerd retry --reason unmappable`, "
                "or `tunerd dismiss` them"
            )
            return IntakeReason.FULL, detail
        if gauges.waiting_bytes > most // 2:
            detail = f"calls that wait for recordings hold {gauges.waiting_bytes:,} bytes, more than half of max_pending_bytes"
            return IntakeReason.FULL, detail
        free = self._free_bytes()
        if free is not None and free < self._limits.min_free_bytes:
            return IntakeReason.DISK, f"{free:,} bytes are free beside the ledger (min_free {self._limits.min_free_bytes:,})"
        return None

    async def wait_open(self, pauses: Pauses, stop: asyncio.Event, *, calls: bool, patient: bool = True) -> bool:
        """Wait until this source may admit; `calls` is False for one that only brings manifests, which is read while
        the ledger is full, too. False: `stop` was set, or the gate is closed and the caller is not patient."""
        while (why := self.closed()) is not None and (calls or why[0] is IntakeReason.DISK):
            pauses.begin(*why, by="gate")
            if not patient or await self._clock.wait(stop, RETRY_S):
                return False
        for reason in (IntakeReason.FULL, IntakeReason.DISK):
            pauses.end(reason, by="gate")
        return True

    def _free_bytes(self) -> int | None:
        if self._limits.ledger_directory is None or not self._limits.min_free_bytes:
            return None
        now = self._clock.monotonic()
        if self._free is None or now - self._free[0] >= RETRY_S:
            try:
                at = os.statvfs(self._limits.ledger_directory)
            except OSError:
                return None
            self._free = now, at.f_bavail * at.f_frsize
        return self._free[1]
