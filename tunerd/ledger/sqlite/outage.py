"""An outage of the ledger's disk: since when it lasts, what was reported of it, what has to be done before the next try.

A full disk has a second part: once calls that are there can be settled again, what brings new rows is still refused until the
reserve could be taken again. What the reserve gave back is for the calls that are there.
"""

from typing import Final

from tunerd.clock import Clock
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger.service.jobs import BatchReport
from tunerd.ledger.sqlite.errors import is_full, needs_reopening, words_for
from tunerd.ledger.sqlite.reserve import Reserve

_SHORT_S: Final = 60.0
_ROOM_BYTES: Final = 1024 * 1024


class Outage:
    def __init__(self, reserve: Reserve, clock: Clock) -> None:
        self._reserve = reserve
        self._clock = clock
        self._since: float | None = None
        """Nothing can be committed (monotonic)."""
        self._reported_since: float | None = None
        """LedgerTrouble was emitted, LedgerHealed not yet."""
        self._short: tuple[float, int] | None = None
        """When the reserve was given up, and the fewest bytes that were free since."""
        self.must_reopen = False
        """The connection has to be replaced before the next try."""

    @property
    def is_on(self) -> bool:
        return self._since is not None

    @property
    def is_short(self) -> bool:
        """The disk has room for what is there, but not yet for more."""
        return self._short is not None

    @property
    def is_reported(self) -> bool:
        return self._reported_since is not None

    def begin(self, exc: BaseException, report: BatchReport) -> None:
        """A commit failed."""
        if self._since is None:
            self._since = self._clock.monotonic()
        if self._reported_since is None:
            self._reported_since = self._since
            report.events.append(LedgerTrouble(detail=words_for(exc)))
        self.note(exc)

    def note(self, exc: BaseException) -> None:
        """What has to be done before the next try."""
        self.must_reopen = self.must_reopen or needs_reopening(exc)
        if is_full(exc):
            self._reserve.give_up()
            self._short = self._clock.monotonic(), self._reserve.free_bytes()

    def commits_again(self) -> None:
        self._since = None

    def end(self, report: BatchReport) -> None:
        """Everything that was kept is written."""
        self._reserve.take()
        self._say_healed(report, self._clock.monotonic())

    def should_refill(self) -> bool:
        """Whether to try to take the reserve: there is more room than there was, or a minute has passed (what was sent may have
        left free pages in the file). Without either it would only fail again, every second."""
        at, least = self._short or (0.0, 0)
        is_late, free = self._clock.monotonic() - at >= _SHORT_S, self._reserve.free_bytes()
        self._short = at, min(least, free)
        return is_late or free >= least + _ROOM_BYTES

    def refill(self, report: BatchReport) -> None:
        """Take the reserve; if it fits, the disk is no longer short."""
        if self._reserve.take():
            at, _ = self._short or (0.0, 0)
            self._short = None
            self._say_healed(report, at)

    def _say_healed(self, report: BatchReport, since: float) -> None:
        began = since if self._reported_since is None else self._reported_since
        self._reported_since = None
        report.events.append(LedgerHealed(lasted_s=self._clock.monotonic() - began))
