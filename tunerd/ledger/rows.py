"""The shapes that a ledger keeps: one row a call, its body apart, recordings, wants. Pure; what keeps them is sql/store.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tunerd.call import Fail, Form, OnMissing, State, Strategy
from tunerd.ledger import Gate, Gauges, StoredCall, StoredEvent
from tunerd.ledger.matching import Absence, Candidate, Seeker, Standing, Tie, held_by, looks_for

EVENTS_KEPT: Final = 20
"""Of each call."""


class RowKind(StrEnum):
    """What a row is about."""

    CALL = "call"
    """Holds its call id: there is one for each workspace, agent and call id."""
    CONFLICT = "conflict"
    """Wanted a call id that another call holds."""
    REFUSED = "refused"
    """A document that became no call; known by its place."""
    IGNORED = "ignored"
    GROUP = "group"
    """Documents that are gathered and are no call (yet); its call id is their key."""


@dataclass(slots=True, kw_only=True)
class Row:
    """A call as the ledger keeps it: small, no document. Only the store changes one."""

    row: int = 0
    kind: RowKind
    state: State
    source: str
    destination: str = ""
    workspace: str = ""
    agent: str = ""
    call_id: str | None = None
    path: str
    """`path`, `offset`, `mtime_ns`: the place of the document that counts now."""
    offset: int = 0
    mtime_ns: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    admitted_at: float
    settled_at: float = 0.0
    changed_at: float
    """When it came into its state: what retention counts from."""
    due_at: float | None = None
    """due: when it may be claimed. waiting: when time alone may decide it. Else None."""
    waits_from: float = 0.0
    attempts: int = 0
    first_attempt_at: float | None = None
    claimed_at: float | None = None
    paused_before_s: float = 0.0
    """What the destination's pause clock showed at the first attempt."""
    may_have_arrived: bool = False
    """An attempt ended without telling whether Tuner took it: a newer document must not replace this one."""
    status: int | None = None
    reason: str | None = None
    place: str = ""
    detail: str = ""
    tuner_call_id: str | None = None
    recording_url: str | None = None
    recording_expires_at: float | None = None
    joined: int | None = None
    """Position of the strategy by whose recording it is matched."""
    form: Form | None = None
    """Set with the frozen body."""
    patch: bytes | None = None
    """The frozen body as a patch of the payload (body_delta.py); None with `form` set: it is kept whole."""
    frozen_by_claim: bool = False
    """The claim that stands froze the body: releasing it thaws it again."""
    size: int = 0
    """Bytes of document and payload, and of fragments that are in neither."""
    gathers: bool = False
    """It comes of fragments (table gathering has its key)."""
    fragments_size: int = 0
    """Bytes of fragments that are not in its document."""
    dismissed: bool = False
    seeks: bool = False
    """It has wants (manifest strategies)."""
    copies: bool = False
    """Its document stands at further places (table origin)."""
    told: int = 0
    """Events told so far (-1: not known); the last 20 are kept."""

    @property
    def version(self) -> tuple[int, int]:
        """Orders two documents of one call."""
        return (self.mtime_ns, self.offset)

    @property
    def read_from(self) -> str:
        """Where the document that counts was read: path, or path@offset."""
        return f"{self.path}@{self.offset}" if self.offset else self.path

    def story(self, told: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """What happened to it, oldest first. Coming and being sent stand in the row itself: the two that every call has
        are never written twice."""
        events = list(told)
        if self.kind is not RowKind.REFUSED:
            events.insert(0, StoredEvent(at=self.admitted_at, what="admitted", status=None, detail=""))
        if self.state is State.SENT:
            detail = f"attempt {self.attempts}" + (f": {said}" if (said := self.detail or self.tuner_call_id) else "")
            events.append(StoredEvent(at=self.changed_at, what="sent", status=self.status, detail=detail))
        return sorted(events, key=lambda event: event.at)[-EVENTS_KEPT:]  # parts of it may have come after it was sent

    def shown(self) -> StoredCall:
        return StoredCall(
            row=self.row,
            state=self.state,
            source=self.source,
            destination=self.destination,
            agent=self.agent,
            call_id=self.call_id,
            path=self.path,
            offset=self.offset,
            mtime_ns=self.mtime_ns,
            started_at_ms=self.started_at_ms,
            admitted_at=self.admitted_at,
            due_at=self.due_at,
            attempts=self.attempts,
            status=self.status,
            reason=self.reason,
            where=self.place,
            detail=self.detail,
            tuner_call_id=self.tuner_call_id,
            recording_url=self.recording_url,
            dismissed=self.dismissed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a row is made of, kept apart from it."""

    document: bytes | None = None
    payload: bytes | None = None
    """None: there is nothing to send (a refused document)."""
    head: bytes = b""
    strategies: tuple[Strategy, ...] = ()
    on_missing: OnMissing = Fail()
    checked_for: Form | None = None

    @property
    def size(self) -> int:
        return len(self.document or b"") + len(self.payload or b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGroup:
    """The key of a row that gathers, and when it wants a look."""

    row: int
    source: str
    key: str
    version: int
    look_at: float | None
    last_at: float
    """When its last document was admitted."""
    wait_s: float
    count: int
    """Documents so far."""

    @property
    def wait_ends_at(self) -> float:
        return self.last_at + self.wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A manifest strategy of a call, as the ledger looks it up."""

    call: int
    position: int
    source: str
    key: str
    started_at_ms: int
    within_ms: int | None
    near_ms: int
    ended_at_ms: int | None
    answer: Absence | None = None
    standing: Standing = Standing.OPEN
    """Of its call, with this key."""

    @property
    def seeker(self) -> Seeker:
        return Seeker(
            call=self.call,
            started_at_ms=self.started_at_ms,
            within_ms=self.within_ms,
            near_ms=self.near_ms,
            ended_at_ms=self.ended_at_ms,
            standing=self.standing,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRecording:
    row: int = 0
    source: str
    key: str
    id: str = ""
    url: str | None
    started_at_ms: int | None
    expires_at: float | None
    duration_s: float | None
    origin_source: str
    path: str
    offset: int
    mtime_ns: int
    admitted_at: float
    """When it was told last: what retention counts from."""
    known_at: float
    """Since when it is known that a recording with this key starts then."""
    taken_by: int | None = None

    @property
    def version(self) -> tuple[int, int]:
        """Orders two tellings of one recording."""
        return (self.mtime_ns, self.offset)


def waits_for(
    row: Row, body: Body | None, wants: Sequence[Want], offers: Mapping[int, Candidate | Tie] = MappingProxyType({})
) -> Sequence[str]:
    """What a call that is not sent looks for: one line a strategy, and one if only `on_missing: hold` keeps it waiting."""
    if body is None or row.state is State.SENT:
        return ()
    answers = {want.position: want.answer for want in wants}
    lines = [
        looks_for(
            strategy,
            answers.get(position),
            row.waits_from + getattr(strategy, "wait_s", 0.0),
            offers.get(position),
            row.started_at_ms or 0,
        )
        for position, strategy in enumerate(body.strategies)
    ]
    if row.state is State.WAITING and row.due_at is not None and not offers:
        held = held_by(body.strategies, body.on_missing, answers, waits_from=row.waits_from, due_at=row.due_at)
        lines += [held] if held is not None else []
    return lines


def shifted(gate: Gate, seconds: float) -> Gate:
    """The gate after a jump of the wall clock: it stays closed, and paused, for as long as before."""
    return replace(
        gate,
        closed_until=None if gate.closed_until is None else gate.closed_until + seconds,
        paused_since=None if gate.paused_since is None else gate.paused_since + seconds,
        agents={agent: (reason, since + seconds) for agent, (reason, since) in gate.agents.items()},
        next_probe_at=None if gate.next_probe_at is None else gate.next_probe_at + seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseClock:
    """Counts the seconds that a destination, and single agents of it besides, stood paused. Runs on the wall clock, so
    that a pause goes on while no process runs."""

    at: float = 0.0
    total_s: float = 0.0
    agents: Mapping[str, float] = field(default_factory=dict)
    """Seconds in which only the agent was paused."""

    def advance(self, gate: Gate, now: float) -> "PauseClock":
        """The clock at `now`, the gate having stood as given since the clock was last set."""
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
        """What `advance` would show, without making a new clock where none runs."""
        if gate.pause is None and not gate.agents:
            return self.shown(agent)
        return self.advance(gate, now).shown(agent)


_OPEN: Final = frozenset(state for state in State if state.is_open)


class Tally:
    """The gauges, kept by adding and taking away rows; never by counting."""

    def __init__(self) -> None:
        self.calls = dict.fromkeys(State, 0)
        self.pending_bytes = 0
        self.waiting_bytes = 0
        self.gathering_bytes = 0
        self.failed_bytes = 0
        self.unmapped_bytes = 0
        """Of failed documents that no rule could map, and that nobody has dismissed."""
        self.left_out_bytes = 0

    def copy(self) -> "Tally":
        other = Tally()
        other.calls = self.calls.copy()
        other.pending_bytes, other.waiting_bytes, other.failed_bytes = self.pending_bytes, self.waiting_bytes, self.failed_bytes
        other.gathering_bytes, other.left_out_bytes = self.gathering_bytes, self.left_out_bytes
        other.unmapped_bytes = self.unmapped_bytes
        return other

    def add(self, row: Row, sign: int = 1) -> None:
        """Count a row, or with sign -1 take it away again."""
        self.add_group(row.state, sign * row.size, row.dismissed, sign, is_call=row.kind is RowKind.CALL)

    def add_group(self, state: State, size: int, dismissed: bool, count: int, *, is_call: bool) -> None:
        if not (state is State.FAILED and dismissed):
            self.calls[state] += count
        if state in _OPEN:
            self.pending_bytes += size
            if state is State.WAITING:
                self.waiting_bytes += size
            elif state is State.GATHERING:
                self.gathering_bytes += size
        elif state is State.FAILED and (is_call or dismissed):
            self.failed_bytes += size
        elif state is State.FAILED:
            self.unmapped_bytes += size
        elif state is State.IGNORED:
            self.left_out_bytes += size

    def gauges(self, oldest_at: Mapping[State, float]) -> Gauges:
        return Gauges(
            calls=dict(self.calls),
            oldest_at=dict(oldest_at),
            pending_bytes=self.pending_bytes,
            waiting_bytes=self.waiting_bytes,
            gathering_bytes=self.gathering_bytes,
            unmapped_bytes=self.unmapped_bytes,
        )
