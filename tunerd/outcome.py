"""How things end: the closed lists of reasons, and what one HTTP attempt can come to. Pure values.

A reason is a metric label, a log field and a ledger column at once; a new one is a change that users see.
"""

from dataclasses import field
from enum import StrEnum
from typing import TypeAlias

from tunerd.record import record


class FailReason(StrEnum):
    """Why a call failed and is not retried automatically."""

    UNREADABLE = "unreadable"
    """Not JSON, not UTF-8, too deep, or never completed."""
    TOO_LARGE = "too_large"
    """Longer than `max_document`, or its audio is larger than `ledger.max_spool`."""
    UNMAPPABLE = "unmappable"
    """A rule of a required field failed or gave nothing."""
    INVALID = "invalid"
    """Mapped, but not what Tuner's form takes (limits, roles, times)."""
    REFUSED = "refused"
    """A `refuse:` rule of the mapping was true."""
    ID_CONFLICT = "id_conflict"
    """Another call with the same id started at another time."""
    RECORDING_TOO_LONG = "recording_too_long"
    """The signed URL of its recording is longer than Tuner takes; nothing was sent."""
    RECORDING_MISSING = "recording_missing"
    RECORDING_EXPIRED = "recording_expired"
    RECORDING_AMBIGUOUS = "recording_ambiguous"
    """Several recordings, or several calls, are equally near, and nothing nearer came."""
    REJECTED = "rejected"
    """Tuner answered that it does not take this call (400, 413, 415, 422, `success: false`)."""
    GAVE_UP = "gave_up"
    """Longer than `give_up_after` without success, while other calls were accepted."""
    CRASHED = "crashed"
    """Set aside because the process twice ended while it was being read."""
    DOCUMENT_LOST = "document_lost"
    """The ledger was damaged: its row could be read and its document could not, nor has its file been read again since."""
    INCOMPLETE = "incomplete"
    """A gathered call that may lack a part: a document that may be one cannot be read, or the end of its log is not known."""

    AUDIO_UNREADABLE = "audio_unreadable"
    """Its audio is gone, empty, no audio, or cannot be read; nothing was sent (`audio.on_error: hold`)."""
    AUDIO_CHANGED = "audio_changed"
    """The file of its audio is no longer the one that was matched; nothing was sent."""
    AUDIO_TOO_LARGE = "audio_too_large"
    """Its audio is larger than Tuner's storage takes; nothing was sent."""
    AUDIO_FORM = "audio_form"
    """Its audio has to be uploaded, and the key is of the form send-calls, which has no upload."""
    AUDIO_HOST_LOST = "audio_host_lost"
    """Its audio is on the disk of an instance of the fleet that is gone; nothing was sent."""


class AudioReason(StrEnum):
    """Why audio did not reach Tuner. The first three and `upload_expired` are about calls that Tuner has."""

    UPLOAD_TARGET_LOST = "upload_target_lost"
    """Tuner had the call already, and names a target only once: the answer with it was never seen."""
    UPLOAD_NOT_OFFERED = "upload_not_offered"
    """Tuner took the call without naming a target, or named one that cannot be used."""
    UPLOAD_EXPIRED = "upload_expired"
    """The target expired before the storage had taken the audio."""
    AUDIO_CHANGED = "audio_changed"
    AUDIO_TOO_LARGE = "audio_too_large"
    AUDIO_UNREADABLE = "audio_unreadable"
    AUDIO_FORM = "audio_form"
    AUDIO_HOST_LOST = "audio_host_lost"


class RetryReason(StrEnum):
    """Why an attempt did not end the matter and the call is due again."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """Refused, reset, no route, name not resolved."""
    TLS = "tls"
    THROTTLED = "throttled"
    """429."""
    SERVER_ERROR = "server_error"
    """408, 425, 5xx."""
    UNSIGNED = "unsigned"
    """The URL of its recording could not be signed: Tuner was not asked."""
    BAD_ANSWER = "bad_answer"
    """Not HTTP, or a status that HTTP does not have; a call whose 2xx alone are never understood."""


class PauseReason(StrEnum):
    """Why delivery to a destination is paused."""

    AUTH = "auth"
    ENDPOINT = "endpoint"
    REJECTING = "rejecting"
    UNREACHABLE = "unreachable"
    OPERATOR = "operator"
    """`tunerd pause`."""
    LOCAL = "local"
    """This process has no file descriptor left for a connection: Tuner was not even asked."""


class IntakeReason(StrEnum):
    """Why a source is not read (or not fully)."""

    MISSING = "missing"
    """The directory is not there, or was replaced by an empty mount."""
    FULL = "full"
    """The ledger holds more than `ledger.max_pending_bytes`."""
    DISK = "disk"
    """The ledger cannot be written, or `ledger.min_free` is reached."""
    DENIED = "denied"
    """The directory cannot be read."""
    SPOOL = "spool"
    """Audio that came inside documents fills `ledger.max_spool`."""


@record
class Sent:
    """Tuner has the call (2xx, or 409: it already had it)."""

    status: int
    tuner_call_id: str | None
    already_there: bool
    offer: bytes | None = field(default=None, repr=False)
    """The JSON of the answer's `recording_upload`, where it has one. A secret."""


@record
class Retry:
    """No answer that ends the matter. `retry_after_s` is the server's wish, already limited and relative to now."""

    reason: RetryReason
    status: int | None
    detail: str
    """One sentence without any content of the call."""
    retry_after_s: float | None = None
    surely_not_arrived: bool = False
    """Refused before anything was sent, or by an answer that says so (429): Tuner cannot have the call."""


@record
class Failed:
    """This call will not be taken as it is."""

    reason: FailReason
    status: int
    detail: str


class Scope(StrEnum):
    """How much a refusal that is not the call's fault covers."""

    DESTINATION = "destination"
    AGENT = "agent"
    """The agent of one destination (403)."""


@record
class Refused:
    """Every call of the scope would fare alike: it pauses, and nothing counts as an attempt."""

    scope: Scope
    reason: PauseReason
    status: int
    detail: str


@record
class Unconfirmed:
    """A 2xx that does not say that the call was taken. It may have arrived, and the next call would fare alike: the
    destination pauses, and only this call is tried again."""

    status: int
    detail: str


Outcome: TypeAlias = Sent | Retry | Failed | Refused | Unconfirmed
