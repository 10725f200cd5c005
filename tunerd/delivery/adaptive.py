"""How many requests may be open at once: learned from the answers. Pure arithmetic, with the time passed in.

Additive increase, multiplicative decrease, in windows of one mean round trip. Back-pressure is a 429, a 503, a timeout,
or latency well above its own average. Whether a call may start for other reasons is pacing.py's.

Two things were added because simulations asked for them. An average follows a server that slows down a little with
each request more, and never raises an alarm: so the throughput of each limit is remembered, and a larger limit that
gets less through is left again. And a limit that was refused is not tried again for a while.
"""

import math
from typing import Final

_ALPHA: Final = 0.4
"""Weight of the newest window in the moving average and variance of the round trip."""
_DEVIATIONS: Final = 2.5
"""A window this many standard deviations above the average counts as back-pressure."""
_NOTICEABLE: Final = 0.25
"""...and this share of the average: a server that answers evenly has no deviation to speak of."""
_QUICK_S: Final = 0.025
"""Round trips this short vary by our own doing as much as by the server's (a batch being mapped, a commit): they are no
sign of anything."""
_DECREASE: Final = 0.9
_STEEP_DECREASE: Final = 0.5
"""When most answers of a window were back-pressure."""
_HOLD_ANSWERS: Final = 10
"""For each answer of back-pressure this many others come before the limit grows again: trying costs little."""
_LONGEST_HOLD: Final = 500
_WORSE: Final = 0.03
"""A limit that gets through so much less than a smaller one did, beyond what chance explains, is too large."""
_REMEMBERED: Final = 60
"""Windows for which the throughput of a limit is believed."""
_BEGIN: Final = 4
_UNKNOWN_S: Final = 1.0
"""Length of a window while no round trip is known."""


class AdaptiveLimit:
    """A limit between 1 and `most` open requests; it begins by doubling each window until the first back-pressure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.restart()

    def restart(self) -> None:
        """Forget everything: the server was away and may have come back as another."""
        self.limit = min(self._most, _BEGIN)
        self._settling = False
        self._starting = True
        self._mean_s: float | None = None
        self._variance = 0.0
        self._hold = 0
        self._windows = 0
        self._throughputs: dict[int, tuple[float, int]] = {}
        self._window_ends_at = -math.inf
        self._clear_window()

    def resize(self, most: int) -> None:
        """Another upper bound (reload)."""
        self._most = most
        self.limit = min(self.limit, most)

    def bound(self, in_flight: int) -> None:
        """More than these found no connection on our own side; after some answers one more is tried."""
        self.limit = max(1, min(self.limit, in_flight))
        self._starting = False
        self._settling = True
        self._hold = min(_LONGEST_HOLD, self._hold + _HOLD_ANSWERS)

    def started(self, in_flight: int) -> None:
        """A request starts; `in_flight` counts it. Only a limit that is reached may grow."""
        if in_flight >= self.limit:
            self._reached = True

    def ended(self, now: float, took_s: float, *, pressed: bool, answered: bool) -> None:
        """A request ended. `pressed`: 429, 503 or timeout. `answered`: normally, so its time is a round trip's."""
        self._answers += 1
        if pressed:
            self._pressed += 1
            if self._pressed == 1:
                self._press()
        elif answered:
            self._round_trips += 1
            self._round_trip_sum_s += took_s
            self._round_trip_squares += took_s * took_s
        if now >= self._window_ends_at:
            self._close_window()
            self._window_ends_at = now + (_UNKNOWN_S if self._mean_s is None else self._mean_s)
            self._clear_window()

    def _close_window(self) -> None:
        self._windows += 1
        current_s = self._round_trip_sum_s / self._round_trips if self._round_trips else None
        if self._pressed:
            if self._pressed * 2 > self._answers >= 4:
                self._decrease(_STEEP_DECREASE)
            elif self._pressed * 10 > self._answers:
                self._decrease(_DECREASE)
        elif current_s is not None:
            self._hold = max(0, self._hold - self._answers)
            if self._settling:
                self._settling = False  # most of these requests started under the limit before
            else:
                self._judge(current_s)
        if current_s is not None:
            self._learn(current_s)

    def _press(self) -> None:
        """One less at once; how much less it has to be is seen at the end of the window."""
        if self.limit == 1:
            self._hold = 0  # going slower did not help, so going slow for longer will not either
        else:
            self._hold = min(_LONGEST_HOLD, self._hold + _HOLD_ANSWERS)
        self._decrease(1.0 - 1.0 / self.limit)

    def _judge(self, current_s: float) -> None:
        usual_s = current_s if self._mean_s is None else self._mean_s
        if not self._reached:
            return
        if current_s < _QUICK_S:
            if not self._hold:
                self._grow(0.0)
            return
        if current_s > usual_s + max(_DEVIATIONS * math.sqrt(self._variance), _NOTICEABLE * usual_s):
            self._throughputs.clear()  # not by our doing: what was learned is over
            self._decrease(_DECREASE)
            return
        throughput = self.limit / max(current_s, 1e-6)
        known = self._remembered(self.limit)
        if known is not None:
            throughput = known + _ALPHA * (throughput - known)
        self._throughputs[self.limit] = (throughput, self._windows)
        best = max((self._remembered(limit) or 0.0 for limit in self._throughputs if limit < self.limit), default=0.0)
        ratio = 1.0 - _WORSE - self._standard_error(current_s)
        if throughput < best * ratio:
            self._decrease(_DECREASE)
        elif not self._hold:
            self._grow(throughput * ratio)

    def _standard_error(self, current_s: float) -> float:
        """Of the window's mean round trip, as a share of it: how much of a difference is chance."""
        variance = max(0.0, self._round_trip_squares / self._round_trips - current_s * current_s)
        return math.sqrt(variance / self._round_trips) / current_s if current_s > 0 else 0.0

    def _grow(self, at_least: float) -> None:
        larger = min(self._most, self.limit * 2 if self._starting else self.limit + 1)
        if larger > self.limit and (self._remembered(larger) or math.inf) > at_least:
            self.limit = larger
            self._settling = True

    def _decrease(self, ratio: float) -> None:
        self._starting = False
        self.limit = max(1, int(self.limit * ratio + 1e-9))
        self._settling = True

    def _remembered(self, limit: int) -> float | None:
        throughput, window = self._throughputs.get(limit, (0.0, -_REMEMBERED))
        return throughput if self._windows - window < _REMEMBERED else None

    def _learn(self, current_s: float) -> None:
        change = 0.0 if self._mean_s is None else current_s - self._mean_s
        self._mean_s = current_s if self._mean_s is None else self._mean_s + _ALPHA * change
        self._variance = (1 - _ALPHA) * (self._variance + _ALPHA * change * change)

    def _clear_window(self) -> None:
        self._answers = 0
        self._pressed = 0
        self._round_trips = 0
        self._round_trip_sum_s = 0.0
        self._round_trip_squares = 0.0
        self._reached = False
