"""A tunerd through kills and restarts, and everything around it (audio_outside.py, audio_process.py)."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.protections.audio_outside import Outside
from tests.protections.audio_process import Process
from tunerd.call import Call, Recording, State
from tunerd.ledger import FAR_AT_ONCE, FAR_NOT_YET


class World(Outside):
    def __init__(self, directory: Path, now: float) -> None:
        super().__init__(directory, now)
        self.process = Process(self)

    async def live(self, act: Callable[[Process], Awaitable[object]]) -> bool:
        """Let the process do something. False: it was killed meanwhile, and another one has begun."""
        self.clock.over.clear()
        try:
            await act(self.process)
        except BaseException:
            if not self.is_dead:
                raise
        if not self.is_dead:
            return True
        await self.restart()
        return False

    async def surely(self, act: Callable[[Process], Awaitable[object]]) -> None:
        """Again and again, until the process was not killed meanwhile."""
        while not await self.live(act):
            pass

    async def restart(self) -> None:
        """Another process opens what was committed."""
        self.ended()
        self.is_dead = False
        self.ledger = self.ledger.reopened(self.clock.time)
        self.process = Process(self)
        await self.live(Process.begin)

    # What the process is made to do.

    async def tell(self, what: Call | Recording) -> None:
        """Its document is read, until it is admitted; and whoever waits for such a thing is woken."""
        if isinstance(what, Call):
            self.documents[what.call_id] = what
        await self.surely(lambda process: process.admit(what))
        await self.surely(Process.watch)

    async def passes(self, seconds: float) -> None:
        self.elapse(seconds)
        await self.live(lambda process: process.ledger.tick(self.clock.time))

    async def restarted(self) -> None:
        self.is_dead = True
        await self.live(Process.begin)

    async def runs_once(self) -> None:
        """`run --once` instead of the daemon: it has read what there is, and ends when it has sent what may be sent."""
        await self.restarted()
        await self.live(lambda process: process.match_far(FAR_NOT_YET))
        await self.live(Process.find)
        await self.live(lambda process: process.match_far(FAR_AT_ONCE))
        await self.live(Process.ask)
        await self.works(4)
        await self.restarted()

    async def works(self, turns: int) -> None:
        """A worker sends calls for `turns` turns, or until none is due."""
        for _ in range(turns):
            if not self.ledger.gauges().calls.get(State.DUE):
                return
            await self.live(Process.serve)
            await self.live(Process.send)


@asynccontextmanager
async def world_in(directory: Path, now: float) -> AsyncIterator[World]:
    world = World(directory, now)
    try:
        yield world
    finally:
        shutil.rmtree(directory)
