"""A recording as bytes, wherever they are: what delivery/ asks of a file, a spool entry or an object in a bucket."""

from collections.abc import AsyncIterator
from typing import Protocol


class AudioChanged(Exception):
    """It is not what it was when the call got it: another recording may stand there now. `str()` says what, and what to do."""


class AudioUnreadable(Exception):
    """It cannot be read, or is no audio. `str()` says why, and what to do."""

    def __init__(self, what: str, *, may_pass: bool = False) -> None:
        """`may_pass`: for no fault of the file (a mount that is not there, a disk error), so it is worth another try."""
        super().__init__(what)
        self.may_pass = may_pass


class AudioBytes(Protocol):
    """One recording. Both raise AudioChanged and AudioUnreadable."""

    async def size(self) -> int:
        """In bytes, never 0."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Exactly `size` bytes, from the beginning, each chunk checked before it is given: what was changed meanwhile raises
        AudioChanged. Close it (`aclose`) if it is not read to its end."""
        ...
