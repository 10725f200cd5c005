"""`delivery.rate_limit`: how many attempts may begin in a second. Pure, with the time passed in."""

import math
from collections.abc import Callable
from typing import Protocol, TypeAlias


class RateBucket(Protocol):
    @property
    def rate(self) -> float | None: ...

    def take(self, now: float) -> float | None:
        """None: a start is taken. Else the time at which to ask again."""
        ...

    def give_back(self) -> None:
        """The last start was not used."""
        ...

    def shift(self, seconds: float) -> None:
        """The wall clock jumped."""
        ...


MakeBucket: TypeAlias = Callable[[float | None], RateBucket]


class TokenBucket:
    """At most `rate` starts a second; what is saved up is worth a tenth of a second, at least one start."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._most = 1.0 if rate is None else max(1.0, rate / 10)
        self._tokens = self._most
        self._at = -math.inf

    def take(self, now: float) -> float | None:
        """None: taken. Else the time at which to ask again."""
        if self.rate is None:
            return None
        if now > self._at:
            self._tokens = min(self._most, self._tokens + min(now - self._at, 3600.0) * self.rate)
            self._at = now
        if self._tokens >= 1.0 - 1e-6:
            self._tokens -= 1.0
            return None
        return now + (1.0 - self._tokens) / self.rate

    def give_back(self) -> None:
        self._tokens = min(self._most, self._tokens + 1.0)

    def shift(self, seconds: float) -> None:
        self._at += seconds
