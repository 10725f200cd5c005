"""A recording as bytes, wherever they are: what delivery/ asks of a file, a spool entry or an object in a bucket."""

from collections.abc import AsyncIterator
from typing import Protocol

from tunerd.call import AudioPlan
from tunerd.record import record


class AudioChanged(Exception):
    """It is not what it was when the call got it: another recording may stand there now. `str()` says what, and what to do."""


class AudioUnreadable(Exception):
    """It cannot be read, or is no audio. `str()` says why, and what to do."""

    def __init__(self, what: str, *, may_pass: bool = False, bucket: str = "") -> None:
        """`may_pass`: for no fault of the file (a mount that is not there, a disk error), so it is worth another try. `bucket`:
        all objects of this bucket fare alike."""
        super().__init__(what)
        self.may_pass, self.bucket = may_pass, bucket


class AudioMissing(AudioUnreadable):
    """Nothing is there, or not yet."""


class AudioHangs(AudioUnreadable):
    """The directory that it is in does not answer at all."""


class AudioBytes(Protocol):
    """One recording. Both raise AudioChanged and AudioUnreadable."""

    async def size(self) -> int:
        """In bytes, never 0."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Exactly `size` bytes, from the beginning, each chunk checked before it is given: what was changed meanwhile raises
        AudioChanged. Close it (`aclose`) if it is not read to its end."""
        ...


@record
class Settled:
    """The audio is there, whole and readable as audio."""

    identity: str
    """What tells it from whatever is written to its place later, as text that the ledger keeps."""
    extension: str
    """Of its format, without a dot."""
    size: int
    """In bytes."""
    channels: int


@record
class Unsettled:
    """It is not there yet, or is still being written: look again."""

    again_in_s: float
    why: str


@record
class NotDisposed:
    """`after_upload` could not be carried out."""

    why: str
    """What stands in the way, and what to do."""
    is_final: bool = False
    """Another try would find the same: the file is not the uploaded one any more."""


class AudioPlace(Protocol):
    """Audio of one kind of location (location.py), given as the text of a location. `identity`: of the audio that is meant; empty
    where it was never looked at."""

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
        """Whether it can be uploaded. Raises AudioUnreadable and AudioChanged."""
        ...

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        """Exactly the audio that was looked at. Nothing is opened here."""
        ...

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> NotDisposed | None:
        """Carry out `after_upload`: only on that very audio. None: done, or nothing was to do. Raises AudioUnreadable:
        not now."""
        ...
