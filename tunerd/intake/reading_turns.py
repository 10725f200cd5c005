"""Whose turn it is to read a source that all instances of a fleet see (`shared: true`): one of them reads it, the others wait.

The ledger has the turn (Fleet.begin_reading), and refuses what comes from an instance that has lost it. Where one process owns
the ledger nothing is asked, and of a source that each instance has for itself neither.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.events import Emit, ReaderChanged
from tunerd.ledger import Fleet, LedgerUnavailable

_LOOK_S: Final = 1.0
"""How often an instance asks whether the turn is still, or now, its own."""


class ReadingTurns:
    def __init__(self, fleet: Fleet, clock: Clock, emit: Emit) -> None:
        self._fleet, self._clock, self._emit = fleet, clock, emit
        self._readers: dict[str, str] = {}
        """Who reads each shared source, as of the last look; "": this instance."""

    def are_taken(self, source: Source) -> bool:
        """Whether instances take turns at it."""
        return source.shared and self._fleet.is_shared

    def reader_of(self, source: Source) -> str | None:
        """The other instance that reads it; None: none is known."""
        return self._readers.get(source.name) or None

    def has(self, source: Source) -> bool:
        """Whether this instance reads it, as of the last look."""
        return not self.are_taken(source) or self._readers.get(source.name) == ""

    async def take(self, source: Source, stop: asyncio.Event, *, waits: bool) -> bool:
        """Whether it is this instance's turn. While the ledger does not answer it asks again, until `stop`; with `waits` also
        while another instance reads it."""
        while not stop.is_set():
            with suppress(LedgerUnavailable):
                reader = await self._fleet.begin_reading(source.name)
                if self._readers.get(source.name) != reader:
                    self._readers[source.name] = reader
                    self._emit(ReaderChanged(source=source.name, reader=reader))
                if not reader or not waits:
                    return not reader
            await self._clock.wait(stop, _LOOK_S)
        return False

    async def keep(self, source: Source) -> bool:
        """Whether it still is. A ledger that does not answer takes no turn away: nothing can be stored meanwhile."""
        with suppress(LedgerUnavailable):
            if self.are_taken(source) and not await self._fleet.still_reads(source.name):
                self._readers.pop(source.name, None)
        return self.has(source)

    async def watch(self, source: Source, stop: asyncio.Event, lost: Callable[[], None]) -> None:
        """Until `stop`; calls `lost` when the turn is over."""
        while not await self._clock.wait(stop, _LOOK_S):
            if not await self.keep(source):
                lost()
                return

    async def end(self, source: Source) -> None:
        """This instance does not read it any more: another one may at once."""
        if self._readers.pop(source.name, None) == "":
            with suppress(LedgerUnavailable):
                await self._fleet.end_reading(source.name)
