"""The bytes of one recording, wherever they are: what a place that holds audio promises to the one who uploads it.

local.py has files and entries of the spool, objects.py the objects of buckets. Nothing here touches a disk or a network.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias


class AudioMissing(Exception):
    """Nothing is there, or not yet. The message says what is not there, without the location."""


class AudioUnreadable(Exception):
    """It cannot be read as it is. The message says why and what to do, without the location."""


class AudioChanged(Exception):
    """Other bytes are there than those that were meant. The message says what differs."""


class AudioBytes(Protocol):
    """One recording that is open. While it is open, all of this speaks of the same bytes: a file that is replaced under its name
    does not change them, and one that is written to raises AudioChanged."""

    @property
    def identity(self) -> str:
        """What tells these bytes from others at the same place, as text that the ledger keeps: of a file JSON of device, inode,
        size, mtime_ns and ctime_ns; of an object its ETag and size."""
        ...

    @property
    def changed_at(self) -> float | None:
        """When they were written last (Unix seconds), where they may still be written to; None: they are complete."""
        ...

    async def size(self) -> int:
        """In bytes."""
        ...

    async def head(self, count: int) -> bytes:
        """The first `count` bytes; fewer only if there are no more."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """All bytes from the first one, in pieces of at most 256 KiB; exactly `size` bytes. Raises AudioUnreadable, and
        AudioChanged, also behind the last piece: what was given is then not to be used."""
        ...


OpenAudio: TypeAlias = "Callable[[str, Sequence[str], str | None], AbstractAsyncContextManager[AudioBytes]]"
"""(text of a location, absolute directories that a file has to be below, identity) -> its bytes, closed at the end.

With an identity they are those, or AudioChanged is raised. Raises AudioMissing, AudioUnreadable and AudioChanged on entering."""
