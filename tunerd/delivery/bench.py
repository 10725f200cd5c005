"""Where workers without work sit. One is woken for one piece of news, and wakes the next when it has found a call: a
single new call costs one look into the ledger, not one for each worker."""

import asyncio
from collections import deque
from typing import Final

from tunerd.clock import Clock

_LONGEST_SIT_S: Final = 30.0
"""A worker that watches the time looks again at least this often: the wall clock may have been moved."""


class Bench:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seats: deque[asyncio.Event] = deque()
        self._alarm_at = float("inf")
        self.news = 0
        """Counts what happened; whoever looks notes it before, so that news that come meanwhile are not slept through."""

    def call(self) -> None:
        """Something happened that may let a call start."""
        self.news += 1
        self.pass_on()

    def call_all(self) -> None:
        """Everybody is to look up (stop, fewer workers)."""
        self.news += 1
        while self._seats:
            self._seats.popleft().set()

    def pass_on(self) -> None:
        """I have found something to do; there may be more of it."""
        if self._seats:
            self._seats.popleft().set()

    async def sit(self, until: float | None, news: int) -> None:
        """Wait to be called, or until `until` (Unix seconds; one sitter with the earliest alarm is enough). Returns at
        once if there were news since `news`."""
        if self.news != news:
            return
        seat = asyncio.Event()
        alarm_at = min(self._clock.now() + _LONGEST_SIT_S, float("inf") if until is None else until)
        is_watching = alarm_at < self._alarm_at
        if is_watching:
            self._alarm_at = alarm_at
        self._seats.append(seat)
        try:
            await self._clock.wait(seat, max(0.001, alarm_at - self._clock.now()) if is_watching else None)
        finally:
            if not seat.is_set():
                self._seats.remove(seat)
            if is_watching and self._alarm_at == alarm_at:
                self._alarm_at = float("inf")
