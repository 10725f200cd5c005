"""Calls whose destination is no longer configured: they follow to the one that is meant where that is beyond doubt, else
they are stranded: reported at the start, after a reload and each hour, and shown until somebody moves them or puts it back.

Beyond doubt: the old base_url never accepted anything (a typing error did not; staging did), none of the destinations has
it any more, exactly one has the same workspace, and the call surely did not arrive. The rules are not asked: who corrects a
rule as well says `tunerd remap --state due`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

from tunerd.clock import Clock
from tunerd.config import Config, Destination
from tunerd.events import CallsFollowed, CallsStranded, Emit
from tunerd.file_pattern import FILES
from tunerd.ledger import LedgerUnavailable, Stranded

TELL_EVERY_S: Final = 3600.0
_AGAIN_S: Final = 5.0


class StrandingLedger(Protocol):
    async def stranded(self, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]: ...
    async def follow(self, old: str, new: str, workspace: str, now: float) -> int: ...


class Strandings:
    """Looks for them, and keeps what it found for the status and the metrics."""

    def __init__(self, ledger: StrandingLedger, config: Callable[[], Config], emit: Emit, clock: Clock) -> None:
        self._ledger = ledger
        self._config = config
        self._emit = emit
        self._clock = clock
        self.found: Sequence[Stranded] = ()
        self._look = asyncio.Event()

    def look_again(self) -> None:
        """After a reload, or an order that may have moved calls."""
        self._look.set()

    async def run(self, stop: asyncio.Event) -> None:
        """At the start, after each `look_again`, and each hour, until `stop`; with `found` there is one look a minute, so
        that the status follows what an operator does."""
        told_at = float("-inf")
        while not stop.is_set():
            is_due = self._clock.monotonic() - told_at >= TELL_EVERY_S or self._look.is_set()
            self._look.clear()
            try:
                await self.look(tell=is_due)
            except LedgerUnavailable:
                await self._clock.wait(stop, _AGAIN_S)
                continue
            if is_due:
                told_at = self._clock.monotonic()
            await self._rest(stop)

    async def look(self, *, tell: bool = True) -> None:
        """Once: move what may be moved, and find the rest."""
        config = self._config()
        for one in await self._find(config):
            if (new := heir_of(one, config.destinations)) is not None:
                moved = await self._ledger.follow(one.destination, new.name, new.workspace, self._clock.now())
                if moved:
                    self._emit(CallsFollowed(old=one.destination, new=new.name, count=moved))
        self.found = await self._find(config)
        for one in self.found if tell else ():
            if one.waiting or one.due:
                self._emit(CallsStranded(destination=one.destination, manifest=one.manifest, waiting=one.waiting, due=one.due))

    async def _find(self, config: Config) -> Sequence[Stranded]:
        names = [destination.name for destination in config.destinations]
        return await self._ledger.stranded(names, [FILES, *(source.name for source in config.sources)])

    async def _rest(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            over = asyncio.Event()
            waits: list[Awaitable[object]] = [stop.wait(), self._look.wait()]
            tasks = [group.create_task(_then_set(wait, over)) for wait in waits]
            await self._clock.wait(over, 60.0 if self.found else TELL_EVERY_S)
            for task in tasks:
                task.cancel()


async def _then_set(wait: Awaitable[object], over: asyncio.Event) -> None:
    await wait
    over.set()


def heir_of(one: Stranded, destinations: Sequence[Destination]) -> Destination | None:
    """The destination to which these calls may go by themselves; None: that is for a person to say. Pure."""
    base_url, _, workspace_id = one.workspace.rpartition("/")
    if not one.destination or one.has_accepted or any(each.base_url == base_url for each in destinations):
        return None
    same = [each for each in destinations if str(each.workspace_id) == workspace_id]
    return same[0] if len(same) == 1 else None
