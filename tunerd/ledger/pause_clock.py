"""How long a destination, or an agent of it, was paused: time that does not count against a call. Pure arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunerd.ledger import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseClock:
    """Counts the seconds for which a destination, and single agents of it besides, were paused. It runs on the wall clock, so
    a pause counts while no process runs, too."""

    at: float = 0.0
    total_s: float = 0.0
    agents: Mapping[str, float] = field(default_factory=dict)
    """Seconds for which only the agent was paused."""

    def advance(self, gate: Gate, now: float) -> "PauseClock":
        """The clock at `now`, if the gate was as given since the clock was last set."""
        passed = max(0.0, now - self.at)
        if gate.pause is not None:
            return replace(self, at=now, total_s=self.total_s + passed)
        if not gate.agents:
            return replace(self, at=now)
        agents = dict(self.agents)
        for agent in gate.agents:
            agents[agent] = agents.get(agent, 0.0) + passed
        return replace(self, at=now, agents=agents)

    def shown(self, agent: str) -> float:
        return self.total_s + self.agents.get(agent, 0.0)

    def shown_at(self, gate: Gate, now: float, agent: str) -> float:
        """What `advance` would show; makes no new clock where none runs."""
        if gate.pause is None and not gate.agents:
            return self.shown(agent)
        return self.advance(gate, now).shown(agent)


def shifted(gate: Gate, seconds: float) -> Gate:
    """The gate after a jump of the wall clock: it stays closed, and paused, for as long as before."""
    return replace(
        gate,
        closed_until=None if gate.closed_until is None else gate.closed_until + seconds,
        paused_since=None if gate.paused_since is None else gate.paused_since + seconds,
        agents={agent: (reason, since + seconds) for agent, (reason, since) in gate.agents.items()},
        next_probe_at=None if gate.next_probe_at is None else gate.next_probe_at + seconds,
    )
