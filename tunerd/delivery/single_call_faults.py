"""Whether an answer that would pause the destination is about its call alone. Pure, with the time passed in.

One odd call must not stop everybody each time that it is due: it backs off alone once others have shown that the destination
takes calls.
"""

from collections import OrderedDict, deque
from typing import Final

from tunerd.outcome import Outcome, PauseReason, Refused, Retry, RetryReason, Unconfirmed

_REMEMBERED: Final = 1000
"""Calls."""
_ACCEPTED_SINCE: Final = 10
"""After this many other calls were accepted, an unconfirmed answer is about its call and not about the destination."""


class SingleCallFaults:
    def __init__(self) -> None:
        self._accepted = 0
        self._suspects: OrderedDict[int, int] = OrderedDict()
        """Calls that were taken for a wrong URL, and how many calls had been accepted before."""
        self._doubted: OrderedDict[int, float] = OrderedDict()
        """Calls with an unconfirmed answer, and when it came."""
        self._begun: deque[float] = deque(maxlen=_ACCEPTED_SINCE)
        """When the attempts began that were accepted last."""

    def accepted(self, begun_at: float) -> None:
        """A call was accepted whose attempt began then."""
        self._accepted += 1
        self._begun.append(begun_at)

    def attribute(self, row: int, outcome: Outcome, now: float) -> Outcome:
        """The same outcome; or, where it is this call's own trouble, a retry of the call alone."""
        if isinstance(outcome, Unconfirmed):
            return self._doubt_alone(row, outcome, now)
        if not (isinstance(outcome, Refused) and outcome.reason is PauseReason.ENDPOINT):
            return outcome
        before = self._suspects.pop(row, self._accepted)
        self._suspects[row] = before
        if len(self._suspects) > _REMEMBERED:
            self._suspects.popitem(last=False)
        if before == self._accepted:
            return outcome
        return Retry(reason=RetryReason.BAD_ANSWER, status=outcome.status, detail=outcome.detail, surely_not_arrived=True)

    def shift(self, seconds: float) -> None:
        self._doubted = OrderedDict((row, at + seconds) for row, at in self._doubted.items())
        self._begun = deque((at + seconds for at in self._begun), maxlen=_ACCEPTED_SINCE)

    def _doubt_alone(self, row: int, outcome: Unconfirmed, now: float) -> Outcome:
        """Many calls have to speak for the destination: for each one that is let go although it does not take calls,
        another may have arrived without our knowing. They get the chance only when somebody resumed the destination."""
        before = self._doubted.pop(row, None)
        self._doubted[row] = now
        if len(self._doubted) > _REMEMBERED:
            self._doubted.popitem(last=False)
        if before is None or len(self._begun) < _ACCEPTED_SINCE or min(self._begun) < before:
            return outcome
        return Retry(reason=RetryReason.BAD_ANSWER, status=outcome.status, detail=outcome.detail)
