"""A simulated Tuner on a fake clock for whole runs of Delivery: how long calls take, and how many get through."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable

from tunerd.ledger import Claimed
from tunerd.outcome import Outcome, Retry, RetryReason, Sent
from tunerd.testing import FakeClock

AWAY = Retry(reason=RetryReason.UNREACHABLE, status=None, detail="refused", surely_not_arrived=True)
BROKEN = Retry(reason=RetryReason.SERVER_ERROR, status=500, detail="answered 500")


class Tuner:
    """Each call takes `round_trip_s`. `is_away`: no call is accepted; calls named poison-* always get 500."""

    def __init__(self, clock: FakeClock, round_trip_s: float) -> None:
        self._clock, self._round_trip_s = clock, round_trip_s
        self.is_away = False
        self.attempts: Counter[str] = Counter()
        self.accepted_at: dict[str, float] = {}

    async def __call__(self, call: Claimed) -> Outcome:
        self.attempts[call.call_id] += 1
        if self.is_away:
            return AWAY
        await self._clock.wait(asyncio.Event(), self._round_trip_s)
        if call.call_id.startswith("poison"):
            return BROKEN
        assert call.call_id not in self.accepted_at, "sent twice"
        self.accepted_at[call.call_id] = self._clock.now()
        return Sent(status=200, tuner_call_id=None, already_there=False)


def p99(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]
