"""The facts about audio that tunerd uploads, as events.py has the others."""

from tunerd.outcome import AudioReason
from tunerd.record import record


@record
class AudioUploaded:
    """Tuner's storage has the audio of a call, all of it (`size` bytes)."""

    source: str
    call_id: str
    size: int
    attempts: int


@record
class AudioRetried:
    """An attempt to upload audio was in vain, and is repeated."""

    source: str
    call_id: str
    detail: str
    attempts: int


@record
class AudioFailed:
    """The audio of a call does not reach Tuner. `holds_call`: the call was not sent, and its failure has an event of its own."""

    source: str
    call_id: str
    reason: AudioReason
    what: str
    path: str
    holds_call: bool = False


@record
class AudioNotDisposed:
    """`after_upload` could not be carried out; tunerd tries again, unless it never can be. Once for each file and process."""

    source: str
    why: str


@record
class DirectoryHangs:
    """Something in a directory of recordings has taken longer than it may. Nothing there is touched until that comes back."""

    directory: str
    after_s: float


@record
class DirectoryAnswers:
    """...and it has come back."""

    directory: str
    lasted_s: float


@record
class UrlChecked:
    """The host of a recording was asked for it (`verify: get`)."""

    source: str
    call_id: str
    path: str
    """Of the document of its call."""
    url: str
    """Without its query."""
    found: str
    """there, absent, unreachable or refused."""
    detail: str
    is_first: bool
