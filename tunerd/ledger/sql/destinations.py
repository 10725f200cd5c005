"""Tables destination and accepted: the gate of each destination, and which base URLs ever accepted a call.

Gates are kept in memory besides, because every admission and every claim asks for one.
"""

from dataclasses import replace
from typing import Final

import orjson

from tunerd.ledger import Gate
from tunerd.ledger.pause_clock import PauseClock, shifted
from tunerd.ledger.sql.database import Execute
from tunerd.outcome import PauseReason

GATES: Final = "SELECT name, gate, clock FROM destination"
SET_GATE: Final = (
    "INSERT INTO destination (name, gate, clock) VALUES (?, ?, ?) "
    "ON CONFLICT (name) DO UPDATE SET gate = excluded.gate, clock = excluded.clock"
)
ADD_ACCEPTED: Final = "INSERT INTO accepted (base_url) VALUES (?) ON CONFLICT DO NOTHING"
HAS_ACCEPTED: Final = "SELECT 1 FROM accepted WHERE base_url = ?"


class DestinationTable:
    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._gates: dict[str, tuple[Gate, PauseClock]] = {}

    def load(self) -> None:
        self._gates = {name: (_gate_of(gate), _clock_of(clock)) for name, gate, clock in self._execute(GATES)}

    def snapshot(self) -> dict[str, tuple[Gate, PauseClock]]:
        return dict(self._gates)

    def restore(self, before: dict[str, tuple[Gate, PauseClock]]) -> None:
        self._gates = before

    def get(self, destination: str) -> tuple[Gate, PauseClock] | None:
        return self._gates.get(destination)

    def gates(self) -> dict[str, Gate]:
        return {name: gate for name, (gate, _) in sorted(self._gates.items())}

    def set(self, destination: str, gate: Gate, clock: PauseClock) -> None:
        self._gates[destination] = (gate, clock)
        self._execute(SET_GATE, (destination, _gate_text(gate), _clock_text(clock)))

    def shift(self, seconds: float) -> None:
        for name, (gate, clock) in list(self._gates.items()):
            self.set(name, shifted(gate, seconds), replace(clock, at=clock.at + seconds))

    def note_accepted(self, base_url: str) -> None:
        """A row of a call that was accepted there is about to be removed."""
        self._execute(ADD_ACCEPTED, (base_url,))

    def has_accepted(self, base_url: str) -> bool:
        """Whether a call was accepted there whose row is removed by now."""
        return self._execute(HAS_ACCEPTED, (base_url,)).fetchone() is not None


def _gate_text(gate: Gate) -> str:
    agents = {agent: [reason.value, since] for agent, (reason, since) in gate.agents.items()}
    pause = None if gate.pause is None else gate.pause.value
    probe = [gate.probe_row, gate.probe_every_s, gate.next_probe_at]
    return orjson.dumps([gate.closed_until, pause, gate.paused_since, gate.detail, agents, probe]).decode()


def _gate_of(text: str) -> Gate:
    closed_until, pause, paused_since, detail, agents, (probe_row, probe_every_s, next_probe_at) = orjson.loads(text)
    return Gate(
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
