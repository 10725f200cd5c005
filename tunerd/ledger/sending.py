"""A call on its way through attempts: how it is claimed or handed over, how an attempt is settled, and pauses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from tunerd.call import Form, Refusal
from tunerd.ledger.uploading import AudioEnded, UploadTarget
from tunerd.outcome import FailReason, PauseReason, RetryReason
from tunerd.record import record


@record
class UploadRequest:
    """What asks Tuner for a target to upload the call's audio to."""

    extension: str
    """Without a dot."""
    channels: int


@record
class Unfrozen:
    """What a body is made from when its first attempt starts."""

    payload: bytes
    recording_url: str
    """Or another location, from which `url_rule` makes the URL; or the placeholder of a call whose audio is uploaded."""
    checked_for: Form | None
    url_rule: str = ""
    upload: UploadRequest | None = None
    with_placeholder: bool = False
    """`recording_url` need not be a URL."""


Freeze: TypeAlias = Callable[[Unfrozen], bytes | Refusal]
"""Pure and quick (it runs inside the claim's transaction): the exact body to post, or why the form does not take it."""


class Pick(StrEnum):
    """Which of the due calls a claim takes."""

    OLDEST = "oldest"
    """The smallest due time."""
    NEWEST = "newest"
    """The call that was admitted last."""
    EXPIRING = "expiring"
    """The call whose recording URL expires soonest (within an hour); the oldest if there is none."""


@record
class UrlToSign:
    """An object of a bucket that Tuner gets by a signed URL."""

    location: str
    expires_s: float
    """How long the URL should be valid."""
    sends_on_error: bool = False
    """If it cannot be signed, the call is sent with the placeholder."""


@record
class Claimed:
    """A call that one worker holds: its state is `sending` until it is settled or released."""

    row: int
    source: str
    destination: str
    agent: str
    call_id: str
    body: bytes
    """Frozen: the same bytes at every attempt. Empty while there is a URL to sign."""
    form: Form
    attempts: int
    """Attempts before this one that counted."""
    first_attempt_at: float | None
    paused_s: float
    """Seconds for which the destination was paused since the first attempt."""
    settled_at: float
    ended_at_ms: int | None = None
    """When the call ended, where its document says so."""
    recording_expires_at: float | None = None
    read_from: str = ""
    """Where its document was read: path, or path@offset."""
    to_sign: UrlToSign | None = None
    """Its body is made with this URL (WritePath.freeze_signed)."""
    lease: int = 0
    """The lease of this instance under which it was claimed (Fleet.may_send)."""


@record
class FailedCall:
    """A call that the ledger itself had to fail (timers, freezing)."""

    row: int
    source: str
    call_id: str | None
    path: str
    """Where its document was read: path, or path@offset."""
    refusal: Refusal


@record
class Claim:
    """The answer to a claim."""

    claimed: Claimed | None
    next_due_at: float | None
    """If nothing is due: the earliest due time of this destination; None if it has no due call."""
    failed: Sequence[FailedCall] = ()
    """Calls that could not be frozen on the way; they are failed."""
    needs_audio: bool = False
    """No call was claimed, but a call is due (the one that was asked for, or any) whose audio is uploaded with it."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reservation:
    """`count` calls of a destination have a worker and a permit: an admission may hand over that many at once."""

    destination: str
    form: Form
    freeze: Freeze
    count: int


class CallReceiver(Protocol):
    """Receives calls from the transaction that admits them. The ledger calls both methods in the event loop."""

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        """Before an admission that has `wanted` calls for each destination: how many of them may be handed over."""
        ...

    def receive(self, reserved: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        """After the admission, whether it succeeded or not.

        - Called once for each `reserve` that gave a reservation, with those reservations.
        - `claims` are durable and `sending`; for each destination they are at most as many as were reserved.
        - Reservations beyond `claims` were not needed and are free again."""
        ...


@record
class Delivered:
    """The attempt succeeded: Tuner has the call."""

    status: int
    tuner_call_id: str | None
    already_there: bool
    audio: UploadTarget | AudioEnded | None = None
    """Of a call that was claimed with its audio: where the audio goes, or why it cannot."""


@record
class Deferred:
    """The attempt decided nothing: the call is due again."""

    due_at: float
    reason: RetryReason | PauseReason
    status: int | None
    detail: str
    counts: bool
    """False when the attempt was not the call's own (a refusal that pauses the destination): its attempts do not increase."""
    surely_not_arrived: bool
    """Nothing can have reached Tuner (refused before sending, or an answer that says so): a newer document may replace it."""


@record
class Ended:
    """The attempt ended the call without success."""

    reason: FailReason
    status: int | None
    detail: str


Settlement: TypeAlias = Delivered | Deferred | Ended


@record
class StoredPauses:
    """What of a destination survives a restart."""

    closed_until: float | None = None
    """Retry-After: nothing is sent before (Unix seconds)."""
    pause: PauseReason | None = None
    paused_since: float | None = None
    detail: str = ""
    agents: Mapping[str, tuple[PauseReason, float]] = field(default_factory=dict)
    """Paused agents: the reason, and since when."""
    probe_row: int | None = None
    """The only call that may be sent as the probe of the pause, because it may have arrived. The next two fields go with it."""
    probe_every_s: float | None = None
    next_probe_at: float | None = None


NO_PAUSES: Final = StoredPauses()
