"""The JSON that tunerd shows: /status.json, the control socket and every `--json` share these shapes.

Stable (docs/status-json.md): fields may be added, a change of meaning raises `version`. Instants are Unix seconds.
Shapes only, and the two functions that make rows of them out of ledger values; nothing here reads or writes.
"""

from typing import Final, TypedDict

from tunerd.ledger import StoredCall, StoredEvent, Story
from tunerd.ops.redact import redact, without_query

VERSION: Final = 1


class CallRow(TypedDict):
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
    """Without its query: that is where signed URLs carry their key."""
    dismissed: bool


class EventRow(TypedDict):
    at: float
    what: str
    http_status: int | None
    detail: str


class OriginRow(TypedDict):
    path: str
    offset: int


class StoryRow(TypedDict):
    call: CallRow
    origins: list[OriginRow]
    events: list[EventRow]
    waits_for: list[str]


class CallsPage(TypedDict):
    version: int
    calls: list[CallRow]
    next_after_row: int | None
    """Ask again with this for the next page; null: that was the last."""


class StoryPage(TypedDict):
    version: int
    stories: list[StoryRow]


class Trouble(TypedDict):
    """One call that an order could not be carried out for."""

    row: int
    call_id: str | None
    path: str
    offset: int
    reason: str
    what: str


class Report(TypedDict):
    """What an order (retry, remap, dismiss, forget) came to, one page of it."""

    version: int
    done: dict[str, int]
    """State after -> how many (`due`, `waiting`, ...); `dismissed`, `forgotten`, `recording` likewise."""
    failed: list[Trouble]
    """Mapped again and still refused."""
    skipped: list[Trouble]
    """Not touched, and why."""
    next_after_row: int | None


class DocumentRow(TypedDict):
    """A stored document, whole: only for the user that tunerd runs as, never for a log or the status page."""

    row: int
    source: str
    path: str
    offset: int
    mtime_ns: int
    admitted_at: float
    document: str
    """The JSON text."""


class DocumentsPage(TypedDict):
    version: int
    documents: list[DocumentRow]
    """Newest first."""
    without: int
    """Calls passed over because the ledger keeps no document of them (any more)."""
    next_after_row: int | None


class StateRow(TypedDict):
    count: int
    oldest_admitted_at: float | None
    oldest_age_s: float | None


class PauseRow(TypedDict):
    reason: str
    since: float | None
    detail: str
    next_probe_at: float | None


class AgentRow(TypedDict):
    agent: str
    reason: str
    since: float | None


class DestinationRow(TypedDict):
    name: str
    pause: PauseRow | None
    closed_until: float | None
    """The server's Retry-After; null: open."""
    agents: list[AgentRow]
    in_flight: int
    limit: int | None
    form: str | None
    """The request form; null: no key to tell it by, or no daemon."""
    dry_run: bool


class StrandedRow(TypedDict):
    destination: str
    """Empty for a manifest source."""
    manifest: str
    """The manifest source that is not configured, and whose recordings are looked for; else empty."""
    waiting: int
    due: int
    may_have_arrived: int
    """Of these: an attempt ended without an answer."""
    command: str
    """What maps them again, with today's rules."""


class UnreadableRow(TypedDict):
    path: str
    why: str


class SourceRow(TypedDict):
    name: str
    path: str
    paused: str | None
    """Why it is not (fully) read; null: it is."""
    files: int
    settling: int
    watching: bool
    last_scan_at: float | None
    late_parts: int
    """Documents that came after the call that they are part of was sent; since the start."""
    only_ignored: int
    """So many documents in a row were left out by `when:`, and none became a call or a recording yet; 0: not worth telling."""
    rows_dropped: dict[str, int]
    """Why (unknown_role, no_role, not_speech) -> how many rows of transcripts were left out since the start."""
    unknown_roles: list[str]
    """Roles that no table of the rules names, since the start."""
    also_read_by: str | None
    """Another tunerd with a ledger of its own that reads the same directory; null: none is known."""
    unreadable: int
    """Files, and directories below the source's, that cannot be read: they are tried again until they can."""
    unreadable_example: UnreadableRow | None
    """One of them."""


class DaemonRow(TypedDict):
    running: bool
    """False: there is no daemon, the command read the ledger itself."""
    version: str
    pid: int | None
    ledger: str
    """The path of the ledger's file."""
    started_at: float | None
    ready: bool
    stopping: bool


class ConfigRow(TypedDict):
    file: str
    last_reload_successful: bool
    last_reload_at: float | None
    problems: list[str]
    """Why the last reload was refused; the daemon keeps the configuration before it."""


class StatusDocument(TypedDict):
    version: int
    generated_at: float
    daemon: DaemonRow
    config: ConfigRow
    calls: dict[str, StateRow]
    pending_bytes: int
    waiting_bytes: int
    destinations: list[DestinationRow]
    sources: list[SourceRow]
    stranded: list[StrandedRow]
    """Calls that nothing in the configuration goes on with."""
    last_failures: list[CallRow]


class ConfigurationDocument(TypedDict):
    """What the daemon runs with: only for the user that it runs as, never for a log or the status page."""

    version: int
    file: str
    text: str
    """What the file held when it was loaded."""
    environment: dict[str, str]
    """The variables that it means, keys left out, as the daemon has them."""


class IdleDocument(TypedDict):
    version: int
    left: dict[str, int]
    """Open state -> calls; what `tunerd drain` waits for is `due`, `sending` and `gathering`."""
    idle: bool
    """Nothing is due, being sent or being gathered, and every file seen has been read."""
    looked: int
    """Number of the last look (POST /v1/look) that is done: every directory was listed after it was asked for."""


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
        recording_url=None if call.recording_url is None else without_query(call.recording_url),
        dismissed=call.dismissed,
    )


def _event_row(event: StoredEvent) -> EventRow:
    return EventRow(at=event.at, what=event.what, http_status=event.status, detail=redact(event.detail))


def story_row(story: Story) -> StoryRow:
    return StoryRow(
        call=call_row(story.call),
        origins=[OriginRow(path=path, offset=offset) for path, offset in story.origins],
        events=[_event_row(event) for event in story.events],
        waits_for=[redact(line) for line in story.waits_for],
    )


def new_report() -> Report:
    return Report(version=VERSION, done={}, failed=[], skipped=[], next_after_row=None)


def add_report(total: Report, page: Report) -> None:
    """Count one page of an order into the whole."""
    for state, count in page["done"].items():
        total["done"][state] = total["done"].get(state, 0) + count
    total["failed"] += page["failed"]
    total["skipped"] += page["skipped"]
    total["next_after_row"] = page["next_after_row"]
