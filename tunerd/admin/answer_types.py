"""What orders answer, in one file because /status.json, the control socket and every `--json` share these types as they are.

They are stable (docs/status-json.md): a field may be added; a change of meaning raises `version`. Instants are Unix seconds.
Nothing here reads or writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tunerd.ledger import StoredCall, StoredEvent, Story
from tunerd.ops.mask import redact, without_query
from tunerd.record import record
from tunerd.statuses import DestinationStatus, InstanceStatus, SourceStatus

VERSION: Final = 1


@record
class CallRow:
    row: int
    state: str
    source: str
    destination: str
    agent: str
    call_id: str | None
    path: str
    offset: int
    started_at: float | None
    admitted_at: float
    due_at: float | None
    attempts: int
    http_status: int | None
    reason: str | None
    where: str
    detail: str
    tuner_call_id: str | None
    recording_url: str | None
    """Without its query, where signed URLs carry their key."""
    dismissed: bool
    audio: str = "none"
    """none | pending | uploading | uploaded | failed: of audio that tunerd uploads."""


@record
class EventRow:
    at: float
    what: str
    http_status: int | None
    detail: str


@record
class OriginRow:
    path: str
    offset: int


@record
class StoryRow:
    call: CallRow
    origins: Sequence[OriginRow]
    events: Sequence[EventRow]
    waits_for: Sequence[str]
    audio: str = ""
    """Of audio that tunerd uploads: how it reaches Tuner, and how far that is."""


@record
class CallsPage:
    version: int = VERSION
    calls: Sequence[CallRow]
    next_after_row: int | None
    """Ask again with this for the next page; null: this was the last page."""


@record
class StoryPage:
    version: int = VERSION
    stories: Sequence[StoryRow]


@record
class CallProblem:
    """A call for which an order could not be carried out."""

    row: int
    call_id: str | None
    path: str
    offset: int
    reason: str
    what: str


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of an order over calls (retry, remap, dismiss, forget): of one page, or of all pages added up."""

    version: int = VERSION
    done: dict[str, int] = field(default_factory=dict)
    """State afterwards -> number of calls (`due`, `waiting`, ...); also `dismissed`, `forgotten`, `recording`."""
    failed: list[CallProblem] = field(default_factory=list)
    """Mapped again and still refused."""
    skipped: list[CallProblem] = field(default_factory=list)
    """Left as they were, each with the reason."""
    next_after_row: int | None = None

    def count(self, state: str, count: int = 1) -> None:
        if count:
            self.done[state] = self.done.get(state, 0) + count

    def fail(self, call: StoredCall, reason: str, what: str) -> None:
        self.failed.append(_problem(call, reason, what))

    def skip(self, call: StoredCall, reason: str, what: str) -> None:
        self.skipped.append(_problem(call, reason, what))

    def add(self, page: "Report") -> None:
        """Count the report of one page into this one."""
        for state, count in page.done.items():
            self.count(state, count)
        self.failed += page.failed
        self.skipped += page.skipped
        self.next_after_row = page.next_after_row


@record
class DocumentRow:
    """A stored document, whole: only for the user that tunerd runs as, never for a log or the status page."""

    row: int
    source: str
    path: str
    offset: int
    mtime_ns: int
    admitted_at: float
    document: str
    """The JSON text."""


@record
class DocumentsPage:
    version: int = VERSION
    documents: Sequence[DocumentRow]
    """Newest first."""
    without: int
    """Calls passed over because the ledger holds no document for them, or no longer does."""
    next_after_row: int | None


@record
class StateRow:
    count: int
    oldest_admitted_at: float | None
    oldest_age_s: float | None


@record
class StrandedRow:
    destination: str
    """Empty for a manifest source."""
    manifest: str
    """The manifest source that is not configured and whose recordings the calls need; else empty."""
    waiting: int
    due: int
    may_have_arrived: int
    """Of these: calls with an attempt that ended without an answer."""
    command: str
    """The command that maps them again with the current rules."""


@record
class DaemonRow:
    running: bool
    """False: no daemon runs; the command read the ledger itself."""
    version: str
    pid: int | None
    ledger: str
    """The path of the ledger's file, or the URL of its PostgreSQL database."""
    instance: str = ""
    """Its name among those that share the ledger."""
    started_at: float | None
    ready: bool
    stopping: bool


