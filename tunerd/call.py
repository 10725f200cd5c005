"""What a call is at each stage of its way, one frozen type for each, in one file because a reader compares the stages.

The type says how far the call has come. Only shapes belong here: no input or output, no clocks, no configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from enum import StrEnum
from typing import Final, TypeAlias

from tunerd.file_pattern import FILES
from tunerd.outcome import FailReason
from tunerd.record import positional_record, record

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""A JSON value. Only mapping/ looks inside one; everywhere else documents and payloads are bytes."""

KEPT_HEAD_BYTES: Final = 4096
"""How much of a refused document is kept in its failed row, for a person to recognise it by."""


class Form(StrEnum):
    """Tuner's two request forms."""

    SEND_CALLS = "send-calls"
    CREATE_CALL = "create-call"


class State(StrEnum):
    """The state of a call in the ledger. Closed: a metric label and a ledger column at once."""

    GATHERING = "gathering"
    WAITING = "waiting"
    DUE = "due"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    IGNORED = "ignored"

    @property
    def is_open(self) -> bool:
        """Whether tunerd still has something to do for a call in this state."""
        return self in (State.GATHERING, State.WAITING, State.DUE, State.SENDING)


@record
class Origin:
    """The place on disk that a document came from."""

    source: str
    path: str
    """Absolute path at the time of reading."""
    offset: int = 0
    """Bytes before the document in the (uncompressed) content; 0 for a whole file."""
    length: int = 0
    """Bytes of the document in the (uncompressed) content."""
    mtime_ns: int = 0
    """Modification time of the file when it was read; (mtime_ns, offset) orders two documents of one call."""
    log: int = 0
    """Of a log its durable number within the source, which grows in the order in which logs are discovered and stays with the
    log when it is renamed or compressed; 0 of a whole file. (log, offset) is the place of a line, whatever its path."""

    @property
    def place(self) -> tuple[int | str, int]:
        """What tells two documents of a source apart: a log and the offset in it, or a file and the offset in it."""
        return (self.log or self.path, self.offset)

    def __str__(self) -> str:
        return self.path if self.offset == 0 else f"{self.path}@{self.offset}"


@positional_record
class SpooledAudio:
    """Audio of a document that is in the spool (audio/spool.py)."""

    location: str
    identity: str


@record
class Document:
    """One JSON value as it stood on disk."""

    origin: Origin
    raw: bytes
    """The JSON text, UTF-8, without BOM and surrounding white space."""
    value: Json
    settled_at: float
    """Unix seconds at which the file was seen complete; the start of `tunerd_call_delivery_seconds`."""
    spooled: "Mapping[str, SpooledAudio]" = field(default_factory=dict)
    """Of a document whose audio was too large to be read into memory: what stands in its place in `value` -> where it is."""
    is_element: bool = False
    """It stood in a list of another document (`documents:`), or comes from the ledger: it is not taken apart again."""

    @property
    def kept(self) -> bytes | None:
        """What can be mapped again without the file: nothing where audio was taken out."""
        return None if self.spooled else self.raw


@record
class Refusal:
    """Why a document cannot become a call, in words that a person can act on. Never quotes the document's values."""

    reason: FailReason
    where: str
    """The place: `call.call_id (line 12)`, `byte 4096`, `transcript_with_tool_calls[3].tool.params`."""
    what: str
    """What is wrong and what to do next, in one or two sentences."""


@record
class RefusedDocument:
    """A document that ends as a failed row: visible, with its head, and read again by `tunerd retry`."""

    origin: Origin
    refusal: Refusal
    head: bytes = b""
    """The first KEPT_HEAD_BYTES of the document (empty when redaction is on)."""
    document: bytes | None = None
    """The whole JSON text where there is one, so that `retry` can map it again without the file."""
    call_id: str | None = None
    """The call id, where the mapping got that far."""
    destination: str = ""
    agent: str = ""
    settled_at: float = 0.0

    def without_text(self) -> "RefusedDocument":
        """The same with nothing of the document's own text, where redaction keeps that from being stored."""
        return replace(self, head=b"", document=None)


@record
class IgnoredDocument:
    """A document that the rules leave out on purpose (`not_call:` was true, or a `when:` without one was false)."""

    origin: Origin
    call_id: str | None = None
    known: bool = False
    """`not_call:` was true: the document is known to be no call. Otherwise nothing more than a false `when:` says so."""


# How a call finds its recording (docs/recordings.md): decided strategies, tried top to bottom, waiting side by side.


