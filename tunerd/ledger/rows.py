"""The records that a ledger keeps: one row a call, its body apart, recordings, what calls look for. Pure; sql/ stores them.

The fields of a record are the columns of its table (sql/columns.py). What a column means is said here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from tunerd.call import AudioPlan, AudioState, Choice, Fail, Form, OnMissing, State, Strategy
from tunerd.ledger import StoredCall, StoredEvent
from tunerd.ledger.decision import Absence
from tunerd.ledger.matching import Seeker, Standing
from tunerd.record import record

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


@dataclass(slots=True)
class LedgerRow:
    """A call as the ledger keeps it: small, without its document. Only the store changes one. (Its fields may be given by
    position, which is how it is read: by keyword that takes six times as long.)"""

    kind: RowKind
    state: State
    source: str
    path: str
    """`path`, `offset`, `mtime_ns`: the place of the document that counts now."""
    admitted_at: float
    changed_at: float
    """When it came into its state: retention counts from here."""
    row: int = 0
    destination: str = ""
    workspace: str = ""
    agent: str = ""
    call_id: str | None = None
    offset: int = 0
    mtime_ns: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    settled_at: float = 0.0
    due_at: float | None = None
    """due: when it may be claimed. waiting: when time alone may decide it. Otherwise None."""
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
    """Of a failed row: the place in the document, or what else failed."""
    detail: str = ""
    tuner_call_id: str | None = None
    recording_location: str | None = None
    recording_expires_at: float | None = None
    joined: int | None = None
    """Position of the strategy by whose recording it is matched."""
    form: Form | None = None
    """Set together with the frozen body."""
    patch: bytes | None = None
    """The frozen body as a delta of the payload (body_delta.py). None while `form` is set: the body is kept whole."""
    frozen_by_claim: bool = False
    """The claim that holds the call froze its body: releasing it thaws the body again."""
    size: int = 0
    """Bytes of document and payload, and of fragments that are in neither."""
    gathers: bool = False
    """It is made of fragments (table gathering has its key)."""
    fragments_size: int = 0
    """Bytes of fragments that are not in its document."""
    dismissed: bool = False
    seeks: bool = False
    """It has wants (manifest strategies)."""
    copies: bool = False
    """Its document was read at further places, too (table origin)."""
    audio: AudioState = AudioState.NONE
    """The life of its audio, if tunerd uploads it; table audio has the details. While it is `pending`, only who has a free
    slot for an upload may claim the call."""
    event_count: int = -1
    """Events noted so far (-1: not known). This alone is no column."""

    @property
    def version(self) -> tuple[int, int]:
        """Orders two documents of one call."""
        return (self.mtime_ns, self.offset)

    @property
    def read_from(self) -> str:
        """Where the document that counts was read: path, or path@offset."""
        return f"{self.path}@{self.offset}" if self.offset else self.path

    def story(self, noted: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """What happened to it, oldest first. Its admission and its delivery are known from the row itself: the two events that
        every call has are never written twice."""
        events = list(noted)
        if self.kind is not RowKind.REFUSED:
            events.insert(0, StoredEvent(at=self.admitted_at, what="admitted", status=None, detail=""))
        if self.state is State.SENT:
            said = "" if self.audio is AudioState.FAILED else self.detail
            said = said or (f"Tuner's id {self.tuner_call_id}" if self.tuner_call_id else "")
            detail = f"attempt {self.attempts}" + (f": {said}" if said else "")
            events.append(StoredEvent(at=self.changed_at, what="sent", status=self.status, detail=detail))
        return sorted(events, key=lambda event: event.at)[-EVENTS_KEPT:]  # parts of it may have come after it was sent

    def shown(self) -> StoredCall:
        return StoredCall(where=self.place, **{name: getattr(self, name) for name in _SHOWN})


_SHOWN: Final = tuple(one.name for one in fields(StoredCall) if one.name != "where")


@record
class Body:
    """What a row is made of, kept apart from it."""

    document: bytes | None = None
    payload: bytes | None = None
    """None: there is nothing to send (a refused document)."""
    head: bytes = b""
    strategies: tuple[Strategy, ...] = ()
    on_missing: OnMissing = Fail()
    audio: AudioPlan | None = None
    verify_s: float | None = None
    checked_for: Form | None = None

    @property
    def size(self) -> int:
        return len(self.document or b"") + len(self.payload or b"")


@record
class KeptGroup:
    """The key of a row that gathers, and when to look at it."""

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


@record
class Want:
    """A manifest strategy of a call: what the ledger looks for."""

    call: int
    position: int
    source: str
    key: str
    started_at_ms: int
    ended_at_ms: int | None
    within_ms: int | None
    near_ms: int
    answered_at: float | None = None
    """Since when it is certain that there is no recording (or that its URL expired)."""
    expired: bool = False
    seeking: bool = True
    """The call looks for recordings now."""
    look_at: float | None = None
    """When it may take a recording that is not near."""
    choice: Choice = Choice.NEAREST
    note: str = ""
    """Of a file that is looked for: what was seen last, and why it is no recording yet."""
    stem: str = ""
    """Of a file's name with `*` and the like: the text before these (file_pattern.py)."""
    standing: Standing = Standing.OPEN
    """Of its call, with this key. This alone is no column: it follows from the others and from the recordings."""

    @property
    def absence(self) -> Absence | None:
        return None if self.answered_at is None else Absence(at=self.answered_at, expired=self.expired)

    @property
    def seeker(self) -> Seeker:
        return Seeker(
            call=self.call,
            started_at_ms=self.started_at_ms,
            within_ms=self.within_ms,
            near_ms=self.near_ms,
            ended_at_ms=self.ended_at_ms,
            standing=self.standing,
            choice=self.choice,
        )


