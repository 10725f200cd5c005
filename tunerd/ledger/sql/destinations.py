"""Tables destination and accepted: the pauses of each destination, and which base URLs ever accepted a call.

Pauses are kept in memory besides, because every admission and every claim asks for one.
"""

from dataclasses import replace
from typing import Final

import orjson

from tunerd.ledger import StoredPauses
from tunerd.ledger.pause_clock import PauseClock, shifted
from tunerd.ledger.sql.database import Cursor, Database
from tunerd.outcome import PauseReason

STORED_PAUSES: Final = "SELECT name, gate, clock FROM destination"
STORE_PAUSES: Final = (
    "INSERT INTO destination (name, gate, clock) VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET gate = excluded.gate, clock = excluded.clock"
)
ADD_ACCEPTED: Final = "INSERT INTO accepted (base_url) VALUES (?) ON CONFLICT DO NOTHING"
HAS_ACCEPTED: Final = "SELECT 1 FROM accepted WHERE base_url = ?"


class DestinationTable:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._execute = db.execute
        self._known: dict[str, tuple[StoredPauses, PauseClock]] = {}
        self._asked: Cursor | None = None

    def load(self) -> None:
        self.ask()
        self.get("")

    def ask(self) -> None:
        """Ask for what is stored; it is read when it is wanted."""
        self._asked = self._execute(STORED_PAUSES)

    @property
    def _stored(self) -> dict[str, tuple[StoredPauses, PauseClock]]:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._known = {name: (_pauses_of(pauses), _clock_of(clock)) for name, pauses, clock in asked}
        return self._known

    def snapshot(self) -> dict[str, tuple[StoredPauses, PauseClock]]:
        """Before a transaction. What was asked on a connection that broke can never be read, and is not read here: where that
        happens, each transaction asks anew."""
        self._asked = None
        return dict(self._known)

    def restore(self, before: dict[str, tuple[StoredPauses, PauseClock]]) -> None:
        self._known, self._asked = before, None

    def get(self, destination: str) -> tuple[StoredPauses, PauseClock] | None:
        return self._stored.get(destination)

    def stored_pauses(self) -> dict[str, StoredPauses]:
        return {name: pauses for name, (pauses, _) in sorted(self._stored.items())}

    def set(self, destination: str, pauses: StoredPauses, clock: PauseClock) -> None:
        self._db.hold(("destination", destination))
        self._stored[destination] = (pauses, clock)
        self._execute(STORE_PAUSES, (destination, _pauses_text(pauses), _clock_text(clock)))

    def shift(self, seconds: float) -> None:
        for name, (pauses, clock) in list(self._stored.items()):
            self.set(name, shifted(pauses, seconds), replace(clock, at=clock.at + seconds))

    def note_accepted(self, base_url: str) -> None:
        """A row of a call that was accepted there is about to be removed."""
        self._execute(ADD_ACCEPTED, (base_url,))

    def has_accepted(self, base_url: str) -> bool:
        """Whether a call was accepted there whose row is removed by now."""
        return self._execute(HAS_ACCEPTED, (base_url,)).fetchone() is not None


def _pauses_text(pauses: StoredPauses) -> str:
    agents = {agent: [reason.value, since] for agent, (reason, since) in pauses.agents.items()}
    pause = None if pauses.pause is None else pauses.pause.value
    probe = [pauses.probe_row, pauses.probe_every_s, pauses.next_probe_at]
    return orjson.dumps([pauses.closed_until, pause, pauses.paused_since, pauses.detail, agents, probe]).decode()


def _pauses_of(text: str) -> StoredPauses:
    closed_until, pause, paused_since, detail, agents, (probe_row, probe_every_s, next_probe_at) = orjson.loads(text)
    return StoredPauses(
        closed_until=closed_until,
        pause=None if pause is None else PauseReason(pause),
        paused_since=paused_since,
        detail=detail,
        agents={agent: (PauseReason(reason), since) for agent, (reason, since) in agents.items()},
        probe_row=probe_row,
        probe_every_s=probe_every_s,
        next_probe_at=next_probe_at,
    )


def _clock_text(clock: PauseClock) -> str:
    return orjson.dumps([clock.at, clock.total_s, dict(clock.agents)]).decode()


def _clock_of(text: str) -> PauseClock:
    at, total_s, agents = orjson.loads(text)
    return PauseClock(at=at, total_s=total_s, agents=agents)
