"""What keeps the calls of a destination from going out: pauses with their probes, and Retry-After. Pure.

When a pause begins or ends is decided in pacing.py, from outcomes; here is how it begins and ends, and what survives a restart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tunerd.events import Event, PauseBegan, PauseEnded
from tunerd.ledger import StoredPauses
from tunerd.outcome import PauseReason
from tunerd.record import record

PROBE_EVERY_S: Final = 30.0
LOCAL_EVERY_S: Final = 1.0
"""...while the trouble is our own: a try costs Tuner nothing."""


@dataclass(slots=True, kw_only=True)
class Pause:
    reason: PauseReason
    since: float
    detail: str
    next_probe_at: float
    probing: bool = False
    probes: int = 0
    row: int | None = None
    """The only call that may be the probe: its answer was unconfirmed."""
    untried: bool = False
    """`auth`: no call has shown yet that Tuner refuses the key that is there now."""
    every_s: float = PROBE_EVERY_S
    """Until the next probe; doubles while one call is the only probe."""


@record
class PauseView:
    """A pause, for status pages."""

    agent: str | None
    reason: PauseReason
    since: float
    detail: str
    next_probe_at: float | None
    """None: tunerd sends no probe (operator, missing key)."""


class DeliveryPauses:
    """Of one destination. Methods that change something take `now` (Unix seconds) and give the events to emit; `stored()` is
    what has to survive a restart, and `dirty` says that it changed."""

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self.own: Pause | None = None
        """Of the whole destination."""
        self.agents: dict[str, Pause] = {}
        self.closed_until: float | None = None
        """Retry-After."""
        self.has_key = True
        self.are_shared = False
        """Other instances follow what is stored: a key that only this one lacks is not their trouble."""
        self.dirty = False

    @property
    def reason(self) -> PauseReason | None:
        return self.own.reason if self.own else None

    @property
    def are_any(self) -> bool:
        return self.own is not None or bool(self.agents)

    @property
    def only_probe(self) -> int | None:
        """The row of the call that alone may be the probe."""
        return self.own.row if self.own else None

    @property
    def is_rejecting(self) -> bool:
        return self.reason is PauseReason.REJECTING

    def views(self) -> tuple[PauseView, ...]:
        own = ((None, self.own),) if self.own else ()
        return tuple(
            PauseView(
                agent=agent,
                reason=pause.reason,
                since=pause.since,
                detail=pause.detail,
                next_probe_at=None if pause.reason is PauseReason.OPERATOR or not self.has_key else pause.next_probe_at,
            )
            for agent, pause in (*own, *self.agents.items())
        )

    def stored(self) -> StoredPauses:
        """What survives a restart: another process has descriptors of its own."""
        pause = None if self.is_for_this_process else self.own
        return StoredPauses(
            closed_until=self.closed_until,
            pause=pause.reason if pause else None,
            paused_since=pause.since if pause else None,
            detail=pause.detail if pause else "",
            agents={agent: (paused.reason, paused.since) for agent, paused in self.agents.items()},
            probe_row=pause.row if pause else None,
            probe_every_s=pause.every_s if pause and pause.row is not None else None,
            next_probe_at=pause.next_probe_at if pause and pause.row is not None else None,
        )

    def restore(self, stored: StoredPauses, now: float) -> list[Event]:
        """Continue from what the ledger kept. What was paused is probed at once, but for a call that may have arrived: a
        process that is restarted again and again must not send it each time."""
        self.closed_until = stored.closed_until
        events: list[Event] = []
        if stored.pause is not None:
            since = now if stored.paused_since is None else stored.paused_since
            events += self.begin(stored.pause, stored.detail, now, since=since, next_probe_at=now)
            if self.own:
                self.own.untried = True
            if stored.probe_row is not None and self.own:
                self.own.row, self.own.every_s = stored.probe_row, stored.probe_every_s or PROBE_EVERY_S
                self.own.next_probe_at = min(now + self.own.every_s, stored.next_probe_at or now)
        for agent, (reason, since) in stored.agents.items():
            self.agents[agent] = Pause(reason=reason, since=since, detail="", next_probe_at=now, untried=True)
            events.append(PauseBegan(destination=self._destination, agent=agent, reason=reason, detail=""))
        self.dirty = False
        return events

    @property
    def is_for_this_process(self) -> bool:
        """The pause of the destination says nothing about Tuner."""
        lacks_key = self.are_shared and not self.has_key and self.reason is PauseReason.AUTH
        return self.reason is PauseReason.LOCAL or lacks_key

    def close_until(self, until: float) -> None:
        if self.closed_until is None or until > self.closed_until:
            self.closed_until = until
            self.dirty = True

    def is_open(self, now: float) -> bool:
        """Whether a permit that was reserved may still be used."""
        return self.own is None and self.has_key and (self.closed_until is None or now >= self.closed_until)

    def probe_is_gone(self, row: int | None) -> None:
        """The call that was to be the only probe is no longer there to be sent: any other one may take its place."""
        if self.own and self.own.row == row:
            self.own.row, self.own.every_s = None, PROBE_EVERY_S
            self.dirty = True

    # Agents.

    def takes_agent(self, agent: str, now: float) -> bool:
        """A call of this agent was claimed. False: its agent is paused and another worker probes it; give it back."""
        pause = self.agents.get(agent)
        if pause is None:
            return True
        if pause.probing or now < pause.next_probe_at:
            return False
        pause.probing = True
        return True

    def resting_agents(self, now: float) -> frozenset[str]:
        if not self.agents:
            return frozenset()
        return frozenset(agent for agent, pause in self.agents.items() if pause.probing or now < pause.next_probe_at)

    def next_agent_probe_at(self) -> float | None:
        """When a claim will next leave out fewer agents."""
        return min((pause.next_probe_at for pause in self.agents.values() if not pause.probing), default=None)

    def begin_agent(self, agent: str, reason: PauseReason, detail: str, now: float) -> list[Event]:
        """Tuner refused this agent (again)."""
        if agent in self.agents:
            self.agents[agent].untried = False
            return []
        self.dirty = True
        self.agents[agent] = Pause(reason=reason, since=now, detail=detail, next_probe_at=now + PROBE_EVERY_S)
        return [PauseBegan(destination=self._destination, agent=agent, reason=reason, detail=detail)]

    def end_agent(self, agent: str, now: float) -> list[Event]:
        pause = self.agents.pop(agent)
        self.dirty = True
        return [PauseEnded(destination=self._destination, agent=agent, reason=pause.reason, lasted_s=now - pause.since)]

    def agent_answered(self, agent: str, now: float) -> list[Event]:
        """If this was the agent's probe, its pause ends."""
        return self.end_agent(agent, now) if agent in self.agents and self.agents[agent].probing else []

    def probe_elsewhere(self, permit_is_probe: bool, agent: str, until: float) -> None:
        """Another instance sends the probe: this one asks again at `until`."""
        pause = self.own if permit_is_probe else self.agents.get(agent)
        if pause is not None:
            pause.next_probe_at = max(pause.next_probe_at, until)

    def agent_probe_ended(self, agent: str, next_probe_at: float | None = None) -> None:
        pause = self.agents.get(agent)
        if pause is not None and pause.probing:
            pause.probing = False
            pause.next_probe_at = pause.next_probe_at if next_probe_at is None else next_probe_at

    # The key, and the operator.

    def key_changed(self, now: float, *, present: bool, missing: str = "", is_local: bool = False) -> list[Event]:
        """Another key, or none (`missing` says why; `is_local`: that is our own trouble). A new one is tried at once."""
        had_key, self.has_key = self.has_key, present
        if not present:
            return self._key_is_missing(PauseReason.LOCAL if is_local else PauseReason.AUTH, missing, now, had_key=had_key)
        if not had_key and (self.reason is PauseReason.LOCAL or (self.are_shared and self.reason is PauseReason.AUTH)):
            return self.end(now)
        for pause in self._all():
            if pause.reason is PauseReason.AUTH:
                pause.next_probe_at = now
                pause.untried = True
        return []

    def _key_is_missing(self, reason: PauseReason, missing: str, now: float, *, had_key: bool) -> list[Event]:
        pause = self.own
        if pause is not None and pause.reason is PauseReason.OPERATOR:
            return []
        if pause is None or pause.reason is not reason or had_key:
            return self.begin(reason, missing, now)
        if pause.detail == missing:
            return []
        pause.detail = missing  # it is the same pause, for another reason
        self.dirty = True
        return [PauseBegan(destination=self._destination, agent=None, reason=reason, detail=missing)]

    def nothing_to_probe(self, now: float) -> list[Event]:
        """No call is there that could try a key that Tuner has not refused yet: `auth` ends, until a call shows else."""
        events: list[Event] = []
        if self.own and self.own.reason is PauseReason.AUTH and self.own.untried and self.has_key:
            events += self.end(now)
        for agent, pause in list(self.agents.items()):
            if pause.untried and not pause.probing and now >= pause.next_probe_at:
                events += self.end_agent(agent, now)
        return events

    def operator_pause(self, now: float, why: str = "") -> list[Event]:
        return self.begin(PauseReason.OPERATOR, why or "an operator paused it", now)

    def operator_resume(self, now: float, missing: str = "", *, is_local: bool = False) -> list[Event]:
        """End every pause: the operator knows better, and what is still wrong pauses again. A Retry-After stays."""
        events = self.end(now)
        for agent in list(self.agents):
            events += self.end_agent(agent, now)
        if not self.has_key:
            events += self.begin(PauseReason.LOCAL if is_local else PauseReason.AUTH, missing, now)
        return events

    def shift(self, seconds: float) -> None:
        """The wall clock jumped: what was due in five minutes still is."""
        if self.closed_until is not None:
            self.closed_until += seconds
            self.dirty = True
        for pause in self._all():
            pause.next_probe_at += seconds
            self.dirty = self.dirty or pause.row is not None

    # Begin and end.

    def begin(
        self, reason: PauseReason, detail: str, now: float, *, since: float | None = None, next_probe_at: float | None = None
    ) -> list[Event]:
        row, every_s = (self.own.row, self.own.every_s) if self.own else (None, PROBE_EVERY_S)
        events = self.end(now)
        if next_probe_at is None:
            next_probe_at = now + (LOCAL_EVERY_S if reason is PauseReason.LOCAL else every_s)
        self.own = Pause(
            reason=reason,
            since=now if since is None else since,
            detail=detail,
            next_probe_at=next_probe_at,
            row=row,
            every_s=every_s,
        )
        self.dirty = True
        events.append(PauseBegan(destination=self._destination, agent=None, reason=reason, detail=detail))
        return events

    def end(self, now: float) -> list[Event]:
        pause, self.own = self.own, None
        if pause is None:
            return []
        self.dirty = True
        return [PauseEnded(destination=self._destination, agent=None, reason=pause.reason, lasted_s=now - pause.since)]

    def _all(self) -> Iterator[Pause]:
        if self.own:
            yield self.own
        yield from self.agents.values()
