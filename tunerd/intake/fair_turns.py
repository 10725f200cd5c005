"""Turns for what takes long to read: one at a time, since large documents are held in memory, and fair over the sources."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """Whoever waits gets a turn when all other sources that wait had theirs; within a source the one that waits longest."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, source: str) -> AsyncIterator[None]:
        await self._take(source)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, source: str) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(source, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # it had come, and nobody takes it
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            source, waiting = self._waiting.popitem(last=False)
            mine = waiting.popleft()
            if waiting:
                self._waiting[source] = waiting
            if not mine.done():
                mine.set_result(None)
                return
        self._is_taken = False
