"""What the metrics count in: plain numbers and dictionaries, of one source and of one destination.

Objects of the metrics library take 2 microseconds a step, a dozen of them for each call; a number in a slot takes a fraction of
that. They become families of the library only at a scrape (metrics.py).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client.utils import floatToGoString

from tunerd.call import ROWS_DROPPED
from tunerd.outcome import FailReason

ATTEMPT_BUCKETS: Final = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DELIVERY_BUCKETS: Final = (0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
LAG_BUCKETS: Final = (1, 5, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
WAIT_BUCKETS: Final = (1, 10, 60, 300, 900, 1800, 3600, 4 * 3600, 24 * 3600)

FIELDS_A_SOURCE: Final = 18
"""More fields (or repairs) than this are counted together as `other`: labels stay few, whatever the rules contain."""
KINDS_A_SOURCE: Final = 8
"""The same for kinds of redactions."""
OTHER: Final = "other"

STATUSES: Final = ("2xx", "3xx", "4xx", "5xx", OTHER, "none")
_NO_ANSWER: Final = "none"
_CLASSES: Final = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


class HistogramCounts:
    __slots__ = ("_bounds", "_counts", "_names", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = [float(bound) for bound in bounds]
        self._names = [*map(floatToGoString, self._bounds), "+Inf"]
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many values are at most that)."""
        return list(zip(self._names, map(float, accumulate(self._counts)), strict=True))


class LimitedCounts:
    """By a name that comes from the rules: at most `most` names, then `other`."""

    __slots__ = ("_counts", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}

    def add(self, name: str, by: int = 1) -> None:
        if name not in self._counts and len(self._counts) >= self._most:
            name = OTHER
        self._counts[name] = self._counts.get(name, 0) + by

    def items(self) -> Iterator[tuple[str, int]]:
        return iter(self._counts.items())


@dataclass(slots=True, eq=False)
class SourceCounts:
    """Of one source; everything begins at zero."""

    admitted: int = 0
    sent: int = 0
    duplicate: int = 0
    late: int = 0
    read: int = 0
    ignored: int = 0
    only_ignored: int = 0
    """Not a sum: documents in a row that were ignored while none became a call."""
    after_sent_failures: int = 0
    after_upload_failures: int = 0
    failed: dict[str, int] = field(default_factory=lambda: {reason.value: 0 for reason in FailReason})
    rows_dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROWS_DROPPED, 0))
    rule_null: LimitedCounts = field(default_factory=lambda: LimitedCounts(FIELDS_A_SOURCE))
    rule_error: LimitedCounts = field(default_factory=lambda: LimitedCounts(FIELDS_A_SOURCE))
    repairs: LimitedCounts = field(default_factory=lambda: LimitedCounts(FIELDS_A_SOURCE))
    redactions: LimitedCounts = field(default_factory=lambda: LimitedCounts(KINDS_A_SOURCE))
    delivery: HistogramCounts = field(default_factory=lambda: HistogramCounts(DELIVERY_BUCKETS))
    lag: HistogramCounts = field(default_factory=lambda: HistogramCounts(LAG_BUCKETS))
    wait: HistogramCounts = field(default_factory=lambda: HistogramCounts(WAIT_BUCKETS))


class DestinationCounts:
    """Answers to uploads, by the class of their HTTP status."""

    __slots__ = ("responses",)

    def __init__(self) -> None:
        self.responses = dict.fromkeys(STATUSES, 0)

    def answered(self, status: int | None) -> None:
        self.responses[_NO_ANSWER if status is None else _CLASSES.get(status // 100, OTHER)] += 1

    def take_over(self, other: "DestinationCounts") -> None:
        """Count what another one has counted, so that the sum over all destinations does not fall when that one goes."""
        for status, count in other.responses.items():
            self.responses[status] += count