@record
class ConfigRow:
    file: str
    fingerprint: str = ""
    """Changes with the configuration that is in force, but not with its keys; empty: no daemon runs."""
    last_reload_successful: bool
    last_reload_at: float | None
    problems: Sequence[str]
    """Why the last reload was refused; the daemon keeps the previous configuration."""


@record
class LastHourRow:
    """Calls in each of the last sixty minutes, oldest first; the last minute is not over."""

    began_at: float
    admitted: Sequence[int]
    sent: Sequence[int]
    failed: Sequence[int]


@record
class StatusDocument:
    version: int = VERSION
    generated_at: float
    daemon: DaemonRow
    config: ConfigRow
    calls: dict[str, StateRow]
    audio: dict[str, int] = field(default_factory=dict)
    """Of audio that tunerd uploads: pending, uploading, uploaded, failed (until it is dismissed) -> calls."""
    pending_bytes: int
    waiting_bytes: int
    destinations: Sequence[DestinationStatus]
    sources: Sequence[SourceStatus]
    stranded: Sequence[StrandedRow]
    """Calls whose destination or manifest source is not configured."""
    last_failures: Sequence[CallRow]
    instances: Sequence[InstanceStatus] = ()
    """Those that share a ledger in PostgreSQL; empty where one process owns it."""
    last_hour: LastHourRow | None = None
    """None: no daemon runs."""


@record
class ConfigurationDocument:
    """The configuration that the daemon has loaded: only for the user that it runs as, never for a log or the status page."""

    version: int = VERSION
    file: str
    text: str
    """What the file contained when it was loaded."""
    environment: dict[str, str]
    """The variables that it refers to, without keys, as the daemon sees them."""


@record
class IdleDocument:
    version: int = VERSION
    left: dict[str, int]
    """Open state -> calls; `tunerd drain` waits for `due`, `sending` and `gathering`."""
    idle: bool
    """Nothing is due, being sent or being gathered, and every file seen has been read."""
    looked: int
    """The number of the last finished scan that POST /v1/look asked for: every directory was listed after that request."""


@record
class DestinationNames:
    """The names of the destinations that were paused or resumed."""

    version: int = VERSION
    destinations: Sequence[str]


@record
class ReloadResult:
    version: int = VERSION
    problems: Sequence[str]
    """What is wrong with the file (the daemon then keeps the previous configuration); empty: it was loaded."""


@record
class RescanStarted:
    version: int = VERSION
    look: int
    """The number of the scan: `looked` of /v1/idle reaches it when every directory has been listed."""


def call_row(call: StoredCall) -> CallRow:
    return CallRow(
        row=call.row,
        state=call.state.value,
        source=call.source,
        destination=call.destination,
        agent=call.agent,
        call_id=call.call_id,
        path=call.path,
        offset=call.offset,
        started_at=None if call.started_at_ms is None else call.started_at_ms / 1000,
        admitted_at=call.admitted_at,
        due_at=call.due_at,
        attempts=call.attempts,
        http_status=call.status,
        reason=call.reason,
        where=redact(call.where),
        detail=redact(call.detail),
        tuner_call_id=call.tuner_call_id,
        recording_url=None if call.recording_location is None else without_query(call.recording_location),
        dismissed=call.dismissed,
        audio=call.audio.value,
    )


def story_row(story: Story) -> StoryRow:
    return StoryRow(
        call=call_row(story.call),
        origins=[OriginRow(path=path, offset=offset) for path, offset in story.origins],
        events=[_event_row(event) for event in story.events],
        waits_for=[redact(line) for line in story.waits_for],
        audio=redact(story.audio),
    )


def _event_row(event: StoredEvent) -> EventRow:
    return EventRow(at=event.at, what=event.what, http_status=event.status, detail=redact(event.detail))


def _problem(call: StoredCall, reason: str, what: str) -> CallProblem:
    return CallProblem(row=call.row, call_id=call.call_id, path=call.path, offset=call.offset, reason=reason, what=what)
