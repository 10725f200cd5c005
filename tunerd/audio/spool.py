"""The spool: audio that came inside documents, as files beside the ledger until it is uploaded. Blocking, for threads.

It is bounded. The name of an entry follows from the place of its document and its content: the same document that is read again
has the same entry, and no two recordings share one. Which entries somebody refers to, the ledger knows.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tunerd.call import Recording
from tunerd.file_identity import FileIdentity

PREFIX: Final = "embedded:"
"""Of a location in the spool (location.py)."""
_NEW: Final = ".new-"
_NAME_CHARS: Final = 40
_FRESH_SWEEPS: Final = 1000
"""How many sweeps an entry is kept whose document is being admitted (the ledger may be full, or not writable, for hours)."""


class SpoolFull(ValueError):
    """There is no room for the audio now. `str()` says how much there is."""


class EntryTooLarge(ValueError):
    """The audio of one document is more than an empty spool holds. `str()` says what to do."""


class AudioSpool:
    """One directory. Use it from any thread."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self._lock = threading.RLock()
        self._used: int | None = None
        """Bytes of all entries, and of those that are being written; None: not counted yet."""
        self._fresh: dict[str, int] = {}
        """Entries that were made since the start and that the ledger does not know yet -> how many sweeps still leave them."""

    def add(self, place: str, chunks: Iterable[bytes], *, beside: int = 0) -> tuple[str, FileIdentity]:
        """Keep the audio of the document at this place: the location and identity of its entry, which is on disk when this
        returns. `beside`: bytes that the same document put into the spool before. Raises SpoolFull, EntryTooLarge, OSError, and
        what the chunks raise; nothing is left of it then."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        new = os.path.join(self.directory, _NEW + secrets.token_hex(8))
        hashed, written = hashlib.sha256(place.encode("utf-8", "surrogateescape") + b"\0"), 0
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                for chunk in chunks:
                    self._check_fits(beside + written + len(chunk))
                    self._reserve(len(chunk))
                    written += len(chunk)
                    hashed.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(fd)
            name = hashed.hexdigest()[:_NAME_CHARS]
            path = self.path_of(PREFIX + name)
            with self._lock:
                self._fresh[name] = _FRESH_SWEEPS
                is_known = os.path.exists(path)  # the document was read before; a call may have this very file
                os.unlink(new) if is_known else os.rename(new, path)
            _sync(self.directory)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(new)
            self._give_back(written)
            raise
        if is_known:
            self._give_back(written)
        return PREFIX + name, FileIdentity.of(os.stat(path))

    def keep(self, recording: Recording) -> Recording:
        """The recording with the audio that its document holds in the spool. Raises as `add`."""
        origin = recording.origin
        location, identity = self.add(f"{origin.path}@{origin.offset}", [recording.embedded])
        return replace(recording, location=location, embedded=b"", identity=str(identity))

    def answered(self, location: str) -> None:
        """The document of this entry is admitted or refused: if the ledger does not know the entry by now, nobody needs it. The
        next sweep leaves it all the same, as it may have asked the ledger before."""
        with self._lock:
            name = location.removeprefix(PREFIX)
            if name in self._fresh:
                self._fresh[name] = 1

    def path_of(self, location: str) -> str:
        """Of an entry, by its location."""
        return os.path.join(self.directory, os.path.basename(location.removeprefix(PREFIX)))

    def remove(self, location: str) -> None:
        """It is uploaded, or belongs to nobody."""
        path = self.path_of(location)
        with suppress(FileNotFoundError):
            size = os.stat(path).st_size
            os.unlink(path)
            self._give_back(size)

    def locations(self) -> list[str]:
        """Of all entries."""
        return [PREFIX + name for name in self._names() if not name.startswith(_NEW)]

    def sweep(self, known: Collection[str]) -> int:
        """Remove entries that the ledger does not know (`known`: locations of those that it does), but for those that were made
        since the start and did not get there yet. How many that were."""
        removed = 0
        for location in self.locations():
            name = location.removeprefix(PREFIX)
            with self._lock:
                sweeps = self._fresh.pop(name, 0)
                if location in known:
                    continue
                if sweeps:
                    self._fresh[name] = sweeps - 1
                else:
                    self.remove(location)
                    removed += 1
        return removed

    def clear_unfinished(self) -> None:
        """At the start: what a kill left half written."""
        for name in self._names():
            if name.startswith(_NEW):
                os.unlink(os.path.join(self.directory, name))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.directory)
        except FileNotFoundError:
            return []

    def _check_fits(self, size: int) -> None:
        if size > self.max_bytes:
            raise EntryTooLarge(
                f"the audio in the document is larger than all that ledger.max_spool allows ({self.max_bytes:,} bytes): raise "
                "it, then run `tunerd retry`"
            )

    def _reserve(self, size: int) -> None:
        with self._lock:
            if self._used is None:
                self._used = sum(os.stat(self.path_of(location)).st_size for location in self.locations())
            if self._used + size > self.max_bytes:
                what = f"audio from documents holds {self._used:,} bytes, and {size:,} more are not allowed"
                raise SpoolFull(f"{what} (ledger.max_spool is {self.max_bytes:,}); it is read when others are uploaded")
            self._used += size

    def _give_back(self, size: int) -> None:
        with self._lock:
            if self._used is not None:
                self._used -= size


class MeasuringSpool(AudioSpool):
    """For commands that show what becomes of a document: its audio is measured as in the spool, and kept nowhere."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__("", max_bytes)

    def add(self, place: str, chunks: Iterable[bytes], *, beside: int = 0) -> tuple[str, FileIdentity]:
        """Raises EntryTooLarge, and what the chunks raise."""
        hashed, written = hashlib.sha256(), 0
        for chunk in chunks:
            self._check_fits(beside + written + len(chunk))
            hashed.update(chunk)
            written += len(chunk)
        return PREFIX + hashed.hexdigest()[:_NAME_CHARS], FileIdentity(0, 0, written, 0, 0)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
