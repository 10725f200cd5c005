"""Reads on in logs (NDJSON): what has come since they were left. Synchronous, for a worker thread, in turns.

Which log a file is, and from where it is read, is log_identity.py's business; when to look at it, and what becomes durable,
file_reader.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tunerd.call import Document
from tunerd.intake.chain import Chain
from tunerd.intake.document_maker import DocumentMaker, Read
from tunerd.intake.framing import Lines
from tunerd.intake.opened import CHUNK_BYTES, GZIP_ERRORS, TURN_BYTES, Opened, Unpacked, gzip_trouble, no_gzip
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
    maker = DocumentMaker(source, file.path, file.stat.st_mtime_ns, settled_at, number)
    reading = _Reading(file, maker, at, max_document_bytes)
    if at.at == 0 and (what := no_gzip(file)) is not None:
        yield reading.refused(maker.refuse(0, file.size, b"", "gzip", what))
        return
    is_cut = False
    try:
        yield from reading.lines_so_far()
    except EOFError:
        is_cut = True  # a .gz that is still being written: the lines so far are good
    except GZIP_ERRORS as exc:
        yield reading.refused(maker.refuse(reading.lines.line_at, 0, b"", "gzip", gzip_trouble(exc)))
        return
    if not reading.is_over:
        yield reading.ending(tail, is_cut=is_cut)


class _Reading:
    """The lines of one log from a place on."""

    def __init__(self, file: Opened, maker: DocumentMaker, at: Chain, max_document_bytes: int) -> None:
        self._file, self._maker, self._most = file, maker, max_document_bytes
        self.lines = Lines(max_document_bytes, at.at)
        self._chain, self._unpacked = _LineChain(at), Unpacked(file, max_document_bytes)
        self._documents: list[Read] = []
        self._size = 0
        self.is_over = False
        """What comes behind is not read."""

    def lines_so_far(self) -> Iterator[LogBatch | None]:
        """Batches of whole lines; the last lines are kept for `ending`. Raises what gzip raises."""
        turn = count = 0
        while chunk := self._file.file.read(CHUNK_BYTES):
            self._chain.enter(chunk)
            for found in self.lines.feed(chunk):
                for one in found:
                    self._documents += self._maker.of_line(one, self._most)
                    self._size, count = self._size + one.length, count + 1
                if len(self._documents) >= BATCH_DOCUMENTS or self._size >= BATCH_BYTES:
                    yield self._batch()
                    self._documents, self._size, turn = [], 0, 0
            self._unpacked.read(len(chunk), count)
            self._chain.leave(self.lines.line_at)
            if self.lines.in_hole and (hole := self._file.skip_hole()):
                self.lines.skip(hole)
                self._chain.skip(hole)
            turn += len(chunk)
            if self._unpacked.is_too_much:
                self.is_over = True
                yield self.refused(self._maker.refuse(self.lines.line_at, 0, b"", "gzip", self._unpacked.what))
                return
            if turn >= TURN_BYTES:
                yield None
                turn = 0

    def ending(self, tail: Tail, *, is_cut: bool) -> LogBatch:
        """The last batch. `is_cut`: the compressed content ends too early."""
        rest = self.lines.rest()
        if not rest and not is_cut:
            return self._batch(last=True)
        made = self._maker.of_line(rest[-1], self._most) if rest and not is_cut and tail != "leave" else []
        if made and all(isinstance(one, Document) for one in made):
            self._documents += [*(self._maker.made_of(hole) for hole in rest[:-1]), *made]
            self.lines.take_rest()
            return self._batch(last=True)
        if tail == "refuse" and is_cut:
            self._documents.append(self._maker.refuse(self.lines.line_at, 0, b"", "gzip", gzip_trouble(EOFError())))
        elif tail == "refuse":
            self._documents.append(next(one for one in made if not isinstance(one, Document)))
        return self._batch(last=True, pending=sum(one.length for one in rest) or 1)

    def refused(self, refusal: Read) -> LogBatch:
        """The last batch: what is behind this cannot be read."""
        self._documents.append(refusal)
        return self._batch(last=True)

    def _batch(self, *, last: bool = False, pending: int = 0) -> LogBatch:
        at, file = self.lines.line_at, self._file
        mark = FileMark(
            source=self._maker.source, path=file.path, device=file.stat.st_dev, inode=file.stat.st_ino,
            size=file.size if last and not pending else 0, mtime_ns=file.stat.st_mtime_ns,
            ctime_ns=file.stat.st_ctime_ns, offset=at, content=self._chain.at_line(at), whole=False, log=self._maker.log,
        )  # fmt: skip
        return LogBatch(self._documents, mark, pending, last)


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
