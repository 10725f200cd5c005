"""The ledger: the durable record of every call, and the only waiting room. What every ledger promises stands here.

The protocols are small, one for each kind of consumer: WritePath (the two conductors), Positions (intake), Inspection
(commands, metrics, status page), Desk (what an operator changes), Upkeep (timers and retention). Nothing in here knows
SQL; sqlite/ implements it (on `:memory:` for tests, testing.py), and the contract suite runs on both.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from tunerd.call import Call, Cut, CutBy, Form, Fragment, IgnoredDocument, KeyStyle, Recording, Refusal, RefusedDocument, State
from tunerd.outcome import FailReason, PauseReason, RetryReason


class LedgerUnavailable(Exception):
    """The ledger cannot be written now (disk full, read-only, I/O error). Nothing of the call was changed; it is
    right to wait and try the same again."""


class LedgerRefused(Exception):
    """The ledger cannot be opened at all: locked by another process, newer schema, network file system, no
    permission. The message is one line for an operator; `locked`: another process holds it (exit code 75)."""

    def __init__(self, message: str, *, locked: bool = False) -> None:
        super().__init__(message)
        self.locked = locked


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMark:
    """How far a file has been read, and how to know it again."""

    source: str
    path: str
    device: int
    inode: int
    size: int
    """Size on disk when it was read."""
    mtime_ns: int
    ctime_ns: int = 0
    """0: not known."""
    offset: int
    """Bytes of (uncompressed) content that are in the ledger."""
    content: bytes = b""
    """What the content is known by, whatever its name, inode or compression. Of a log: the state of its hash chain at `offset`
    (intake/chain.py). Of a whole file: the hash of its content as it was read; empty: not known."""
    whole: bool = True
    """A file that is read as one (json), not a log that is followed (ndjson)."""
    log: int = 0
    """The durable number of a log within its source, growing in the order in which logs are discovered; a log that is renamed or
    compressed keeps it. 0 of a whole file."""
    is_there: bool = True
    """False of a log that is read after it was moved away from its path: what is there now is another one."""
    carry: str = ""
    """Of a log whose calls are gathered: the key of its last document, which those without a key of their own share. Empty:
    they are nobody's."""
    refused: int = 0
    """Of a log: how many of its lines were no documents, or documents without content."""
    summary_at: int = -1
    """Of a log: where the failed row begins that stands for all of them but the first; -1: there is none."""
    home: str = ""
    """Of a log whose calls are gathered: the path at which it was first read. The log that follows it begins there."""
    home_inode: int = 0
    """What it was then. A log that begins in the same file was written over it: it was truncated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A log goes on where it was left: what stands refused there, and begins like it, was an unfinished line."""

    source: str
    path: str
    """Where the log was when it was left."""
    offset: int
    begins: bytes
    """The first bytes of what stands there now (up to KEPT_HEAD_BYTES)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What one read gave: becomes durable in one transaction, the file's mark with it."""

    calls: Sequence[Call] = ()
    recordings: Sequence[Recording] = ()
    refused: Sequence[RefusedDocument] = ()
    ignored: Sequence[IgnoredDocument] = ()
    fragments: Sequence[Fragment] = ()
    cuts: Sequence[Cut] = ()
    """Gathered calls that may lack a part, because a document cannot be read."""
    cut_offsets: frozenset[int] | None = None
    """With the mark of a whole file: where it cuts calls now. What it cut elsewhere, when it was read before, is lifted."""
    torn: Sequence[tuple[str, int]] = ()
    """Logs (source, number) of which it is not known what stood behind their last document: they were truncated, or are gone and
    were not read to their end. The call that is carried at the end of each may lack a part, wherever its end is by then."""
    lost: Sequence[tuple[str, int]] = ()
    """The same of logs that are nowhere to be found, as long as they are not read again at their place."""
    key_style: KeyStyle = field(default_factory=KeyStyle)
    """How these documents say whose call they belong to."""
    mark: FileMark | None = None
    continued: Continued | None = None
    """Its failed row is superseded by what this admission has of the line."""
    replaces_failed: bool = False
    """The whole file was read anew: failed rows (without a call id) of this path go whose place could not be read before, or
    whose very document is read again. A complete document that no rule could map stays, whatever stands in its place now."""


