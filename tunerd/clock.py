"""Time, as everything else gets it: passed in, so that tests can own it. There is no sleep: every pause ends early."""

import asyncio
import time
from typing import Final, Protocol

_SINCE_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts the time that a machine is suspended, where the system can."""


class Clock(Protocol):
    def now(self) -> float:
        """Wall clock, Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back and that count suspend."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """Wait until `event` is set or `seconds` have passed (None: no limit); True if it was set."""


class SystemClock:
    """The real one."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.clock_gettime(_SINCE_BOOT)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True


class SteadyClock:
    """The same time, but a jump of the wall clock shows only when `step` says so: until what is due has moved with it,
    nobody is to see the new time (maintenance.py, follow_clock)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parted = clock.now() - clock.monotonic()
        self.monotonic = clock.monotonic
        self.wait = clock.wait

    def now(self) -> float:
        return self.monotonic() + self._parted

    def behind(self) -> float:
        """By how much the wall clock is ahead of this one, in seconds; negative: it went back."""
        return self._clock.now() - self.now()

    def step(self, seconds: float) -> None:
        self._parted += seconds