@record
class UrlStrategy:
    """The document itself names the audio; `location` is None where this one does not (the strategy answers "absent")."""

    location: str | None
    """Location.text (location.py)."""
    expires_at: float | None = None
    """Unix seconds after which the URL is no longer served; None: not known."""


class Choice(StrEnum):
    """Which recording a call takes, if several may belong to it."""

    NEAREST = "nearest"
    """The one whose start is nearest to the call's; a near one at once."""
    FIRST = "first"
    LAST = "last"
    LONGEST = "longest"
    """These three after the wait, of all recordings to which no other call is nearer."""
    ONLY = "only"
    """After the wait the only one, and only if the call is the only one near it (`nearest:`, and `file:` with `within:`)."""


@record
class ManifestStrategy:
    """A recording that a manifest source brings, by key, or (ONLY) by values that are the same."""

    source: str
    """Name of the manifest source."""
    key: str | None
    """Trimmed text; None (also for empty) matches nothing: the strategy answers "absent". Of ONLY it is compared with the `match`
    of recordings, which of files is their name."""
    within_s: float | None
    """|start of recording - start of call| at most; None = `within: any`."""
    wait_s: float
    """How long after admission the strategy may stay unanswered."""
    near_s: float = 30.0
    """A recording that starts this close to the start of the call is taken at once; a farther one has to wait."""
    choice: Choice = Choice.NEAREST

    @property
    def looks_for(self) -> str:
        """The key or the values, for whoever may see the document."""
        is_key = self.choice is not Choice.ONLY or self.source == FILES
        return f"key {self.key}" if is_key else f"same {(self.key or '')[1:]}"


Strategy: TypeAlias = UrlStrategy | ManifestStrategy


@record
class Hold:
    """After all waits the call stays waiting for `hold_s` more seconds, then fails (recording_missing)."""

    hold_s: float


@record
class Fail:
    """After all waits the call fails at once (recording_missing); a recording that comes later revives it."""


@record
class SendAnyway:
    """After all waits the call is sent with this URL in place of the recording's."""

    url: str


OnMissing: TypeAlias = Hold | Fail | SendAnyway


# How the audio reaches Tuner where its location is no URL that Tuner can fetch (docs/audio.md).


class Publish(StrEnum):
    """The way of audio that has no URL of its own to Tuner."""

    UPLOAD = "upload"
    """tunerd uploads it to Tuner's storage, with the target that Tuner's answer to the call names."""
    PRESIGN = "presign"
    """tunerd signs an https URL of the object."""
    URL = "url"
    """A rule makes the URL under which the same file is served."""


class AfterUpload(StrEnum):
    """What becomes of a file of audio that was uploaded."""

    KEEP = "keep"
    DELETE = "delete"
    MOVE_TO = "move_to"


@record
class AudioPlan:
    """What a call carries of its source's `audio:` into the ledger, so that a reload changes only calls that come later."""

    publish: Publish
    placeholder: str = "pending"
    """recording_url of a call whose audio is uploaded."""
    sends_on_error: bool = False
    """Audio that cannot be used does not keep the call: it is sent with the placeholder."""
    expires_s: float = 86_400.0
    """How long a signed URL is valid."""
    url_rule: str = ""
    """With Publish.URL: the expression that gives the URL of a location."""
    files: tuple[str, ...] = ()
    """Absolute directories: no file outside them is read as audio."""
    after_upload: AfterUpload = AfterUpload.KEEP
    move_to: str = ""
    """Absolute, or relative to the directory of the file."""


class AudioState(StrEnum):
    """The life of a call's audio that tunerd uploads, beside the call's own. Closed: a metric label and a column at once."""

    NONE = "none"
    """tunerd uploads nothing for this call."""
    PENDING = "pending"
    """The call was not sent: its audio goes with it."""
    UPLOADING = "uploading"
    """Tuner has the call and has named a target; the audio is on its way, or is tried again."""
    UPLOADED = "uploaded"
    FAILED = "failed"
    """It does not reach Tuner."""


@record
class Call:
    """A document mapped by the rules: ready to be admitted."""

    origin: Origin
    document: bytes | None
    """The JSON text it was mapped from; None when redaction keeps it from being stored."""
    destination: str
    """Name of the destination (config.Destination.name) it was admitted for."""
    workspace: str
    """base_url + workspace id; a call id is unique for each (workspace, agent)."""
    agent: str
    """agent_remote_identifier of the request."""
    call_id: str
    started_at_ms: int
    ended_at_ms: int | None = None
    payload: bytes
    """The payload as JSON in Tuner's current field names, without recording_url: well-formed for `checked_for`."""
    checked_for: Form | None
    """The form whose demands the payload is known to meet; None: not known yet, checked when the body is frozen."""
    strategies: tuple[Strategy, ...]
    on_missing: OnMissing
    audio: AudioPlan | None = None
    """How audio without a URL reaches Tuner; None: it does not."""
    verify_s: float | None = None
    """Its URL is sent only once its host gives a byte of it, and for so long it may be absent there; None: nobody asks."""
    settled_at: float


