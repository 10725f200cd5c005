"""The gate of a destination: whether a call may start now, and what an attempt's end means for the others. Pure.

A state machine with the time passed in: pauses and their probes, Retry-After, rate limit, the adaptive limit, and which
of the due calls the next claim takes. What becomes of the call itself is retry.py's.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from tunerd.delivery.adaptive import AdaptiveLimit
from tunerd.delivery.single_call_faults import SingleCallFaults
from tunerd.delivery.token_bucket import TokenBucket
from tunerd.events import ConcurrencyChanged, Event, PauseBegan, PauseEnded
from tunerd.ledger import Gate, Pick
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Sent, Unconfirmed

PROBE_EVERY_S: Final = 30.0
SAME_CALL_LONGEST_S: Final = 600.0
"""Probes with the one call that may have arrived already become rarer, up to this: each may make a copy of it."""
LOCAL_EVERY_S: Final = 1.0
"""...while the trouble is our own: a try costs Tuner nothing."""
REJECTIONS: Final = 10
TROUBLES: Final = 10
TROUBLED_CALLS: Final = 3
TROUBLE_WITHIN_S: Final = 60.0

_PICKS: Final = (Pick.NEWEST, Pick.OLDEST, Pick.EXPIRING, Pick.OLDEST)
_OLD_PROBE_EACH: Final = 4
"""Of so many probes one takes the oldest call: should the newest ones all be poison, an innocent one gets its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A permit: claim a call and make one attempt. Given back by `ended` or `unused`."""

    pick: Pick = Pick.OLDEST
    probe: bool = False
    """The destination is paused: any call will do, also one that is not due yet."""
    not_agents: frozenset[str] = frozenset()
    """Agents that stand paused."""
    row: int | None = None
    """Only this call may be claimed: it may have arrived, and no other is to be put into the same doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Not now. `until` is Unix seconds; None: until something happens (an attempt ends, a key, an operator)."""

    until: float | None = None


Permission: TypeAlias = Permit | Blocked


@dataclass(slots=True, kw_only=True)
class _Pause:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseView:
    """A pause, for status pages."""

    agent: str | None
    reason: PauseReason
    since: float
    detail: str
    next_probe_at: float | None
    """None: no probe goes out by itself (operator, missing key)."""


class Pacing:
    """One destination's gate. Every method that changes something takes `now` (Unix seconds) and gives what is worth
    telling; `gate()` is what has to survive a restart and `dirty` says that it changed."""

    def __init__(self, destination: str, *, concurrency: int, rate_limit: float | None) -> None:
        self._destination = destination
        self._limit = AdaptiveLimit(concurrency)
        self._bucket = TokenBucket(rate_limit)
        self._in_flight = 0
        self._turn = 0
        self._pause: _Pause | None = None
        self._agents: dict[str, _Pause] = {}
        self._closed_until: float | None = None
        self._has_key = True
        self._rejected: set[int] = set()
        self._rejected_status: int | None = None
        self._troubles: deque[tuple[float, int]] = deque(maxlen=TROUBLES)
        self._last_accepted_at: float | None = None
        self._single_call_faults = SingleCallFaults()
        self.dirty = False

    # What others may see.

    @property
    def limit(self) -> int:
        return self._limit.limit

    @property
    def in_flight(self) -> int:
        return self._in_flight

    @property
    def has_room(self) -> bool:
        """Whether one more call could start, as far as pauses and the limit go."""
        return self._pause is None and self._in_flight < self._limit.limit

    @property
    def paused(self) -> PauseReason | None:
        return self._pause.reason if self._pause else None

    @property
    def closed_until(self) -> float | None:
        return self._closed_until

    @property
    def last_accepted_at(self) -> float | None:
        return self._last_accepted_at

    def pauses(self) -> tuple[PauseView, ...]:
        own = ((None, self._pause),) if self._pause else ()
        return tuple(
            PauseView(
                agent=agent,
                reason=pause.reason,
                since=pause.since,
                detail=pause.detail,
                next_probe_at=None if pause.reason is PauseReason.OPERATOR or not self._has_key else pause.next_probe_at,
            )
            for agent, pause in (*own, *self._agents.items())
        )

    def gate(self) -> Gate:
        """What survives a restart: another process has descriptors of its own."""
        pause = None if self._pause and self._pause.reason is PauseReason.LOCAL else self._pause
        return Gate(
            closed_until=self._closed_until,
            pause=pause.reason if pause else None,
            paused_since=pause.since if pause else None,
            detail=pause.detail if pause else "",
            agents={agent: (paused.reason, paused.since) for agent, paused in self._agents.items()},
            probe_row=pause.row if pause else None,
            probe_every_s=pause.every_s if pause and pause.row is not None else None,
            next_probe_at=pause.next_probe_at if pause and pause.row is not None else None,
        )

    def restore(self, gate: Gate, now: float) -> list[Event]:
        """Permit on from what the ledger kept. What was paused is probed at once, but for a call that may have arrived: a
        process that is restarted again and again must not send it each time."""
        self._closed_until = gate.closed_until
        told: list[Event] = []
        if gate.pause is not None:
            since = now if gate.paused_since is None else gate.paused_since
            told += self._begin(gate.pause, gate.detail, now, since=since, next_probe_at=now)
            if self._pause:
                self._pause.untried = True
            if gate.probe_row is not None and self._pause:
                self._pause.row, self._pause.every_s = gate.probe_row, gate.probe_every_s or PROBE_EVERY_S
                self._pause.next_probe_at = min(now + self._pause.every_s, gate.next_probe_at or now)
        for agent, (reason, since) in gate.agents.items():
            self._agents[agent] = _Pause(reason=reason, since=since, detail="", next_probe_at=now, untried=True)
            told.append(PauseBegan(destination=self._destination, agent=agent, reason=reason, detail=""))
        self.dirty = False
        return told

    # A call's way: acquire -> (taken | unused) -> ended.

    def acquire(self, now: float) -> Permission:
        """A permit for one attempt, or how long there is none."""
        pause = self._pause
        if not self._has_key or (pause and pause.reason is PauseReason.OPERATOR):
            return Blocked()
        if self._closed_until is not None:
            if now < self._closed_until:
                return Blocked(until=self._closed_until)
            self._closed_until = None
        if pause:
            if pause.probing or self._in_flight >= self._limit.limit:
                return Blocked()
            if now < pause.next_probe_at:
                return Blocked(until=pause.next_probe_at)
            pause.probing = True
            pause.probes += 1
            pick = Pick.OLDEST if pause.probes % _OLD_PROBE_EACH == 0 else Pick.NEWEST
        else:
            if self._in_flight >= self._limit.limit:
                return Blocked()
            if (until := self._bucket.take(now)) is not None:
                return Blocked(until=until)
            pick = _PICKS[self._turn % len(_PICKS)]
            self._turn += 1
        self._in_flight += 1
        self._limit.started(self._in_flight)
        return Permit(pick=pick, probe=pause is not None, not_agents=self._resting_agents(now), row=pause.row if pause else None)

    def reserve(self, count: int, now: float) -> list[Permit]:
        """At most so many permits for calls that are not there yet; none while anything is paused or closed. Each is used, or
        given back by `unused`."""
        permits: list[Permit] = []
        while len(permits) < count and self._pause is None and not self._agents and self._in_flight < self._limit.limit:
            turn = self._turn
            permission = self.acquire(now)
            self._turn = turn  # these take no call of the backlog
            if isinstance(permission, Blocked):
                break
            permits.append(permission)
        return permits

    def is_open(self, now: float) -> bool:
        """Whether a permit that was reserved may still be used."""
        return self._pause is None and self._has_key and (self._closed_until is None or now >= self._closed_until)

    def taken(self, agent: str, now: float) -> bool:
        """A call of this agent was claimed. False: its agent is paused and another worker probes it; give it back."""
        pause = self._agents.get(agent)
        if pause is None:
            return True
        if pause.probing or now < pause.next_probe_at:
            return False
        pause.probing = True
        return True

    def unused(self, permit: Permit, now: float) -> None:
        """The permit was not needed: there was no call. The next one that comes is the probe, at once."""
        self._in_flight -= 1
        if permit.probe and self._pause:
            self._pause.probing = False
            self._pause.probes -= 1
        elif not permit.probe:
            self._bucket.give_back()

    def untouched(self, permit: Permit, agent: str, now: float) -> None:
        """As `unused`, of a permit for which a call of this agent was taken already."""
        self.unused(permit, now)
        if agent in self._agents:
            self._agents[agent].probing = False

    def forget_permits(self, count: int) -> None:
        """So many are counted, and nobody holds them. A probe may have been one of them."""
        self._in_flight -= count
        if count and self._pause and not self._in_flight:
            self._pause.probing = False

    def probe_is_gone(self, permit: Permit) -> None:
        """The call that was to be the only probe is no longer there to be sent: any other one may take its place."""
        if self._pause and self._pause.row == permit.row:
            self._pause.row, self._pause.every_s = None, PROBE_EVERY_S
            self.dirty = True

    def next_agent_probe_at(self) -> float | None:
        """When a claim will next leave out fewer agents."""
        return min((pause.next_probe_at for pause in self._agents.values() if not pause.probing), default=None)

    def attribute(self, row: int, outcome: Outcome, now: float) -> Outcome:
        """The same outcome; or, where it is about this call and not about the destination, a retry of the call alone."""
        return self._single_call_faults.attribute(row, outcome, now)

    def ended(self, permit: Permit, *, row: int, agent: str, outcome: Outcome, took_s: float, now: float) -> list[Event]:
        """An attempt ended: the permit is back, and pauses, Retry-After and limit follow from the outcome."""
        self._in_flight -= 1
        probed = self._pause if permit.probe else None
        next_probe_at = now + (LOCAL_EVERY_S if _is_local(outcome) else PROBE_EVERY_S)
        if probed:
            probed.probing = False
            probed.next_probe_at = next_probe_at
            if probed.row is not None and not _is_local(outcome):
                probed.every_s = min(SAME_CALL_LONGEST_S, probed.every_s * 2)
                probed.next_probe_at = now + probed.every_s
                self.dirty = True
        told = self._adapt(outcome, took_s, now)
        if probed and probed.reason is PauseReason.LOCAL and self._pause is probed and not _is_local(outcome):
            told += self._end(now)  # a connection could be made; what came of it is seen below
        match outcome:
            case Sent():
                self._single_call_faults.accepted(now - took_s)
                told += self._accept(agent, now, probed)
            case Unconfirmed():
                told += self._doubt(row, outcome, now)
            case Failed():
                told += self._reject(row, agent, outcome, now, probed)
            case Refused():
                told += self._refuse(agent, outcome, now)
            case Retry():
                told += self._trouble(row, outcome, now)
        if agent in self._agents and self._agents[agent].probing:
            self._agents[agent].probing = False
            self._agents[agent].next_probe_at = next_probe_at
        return told

    def cancelled(self, permit: Permit, agent: str) -> None:
        """The attempt was broken off by a stop; it says nothing about the destination."""
        self._in_flight -= 1
        if permit.probe and self._pause:
            self._pause.probing = False
        if agent in self._agents:
            self._agents[agent].probing = False

    # What happens beside the calls.

    def key_changed(self, now: float, *, present: bool, missing: str = "", is_local: bool = False) -> list[Event]:
        """Another key, or none (`missing` says why; `is_local`: that is our own trouble). A new one is tried at once."""
        had_key, self._has_key = self._has_key, present
        reason = PauseReason.LOCAL if is_local else PauseReason.AUTH
        if not present:
            pause = self._pause
            if pause is not None and pause.reason is PauseReason.OPERATOR:
                return []
            if pause is None or pause.reason is not reason or had_key:
                return self._begin(reason, missing, now)
            if pause.detail == missing:
                return []
            pause.detail = missing  # it is the same pause, for another reason
            self.dirty = True
            return [PauseBegan(destination=self._destination, agent=None, reason=reason, detail=missing)]
        if not had_key and self._pause and self._pause.reason is PauseReason.LOCAL:
            return self._end(now)
        for pause in (self._pause, *self._agents.values()):
            if pause and pause.reason is PauseReason.AUTH:
                pause.next_probe_at = now
                pause.untried = True
        return []

    def nothing_to_probe(self, now: float) -> list[Event]:
        """No call is there that could try a key that Tuner has not refused yet: `auth` ends, until a call shows else."""
        told: list[Event] = []
        if self._pause and self._pause.reason is PauseReason.AUTH and self._pause.untried and self._has_key:
            told += self._end(now)
        for agent, pause in list(self._agents.items()):
            if pause.untried and not pause.probing and now >= pause.next_probe_at:
                told += self._end_agent(agent, now)
        return told

    def operator_pause(self, now: float, why: str = "") -> list[Event]:
        return self._begin(PauseReason.OPERATOR, why or "paused by `tunerd pause`", now)

    def operator_resume(self, now: float, missing: str = "", *, is_local: bool = False) -> list[Event]:
        """End every pause: the operator knows better, and what is still wrong pauses again. A Retry-After stays."""
        told = self._end(now)
        for agent in list(self._agents):
            told += self._end_agent(agent, now)
        if not self._has_key:
            told += self._begin(PauseReason.LOCAL if is_local else PauseReason.AUTH, missing, now)
        return told

    def resize(self, *, concurrency: int, rate_limit: float | None) -> None:
        self._limit.resize(concurrency)
        if rate_limit != self._bucket.rate:
            self._bucket = TokenBucket(rate_limit)

    def shift(self, seconds: float) -> None:
        """The wall clock jumped: what was due in five minutes still is."""
        if self._closed_until is not None:
            self._closed_until += seconds
            self.dirty = True
        for pause in (self._pause, *self._agents.values()):
            if pause:
                pause.next_probe_at += seconds
                self.dirty = self.dirty or pause.row is not None
        self._single_call_faults.shift(seconds)
        if self._last_accepted_at is not None:
            self._last_accepted_at += seconds
        self._troubles = deque(((at + seconds, row) for at, row in self._troubles), maxlen=TROUBLES)
        self._bucket.shift(seconds)

    # How outcomes move the state.

    def _accept(self, agent: str, now: float, probed: _Pause | None) -> list[Event]:
        self._last_accepted_at = now
        self._rejected.clear()
        self._troubles.clear()
        told: list[Event] = []
        if self._pause and (probed or self._pause.reason in (PauseReason.UNREACHABLE, PauseReason.REJECTING)):
            told += self._answered(now)
        if agent in self._agents and self._agents[agent].probing:
            told += self._end_agent(agent, now)
        return told

    def _reject(self, row: int, agent: str, outcome: Failed, now: float, probed: _Pause | None) -> list[Event]:
        told: list[Event] = []
        if self._pause and (self._pause.reason is PauseReason.UNREACHABLE or (probed and not self._is_rejecting)):
            told += self._answered(now)
        if agent in self._agents and self._agents[agent].probing:
            told += self._end_agent(agent, now)
        if outcome.reason is not FailReason.REJECTED or self._is_rejecting:
            return told
        if outcome.status != self._rejected_status:
            self._rejected.clear()
            self._rejected_status = outcome.status
        self._rejected.add(row)
        if len(self._rejected) >= REJECTIONS and self._pause is None:
            detail = f"{REJECTIONS} different calls in a row were rejected; {_cause(outcome)}; at last: {outcome.detail}"
            told += self._begin(PauseReason.REJECTING, detail, now)
            self._rejected.clear()
        return told

    @property
    def _is_rejecting(self) -> bool:
        return self._pause is not None and self._pause.reason is PauseReason.REJECTING

    def _refuse(self, agent: str, outcome: Refused, now: float) -> list[Event]:
        if outcome.scope is Scope.DESTINATION:
            if self._pause and outcome.reason is self._pause.reason:
                self._pause.untried = False
            if self._pause and (self._pause.reason in (PauseReason.OPERATOR, outcome.reason) or _is_local(outcome)):
                return []  # our own trouble says nothing about what Tuner was paused for
            if _is_local(outcome) and self._in_flight:
                return []  # there are fewer connections than were wanted, but there are some
            return self._begin(outcome.reason, outcome.detail, now)
        told: list[Event] = []
        if self._pause and self._pause.reason in (PauseReason.UNREACHABLE, PauseReason.ENDPOINT):
            told += self._answered(now)
        elif self._pause and self._pause.reason is PauseReason.AUTH and self._has_key:
            told += self._answered(now)  # the key itself is known again
        if agent in self._agents:
            self._agents[agent].untried = False
        else:
            self.dirty = True
            self._agents[agent] = _Pause(
                reason=outcome.reason, since=now, detail=outcome.detail, next_probe_at=now + PROBE_EVERY_S
            )
            told.append(PauseBegan(destination=self._destination, agent=agent, reason=outcome.reason, detail=outcome.detail))
        return told

    def _doubt(self, row: int, outcome: Unconfirmed, now: float) -> list[Event]:
        """From now on this call is the only probe, unless another one is already."""
        pause = self._pause
        if pause and pause.row is not None:
            return []
        if pause and (pause.reason is PauseReason.OPERATOR or not self._has_key):
            pause.row = row
            self.dirty = True
            return []
        detail = f"{outcome.detail}; only this call is tried again, in {PROBE_EVERY_S:.0f} s"
        told = self._begin(PauseReason.ENDPOINT, detail, now)
        if self._pause:
            self._pause.row = row
        return told

    def _trouble(self, row: int, outcome: Retry, now: float) -> list[Event]:
        told: list[Event] = []
        if outcome.retry_after_s is not None:
            until = now + outcome.retry_after_s
            if self._closed_until is None or until > self._closed_until:
                self._closed_until = until
                self.dirty = True
        if outcome.reason is RetryReason.THROTTLED:
            if self._pause and self._pause.reason is PauseReason.UNREACHABLE:
                told += self._answered(now)
            return told
        self._troubles.append((now, row))
        full = len(self._troubles) == TROUBLES and now - self._troubles[0][0] <= TROUBLE_WITHIN_S
        if full and self._pause is None and len({row for _, row in self._troubles}) >= TROUBLED_CALLS:
            detail = f"{TROUBLES} attempts in a row were in vain; at last: {outcome.detail}"
            told += self._begin(PauseReason.UNREACHABLE, detail, now)
        return told

    def _adapt(self, outcome: Outcome, took_s: float, now: float) -> list[Event]:
        before = self._limit.limit
        pressed = isinstance(outcome, Retry) and (
            outcome.reason in (RetryReason.THROTTLED, RetryReason.TIMEOUT) or outcome.status == 503
        )
        answered = isinstance(outcome, Sent | Failed)
        if _is_local(outcome) and self._in_flight:
            self._limit.bound(self._in_flight)  # the others have connections, and may go on with them
        else:
            self._limit.ended(now, took_s, pressed=pressed or _is_local(outcome), answered=answered)
        after = self._limit.limit
        return [] if after == before else [ConcurrencyChanged(destination=self._destination, limit=after)]

    def _answered(self, now: float) -> list[Event]:
        """What the destination was paused for is over."""
        was_away = self._pause is not None and self._pause.reason is PauseReason.UNREACHABLE
        told = self._end(now)
        self._troubles.clear()
        if was_away:
            before = self._limit.limit
            self._limit.restart()
            if self._limit.limit != before:
                told.append(ConcurrencyChanged(destination=self._destination, limit=self._limit.limit))
        return told

    def _begin(
        self,
        reason: PauseReason,
        detail: str,
        now: float,
        *,
        since: float | None = None,
        next_probe_at: float | None = None,
    ) -> list[Event]:
        row, every_s = (self._pause.row, self._pause.every_s) if self._pause else (None, PROBE_EVERY_S)
        told = self._end(now)
        if next_probe_at is None:
            next_probe_at = now + (LOCAL_EVERY_S if reason is PauseReason.LOCAL else every_s)
        self._pause = _Pause(
            reason=reason,
            since=now if since is None else since,
            detail=detail,
            next_probe_at=next_probe_at,
            row=row,
            every_s=every_s,
        )
        self.dirty = True
        told.append(PauseBegan(destination=self._destination, agent=None, reason=reason, detail=detail))
        return told

    def _end(self, now: float) -> list[Event]:
        pause, self._pause = self._pause, None
        if pause is None:
            return []
        self.dirty = True
        return [PauseEnded(destination=self._destination, agent=None, reason=pause.reason, lasted_s=now - pause.since)]

    def _end_agent(self, agent: str, now: float) -> list[Event]:
        pause = self._agents.pop(agent)
        self.dirty = True
        return [PauseEnded(destination=self._destination, agent=agent, reason=pause.reason, lasted_s=now - pause.since)]

    def _resting_agents(self, now: float) -> frozenset[str]:
        if not self._agents:
            return frozenset()
        return frozenset(agent for agent, pause in self._agents.items() if pause.probing or now < pause.next_probe_at)


def _is_local(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.reason is PauseReason.LOCAL


def _cause(outcome: Failed) -> str:
    """What is mostly wrong where every call is rejected. Which of the two Tuner looks at first is not known."""
    if outcome.status == 400:
        return (
            "400 mostly means that workspace_id or agent_remote_identifier is wrong: compare them with Tuner "
            "(tunerd check --online); if they are right, check the rules"
        )
    return "check the rules"
