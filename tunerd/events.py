"""The facts that are worth reporting, one frozen type for each, in one file because the log and the metrics match over them.

The conductors emit each fact once; ops/event_logger.py and ops/metrics.py listen.
No event carries a transcript, a key, a request body or a URL's query.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

from tunerd.audio_events import (
    AudioFailed,
    AudioNotDisposed,
    AudioRetried,
    AudioUploaded,
    DirectoryAnswers,
    DirectoryHangs,
    UrlChecked,
)
from tunerd.call import MappingNotes, State
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason
from tunerd.record import record


@record
class Started:
    version: str
    sources: int
    destinations: int
    ledger: str


@record
class Stopping:
    signal: str
    drain_s: float


@record
class Stopped:
    left: Mapping[State, int]
    """Calls still open in the ledger, by state; the next start continues with them."""
    was_to_empty: bool = False
    """With `on_stop: empty`: the ledger may end with its pod."""


@record
class DocumentsRead:
    source: str
    count: int


@record
class DocumentIgnored:
    source: str
    known: bool = False
    """`not_call:` was true; else only `when:` was false."""


@record
class OnlyIgnored:
    """A source that never gave a call or a recording, and how many documents it ignored in a row. 0: it gave one now."""

    source: str
    count: int


@record
class RoleUnknown:
    """Rows of a transcript have a role that no table of the rules names. Told once for each role of a source."""

    source: str
    role: str
    dropped: bool
    """False: their call was refused, or they were taken for the agent's (`unknown_roles:`)."""


@record
class FileIgnored:
    """A name that matches but is not a regular file of the directory (FIFO, device, escaping symlink, too old)."""

    source: str
    path: str
    why: str


@record
class LinesIgnored:
    """Lines of a log that are no JSON were left out (`not_json: ignore`)."""

    source: str
    path: str
    count: int
    is_first: bool
    """Of this file, since the start."""


@record
class LogLeft:
    """A log is no longer read, and something of it may be unread."""

    source: str
    path: str
    """Where it was last in the directory."""
    offset: int
    """It was read up to here."""
    why: str


@record
class DocumentMapped:
    """Told for each mapped document, for the coverage metrics of its source."""

    source: str
    notes: MappingNotes


@record
class CallAdmitted:
    source: str
    call_id: str
    state: State


@record
class CallDuplicate:
    source: str
    call_id: str
    replaced: bool
    """The newer document took the place of the one that had surely not arrived."""


@record
class PartsLate:
    """Documents of gathered calls that were sent before these came: Tuner keeps what it has."""

    source: str
    count: int
    path: str
    """Of the first of them."""


@record
class RecordingAdmitted:
    source: str


@record
class RecordingMatched:
    source: str
    """Source of the call."""
    call_id: str
    waited_s: float


@record
class CallFailed:
    source: str
    reason: FailReason
    call_id: str | None
    path: str
    """Where its document was read: path, or path@offset."""
    where: str
    what: str
    status: int | None = None


@record
class ReadByAnother:
    """Another tunerd, with a ledger of its own, reads the same directory."""

    source: str
    path: str
    who: str


@record
class CallsFollowed:
    """Calls of a destination that is no longer configured go to the one that has taken its place."""

    old: str
    new: str
    count: int


@record
class CallsStranded:
    """Calls of a destination that is not configured, or that look for recordings of a source that is not."""

    destination: str
    manifest: str
    """The source; then `destination` is empty."""
    waiting: int
    due: int


@record
class AttemptEnded:
    """After each HTTP attempt, whatever came of it."""

    destination: str
    outcome: str
    """sent | retry | failed | refused | unconfirmed"""
    took_s: float
    status: int | None = None
    """Of the HTTP answer; None: there was none."""


@record
class CallSent:
    source: str
    call_id: str
    tuner_call_id: str | None
    already_there: bool
    delivery_s: float
    """From file settled to accepted."""
    attempts: int
    lag_s: float | None = None
    """From the end of the call to accepted; None: its document does not say when it ended."""


@record
class AlreadyThereStreak:
    """Ten first attempts in a row were answered 409: the call_id rule may give one id to many calls."""

    source: str
    count: int


@record
class CallRetried:
    source: str
    call_id: str
    reason: RetryReason
    status: int | None
    due_in_s: float
    attempts: int
    detail: str