class AdmitVerdict(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"
    """Same call id, same start (within 1 s); nothing changed, the origin is noted."""
    REPLACED = "replaced"
    """As duplicate, but the first had surely not arrived and this document is newer: its payload took over."""
    CONFLICT = "conflict"
    """Same call id, other start: stands as failed(id_conflict)."""
    REVIVED = "revived"
    """The call stood as failed and had surely not arrived; the new document put it to work again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A call found its recording by manifest."""

    source: str
    call_id: str
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCall:
    """A call that the ledger itself had to fail (timers, freezing)."""

    row: int
    source: str
    call_id: str | None
    path: str
    """Where its document was read: path, or path@offset."""
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """How each call of an admission fared, in its order."""

    verdicts: Sequence[tuple[AdmitVerdict, State]]
    late: int = 0
    """Fragments that are not kept, since all of their call is too large."""
    matched: Sequence[Matched] = ()
    failed: Sequence[FailedCall] = ()
    handed: "Sequence[Claimed]" = ()
    """Calls that were handed over by the transaction itself; they are nobody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfrozen:
    """What a body is made from when its first attempt starts."""

    payload: bytes
    recording_url: str
    checked_for: Form | None


Freeze: TypeAlias = Callable[[Unfrozen], bytes | Refusal]
"""Pure and quick (it runs inside the claim's transaction): the exact body to post, or why the form does not take it."""


class Pick(StrEnum):
    """Which of the due calls a claim takes."""

    OLDEST = "oldest"
    """The smallest due time."""
    NEWEST = "newest"
    """The call that was admitted last."""
    EXPIRING = "expiring"
    """The one whose recording URL expires soonest (within an hour); oldest if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A call in the hands of one worker: its state is `sending` until it is settled or released."""

    row: int
    source: str
    destination: str
    agent: str
    call_id: str
    body: bytes
    """Frozen: the same bytes at every attempt."""
    form: Form
    attempts: int
    """Attempts before this one that counted."""
    first_attempt_at: float | None
    paused_s: float
    """Seconds that the destination stood paused since the first attempt."""
    settled_at: float
    recording_expires_at: float | None = None
    read_from: str = ""
    """Where its document was read: path, or path@offset."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reservation:
    """For so many calls of a destination there is a worker and a permit: an admission may hand them over at once."""

    destination: str
    form: Form
    freeze: Freeze
    count: int


class CallReceiver(Protocol):
    """Who takes calls from the transaction that admits them. Both are called in the event loop."""

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        """Before an admission of so many calls for each destination: what may be handed over of them."""
        ...

    def handed(self, offers: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        """After it, whatever came of it: once for each `reserve` that gave something. `claims` (as to number and destination
        within the offers) are durable and `sending`; what of the offers is left over was not needed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    claimed: Claimed | None
    next_due_at: float | None
    """With nothing due: the earliest due time of this destination, None if no call is due ever."""
    failed: Sequence[FailedCall] = ()
    """Calls that could not be frozen on the way; they stand as failed."""


# How an attempt is settled.


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    status: int
    tuner_call_id: str | None
    already_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    due_at: float
    reason: RetryReason | PauseReason
    status: int | None
    detail: str
    counts: bool
    """False when the attempt was not the call's own (a refusal that pauses the destination): attempts stay."""
    surely_not_arrived: bool
    """Nothing can have reached Tuner (refused before sending, or an answer that says so): a newer document may replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    reason: FailReason
    status: int | None
    detail: str


Settlement: TypeAlias = Delivered | Deferred | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What of a destination survives a restart."""

    closed_until: float | None = None
    """Retry-After: nothing goes out before (Unix seconds)."""
    pause: PauseReason | None = None
    paused_since: float | None = None
    detail: str = ""
    agents: Mapping[str, tuple[PauseReason, float]] = field(default_factory=dict)
    """Paused agents: reason and since when."""
    probe_row: int | None = None
    """The only call that may be the probe of the pause: it may have arrived. The two that follow are set with it."""
    probe_every_s: float | None = None
    next_probe_at: float | None = None


# Calls that are gathered from several documents.


@dataclass(frozen=True, slots=True, kw_only=True)
class PossibleGap:
    """Why a gathered call may lack a part."""

    by: CutBy
    place: str
    is_sure: bool
    """False: perhaps all documents of its source have keys of their own, and then it lacks nothing; not one without was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A gathered call that wants a look: documents of it came, or its wait is over."""

    row: int
    source: str
    key: str
    version: int
    """Changes with every document of it, and with every change of `cut`."""
    state: State
    reason: str | None
    """Of one that failed."""
    cut: PossibleGap | None
    """It is not sent by itself."""
    is_replaceable: bool
    """It has surely not arrived, and nobody has it in hand: what its documents make now may take its place."""
    wait_ends_at: float
    """Then it is mapped with what is there."""
    kept: bytes | None
    """What it was mapped from so far (Call.document, or that of a refusal)."""
    fragments: Sequence[Fragment]
    """The documents that came since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAgain:
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLate:
    """The call was sent before these documents came, and nobody knows any more what it was made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """It was left out, and nothing came of it for as long as its documents are kept (LEFT_OUT_KEPT_S): they go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """What a look at a group came to."""

    row: int
    version: int
    """Of the Group that was looked at; if documents came since, a result says nothing and the group wants a new look."""
    result: Call | RefusedDocument | IgnoredDocument | CheckAgain | TooLate | Discard


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """How each result fared, in their order."""

    states: Sequence[tuple[AdmitVerdict, State] | None]
    """None: nothing was changed but the time of the next look."""
    late: int = 0
    matched: Sequence[Matched] = ()
    failed: Sequence[FailedCall] = ()


class WritePath(Protocol):
    def admit(self, admission: Admission, now: float) -> Awaitable[Admitted]:
        """Handed over at once; what is given ends when it is durable. Make calls, recordings, refusals, fragments and the
        file's mark durable in one transaction (synced), each call matched with its recording in it. Idempotent: the same
        admission again gives DUPLICATE verdicts and changes nothing else. A refused document is one failed row for each
        document at a place: admitting it again updates it; a call takes it away that was read from a place that could not be
        read, or is the same document, or has its call id; another document at its path does not. In a followed
        log (a mark that is not `whole`) a place is another document after a rotation, and then both stay visible.
        Fragments of one (source, key) make one row, `gathering` until `gather` says what it is; one that comes later, and
        matters, takes a call that waits, is due or was left out back to `gathering`, unless it may have arrived.
        A new call that is due at once is handed to whoever `hand_over` named, if it offers to take it.
        Raises LedgerUnavailable, and then nothing of it was written."""

    def hand_over(self, taker: CallReceiver) -> None:
        """From now on admissions hand calls over to it."""

    def claim(
        self,
        destination: str,
        form: Form,
        freeze: Freeze,
        now: float,
        *,
        pick: Pick = Pick.OLDEST,
        not_agents: frozenset[str] = frozenset(),
        due_by: float | None = None,
        only: int | None = None,
    ) -> Awaitable[Claim]:
        """Take one call that is due by `due_by` (default: now), freeze its body if it has none, and hand it out. With
        `only` no other than the one in this row, whatever its agent.
        Never a call that waits for its recording, never one that is claimed. Claims belong to this process: whatever
        was `sending` when the ledger is opened is due again, with its body.
        A recording URL that has expired by `now` is not sent: the next strategy answers, or it fails.
        Raises LedgerUnavailable, and then nothing is claimed."""
        ...

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        """Write how the attempt ended. Idempotent. Nothing is lost from the moment that this returns, whether anybody
        awaits the end or not; a claim that is asked for afterwards is answered after it. While the ledger cannot be
        written it keeps the result in memory and tries again. The awaitable ends when it is durable (SQLite: committed,
        synchronous NORMAL)."""
        ...

    def release(self, row: int, now: float) -> Awaitable[None]:
        """Give a claim back as it was: no attempt was started. As with `settle`, nobody has to wait for the end."""
        ...

    async def gates(self) -> Mapping[str, Gate]:
        """The stored gate of every destination the ledger knows."""
        ...

    def set_gate(self, destination: str, gate: Gate, now: float) -> Awaitable[None]:
        """Remember a pause or a Retry-After. Time spent with `pause` set adds to Claimed.paused_s. As with `settle`, nobody
        has to wait for the end: what is asked for afterwards is written after it, or with it."""
        ...

    async def sending(self) -> Mapping[int, float]:
        """Rows of the calls that stand as `sending`, and when each was claimed. Raises LedgerUnavailable."""
        ...

    def unsettled(self) -> frozenset[int]:
        """Rows whose settlement or release was handed over and is not written yet."""
        ...

    async def reclaim(self, claims: Mapping[int, float], now: float) -> int:
        """Calls that nobody has in hand: those that are still `sending` from this very claim are due again, as ones that
        may have arrived. Gives how many. Raises LedgerUnavailable."""
        ...

    def on_due(self, wake: Callable[[str], None]) -> None:
        """Call `wake(destination)` in the event loop whenever a commit may have made a call of it due earlier."""


class GatherPath(Protocol):
    async def groups(
        self, source: str, now: float, limit: int = 64, *, ended_by: float | None = None
    ) -> tuple[Sequence[Group], float | None]:
        """Groups of the source that want a look by `now`, longest wanting first, and when the next one does (None: never
        by time alone). At most `limit`, or 16 MiB of documents. Groups whose wait ended after `ended_by` (default: now)
        are left out, unless they may be complete. A group that was left out (`ignored`) comes when its documents were kept
        for long enough (LetGo)."""
        ...

    async def gathering_sources(self) -> Sequence[str]:
        """Every source of which a group wants a look, now or later, in order of their names."""
        ...

    async def gather(self, results: Sequence[GroupResult], now: float) -> Gathered:
        """Write what looks at groups came to, in one transaction (fsync before it returns): the call is admitted and
        matched, or refused, in the row of the group, and what it was made of is kept with it and no longer as fragments.
        Of one that is ignored they are kept for a day: what comes then is gathered with them. A row that is not replaceable
        (any more) is left alone and looked at again. LookAgain takes a call that has new documents back: it gathers again.
        Documents of a call that is sent are late, unless what they make now is what was sent: told, and their files stay.
        Raises LedgerUnavailable, and then nothing of it was written."""
        ...


class Positions(Protocol):
    async def mark(self, source: str, path: str) -> FileMark | None:
        """Asking for a path that had vanished means that it is back: its mark stays."""
        ...

    async def marks(self, source: str, after_path: str = "", limit: int = 1000, *, vanished: bool = False) -> Sequence[FileMark]:
        """The marks of a source in path order, at most `limit` after `after_path`: of paths that are there, or with
        `vanished` of whole files that vanished (and were not disposed of). Unlike `mark` this is no word of their being back."""
        ...

    async def moved_logs(self, source: str, limit: int = 1000) -> tuple[Sequence[FileMark], int]:
        """Marks of the source's logs that are at no known path, newest first; and the greatest number that a log of it has."""
        ...

    async def logs_like(self, source: str, inode: int, head: bytes, limit: int = 200) -> Sequence[FileMark]:
        """Marks of the source's logs that had this inode or begin like this (`head`: intake/chain.py), newest first, whether
        their paths are there or not."""
        ...

    async def set_mark(self, mark: FileMark, now: float) -> None:
        """The file is there, as the mark says. A log has one mark: the one that it had under another path goes. Another log
        that was at this path counts as vanished: it keeps its mark, under this path, until it is found elsewhere."""
        ...

    async def vanished(self, source: str, paths: Sequence[str], now: float) -> None:
        """These paths are gone while their root was readable; their marks go 7 days later unless they come back."""

    async def disposable(
        self, source: str, limit: int = 100, *, to_the_end: bool = False, leave: Container[str] = ()
    ) -> Sequence[FileMark]:
        """Files read whole of which every call is sent or ignored, none open or failed, settled with a FULL commit
        before this returns: `after_sent` may take them; those in `leave` (paths) are not given. A call may look through a
        part of what is known and find none in it; `to_the_end`: then none is left (or the ledger cannot be written)."""
        ...

    async def disposed(self, source: str, path: str, now: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Kept with each commit, never counted by a query."""

    calls: Mapping[State, int]
    oldest_at: Mapping[State, float]
    """Admission time of the oldest call in each open state."""
    pending_bytes: int
    """Documents and payloads of open calls."""
    waiting_bytes: int
    """Of that: calls that wait for their recording."""
    gathering_bytes: int = 0
    """Of that: documents of calls that are not complete."""
    unmapped_bytes: int = 0
    """Beside that: failed documents that no rule could map. They are kept whole until somebody acts, for a wrong rule has to
    stay repairable, and so they take part in `max_pending_bytes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """One row, as commands show it. No document, no payload."""

    row: int
    state: State
    source: str
    destination: str
    agent: str
    call_id: str | None
    path: str
    offset: int
    mtime_ns: int
    """When the file was written that the document stands in."""
    started_at_ms: int | None
    admitted_at: float
    due_at: float | None
    attempts: int
    status: int | None
    reason: str | None
    where: str
    detail: str
    tuner_call_id: str | None
    recording_url: str | None
    dismissed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    at: float
    what: str
    """admitted, matched, attempt, retried, sent, failed, replaced, ..."""
    status: int | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    call: StoredCall
    origins: Sequence[tuple[str, int]]
    events: Sequence[StoredEvent]
    waits_for: Sequence[str]
    """One line a strategy: what it looks for, and what it answered. One more if only `on_missing: hold` keeps it waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    states: frozenset[State] = frozenset()
    reasons: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    call_ids: frozenset[str] = frozenset()
    since: float | None = None
    """Admitted at or after."""
    dismissed: bool | None = False
    """None: both."""


class Inspection(Protocol):
    def gauges(self) -> Gauges: ...

    async def calls(self, where: Filter, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> Sequence[StoredCall]:
        """Rows in row order (or newest first); at most 1,000 at a time."""
        ...

    async def story(self, call_id: str) -> Sequence[Story]:
        """Every row with this call id (several agents or conflicts), with its last events."""
        ...

    async def document(self, row: int) -> bytes | None:
        """The stored JSON text, None where it is no longer (or was never) kept."""
        ...

    async def alive(self) -> bool:
        """Whether the writer answers (liveness)."""
        ...


class OperatorActions(Protocol):
    async def replace(self, row: int, mapped: Call | RefusedDocument, now: float) -> State:
        """Put a call (or still refused document) that was mapped again in place of what the row holds: unfrozen, due
        or waiting. Calls that are sending or sent are left alone; returns the state after."""
        ...

    async def requeue(self, row: int, now: float) -> State:
        """Send the stored payload again as it is (nothing to map from): due now, attempts from zero."""
        ...

    async def dismiss(self, rows: Sequence[int], now: float) -> int:
        """Failed, and handled by a person: no longer listed or counted as failed. Returns how many."""
        ...

    async def forget(self, call_id: str, now: float) -> int:
        """Erase everything about the call, recordings matched with it too, beyond recovery from the file
        (secure_delete). Returns the rows erased. Raises ValueError while one of them is sending."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Retention, in seconds and bytes."""

    sent_s: float
    failed_s: float
    recordings_s: float
    max_failed_bytes: int
    documents: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FarRule:
    """When a recording that is not near may be taken."""

    not_before: float = -math.inf
    """Not while files may be unread that would tell of a nearer one."""
    at_once: bool = False
    """All that there is has been read: nothing nearer will come."""


FAR_NOT_YET: Final = FarRule(not_before=math.inf)
"""While files are read for the first time after a start."""
FAR_AT_ONCE: Final = FarRule(at_once=True)
"""The sweep of a `run --once` is through."""


class Maintenance(Protocol):
    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        """Decide the waiting calls whose next wait is over; gives those that failed by it, and when to tick next."""
        ...

    async def set_far_rule(self, rule: FarRule, now: float) -> Sequence[FailedCall]:
        """When recordings that are not near may be taken, until it is set again or the ledger is closed; what may be taken
        now is taken. Gives the calls that failed by it, as `tick` does."""
        ...

    async def trim(self, keep: Retention, now: float) -> int:
        """Remove what is past its time, at most 1,000 rows a call; returns how many (0: done). Never an open call."""
        ...

    async def shift(self, seconds: float) -> None:
        """The wall clock jumped by so much: move due times and waits with it."""

    async def close(self) -> None:
        """Finish what is queued, checkpoint, close, give the lock back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """Open calls that nothing in the configuration goes on with: of one destination, or that look for recordings of one
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


class Stranding(Protocol):
    async def stranded(self, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
        """What waits or is due for destinations other than `configured`, and waits for recordings of sources other than
        `sources`."""
        ...

    async def follow(self, old: str, new: str, workspace: str, now: float) -> int:
        """Move the waiting and due calls of destination `old` that surely did not arrive to `new` (`workspace`: its
        base_url/workspace), bodies made anew; gives how many. A call whose id is taken there stays."""
        ...


class Ledger(WritePath, GatherPath, Positions, Inspection, OperatorActions, Maintenance, Stranding, Protocol):
    """Everything; only app.py and the commands hold it whole."""
