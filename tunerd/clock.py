"""Time, as everything else gets it: passed in, so that tests can own it. There is no sleep: every pause ends early."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Wall clock, Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back and that count suspend."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """Wait until `event` is set or `seconds` have passed (None: no limit); True if it was set."""


class SystemClock:
    """The real one. CLOCK_BOOTTIME counts the time that a machine is suspended, which time.monotonic() does not."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
