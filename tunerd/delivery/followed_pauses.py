"""How the pauses of this instance follow those that other instances stored. Pure."""

from tunerd.delivery.pauses import PROBE_EVERY_S, DeliveryPauses
from tunerd.events import Event
from tunerd.ledger import StoredPauses


def follow(pauses: DeliveryPauses, stored: StoredPauses, now: float) -> list[Event]:
    """Take over `stored`. Nothing of it has to be stored again."""
    was_dirty = pauses.dirty
    pauses.closed_until = stored.closed_until
    events = [] if pauses.is_for_this_process and not pauses.has_key else _follow_own(pauses, stored, now)
    for agent in [agent for agent in pauses.agents if agent not in stored.agents]:
        events += pauses.end_agent(agent, now)
    for agent, (reason, since) in stored.agents.items():
        if agent not in pauses.agents:
            events += pauses.begin_agent(agent, reason, "", now)
        pauses.agents[agent].reason, pauses.agents[agent].since = reason, since
    pauses.dirty = was_dirty
    return events


def _follow_own(pauses: DeliveryPauses, stored: StoredPauses, now: float) -> list[Event]:
    if stored.pause is None:
        return [] if pauses.is_for_this_process else pauses.end(now)
    events: list[Event] = []
    if pauses.own is None or pauses.own.reason is not stored.pause:
        events = pauses.begin(stored.pause, stored.detail, now)
    if pauses.own is not None:
        pauses.own.since = now if stored.paused_since is None else stored.paused_since
        pauses.own.detail, pauses.own.row = stored.detail, stored.probe_row
        pauses.own.every_s = stored.probe_every_s or PROBE_EVERY_S
        if stored.next_probe_at is not None:
            pauses.own.next_probe_at = stored.next_probe_at
    return events
