"""How much mapping one turn of the event loop may hold: a slice of time, shared by every file in hand of every source.

Each of 64 files with a slice of its own would hold the loop up for 64 of them. Documents that are large are mapped in
threads, and take no part in this (entry.py).
"""

import asyncio
from typing import Final

from tunerd.clock import Clock

SLICE_S: Final = 0.001
"""Mapping gives way to everything else on the loop after so long: an attempt needs the loop several times, and waits a
slice each time."""


class LoopBudget:
    """Use, around each piece of work: `await slices.room()`, then `with slices: ...` without an await in it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left_s = SLICE_S
        self._began = 0.0
        self._is_counting = False
        """In this turn of the loop something was spent; the next one begins with a whole slice."""

    async def room(self) -> None:
        """Wait for a turn of the loop in which there is time left."""
        while self._left_s <= 0:  # noqa: ASYNC110 - to ask each turn is cheaper than an event a turn
            await asyncio.sleep(0)

    def __enter__(self) -> None:
        self._began = self._clock.monotonic()

    def __exit__(self, *_: object) -> None:
        self._left_s -= self._clock.monotonic() - self._began
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._left_s, self._is_counting = SLICE_S, False