@record
class Unanswered:
    """`run --once`: the first attempt at a destination got no HTTP answer, nor has any other until now."""

    destination: str
    base_url: str
    detail: str


@record
class PauseBegan:
    destination: str
    agent: str | None
    """None: the whole destination."""
    reason: PauseReason
    detail: str


@record
class PauseEnded:
    destination: str
    agent: str | None
    reason: PauseReason
    lasted_s: float


@record
class BucketPaused:
    """The URLs of its recordings cannot be signed, for a reason that all its objects have in common."""

    bucket: str
    """`s3://name`"""
    what: str


@record
class BucketResumed:
    bucket: str
    lasted_s: float


@record
class ConcurrencyChanged:
    destination: str
    limit: int


@record
class IntakePaused:
    source: str
    reason: IntakeReason
    detail: str


@record
class IntakeResumed:
    source: str
    reason: IntakeReason


@record
class ReaderChanged:
    """Which instance of a fleet reads a shared source now, as far as this one knows. `reader` is empty for this one."""

    source: str
    reader: str


@record
class WatchDegraded:
    """Kernel events are not (all) to be had for this source; scans find the files, later."""

    source: str
    detail: str


@record
class FileDisposed:
    """after_sent was carried out."""

    source: str
    path: str
    how: str
    """deleted | moved | failed: ..."""


@record
class ConfigReloaded:
    sources: int


@record
class ConfigRefused:
    problems: tuple[str, ...]


@record
class KeyChanged:
    destination: str


@record
class LedgerTrouble:
    """The ledger could not commit; reading is paused until one commit succeeds."""

    detail: str


@record
class InstanceNameShared:
    """Two hosts have the same `instance:`, and end each other's tunerd again and again. `host`: the other one."""

    name: str
    host: str


@record
class LedgerHealed:
    lasted_s: float


@record
class LedgerRebuilt:
    """The ledger file was damaged: it was set aside and what could be read was taken over."""

    kept_as: str
    salvaged: int
    """Rows of calls that could be read."""
    documents_lost: int = 0
    """Of those: open calls whose document could not be read. They are failed(document_lost)."""
    unread: int = 0
    """Calls of which only traces could be read (a document, an event), and not the row: at least this many are lost."""
    is_readable: bool = True
    """False: nothing at all could be read."""


@record
class LedgerRolledBack:
    """Changes that the last process had committed are no longer in the ledger: its write-ahead log is gone, cut or damaged,
    or an older copy is in the file's place. `commits`: how many are missing."""

    commits: int


class StuckKind(StrEnum):
    """What was left behind in nobody's hands."""

    CALL = "call"
    """It stood as `sending`, and no worker had it: it is due again, and may have arrived."""
    WORKER = "worker"
    """It waited for a settlement that nobody was going to write."""
    PERMIT = "permit"
    """It was counted as in flight, and nobody held it."""


@record
class Stuck:
    """The self-check of delivery found, at two looks a minute apart, what must not happen, and put it right."""

    what: StuckKind
    count: int


@record
class ClockJumped:
    seconds: float


Event: TypeAlias = (
    Started | Stopping | Stopped | DocumentsRead | DocumentIgnored | OnlyIgnored | RoleUnknown
    | FileIgnored | LinesIgnored | LogLeft | DocumentMapped | CallAdmitted
    | CallDuplicate | PartsLate | RecordingAdmitted | RecordingMatched | CallFailed | AttemptEnded | CallSent
    | AlreadyThereStreak | CallRetried | Unanswered | PauseBegan | PauseEnded | BucketPaused | BucketResumed
    | ConcurrencyChanged | IntakePaused | IntakeResumed
    | ReaderChanged | WatchDegraded | FileDisposed | ConfigReloaded | ConfigRefused | KeyChanged | LedgerTrouble | LedgerHealed
    | LedgerRebuilt | LedgerRolledBack | Stuck | ClockJumped | ReadByAnother | CallsFollowed | CallsStranded | AudioUploaded
    | AudioRetried | AudioFailed | AudioNotDisposed | UrlChecked | DirectoryHangs | DirectoryAnswers | InstanceNameShared
)  # fmt: skip

Emit: TypeAlias = Callable[[Event], None]