@record
class KeptRecording:
    """A recording that a manifest described."""

    row: int = 0
    source: str
    key: str
    """Empty where the manifest gives none: then `match` tells it from others."""
    match: str = ""
    """Values that its call has, too, as one text; wants of Choice.ONLY have it as their key."""
    id: str = ""
    location: str | None
    started_at_ms: int | None
    expires_at: float | None
    duration_s: float | None = None
    path: str
    offset: int
    mtime_ns: int
    admitted_at: float
    """When a manifest described it last: retention counts from here."""
    known_at: float
    """Since when a recording with this key and start is known."""
    taken_by: int | None = None
    """The call that has it."""
    identity: str = ""
    """Of a file that tunerd itself found (call.py: Recording)."""

    @property
    def version(self) -> tuple[int, int]:
        """Orders two descriptions of one recording."""
        return (self.mtime_ns, self.offset)


@record
class KeptAudio:
    """The audio of a call that tunerd uploads. Its state is in the call's row."""

    row: int
    """Of the call."""
    location: str
    plan: str
    """JSON of the call's AudioPlan (sql/bodies.py), which is kept longer than the call's body."""
    identity: str = ""
    """What tells it from other audio at the same place; empty until it was looked at."""
    extension: str = ""
    channels: int = 1
    size: int = 0
    """In bytes, as it was looked at."""
    looked_from: float
    """Since when it is looked for."""
    reason: str | None = None
    detail: str = ""
    """What is wrong, or what came of the last attempt to upload it."""
    target: bytes | None = field(default=None, repr=False)
    """Where Tuner wants it: the JSON of `recording_upload`. A secret, and only there while it is uploaded."""
    expires_at: float | None = None
    """Of the target."""
    max_bytes: int | None = None
    """What the storage takes, as the target says."""
    attempts: int = 0
    leftover: bool = False
    """It is uploaded, and `after_upload` is still to be carried out."""
    by_hand: bool = False
    """A person said that it belongs to the call: then it may be audio that another call names, too."""


@record
class KeptUrlCheck:
    """A URL that is only sent once its host has given a byte of it (`verify: get`)."""

    call: int
    location: str
    host: str
    due_at: float | None
    """When to ask next; None: it is there."""
    since: float | None = None
    asked_at: float | None = None
    """`since`, `asked_at`: when the first answer for it came, and the last one."""
    answered: bool = False
    """It was asked for, or its host is known not to answer."""
    detail: str = ""
    """Why it is not there yet."""

    def absent_at(self, wait_s: float) -> float | None:
        """When it counts as absent; None: it does not. The time alone says nothing: an answer says so that came after it."""
        at = None if self.since is None else self.since + wait_s
        return None if at is None or self.due_at is None or (self.asked_at or 0.0) < at else at
