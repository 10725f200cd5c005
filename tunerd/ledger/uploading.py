"""Audio on its way to Tuner's storage: what delivery and the ledger exchange about it. Values only."""

from dataclasses import field

from tunerd.call import AudioPlan
from tunerd.outcome import AudioReason
from tunerd.record import record


@record
class PendingAudio:
    """A due call whose audio has to be looked at before it is sent. Nobody holds it."""

    row: int
    source: str
    call_id: str
    agent: str
    path: str
    """Where its document was read."""
    location: str
    plan: AudioPlan
    identity: str
    """Of the audio that is meant; empty: whatever is there when it is looked at first."""
    looked_from: float
    """Since when it is looked for."""
    may_be_sent: bool
    """Tuner may have the call, with a body that named this audio: then it is sent again, even if the audio is gone by now."""


@record
class AudioEnded:
    """The audio will not reach Tuner."""

    reason: AudioReason
    detail: str
    max_bytes: int | None = None
    """What the storage takes, where the answer says so."""


@record
class PreparedAudio:
    """Audio that is there and settled: its call may be claimed, with a free slot for the upload."""

    location: str
    identity: str
    extension: str = ""
    """Without a dot."""
    size: int = 0
    channels: int = 1
    unusable: AudioEnded | None = None
    """It is not there any more, and the call goes out all the same (PendingAudio.may_be_sent)."""


@record
class UploadTarget:
    """Tuner named where it wants the audio: settled with the call, before the upload begins."""

    offer: bytes = field(repr=False)
    """The JSON of `recording_upload`. A secret."""
    expires_at: float
    max_bytes: int | None


@record
class AudioUpload:
    """An upload that the ledger knows of: its call is sent, and its target is stored."""

    row: int
    source: str
    call_id: str
    path: str
    """Where the document of its call was read."""
    location: str
    plan: AudioPlan
    identity: str
    extension: str
    size: int
    offer: bytes = field(repr=False)
    expires_at: float
    attempts: int


@record
class Leftover:
    """Audio that is uploaded and whose `after_upload` is to be carried out."""

    row: int
    source: str
    location: str
    plan: AudioPlan
    identity: str
