"""What commands, metrics and the status page see of a ledger. Values only; none of them holds a document or a payload."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from tunerd.call import AudioState, State
from tunerd.record import record


@record
class Gauges:
    """Kept up to date with each commit; no query counts them."""

    calls: Mapping[State, int]
    oldest_at: Mapping[State, float]
    """Admission time of the oldest call in each open state."""
    due_since: Mapping[str, float] = field(default_factory=dict)
    """Destination -> the earliest due time of its due calls; it may lie ahead. Destinations without a due call are left out."""
    pending_bytes: int
    """Documents and payloads of open calls."""
    waiting_bytes: int
    """Of that: calls that wait for their recording."""
    gathering_bytes: int = 0
    """Of that: documents of calls that are not complete."""
    audio: Mapping[AudioState, int] = field(default_factory=dict)
    """Calls whose audio tunerd uploads, by its state; failed audio that a person has dismissed is left out."""
    url_checks: int = 0
    """URLs of calls that wait until their host gives a byte of them (`verify: get`), or that have it."""
    unasked_urls: int = 0
    """Of these: those that nobody has asked for yet."""
    unmapped_bytes: int = 0
    """In addition: failed documents that no rule could map. They are kept whole until somebody acts, because the rules may be
    wrong and can be repaired; so they count towards `max_pending_bytes`."""


@record
class DiskUse:
    ledger_bytes: int
    """The ledger's file and its write-ahead log."""
    free_bytes: int
    """What this process may still write to the ledger's disk."""


@record
class StoredCall:
    """One row, as commands show it."""

    row: int
    state: State
    source: str
    destination: str
    agent: str
    call_id: str | None
    path: str
    offset: int
    mtime_ns: int
    """Modification time of the file that holds the document."""
    started_at_ms: int | None
    admitted_at: float
    due_at: float | None
    attempts: int
    status: int | None
    reason: str | None
    where: str
    detail: str
    tuner_call_id: str | None
    recording_location: str | None
    dismissed: bool = False
    audio: AudioState = AudioState.NONE
    """The life of its audio, if tunerd uploads it."""


@record
class StoredEvent:
    at: float
    what: str
    """admitted, matched, attempt, retried, sent, failed, replaced, ..."""
    status: int | None
    detail: str


@record
class Story:
    """All that is known of one row."""

    call: StoredCall
    origins: Sequence[tuple[str, int]]
    events: Sequence[StoredEvent]
    waits_for: Sequence[str]
    """One line a strategy: what it looks for, and what it found. One more if only `on_missing: hold` keeps the call waiting."""
    audio: str = ""
    """How its audio reaches Tuner and how far that is, if tunerd uploads it."""


@record
class Filter:
    """Which rows to list; an empty set does not filter. Calls whose audio failed are among the failed ones, also if sent."""

    states: frozenset[State] = frozenset()
    reasons: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()
    call_ids: frozenset[str] = frozenset()
    since: float | None = None
    """Admitted at or after."""
    dismissed: bool | None = False
    """None: both."""


@record
class Stranded:
    """Open calls that the configuration no longer serves: calls of one destination, or calls that look for recordings of one
    manifest source."""

    destination: str = ""
    workspace: str = ""
    """base_url/workspace of the destination."""
    manifest: str = ""
    """The manifest source; then `destination` is empty."""
    waiting: int = 0
    due: int = 0
    sending: int = 0
    """Still open from before a reload."""
    may_have_arrived: int = 0
    has_accepted: bool = False
    """The destination's base_url has accepted a call."""
