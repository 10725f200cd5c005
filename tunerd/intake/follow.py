"""Reads on in logs (NDJSON): what has come since they were left. Synchronous, for a worker thread, in turns.

Which log a file is, and from where it is read, is log_identity.py's business; when to look at it, and what becomes durable,
file_reader.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tunerd.call import Document
from tunerd.intake.chain import Chain
from tunerd.intake.framing import Lines
from tunerd.intake.read import CHUNK_BYTES, GZIP_ERRORS, TURN_BYTES, Maker, Opened, Read, Unpacked, gzip_trouble, no_gzip
from tunerd.ledger import FileMark

BATCH_DOCUMENTS: Final = 64
BATCH_BYTES: Final = 1024 * 1024
"""Two batches of a file are in memory at once, parsed and mapped (docs/decisions/memory.md)."""

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


def read_on(
    file: Opened, at: Chain, number: int, *, source: str, max_document_bytes: int, settled_at: float, tail: Tail
) -> Iterator[LogBatch | None]:
    """What stands behind the place `at` which the file is, in batches of at most BATCH_DOCUMENTS and about BATCH_BYTES; at
    least one batch, the last one marked as such. None: a turn is over. `number`: the log's. A mark's size is 0 while
    something is behind it, so that the file never looks like one that is done with."""
    offset = at.at
    maker = Maker(source, file.path, file.stat.st_mtime_ns, settled_at, number)
    lines, chain, unpacked = Lines(max_document_bytes, offset), _LineChain(at), Unpacked(file, max_document_bytes)
    documents: list[Read] = []
    size = turn = count = 0

    def batch(*, last: bool = False, pending: int = 0) -> LogBatch:
        at = lines.line_at
        mark = FileMark(
            source=source, path=file.path, device=file.stat.st_dev, inode=file.stat.st_ino,
            size=file.size if last and not pending else 0, mtime_ns=file.stat.st_mtime_ns,
            ctime_ns=file.stat.st_ctime_ns, offset=at, content=chain.at_line(at), whole=False, log=number,
        )  # fmt: skip
        return LogBatch(documents, mark, pending, last)

    if offset == 0 and (what := no_gzip(file)) is not None:
        documents.append(maker.refuse(0, file.size, b"", "gzip", what))
        yield batch(last=True)
        return
    cut = False
    try:
        while chunk := file.file.read(CHUNK_BYTES):
            chain.enter(chunk)
            for found in lines.feed(chunk):
                for one in found:
                    documents += maker.of_line(one, max_document_bytes)
                    size, count = size + one.length, count + 1
                if len(documents) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                    yield batch()
                    documents, size, turn = [], 0, 0
            unpacked.read(len(chunk), count)
            chain.leave(lines.line_at)
            if lines.in_hole and (hole := file.skip_hole()):
                lines.skip(hole)
                chain.skip(hole)
            turn += len(chunk)
            if unpacked.is_too_much:
                documents.append(maker.refuse(lines.line_at, 0, b"", "gzip", unpacked.what))
                yield batch(last=True)
                return
            if turn >= TURN_BYTES:
                yield None
                turn = 0
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


class _LineChain:
    """The chain at the start of the open line, and at places in the current chunk."""

    def __init__(self, chain: Chain) -> None:
        """`chain` stands at the start of a line."""
        self._chain = chain
        self._chunk, self._chunk_at = b"", chain.at
        self._line = chain.state()

    def enter(self, chunk: bytes) -> None:
        self._chunk, self._chunk_at = chunk, self._chain.at

    def at_line(self, at: int) -> bytes:
        """At the start of the open line: where it stood when the last chunk ended, or in the current chunk."""
        if at > self._line.offset:
            self._feed_to(at)
            self._line = self._chain.state()
        return self._line.stored() if at > 0 else b""

    def leave(self, line_at: int) -> None:
        """The chunk is gone through."""
        self.at_line(line_at)
        self._feed_to(self._chunk_at + len(self._chunk))
        self._chunk = b""

    def skip(self, count: int) -> None:
        """`count` NUL bytes follow the last chunk, and the open line did not begin yet."""
        self._chain.feed_zeros(count)

    def _feed_to(self, at: int) -> None:
        begin = self._chain.at - self._chunk_at
        if (end := at - self._chunk_at) > begin:
            self._chain.feed(memoryview(self._chunk)[begin:end])
