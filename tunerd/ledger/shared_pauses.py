"""Pauses of a destination that several instances change: what one changed is put on top of what the others did. Pure."""

from dataclasses import replace

from tunerd.ledger.sending import StoredPauses


def merged(current: StoredPauses, before: StoredPauses, after: StoredPauses) -> StoredPauses:
    """`current`, with what an instance changed that knew `before` and now has `after`: the destination's pause, each agent's, and
    Retry-After, of which the later one counts."""
    own = current if _own(after) == _own(before) else after
    agents = dict(current.agents)
    for agent in {*before.agents, *after.agents}:
        if before.agents.get(agent) == after.agents.get(agent):
            continue
        if agent in after.agents:
            agents[agent] = after.agents[agent]
        else:
            agents.pop(agent, None)
    ends = [at for at in (current.closed_until, after.closed_until) if at is not None]
    return replace(own, agents=agents, closed_until=max(ends, default=None))


def with_own_of(pauses: StoredPauses, other: StoredPauses) -> StoredPauses:
    """`pauses`, with the destination's pause of `other`."""
    return replace(other, agents=pauses.agents, closed_until=pauses.closed_until)


def _own(pauses: StoredPauses) -> StoredPauses:
    """What belongs to the pause of the destination as a whole."""
    return replace(pauses, agents={}, closed_until=None)
