"""`delivery.rate_limit` in a fleet: as token_bucket.py, with starts that are taken from the ledger for up to a second. Pure.

What was taken and is not used within that second is lost, so that no instance saves up what others could use.
"""

import math
from collections.abc import Callable
from typing import Final

from tunerd.ledger.fleet import Tokens

AHEAD_S: Final = 1.0


class FleetBucket:
    def __init__(self, rate: float, want: Callable[[], None]) -> None:
        """`want` is called when a start is wanted and none is left."""
        self.rate = rate
        self._want = want
        self.takes = 1
        """How many starts to take next: twice as many while all are used, half as many while some are lost."""
        self._left = 0
        self._next_at = self._ends_at = -math.inf

    def take(self, now: float) -> float | None:
        """None: taken. Else the time at which to ask again."""
        if not self._left or now >= self._ends_at:
            self._want()
            return now + AHEAD_S
        if now < self._next_at - 1e-6:
            return self._next_at
        self._left -= 1
        self._next_at += 1.0 / self.rate
        return None

    def give_back(self) -> None:
        self._left += 1
        self._next_at -= 1.0 / self.rate

    def grant(self, tokens: Tokens, now: float) -> None:
        most = max(1, int(self.rate * AHEAD_S))
        self.takes = max(1, self.takes // 2) if self._left else min(most, self.takes * 2)
        self._left = tokens.count
        self._next_at = now - tokens.ahead_s
        self._ends_at = now + max(AHEAD_S, tokens.count / self.rate)

    def shift(self, seconds: float) -> None:
        self._next_at += seconds
        self._ends_at += seconds
