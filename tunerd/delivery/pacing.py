"""Pacing of a destination: whether a call may start now, and what an attempt's end means for the others. Pure.

A state machine with the time passed in: permits, rate limit, the adaptive limit, and which of the due calls the next claim
takes. The pauses themselves are in pauses.py; what becomes of the call itself is retry.py's.
"""

from collections import deque
from typing import Final

from tunerd.delivery.adaptive import AdaptiveLimit
from tunerd.delivery.pauses import LOCAL_EVERY_S, PROBE_EVERY_S, DeliveryPauses, Pause
from tunerd.delivery.permits import Blocked, Permission, Permit
from tunerd.delivery.single_call_faults import SingleCallFaults
from tunerd.delivery.token_bucket import MakeBucket, TokenBucket
from tunerd.events import ConcurrencyChanged, Event
from tunerd.ledger import Pick
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Sent, Unconfirmed

SAME_CALL_LONGEST_S: Final = 600.0
"""Probes with the one call that may have arrived already become rarer, up to this: each may make a copy of it."""
REJECTIONS: Final = 10
TROUBLES: Final = 10
TROUBLED_CALLS: Final = 3
TROUBLE_WITHIN_S: Final = 60.0

_PICKS: Final = (Pick.NEWEST, Pick.OLDEST, Pick.EXPIRING, Pick.OLDEST)
_OLD_PROBE_EACH: Final = 4
"""One probe in this many takes the oldest call, so that newest calls which are all rejected do not keep the pause up."""