@record
class Recording:
    """A recording that a manifest describes."""

    origin: Origin
    source: str
    key: str
    """Trimmed. Empty only where the manifest has no rule for it."""
    match: str = ""
    """Values that its call has, too, as one text (mapping/match_values.py); empty: one of them is missing."""
    id: str = ""
    """What the platform calls this recording; the same id again is the same recording described again. Empty: not known."""
    location: str | None
    """Location.text (location.py). None: there will never be one (`absent_when:` was true), which ends the wait of the calls
    it fits."""
    started_at: float | None = None
    """Unix seconds; None only where the strategy says `within: any`."""
    duration_s: float | None = None
    expires_at: float | None = None
    embedded: bytes = field(default=b"", repr=False)
    """Audio that the document holds. Intake puts it into the spool, and gives the recording the location of that."""
    identity: str = ""
    """Of a file that tunerd itself found: `str(FileIdentity)`. A file that a call has goes to no other call, and whatever is
    written to its place later is another recording."""


@record
class Fragment:
    """One document of a call that is gathered from several."""

    origin: Origin
    source: str
    key: str
    """Trimmed. Empty only until intake has filled it in: as the document before it in its file."""
    part: str | None
    newest: float | None
    document: bytes
    settled_at: float
    wait_s: float = 0.0
    """How long after it the call waits for another document, unless it is complete before."""
    decides: bool = False
    """Whether the call may be complete with it: a look is worth it at once."""
    matters: bool = True
    """False: no rule of the call can see it. It is no part, and none of the rules reads `docs`."""


class CutBy(StrEnum):
    """Why a gathered call may lack a part."""

    UNREADABLE = "unreadable"
    """A document behind its last one cannot be read: it may be a part of it, or the first of another call."""
    LOG_END = "log_end"
    """Its last document is the last one that is known of its log, and there was more, or may have been: the log was truncated,
    or it is gone and was not read to its end."""


@record
class Cut:
    """A gathered call that may lack a part, because the documents of its file belong to the call of the one before them."""

    source: str
    key: str
    by: CutBy
    origin: Origin
    """The document that cannot be read, or the place at which the log ends."""


@record
class KeyStyle:
    """How the documents of a source say whose call they belong to, as far as they were read."""

    keyless: bool = False
    """Some have no key of their own. A document that cannot be read may then be a part of the call before it."""
    own: bool = False
    """One brought a key where the one before it had given a key already."""

    def __or__(self, other: "KeyStyle") -> "KeyStyle":
        return KeyStyle(keyless=self.keyless or other.keyless, own=self.own or other.own)


ROWS_DROPPED: Final = ("unknown_role", "no_role", "not_speech")
"""Why a row that says something is left out: no table names its role; it has none; a table names it with null."""


@record
class MappingNotes:
    """What the mapping noticed on the way, for metrics and `explain`; field names and counts, never values."""

    missing: tuple[str, ...] = ()
    """Fields that have a rule which gave nothing."""
    left_out: tuple[str, ...] = ()
    """Optional fields whose rule failed; they were left out."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """Name of the timeline repair -> how often."""
    redacted: Mapping[str, int] = field(default_factory=dict)
    rows_dropped: Mapping[str, int] = field(default_factory=dict)
    """Why (unknown_role, no_role, not_speech) -> how many rows that say something were left out."""
    unknown_roles: tuple[str, ...] = ()
    """Roles that no table names, as they may be told."""


@record
class Mapped:
    """What one document gave. A source with `call:` and `manifest:` can give both; nothing at all means ignored."""

    call: Call | None = None
    recording: Recording | None = None
    refused: RefusedDocument | None = None
    ignored: IgnoredDocument | None = None
    fragment: Fragment | None = None
    """Of a source that gathers: the call comes of it and others."""
    notes: MappingNotes = MappingNotes()
    each: "Sequence[tuple[Document | RefusedDocument, Mapped]]" = ()
    """Of a document that holds several (`documents:`): those, and what each gave; everything above is empty then."""

    def of(self, document: "Document | RefusedDocument") -> "Sequence[tuple[Document | RefusedDocument, Mapped]]":
        """What became of the document, or of each one in it."""
        return self.each or ((document, self),)
