"""Gathered documents that nobody gathers any more: their source is gone from the configuration, or takes each document for
a call now. Once their wait is over they stand as failed, with all that `retry` needs when the source is back."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from tunerd.call import Fragment, Refusal, RefusedDocument, State
from tunerd.clock import Clock
from tunerd.events import Emit
from tunerd.intake.admission import refused_event
from tunerd.ledger import CheckAgain, Discard, GatherPath, Group, GroupResult, LedgerUnavailable, TooLate
from tunerd.outcome import FailReason

EVERY_S: Final = 60.0
"""Also how long a source has to be missing: a reload that brings it back in time finds everything as it was."""
_AT_ONCE: Final = 16


class SetAside(Protocol):
    """What mapping/ makes of documents without asking a rule."""

    def __call__(self, kept: bytes | None, fragments: Sequence[Fragment], refusal: Refusal, source: str) -> RefusedDocument: ...


class AbandonedGroups:
    """Looks at the groups of all sources that are not among `gathering`."""

    def __init__(
        self, ledger: GatherPath, set_aside: SetAside, clock: Clock, emit: Emit, gathering: Callable[[], Collection[str]]
    ) -> None:
        self._ledger, self._set_aside, self._clock, self._emit, self._gathering = ledger, set_aside, clock, emit, gathering

    async def run(self, stop: asyncio.Event) -> None:
        missing: set[str] = set()
        while not await self._clock.wait(stop, EVERY_S):
            try:
                known = await self._ledger.gathering_sources()
                was_missing, missing = missing, {source for source in known if source not in self._gathering()}
                for source in sorted(missing & was_missing):
                    await self._look(source, stop)
            except LedgerUnavailable:
                pass  # intake tells so wherever it writes, and the next round tries again

    async def _look(self, source: str, stop: asyncio.Event) -> None:
        while source not in self._gathering() and not stop.is_set():
            groups, _ = await self._ledger.groups(source, self._clock.now(), _AT_ONCE)
            if not groups:
                return
            await self._settle(source, groups)

    async def _settle(self, source: str, groups: Sequence[Group]) -> None:
        now = self._clock.now()
        results = [GroupResult(row=one.row, version=one.version, result=await self._result_of(one, now)) for one in groups]
        gathered = await self._ledger.gather(results, now)
        for result, done in zip(results, gathered.states, strict=True):
            if done is not None and isinstance(result.result, RefusedDocument):
                self._emit(refused_event(source, result.result))

    async def _result_of(self, group: Group, now: float) -> RefusedDocument | CheckAgain | Discard | TooLate:
        if group.state is State.IGNORED:
            return Discard()
        if group.state is State.SENT or (group.state is not State.GATHERING and group.kept is None):
            return TooLate()
        if not group.is_replaceable or now < group.wait_ends_at:
            return CheckAgain(at=max(group.wait_ends_at, now + EVERY_S))
        what = (
            f"no source {group.source!r} that gathers is in the configuration any more; put it back and `tunerd retry` this, "
            "or `tunerd dismiss` it"
        )
        refusal = Refusal(reason=FailReason.UNMAPPABLE, where="gather", what=what)
        return await asyncio.to_thread(self._set_aside, group.kept, group.fragments, refusal, group.source)
