"""After a damaged ledger was rebuilt: what would be sent a second time is counted before any of it goes.

The files are read again, and what the salvaged rows do not know looks new. create-call answers 409 for it; send-calls
would keep every call twice. So such destinations stand still until all is read, and from a thousand calls on until an
operator has looked (`tunerd resume`). The hold is an operator's pause in the ledger: it outlives a restart.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from tunerd.call import Form, State
from tunerd.clock import Clock
from tunerd.ledger import Filter, LedgerUnavailable, StoredCall, StoredPauses
from tunerd.outcome import PauseReason

MOST_AGAIN: Final = 1000
"""So many calls may be sent again without being asked for."""
COUNTING: Final = "the ledger was damaged and rebuilt: its files are read again, and what would be sent twice is counted"
WAITING: Final = (
    f"the ledger was damaged and rebuilt: over {MOST_AGAIN:,} calls are due that may have been sent before, and this request "
    "form would keep them twice; `tunerd resume` sends them"
)
_LOOK_EVERY_S: Final = 1.0
_PAGE: Final = 500


class HeldLedger(Protocol):
    async def is_rebuilt(self) -> bool: ...
    async def resends_quarantined(self) -> None: ...
    async def stored_pauses(self) -> Mapping[str, StoredPauses]: ...
    def store_pauses(
        self, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None = None
    ) -> Awaitable[None]: ...
    async def calls(
        self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False
    ) -> Sequence[StoredCall]: ...


class HeldDelivery(Protocol):
    async def pause(self, name: str, why: str = "") -> None: ...
    async def resume(self, name: str) -> None: ...


async def quarantine_resends(ledger: HeldLedger, forms: Mapping[str, Form | None], *, now: float) -> dict[str, float]:
    """Before delivery begins: pause each destination that would store a repeated call twice, if the ledger was rebuilt,
    by whomever and whenever, and this was not done since; or was and the count was broken off. `forms` by destination;
    None: not known without a key. Gives the names to count for, and since when."""
    stored, held, rebuilt = await ledger.stored_pauses(), dict[str, float](), await ledger.is_rebuilt()
    for name, form in forms.items():
        pauses = stored.get(name, StoredPauses())
        if pauses.pause is PauseReason.OPERATOR:
            if pauses.detail == COUNTING:
                held[name] = now if pauses.paused_since is None else pauses.paused_since
        elif rebuilt and form is not Form.CREATE_CALL:
            paused = StoredPauses(closed_until=pauses.closed_until, pause=PauseReason.OPERATOR, paused_since=now, detail=COUNTING,
                          agents=pauses.agents)  # fmt: skip
            await ledger.store_pauses(name, paused, now, pauses)
            held[name] = now
    if rebuilt:
        await ledger.resends_quarantined()  # the pauses are in the ledger by now, and outlive this process as the mark did
    return held


async def release_resends(
    held: Mapping[str, float],
    ledger: HeldLedger,
    delivery: HeldDelivery,
    all_read: Callable[[], bool],
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """Once `all_read` says that every file was read again, resume the destinations with at most MOST_AGAIN such calls;
    the others stay paused, and say why."""
    left = dict(held)
    while left and not await clock.wait(stop, _LOOK_EVERY_S):
        is_done = all_read()
        for name, since in list(left.items()):
            try:
                count = await _again(ledger, name, since)
                if count > MOST_AGAIN:
                    await delivery.pause(name, WAITING)
                elif is_done:
                    await delivery.resume(name)
                else:
                    continue
            except LedgerUnavailable:
                continue  # the ledger tells of it; looked at again
            del left[name]


async def _again(ledger: HeldLedger, destination: str, since: float) -> int:
    """Due calls of a destination that were admitted since the rebuild; counting ends beyond MOST_AGAIN."""
    count = after_row = 0
    where = Filter(states=frozenset({State.DUE}), since=since)
    while count <= MOST_AGAIN and (rows := await ledger.calls(where, after_row=after_row, limit=_PAGE)):
        count += sum(row.destination == destination for row in rows)
        after_row = rows[-1].row
    return count
