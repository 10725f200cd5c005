"""Opens a file and reads its content: plain or compressed, with holes, by descriptor. Synchronous, for threads and commands.

What documents are in it is for read.py and follow.py.
"""

import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, Literal

from tunerd.intake.framing import looks_like_log, parse_form
from tunerd.record import positional_record

CHUNK_BYTES: Final = 256 * 1024
TURN_BYTES: Final = 4 * 1024 * 1024
"""The most that is read in one turn without finding a document: about 10 ms, or 30 ms if compressed."""
_UNPACKED_DOCUMENTS: Final = 64
"""Compressed content without a document in it may be at most this many times `max_document` long."""
_HEAD_BYTES: Final = 64 * 1024
GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_ERRORS: Final = (EOFError, gzip.BadGzipFile, zlib.error)
_TEXT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*(?:[{\[]|\Z)")


class Odd(Exception):
    """The name is no regular file (any more)."""


@positional_record
class Opened:
    """A regular file, open for reading, with its stat from the open descriptor."""

    path: str
    file: IO[bytes]
    stat: os.stat_result
    gz: bool
    raw_fd: int
    named_gz: bool

    @property
    def size(self) -> int:
        return self.stat.st_size

    def skip_hole(self) -> int:
        """Pass over what was never written (a sparse file reads as NUL bytes there), up to the next data or the end;
        how many bytes that is. 0 where the file system does not tell."""
        if self.gz:
            return 0
        size, at = os.fstat(self.raw_fd).st_size, self.file.tell()
        try:
            to = os.lseek(self.raw_fd, at, os.SEEK_DATA)
        except OSError as exc:
            to = max(at, size) if exc.errno == errno.ENXIO else at  # ENXIO: no data up to the end, as it was before we asked
        self.file.seek(to)
        return to - at


class _OwnPosition(io.RawIOBase):
    """Reads a descriptor, and closes it at the end. A duplicate shares its position with the descriptor it was made of, which
    somebody else may be reading at the same time (FollowedLogs): so the position is kept here, and that one is never used."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd, self._at = fd, 0

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}
        self._at = offset + (begins[whence] if whence in begins else os.fstat(self._fd).st_size)
        return self._at

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self.readall()
        data = os.pread(self._fd, size, self._at)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._fd, [buffer], self._at)
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


@contextmanager
def opened(path: str) -> Iterator[Opened]:
    """Open a regular file; the content is what is in it after decompression. Raises Odd (a FIFO or device never
    blocks) and OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # a socket
            raise Odd(path) from exc
        raise
    with of_descriptor(fd, path) as file:
        yield file


@contextmanager
def of_descriptor(fd: int, path: str) -> Iterator[Opened]:
    """The same of an open descriptor, which is closed at the end. Raises Odd."""
    at = os.fstat(fd)
    if not stat.S_ISREG(at.st_mode):
        os.close(fd)
        raise Odd(path)
    with _OwnPosition(fd) as raw:
        named_gz = path.endswith(".gz")
        gz = os.pread(fd, 2, 0) == GZIP_MAGIC if named_gz or at.st_size >= 18 else False
        content: IO[bytes] = raw  # type: ignore[assignment]
        if gz:
            content = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        elif named_gz and at.st_size < 2:  # even its first two bytes are still to come
            content = io.BytesIO()
        yield Opened(path, content, at, gz, fd, named_gz)


def head_of(file: Opened) -> bytes:
    """The first bytes of content behind NUL bytes; the file is at its start again afterwards. As much as there is of
    a cut .gz."""
    head = b""
    try:
        while not head and (chunk := b"".join(chunks(file, _HEAD_BYTES, _HEAD_BYTES))):
            if not (head := chunk.lstrip(b"\0")):
                file.skip_hole()
    except GZIP_ERRORS:
        pass
    file.file.seek(0)
    return head


def is_log(file: Opened, by_name: Literal["log", "whole"] | None) -> bool:
    """Whether to follow the file as a log; its content decides where its name does not."""
    return by_name == "log" if by_name is not None else looks_like_log(head_of(file))


def no_gzip(file: Opened) -> str | None:
    """Why a file with .gz in its name cannot be read; None: it can, as gzip or as the plain text that it is. Leaves the
    file at its start."""
    if not file.named_gz or file.gz or _TEXT_START.match(head := head_of(file)) or parse_form(head) is not None:
        return None
    return "named .gz, but it is no gzip file (the bytes 1f 8b do not begin it); compress it again, or take .gz off its name"


def gzip_trouble(exc: Exception) -> str:
    """What is wrong with compressed data, and what to do: for a refusal."""
    if isinstance(exc, EOFError):
        return "the gzip data ends in the middle; compress the file again, and rename it into place when it is whole"
    return f"damaged gzip data ({type(exc).__name__}); compress the file again"


class Unpacked:
    """How much of compressed content came out since the last document: a small file may hold any number of blanks."""

    def __init__(self, file: Opened, max_document_bytes: int) -> None:
        self._is_packed, self._most = file.gz, _UNPACKED_DOCUMENTS * max_document_bytes
        self._without, self._last_at = 0, -1

    def read(self, count: int, document_at: int) -> None:
        """`count` bytes more; `document_at` grows with each document."""
        self._without = self._without + count if document_at == self._last_at else 0
        self._last_at = document_at

    @property
    def is_too_much(self) -> bool:
        return self._is_packed and self._without > self._most

    @property
    def what(self) -> str:
        return (
            f"{self._without:,} bytes were unpacked, and there is no document in them (that is {_UNPACKED_DOCUMENTS} times "
            "max_document); the rest of the file is not read. Compress a file of call documents, or raise max_document"
        )


def chunks(file: Opened, limit: int | None = None, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    got = 0
    while limit is None or got < limit:
        chunk = file.file.read(size if limit is None else min(size, limit - got))
        if not chunk:
            return
        got += len(chunk)
        yield chunk
