"""An outage of the server: since when it lasts, and whether it was reported. The writer thread's."""

from tunerd.clock import Clock
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger.service.jobs import BatchReport


class ServerOutage:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def begin(self, words: str, report: BatchReport) -> None:
        if self._since is None:
            self._since = self._clock.monotonic()
            report.events.append(LedgerTrouble(detail=words))

    def end(self, report: BatchReport) -> None:
        if self._since is not None:
            report.events.append(LedgerHealed(lasted_s=self._clock.monotonic() - self._since))
            self._since = None
