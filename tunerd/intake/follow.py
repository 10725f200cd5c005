"""Reads on in logs (NDJSON): from which offset, and what has come since. Synchronous, for a worker thread.

A log is known by its content: the chain of hashes (chain.py) up to the offset is the stored one, whatever the file is called,
whichever inode it has and whether it is compressed. When to look at a log, and what becomes durable, is source_reader.py's
business.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tunerd.call import Document
from tunerd.intake.chain import BLOCK_BYTES, HEAD_BYTES, Chain, ChainState, head_hash
from tunerd.intake.framing import Lines
from tunerd.intake.read import CHUNK_BYTES, GZIP_ERRORS, Maker, Opened, Read, gzip_trouble, no_gzip
from tunerd.ledger import FileMark

_WHOLE_CHAIN_BYTES: Final = 16 * 1024 * 1024
"""Up to here a log is compared as a whole at each look; of a larger one in the same inode its beginning and end are."""
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


def find_start(file: Opened, candidates: Sequence[FileMark]) -> FileMark | None:
    """The first candidate that this content continues; None: it is a log that nobody knows. Candidates without an
    offset say nothing and are passed over. Leaves the file anywhere."""
    usable = [
        (mark, state)
        for mark in candidates
        if (state := ChainState.of(mark.content, mark.offset)) is not None and (file.gz or mark.offset <= file.size)
    ]
    if not usable:
        return None
    own, state = usable[0]
    if (
        not file.gz
        and own.inode == file.stat.st_ino
        and state.offset > _WHOLE_CHAIN_BYTES
        and _begins_and_ends_alike(file, state)
    ):
        return own
    try:
        head = head_hash(_exactly(file, 0, HEAD_BYTES, cut=True) or b"")
        usable = [(mark, state) for mark, state in usable if state.head == head]
        fitting = _fitting(file, {state for _, state in usable})
    except GZIP_ERRORS:
        return None
    return next((mark for mark, state in usable if state in fitting), None)


def _fitting(file: Opened, states: set[ChainState]) -> set[ChainState]:
    """Those of the states that the content has at their offsets; it is gone through once."""
    fitting: set[ChainState] = set()
    chain, open_states = Chain(), sorted(states, key=lambda state: state.offset)
    file.file.seek(0)
    while open_states:
        ends_at = open_states[0].offset
        while chain.at < ends_at:
            step = min(CHUNK_BYTES, ends_at - chain.at)
            chunk = file.file.read(step)
            if not chunk:
                return fitting
            chain.feed(chunk)
            first = chain.state().first
            if chain.at >= BLOCK_BYTES:
                open_states = [s for s in open_states if s.blocks_end == 0 or s.first == first]
                if not open_states or open_states[0].offset != ends_at:
                    break
        fitting |= {state for state in open_states if state == chain.state()}
        open_states = [state for state in open_states if state.offset > chain.at]
    return fitting


def _begins_and_ends_alike(file: Opened, state: ChainState) -> bool:
    first = _exactly(file, 0, BLOCK_BYTES)
    end = _exactly(file, state.blocks_end - BLOCK_BYTES, state.offset - state.blocks_end + BLOCK_BYTES)
    if first is None or end is None:
        return False
    begins, ends = Chain(), Chain()
    begins.feed(first)
    ends.feed(end)
    found = ends.state()
    return begins.state().first == state.first and found.first == state.last and found.tail == state.tail


def _exactly(file: Opened, start: int, count: int, *, cut: bool = False) -> bytes | None:
    """The bytes of a place; None where there are not so many, or with `cut` as many as there are."""
    file.file.seek(start)
    parts: list[bytes] = []
    while count > 0:
        part = file.file.read(count)
        if not part:
            return b"".join(parts) if cut else None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_on(
    file: Opened, start: FileMark | None, number: int, *, source: str, max_document_bytes: int, settled_at: float, tail: Tail
) -> Iterator[LogBatch]:
    """What came after `start` (None: everything), in batches of at most BATCH_DOCUMENTS and about BATCH_BYTES; at
    least one batch, the last one marked as such. `number`: the log's. A mark's size is 0 while something is behind it, so
    that the file never looks like one that is done with."""
    offset = start.offset if start is not None else 0
    maker = Maker(source, file.path, file.stat.st_mtime_ns, settled_at, number)
    lines, chain = Lines(max_document_bytes, offset), _LineChain(file, start)
    documents: list[Read] = []
    size = 0

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
                    size += one.length
                if len(documents) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                    yield batch()
                    documents, size = [], 0
            chain.leave(lines.line_at)
            if lines.in_hole and (hole := file.skip_hole()):
                lines.skip(hole)
                chain.skip(hole)
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

    def __init__(self, file: Opened, start: FileMark | None) -> None:
        state = ChainState.of(start.content, start.offset) if start is not None else None
        self._chain = Chain() if state is None else Chain.resumed(state)
        offset = start.offset if start is not None else 0
        with suppress(*GZIP_ERRORS):
            while self._chain.at < offset and (part := _exactly(file, self._chain.at, min(CHUNK_BYTES, offset - self._chain.at))):
                self._chain.feed(part)
        file.file.seek(offset)
        self._chunk, self._chunk_at = b"", offset
        self._line = self._chain.state()

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
