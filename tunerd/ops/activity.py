"""What happens to calls, as it happens: the newest events, bounded, for `tunerd tap`; counts since the start and the newest
durations for `tunerd top`. It listens to the events and knows nobody who reads it, so no reader can hold the daemon up.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from tunerd import events as e

KEPT: Final = 4096
"""Events that are remembered: a few seconds at the highest rates, many hours at usual ones."""
KEPT_DURATIONS: Final = 1000

Tapped: TypeAlias = (
    e.CallAdmitted | e.CallDuplicate | e.RecordingMatched | e.CallRetried | e.CallSent | e.CallFailed | e.PauseBegan
    | e.PauseEnded | e.IntakePaused | e.IntakeResumed
)  # fmt: skip
"""The events that a tap shows."""

_OTHERS: Final = frozenset({e.DocumentsRead, e.DocumentMapped, e.DocumentIgnored, e.RecordingAdmitted})


class Happened(NamedTuple):
    """An event with its number, counted from the start of the daemon, and its instant."""

    number: int
    at: float
    event: Tapped


class Activity:
    """Call it with each event, in the event loop."""

    def __init__(self, now: Callable[[], float], stream: str) -> None:
        """`stream`: identifies this process, since its numbers mean nothing in another."""
        self.now = now
        self.stream = stream
        self.newest = 0
        """The number of the newest event."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self._kept: deque[tuple[float, Tapped]] = deque(maxlen=KEPT)
        self._delivered: deque[tuple[float, float]] = deque(maxlen=KEPT_DURATIONS)
        self._uploaded: deque[tuple[float, float]] = deque(maxlen=KEPT_DURATIONS)

    def __call__(self, event: e.Event) -> None:
        if type(event) in _OTHERS:  # most events of a call: they skip the search for a case
            return
        at = self.now()
        match event:
            case e.AttemptEnded():
                self._uploaded.append((at, event.took_s))
            case e.CallSent():
                self._counts["sent", event.source] += 1
                self._delivered.append((at, event.delivery_s))
                self._keep(at, event)
            case e.CallAdmitted():
                self._counts["admitted", event.source] += 1
                self._keep(at, event)
            case e.CallRetried():
                self._counts["retried", event.source] += 1
                self._keep(at, event)
            case e.CallFailed():
                self._counts["failed", event.source] += 1
                self._keep(at, event)
            case (
                e.CallDuplicate() | e.RecordingMatched()
                | e.PauseBegan() | e.PauseEnded() | e.IntakePaused() | e.IntakeResumed()
            ):  # fmt: skip
                self._keep(at, event)
            case _:
                pass

    def _keep(self, at: float, event: Tapped) -> None:
        self.newest += 1
        self._kept.append((at, event))

    @property
    def forgotten(self) -> int:
        """The number of the newest event that is no longer remembered; 0: all are."""
        return self.newest - len(self._kept)

    def after(self, number: int) -> tuple[int, Iterator[Happened]]:
        """How many of the events with a higher number are forgotten, and the others."""
        first = max(number, self.forgotten)
        kept = islice(self._kept, first - self.forgotten, None)
        return first - number, (Happened(first + place, at, event) for place, (at, event) in enumerate(kept, 1))

    def counts(self) -> Mapping[tuple[str, str], int]:
        """(what, source) -> events since the start; what: admitted, retried, sent, failed."""
        return MappingProxyType(self._counts)

    def delivered_since(self, at: float) -> Sequence[float]:
        """How long the newest calls took from settled file to accepted; at most KEPT_DURATIONS."""
        return [seconds for ended_at, seconds in self._delivered if ended_at >= at]

    def uploaded_since(self, at: float) -> Sequence[float]:
        """How long the newest HTTP attempts took."""
        return [seconds for ended_at, seconds in self._uploaded if ended_at >= at]
