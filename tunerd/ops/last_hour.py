"""How many calls were admitted, sent and failed in each of the last sixty minutes: it listens to the events."""

from collections.abc import Callable, Sequence
from typing import Final

from tunerd import events as e

MINUTES: Final = 60
_MINUTE_S: Final = 60.0


class LastHour:
    """Call it with each event. Keeps sixty numbers a series, whatever happens."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._minute = int(now() // _MINUTE_S)
        """The current one; its counts are last."""
        self._admitted = [0] * MINUTES
        self._sent = [0] * MINUTES
        self._failed = [0] * MINUTES

    def __call__(self, event: e.Event) -> None:
        match event:
            case e.CallSent():
                self._count(self._sent)
            case e.CallAdmitted():
                self._count(self._admitted)
            case e.CallFailed():
                self._count(self._failed)
            case _:
                pass

    def began_at(self) -> float:
        """Of the first minute, Unix seconds."""
        self._turn()
        return (self._minute - MINUTES + 1) * _MINUTE_S

    def series(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
        """Admitted, sent and failed, oldest minute first; the last is the current one."""
        self._turn()
        return tuple(self._admitted), tuple(self._sent), tuple(self._failed)

    def _count(self, series: list[int]) -> None:
        self._turn()
        series[-1] += 1

    def _turn(self) -> None:
        """Move on to the current minute. After a jump of the clock by an hour or more, or backwards, all counts are old."""
        minute = int(self._now() // _MINUTE_S)
        passed = minute - self._minute
        if not passed:
            return
        gone = MINUTES if passed < 0 else min(passed, MINUTES)
        for series in (self._admitted, self._sent, self._failed):
            del series[:gone]
            series += [0] * gone
        self._minute = minute