class Pacing:
    """Of one destination. Methods that change something take `now` (Unix seconds) and give the events to emit."""

    def __init__(self, destination: str, *, concurrency: int, rate_limit: float | None,
                 make_bucket: MakeBucket = TokenBucket) -> None:  # fmt: skip
        self._destination = destination
        self.pauses = DeliveryPauses(destination)
        self._limit = AdaptiveLimit(concurrency)
        self._make_bucket = make_bucket
        self.bucket = make_bucket(rate_limit)
        self.cap: int | None = None
        """`fleet_concurrency`: at most so many attempts at a time, whatever the adaptive limit is. None: no cap."""
        self.in_flight = 0
        self._turn = 0
        self._rejected: set[int] = set()
        self._rejected_status: int | None = None
        self._troubles: deque[tuple[float, int]] = deque(maxlen=TROUBLES)
        self.last_accepted_at: float | None = None
        self._single_call_faults = SingleCallFaults()

    # What others may see.

    @property
    def limit(self) -> int:
        return self._limit.limit

    @property
    def has_room(self) -> bool:
        """Whether one more call could start, as far as pauses and the limit go."""
        return self.pauses.own is None and not self._is_full()

    def _is_full(self) -> bool:
        return self.in_flight >= self._limit.limit or (self.cap is not None and self.in_flight >= self.cap)

    # A call's way: acquire -> (taken | unused) -> ended.

    def acquire(self, now: float) -> Permission:
        """A permit for one attempt, or how long there is none."""
        pause = self.pauses.own
        if not self.pauses.has_key or (pause and pause.reason is PauseReason.OPERATOR):
            return Blocked()
        if self.pauses.closed_until is not None:
            if now < self.pauses.closed_until:
                return Blocked(until=self.pauses.closed_until)
            self.pauses.closed_until = None
        if pause:
            if pause.probing or self._is_full():
                return Blocked()
            if now < pause.next_probe_at:
                return Blocked(until=pause.next_probe_at)
            pause.probing = True
            pause.probes += 1
            pick = Pick.OLDEST if pause.probes % _OLD_PROBE_EACH == 0 else Pick.NEWEST
        else:
            if self._is_full():
                return Blocked()
            if (until := self.bucket.take(now)) is not None:
                return Blocked(until=until)
            pick = _PICKS[self._turn % len(_PICKS)]
            self._turn += 1
        self.in_flight += 1
        self._limit.started(self.in_flight)
        return Permit(
            pick=pick, probe=pause is not None, not_agents=self.pauses.resting_agents(now), row=pause.row if pause else None
        )

    def reserve(self, count: int, now: float) -> list[Permit]:
        """At most `count` permits for calls that are not there yet; none while anything is paused or closed. Each is used, or
        given back by `unused`."""
        permits: list[Permit] = []
        while len(permits) < count and self.pauses.own is None and not self.pauses.agents and not self._is_full():
            turn = self._turn
            permission = self.acquire(now)
            self._turn = turn  # these take no call of the backlog
            if isinstance(permission, Blocked):
                break
            permits.append(permission)
        return permits

    def unused(self, permit: Permit, now: float) -> None:
        """The permit was not needed: there was no call. The next one that comes is the probe, at once."""
        self.in_flight -= 1
        if permit.probe and self.pauses.own:
            self.pauses.own.probing = False
            self.pauses.own.probes -= 1
        elif not permit.probe:
            self.bucket.give_back()

    def untouched(self, permit: Permit, agent: str, now: float) -> None:
        """As `unused`, of a permit for which a call of this agent was taken already."""
        self.unused(permit, now)
        self.pauses.agent_probe_ended(agent)

    def forget_permits(self, count: int) -> None:
        """`count` permits are counted, but no worker holds them. A probe may have been one of them."""
        self.in_flight -= count
        if count and self.pauses.own and not self.in_flight:
            self.pauses.own.probing = False

    def attribute(self, row: int, outcome: Outcome, now: float) -> Outcome:
        """The same outcome; or, where it is about this call and not about the destination, a retry of the call alone."""
        return self._single_call_faults.attribute(row, outcome, now)

    def ended(self, permit: Permit, *, row: int, agent: str, outcome: Outcome, took_s: float, now: float) -> list[Event]:
        """An attempt ended: the permit is back, and pauses, Retry-After and limit follow from the outcome."""
        self.in_flight -= 1
        probed = self.pauses.own if permit.probe else None
        is_local = _is_local(outcome)
        next_probe_at = now + (LOCAL_EVERY_S if is_local else PROBE_EVERY_S)
        if probed:
            probed.probing = False
            probed.next_probe_at = next_probe_at
            if probed.row is not None and not is_local:
                probed.every_s = min(SAME_CALL_LONGEST_S, probed.every_s * 2)
                probed.next_probe_at = now + probed.every_s
                self.pauses.dirty = True
        events = self._adapt(outcome, took_s, now, is_local=is_local)
        if probed and probed.reason is PauseReason.LOCAL and self.pauses.own is probed and not is_local:
            events += self.pauses.end(now)  # a connection could be made; what came of it is seen below
        match outcome:
            case Sent():
                self._single_call_faults.accepted(now - took_s)
                events += self._accept(agent, now, probed)
            case Unconfirmed():
                events += self._doubt(row, outcome, now)
            case Failed():
                events += self._reject(row, agent, outcome, now, probed)
            case Refused():
                events += self._refuse(agent, outcome, now)
            case Retry():
                events += self._trouble(row, outcome, now)
        self.pauses.agent_probe_ended(agent, next_probe_at)
        return events

    def cancelled(self, permit: Permit, agent: str) -> None:
        """The attempt was broken off by a stop; it says nothing about the destination."""
        self.in_flight -= 1
        if permit.probe and self.pauses.own:
            self.pauses.own.probing = False
        self.pauses.agent_probe_ended(agent)

    def resize(self, *, concurrency: int, rate_limit: float | None) -> None:
        self._limit.resize(concurrency)
        if rate_limit != self.bucket.rate:
            self.bucket = self._make_bucket(rate_limit)

    def shift(self, seconds: float) -> None:
        """The wall clock jumped: what was due in five minutes still is."""
        self.pauses.shift(seconds)
        self._single_call_faults.shift(seconds)
        if self.last_accepted_at is not None:
            self.last_accepted_at += seconds
        self._troubles = deque(((at + seconds, row) for at, row in self._troubles), maxlen=TROUBLES)
        self.bucket.shift(seconds)

    # How outcomes move the state.

    def _accept(self, agent: str, now: float, probed: Pause | None) -> list[Event]:
        self.last_accepted_at = now
        self._rejected.clear()
        self._troubles.clear()
        events: list[Event] = []
        if self.pauses.own and (probed or self.pauses.own.reason in (PauseReason.UNREACHABLE, PauseReason.REJECTING)):
            events += self._answered(now)
        events += self.pauses.agent_answered(agent, now)
        return events

    def _reject(self, row: int, agent: str, outcome: Failed, now: float, probed: Pause | None) -> list[Event]:
        events: list[Event] = []
        if self.pauses.own and (self.pauses.own.reason is PauseReason.UNREACHABLE or (probed and not self.pauses.is_rejecting)):
            events += self._answered(now)
        events += self.pauses.agent_answered(agent, now)
        if outcome.reason is not FailReason.REJECTED or self.pauses.is_rejecting:
            return events
        if outcome.status != self._rejected_status:
            self._rejected.clear()
            self._rejected_status = outcome.status
        self._rejected.add(row)
        if len(self._rejected) >= REJECTIONS and self.pauses.own is None:
            detail = f"{REJECTIONS} different calls in a row were rejected; {_cause(outcome)}; at last: {outcome.detail}"
            events += self.pauses.begin(PauseReason.REJECTING, detail, now)
            self._rejected.clear()
        return events

    def _refuse(self, agent: str, outcome: Refused, now: float) -> list[Event]:
        if outcome.scope is Scope.DESTINATION:
            if self.pauses.own and outcome.reason is self.pauses.own.reason:
                self.pauses.own.untried = False
            if self.pauses.own and (self.pauses.own.reason in (PauseReason.OPERATOR, outcome.reason) or _is_local(outcome)):
                return []  # our own trouble says nothing about what Tuner was paused for
            if _is_local(outcome) and self.in_flight:
                return []  # there are fewer connections than were wanted, but there are some
            return self.pauses.begin(outcome.reason, outcome.detail, now)
        events: list[Event] = []
        if self.pauses.own and self.pauses.own.reason in (PauseReason.UNREACHABLE, PauseReason.ENDPOINT):
            events += self._answered(now)
        elif self.pauses.own and self.pauses.own.reason is PauseReason.AUTH and self.pauses.has_key:
            events += self._answered(now)  # the key itself is known again
        events += self.pauses.begin_agent(agent, outcome.reason, outcome.detail, now)
        return events

    def _doubt(self, row: int, outcome: Unconfirmed, now: float) -> list[Event]:
        """From now on this call is the only probe, unless another one is already."""
        pause = self.pauses.own
        if pause and pause.row is not None:
            return []
        if pause and (pause.reason is PauseReason.OPERATOR or not self.pauses.has_key):
            pause.row = row
            self.pauses.dirty = True
            return []
        detail = f"{outcome.detail}; only this call is tried again, in {PROBE_EVERY_S:.0f} s"
        events = self.pauses.begin(PauseReason.ENDPOINT, detail, now)
        if self.pauses.own:
            self.pauses.own.row = row
        return events

    def _trouble(self, row: int, outcome: Retry, now: float) -> list[Event]:
        events: list[Event] = []
        if outcome.retry_after_s is not None:
            self.pauses.close_until(now + outcome.retry_after_s)
        if outcome.reason is RetryReason.THROTTLED:
            if self.pauses.own and self.pauses.own.reason is PauseReason.UNREACHABLE:
                events += self._answered(now)
            return events
        self._troubles.append((now, row))
        full = len(self._troubles) == TROUBLES and now - self._troubles[0][0] <= TROUBLE_WITHIN_S
        if full and self.pauses.own is None and len({row for _, row in self._troubles}) >= TROUBLED_CALLS:
            detail = f"{TROUBLES} attempts in a row were in vain; at last: {outcome.detail}"
            events += self.pauses.begin(PauseReason.UNREACHABLE, detail, now)
        return events

    def _adapt(self, outcome: Outcome, took_s: float, now: float, *, is_local: bool) -> list[Event]:
        before = self._limit.limit
        pressed = isinstance(outcome, Retry) and (
            outcome.reason in (RetryReason.THROTTLED, RetryReason.TIMEOUT) or outcome.status == 503
        )
        answered = isinstance(outcome, Sent | Failed)
        if is_local and self.in_flight:
            self._limit.bound(self.in_flight)  # the others have connections, and may continue with them
        else:
            self._limit.ended(now, took_s, pressed=pressed or is_local, answered=answered)
        after = self._limit.limit
        return [] if after == before else [ConcurrencyChanged(destination=self._destination, limit=after)]

    def _answered(self, now: float) -> list[Event]:
        """What the destination was paused for is over."""
        was_away = self.pauses.own is not None and self.pauses.own.reason is PauseReason.UNREACHABLE
        events = self.pauses.end(now)
        self._troubles.clear()
        if was_away:
            before = self._limit.limit
            self._limit.restart()
            if self._limit.limit != before:
                events.append(ConcurrencyChanged(destination=self._destination, limit=self._limit.limit))
        return events


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
