"""Removes audio from the spool that no recording and no call refers to: what a kill left, and what was forgotten."""

import asyncio
from typing import Final

from tunerd.audio.spool import AudioSpool
from tunerd.clock import Clock
from tunerd.ledger import FileQueries, LedgerUnavailable

EVERY_S: Final = 60.0


class SpoolSweeper:
    """At the start, and each minute."""

    def __init__(self, spool: AudioSpool, ledger: FileQueries, clock: Clock) -> None:
        self._spool, self._ledger, self._clock = spool, ledger, clock
        self._is_begun = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not await self._clock.wait(stop, EVERY_S):
            await self.sweep()

    async def sweep(self) -> None:
        """Once. What cannot be asked or removed now is left to the next time."""
        if not self._spool.directory:
            return
        try:
            if not self._is_begun:
                await asyncio.to_thread(self._spool.clear_unfinished)
                self._is_begun = True
            if locations := await asyncio.to_thread(self._spool.locations):
                known = await self._ledger.known_locations(locations)
                await asyncio.to_thread(self._spool.sweep, known)
        except (LedgerUnavailable, OSError):
            pass
