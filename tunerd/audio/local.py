"""Reads recordings from this machine's disk: only below directories that the configuration names, and only the file that it was
when the call got it. Which file belongs to a call is decided elsewhere.
"""

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from tunerd.audio.audio_bytes import AudioChanged, AudioMissing, AudioUnreadable
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.header import HEAD_BYTES, AudioHeader, read_header
from tunerd.file_identity import FileIdentity
from tunerd.record import positional_record
from tunerd.source_tree import LeavesSource, OpenTree, SourceTree

CHUNK_BYTES: Final = 256 * 1024
_AT_ONCE: Final = 4
"""Chunks that are read in one turn of a thread: each turn opens the file, and costs the event loop more than the reading."""

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a symbolic link"),
)


@positional_record
class OpenAudio:
    """A regular file that is open for reading, with its identity when it was opened."""

    path: str
    fd: int
    identity: FileIdentity

    def read(self, offset: int, length: int) -> bytes:
        """Raises AudioChanged if the file is not what it was when it was opened, also if it changed while this read."""
        with _explained(self.path):
            data, at = os.pread(self.fd, length, offset), os.fstat(self.fd)
        if FileIdentity.of(at) != self.identity:
            raise _changed(self.path)
        return data

    def header(self) -> AudioHeader:
        """Raises AudioUnreadable if it is empty or no audio, and AudioChanged."""
        if self.identity.size == 0:
            raise AudioUnreadable(f"{self.path} is empty; see why nothing was recorded")
        found = read_header(self.read(0, HEAD_BYTES))
        if found is None:
            what = "its first bytes are not those of WAV, Ogg, FLAC, MP3, M4A or WebM"
            raise AudioUnreadable(f"{self.path} is no audio: {what}; correct the rule that names it, or convert it")
        return found


class AudioDirectories:
    """The directories that recordings of a source may be read from. Blocking, for threads."""

    def __init__(self, directories: Sequence[str]) -> None:
        """Absolute paths. A link that stays inside its directory is followed; each of these paths may itself be a link."""
        trees = [SourceTree(directory) for directory in dict.fromkeys(directories)]
        self._trees = sorted(trees, key=lambda tree: len(tree.root), reverse=True)

    @contextmanager
    def opened(self, path: str, expected: FileIdentity | None = None) -> Iterator[OpenAudio]:
        """Raises AudioUnreadable, and AudioChanged if it is not the `expected` file in the same state."""
        tree, relative = self.place(path)
        with _explained(path), self.opened_root(tree) as inside:
            fd = inside.open(relative)
        try:
            with _explained(path):  # a network file system may have lost it since
                at = os.fstat(fd)
            if not stat.S_ISREG(at.st_mode):
                raise _no_file(path, at.st_mode)
            identity = FileIdentity.of(at)
            if expected is not None and identity != expected:
                raise _changed(path)
            yield OpenAudio(path, fd, identity)
        finally:
            os.close(fd)

    @contextmanager
    def opened_root(self, tree: SourceTree) -> Iterator[OpenTree]:
        """One of the directories. Raises AudioUnreadable where it is not there."""
        with ExitStack() as stack:
            try:
                inside = stack.enter_context(tree.opened())
            except OSError as exc:
                what = (
                    f"the directory {tree.root} cannot be opened ({exc.strerror}); mount it, or give tunerd the right to read it"
                )
                raise AudioUnreadable(what, may_pass=True) from exc
            yield inside

    def root_of(self, path: str) -> str:
        """Which of the directories holds a path. Raises AudioUnreadable."""
        return self.place(path)[0].root

    def place(self, path: str) -> tuple[SourceTree, str]:
        """The innermost directory that holds an absolute path, and the path below it. Raises AudioUnreadable."""
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise AudioUnreadable("its path is not absolute, or has `..` in it; correct the rule that names it")
        for tree in self._trees:
            if path.startswith(below := tree.root.rstrip("/") + "/"):
                return tree, path[len(below) :]
        raise AudioUnreadable(
            f"{path} is in none of the directories that recordings are read from; name its directory under `audio.files` or `in`"
        )


class LocalAudio:
    """One file as AudioBytes. It is opened anew for each turn of reading, so that a slow upload keeps no file system mounted."""

    def __init__(self, directories: AudioDirectories, path: str, identity: FileIdentity, threads: DirectoryThreads) -> None:
        self._directories, self._path, self._identity, self._threads = directories, path, identity, threads

    async def size(self) -> int:
        await self._chunk(0, 1)
        return self._identity.size

    async def chunks(self) -> AsyncIterator[bytes]:
        offset = 0
        while offset < self._identity.size:
            read = memoryview(await self._chunk(offset, _AT_ONCE * CHUNK_BYTES))
            offset += len(read)
            for begin in range(0, len(read), CHUNK_BYTES):
                yield bytes(read[begin : begin + CHUNK_BYTES])

    async def _chunk(self, offset: int, length: int) -> bytes:
        return await self._threads.run(self._directories.root_of(self._path), lambda: self._read(offset, length))

    def _read(self, offset: int, length: int) -> bytes:
        with self._directories.opened(self._path, self._identity) as audio:
            chunk = audio.read(offset, length)
        if not chunk:
            raise _changed(self._path)
        return chunk


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What the system says of a file, in words for a person who is to do something about it."""
    try:
        yield
    except LeavesSource as exc:
        what = f"{path} {exc.why} it has to be in; put the file itself there, or let the rule name the file behind the link"
        raise AudioUnreadable(what) from exc
    except OSError as exc:
        raise _trouble(path, exc) from exc


def _trouble(path: str, exc: OSError) -> AudioUnreadable:
    match exc.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return AudioMissing(f"there is no file {path}; whoever removes recordings has to wait until they are uploaded")
        case errno.EACCES | errno.EPERM:
            return AudioUnreadable(f"no permission to read {path}; give tunerd's user the right to read it")
        case errno.ELOOP:
            return AudioUnreadable(f"{path} is a symbolic link that leads in a circle; put the file itself there")
        case errno.ENXIO:
            return _no_file(path, stat.S_IFSOCK)
        case errno.ENAMETOOLONG:
            return AudioUnreadable(f"the name {path[:100]}... is too long for a file; correct the rule that names it")
        case _:
            return AudioUnreadable(
                f"{path} cannot be read ({exc.strerror}); check the disk or mount that it is on", may_pass=True
            )


def _no_file(path: str, mode: int) -> AudioUnreadable:
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
    return AudioUnreadable(f"{path} is {kind}, not a file; correct the rule that names it")


def _changed(path: str) -> AudioChanged:
    return AudioChanged(
        f"{path} is not the file that belongs to the call any more: it was changed or overwritten. "
        "Let each call record to a file of its own"
    )
