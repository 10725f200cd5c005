"""Where workers without work wait. One is woken for each change, and wakes the next when it has found a call: a
single new call costs one look into the ledger, not one for each worker."""

import asyncio
from collections import deque
from typing import Final

from tunerd.clock import Clock

_LONGEST_PARK_S: Final = 30.0
"""A worker that watches the time looks again at least this often: the wall clock may have been moved."""


class WorkerParking:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parked: deque[asyncio.Event] = deque()
        self._alarm_at = float("inf")
        self.changes = 0
        """Counts what happened. A worker notes it before it looks, so that it does not park when something happened meanwhile."""

    def notify(self) -> None:
        """Something happened that may let a call start."""
        self.changes += 1
        self.wake_next()

    def notify_all(self) -> None:
        """Something happened that every worker has to see (stop, fewer workers)."""
        self.changes += 1
        while self._parked:
            self._parked.popleft().set()

    def wake_next(self) -> None:
        """The caller has found something to do, and there may be more."""
        if self._parked:
            self._parked.popleft().set()

    async def park(self, until: float | None, changes: int) -> None:
        """Wait to be woken, or until `until` (Unix seconds; one worker with the earliest alarm is enough). Returns at
        once if something happened since `changes` was read."""
        if self.changes != changes:
            return
        woken = asyncio.Event()
        alarm_at = min(self._clock.now() + _LONGEST_PARK_S, float("inf") if until is None else until)
        is_watching = alarm_at < self._alarm_at
        if is_watching:
            self._alarm_at = alarm_at
        self._parked.append(woken)
        try:
            await self._clock.wait(woken, max(0.001, alarm_at - self._clock.now()) if is_watching else None)
        finally:
            if not woken.is_set():
                self._parked.remove(woken)
            if is_watching and self._alarm_at == alarm_at:
                self._alarm_at = float("inf")
