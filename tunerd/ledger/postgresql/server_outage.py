"""An outage of the server: since when it lasts, and what was reported about it. The writer thread's."""

import psycopg

from tunerd.clock import Clock
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger.postgresql.sqlstates import is_away, refusal_words
from tunerd.ledger.service.jobs import BatchReport


class ServerOutage:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._told = ""

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def begin(self, words: str, report: BatchReport) -> None:
        if self._since is None:
            self._since = self._clock.monotonic()
            self._tell(words, report)

    def continues(self, exc: psycopg.Error, report: BatchReport) -> None:
        """A new connection was refused. If a person has to change something (the password, a standby in ledger.url), the log says
        what: the outage began with a lost connection, which does not tell."""
        words = refusal_words(exc)
        if not is_away(exc) and words != self._told:
            self._tell(words, report)

    def end(self, report: BatchReport) -> None:
        if self._since is not None:
            report.events.append(LedgerHealed(lasted_s=self._clock.monotonic() - self._since))
            self._since = None

    def _tell(self, words: str, report: BatchReport) -> None:
        self._told = words
        report.events.append(LedgerTrouble(detail=words))
