"""Rates over a sliding time, from counts that are seen now and then. Pure."""

from collections import deque
from collections.abc import Mapping
from typing import Final

MOST_SAMPLES: Final = 1000


class Rates:
    """Differences of counts, per second, over about the last `window_s`."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=MOST_SAMPLES)

    def add(self, at: float, counts: Mapping[str, int]) -> None:
        """Counts that shrink are those of a new process, a clock that goes back starts again, too."""
        if self._samples:
            last_at, last = self._samples[-1]
            if at <= last_at or any(counts.get(name, 0) < count for name, count in last.items()):
                self._samples.clear()
        self._samples.append((at, counts))
        while len(self._samples) > 2 and self._samples[1][0] <= at - self._window_s:
            self._samples.popleft()

    def of(self, name: str) -> float | None:
        """None: only one sample is known."""
        if len(self._samples) < 2:
            return None
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last.get(name, 0) - first.get(name, 0)) / (last_at - first_at)
