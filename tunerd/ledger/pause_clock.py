"""How long a destination, or an agent of it, was paused: time that does not count against a call. Pure arithmetic."""

from collections.abc import Mapping
from dataclasses import field, replace

from tunerd.ledger import StoredPauses
from tunerd.record import record


@record
class PauseClock:
    """Counts the seconds for which a destination, and single agents of it besides, were paused. It runs on the wall clock, so
    a pause counts while no process runs, too."""

    at: float = 0.0
    total_s: float = 0.0
    agents: Mapping[str, float] = field(default_factory=dict)
    """Seconds for which only the agent was paused."""

    def advance(self, pauses: StoredPauses, now: float) -> "PauseClock":
        """The clock at `now`, if the pauses were as given since the clock was last set."""
        passed = max(0.0, now - self.at)
        if pauses.pause is not None:
            return replace(self, at=now, total_s=self.total_s + passed)
        if not pauses.agents:
            return replace(self, at=now)
        agents = dict(self.agents)
        for agent in pauses.agents:
            agents[agent] = agents.get(agent, 0.0) + passed
        return replace(self, at=now, agents=agents)

    def shown(self, agent: str) -> float:
        return self.total_s + self.agents.get(agent, 0.0)

    def shown_at(self, pauses: StoredPauses, now: float, agent: str) -> float:
        """What `advance` would show; makes no new clock where none runs."""
        if pauses.pause is None and not pauses.agents:
            return self.shown(agent)
        return self.advance(pauses, now).shown(agent)


def shifted(pauses: StoredPauses, seconds: float) -> StoredPauses:
    """The pauses after a jump of the wall clock: the destination stays closed, and paused, for as long as before."""
    return replace(
        pauses,
        closed_until=None if pauses.closed_until is None else pauses.closed_until + seconds,
        paused_since=None if pauses.paused_since is None else pauses.paused_since + seconds,
        agents={agent: (reason, since + seconds) for agent, (reason, since) in pauses.agents.items()},
        next_probe_at=None if pauses.next_probe_at is None else pauses.next_probe_at + seconds,
    )
