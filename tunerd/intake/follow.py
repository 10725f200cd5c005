"""Reads on in logs (NDJSON): from which offset, and what has come since. Synchronous, for a worker thread.

A log is known by its content: its first 1 KiB and the 1 KiB before the offset have the stored hash, whatever the file is
called, whichever inode it has and whether it is compressed. (The end alone is not enough: records of one length with
like ends stand at the same offset in every generation of a log.) When to look at a log, and what becomes durable, is
source_reader.py's business.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tunerd.call import Document
from tunerd.intake.framing import Lines
from tunerd.intake.read import CHUNK_BYTES, GZIP_ERRORS, Maker, Opened, Read, gzip_trouble, no_gzip
from tunerd.ledger import FileMark

MARKER_BYTES: Final = 1024
BATCH_DOCUMENTS: Final = 256
BATCH_BYTES: Final = 4 * 1024 * 1024

Tail: TypeAlias = Literal["leave", "take", "refuse"]
"""What to do with a last line without newline: leave it to its writer; take it if it is complete JSON; take it, or
refuse it visibly (the offset stays before it, so that its completion is still read)."""


@dataclass(slots=True)
class LogBatch:
    documents: list[Read]
    mark: FileMark
    """The log's mark once these documents are in the ledger."""
    pending: int = 0
    """Bytes behind the mark that are not a complete line; only the last batch has any."""
    last: bool = False


def marker(head: bytes, before: bytes, offset: int) -> bytes:
    """The hash that a log is known by at an offset: `head` begins the content, `before` ends at the offset."""
    if offset == 0:
        return b""
    return hashlib.blake2b(head[: min(MARKER_BYTES, offset)] + before[-MARKER_BYTES:], digest_size=16).digest()


def find_start(file: Opened, candidates: Sequence[FileMark]) -> FileMark | None:
    """The first candidate that this content continues; None: it is a log that nobody knows. Candidates without an
    offset say nothing and are passed over. Leaves the file anywhere."""
    usable = [c for c in candidates if c.offset > 0 and (file.gz or c.offset <= file.size)]
    if not usable:
        return None
    before: dict[int, bytes] = {}
    try:
        head = _head(file)
    except GZIP_ERRORS:
        return None
    for offset in sorted({c.offset for c in usable}):  # ascending: a compressed file is gone through once
        try:
            start = max(0, offset - MARKER_BYTES)
            file.file.seek(start)
            content = _exactly(file, offset - start)
        except GZIP_ERRORS:
            break
        if content is None:
            break
        before[offset] = marker(head, content, offset)
    return next((candidate for candidate in usable if before.get(candidate.offset) == candidate.marker), None)


def _head(file: Opened) -> bytes:
    file.file.seek(0)
    parts, left = [], MARKER_BYTES
    while left > 0 and (part := file.file.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _exactly(file: Opened, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count > 0:
        part = file.file.read(count)
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_on(
    file: Opened, start: FileMark | None, *, source: str, max_document_bytes: int, settled_at: float, tail: Tail
) -> Iterator[LogBatch]:
    """What came after `start` (None: everything), in batches of at most BATCH_DOCUMENTS and about BATCH_BYTES; at
    least one batch, the last one marked as such. A mark's size is 0 while something is behind it, so that the file
    never looks like one that is done with."""
    offset = start.offset if start is not None else 0
    maker = Maker(source, file.path, file.stat.st_mtime_ns, settled_at)
    lines, window = Lines(max_document_bytes, offset), _Window(file, offset)
    documents: list[Read] = []
    size = 0

    def batch(*, last: bool = False, pending: int = 0) -> LogBatch:
        at = lines.line_at
        mark = FileMark(
            source=source, path=file.path, device=file.stat.st_dev, inode=file.stat.st_ino,
            size=file.size if last and not pending else 0, mtime_ns=file.stat.st_mtime_ns,
            offset=at, marker=marker(window.head, window.before(at), at), whole=False,
        )  # fmt: skip
        return LogBatch(documents, mark, pending, last)

    if offset == 0 and (what := no_gzip(file)) is not None:
        documents.append(maker.refuse(0, file.size, b"", "gzip", what))
        yield batch(last=True)
        return
    cut = False
    try:
        while chunk := file.file.read(CHUNK_BYTES):
            window.enter(chunk)
            for found in lines.feed(chunk):
                for one in found:
                    documents += maker.of_line(one, max_document_bytes)
                    size += one.length
                if len(documents) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                    yield batch()
                    documents, size = [], 0
            window.leave(lines.line_at)
            if lines.in_hole and (hole := file.skip_hole()):
                lines.skip(hole)
                window.skip(hole)
    except EOFError:
        cut = True  # a .gz that is still being written: the lines so far are good
    except GZIP_ERRORS as exc:
        documents.append(maker.refuse(lines.line_at, 0, b"", "gzip", gzip_trouble(exc)))
        yield batch(last=True)
        return
    rest = lines.rest()
    if not rest and not cut:
        yield batch(last=True)
        return
    made = maker.of_line(rest[-1], max_document_bytes) if rest and not cut and tail != "leave" else []
    if made and all(isinstance(one, Document) for one in made):
        documents += [*(maker.made_of(hole) for hole in rest[:-1]), *made]
        lines.take_rest()
        yield batch(last=True)
        return
    if tail == "refuse" and cut:
        documents.append(maker.refuse(lines.line_at, 0, b"", "gzip", gzip_trouble(EOFError())))
    elif tail == "refuse":
        documents.append(next(one for one in made if not isinstance(one, Document)))
    yield batch(last=True, pending=sum(one.length for one in rest) or 1)


class _Window:
    """The content just before a line's start, whichever chunk it came in; never more than a chunk and 2 KiB."""

    def __init__(self, file: Opened, offset: int) -> None:
        self.head = b""
        with suppress(*GZIP_ERRORS):
            self.head = _head(file)
        back = min(MARKER_BYTES, offset)
        file.file.seek(offset - back)
        self._edge = (_exactly(file, back) or b"") if back else b""
        """Up to MARKER_BYTES before the chunk."""
        self._kept = self._edge
        """Up to MARKER_BYTES before the line that was open when the last chunk ended."""
        self._chunk, self._chunk_at = b"", offset

    def enter(self, chunk: bytes) -> None:
        self._chunk = chunk

    def skip(self, count: int) -> None:
        """`count` NUL bytes follow the last chunk, and the open line did not begin yet."""
        self._edge = (self._edge + bytes(min(count, MARKER_BYTES)))[-MARKER_BYTES:]
        self._chunk_at += count

    def before(self, at: int) -> bytes:
        """The content before `at`: a place in the current chunk, its start, or the start of the open line."""
        within = at - self._chunk_at
        if within < 0:
            return self._kept
        return (self._edge + self._chunk[max(0, within - MARKER_BYTES) : within])[-MARKER_BYTES:]

    def leave(self, line_at: int) -> None:
        self._kept = self.before(line_at)
        self._edge = (self._edge + self._chunk[-MARKER_BYTES:])[-MARKER_BYTES:]
        self._chunk_at += len(self._chunk)
        self._chunk = b""
