"""One look at one file: is it settled, what kind is it, and the documents in it that are not known yet. Synchronous,
for a worker thread; each answer is a value, and source_reader.py acts on it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, TypeAlias

from tunerd.call import RefusedDocument
from tunerd.config import Source
from tunerd.intake.content import content_hash
from tunerd.intake.due_queue import Due
from tunerd.intake.file_index import FileIndex
from tunerd.intake.follow import BATCH_BYTES, BATCH_DOCUMENTS, Tail, find_start, read_on
from tunerd.intake.read import Incomplete, Odd, Opened, Read, is_log, of_descriptor, read_whole
from tunerd.intake.scan import Names, signature, signature_of, why_odd
from tunerd.intake.source_tree import LeavesSource, SourceTree
from tunerd.ledger import FileMark

LARGE_BYTES: Final = 256 * 1024
_COARSE_S: Final = 2.5
"""FAT's stamps are of two seconds."""
_RACY_NS: Final = 20_000_000
"""Two writes within the file system's time grain leave the same mtime; an event then says more than the stat."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Gone, or as it was when it was read."""


@dataclass(frozen=True, slots=True)
class NotRegular:
    """Not a regular file of the directory."""

    why: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A whole file was read at this path, and its stat is no proof that this is it: ask the ledger for its mark, and then
    `compare`."""


@dataclass(frozen=True, slots=True)
class Recognized:
    """The file that was read: it had vanished, or it was given another owner, linked, copied over itself, restored."""

    mark: FileMark
    """By which it is known from now on."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that `ignore_older` leaves out, and still does."""

    signature: int


@dataclass(frozen=True, slots=True)
class Later:
    """Not settled, or not complete: look again in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Large:
    """There is a lot to read: take a turn among the large ones, then ask for the batches."""


@dataclass(slots=True)
class Batch:
    documents: Sequence[Read]
    mark: FileMark | None
    """Becomes durable with these documents; None while more of a whole file follows."""
    first: bool
    last: bool
    later_s: float | None = None
    """Look again then: something behind the last document is not complete."""
    refused_tail: int | None = None
    """The unfinished last line was refused at this signature."""
    continues: FileMark | None = None
    """Of a log: the mark that it goes on from."""
    same_log: str | None = None
    """Of a log's first batch: the path it had when its offset was stored, where it surely is that log."""


Look: TypeAlias = Unchanged | NotRegular | Compare | Recognized | LeftOut | Later | Large | Batch


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a visit; `final` reads whatever is complete without any delay."""

    wall: float
    monotonic: float
    final: bool = False


class Inspection:
    """Use: `look()`; after a Compare `compare()`; after a Large or a Batch that is not the last, `more()` until one is;
    always `close()`."""

    def __init__(self, source: Source, tree: SourceTree, names: Names, due: Due, now: Now, index: FileIndex) -> None:
        self._source, self._tree, self._names, self._due, self._now = source, tree, names, due, now
        self._index, self._own = index, index.logs.get(due.path)
        self._refused_tail = index.refused_tails.get(due.path)
        self._path = os.path.join(tree.root, due.path)
        self._open = ExitStack()
        self._file: Opened | None = None
        self._batches: Iterator[Batch] = iter(())
        self._quiet_s = 0.0

    def close(self) -> None:
        self._open.close()

    def look(self) -> Look:
        """Raises OSError where the file cannot be read now."""
        return self._closed_unless_going_on(self._look())

    def compare(self, stored: FileMark | None) -> Look:
        """What a whole file is whose stat proves nothing; `stored`: the ledger's mark of its path. Raises OSError."""
        return self._closed_unless_going_on(self._compare(stored))

    def _closed_unless_going_on(self, look: Look) -> Look:
        if not (isinstance(look, Large | Compare) or (isinstance(look, Batch) and not look.last)):
            self.close()
        return look

    def _look(self) -> Look:
        try:
            with self._tree.opened() as inside:
                if (why := why_odd(inside, self._due.path)) is not None:
                    return NotRegular(why)
                fd = inside.open(self._due.path)
            file = self._file = self._open.enter_context(of_descriptor(fd, self._path))
        except LeavesSource as exc:
            return NotRegular(exc.why)
        except (FileNotFoundError, NotADirectoryError):
            return Unchanged()
        except Odd:
            return NotRegular("is not a regular file")
        at, due, now = file.stat, self._due, self._now
        sign = signature_of(at)
        # Of a whole file that was closed or moved here the content is compared; a log is read on from where it was left.
        is_doubtful = due.closed and (self._own is None or 0 <= now.wall * 1e9 - at.st_mtime_ns < _RACY_NS)
        if (self._index.is_as_read(due.path, sign) and not is_doubtful) or sign == self._refused_tail:
            return Unchanged()
        if due.signature != sign or due.since is None:
            due.signature, due.since, due.read = sign, now.monotonic, False
        # Unchanged since the file's own times say so (a backlog is read at once), or since we watch it.
        self._quiet_s = max(now.wall - max(at.st_mtime, at.st_ctime), now.monotonic - due.since, 0.0)
        log = is_log(file, self._names.kind(due.path))
        if not (log or due.closed or now.final) and self._quiet_s < self._source.settle_s:
            return Later(self._source.settle_s - self._quiet_s)
        if not log and self._own is None and self._index.was_read(due.path):
            return Compare()
        return self._read(file, log=log)

    def _compare(self, stored: FileMark | None) -> Look:
        file, path = self._file, self._due.path
        if file is None:
            return Unchanged()
        sign = signature_of(file.stat)
        if stored is None:
            older_s = self._source.ignore_older_s
            if older_s is not None and path in self._index.signatures and file.stat.st_mtime < self._now.wall - older_s:
                return LeftOut(sign)
        elif stored.whole and not self._due.closed and _signature_of_mark(stored) == sign:
            return Recognized(stored)  # it had vanished, with its directory or file system
        elif stored.whole and stored.content and content_hash(file.raw_fd) == stored.content and self._is_still(file):
            self._index.compared(path, sign, is_equal=True)
            return Unchanged() if self._index.signatures.get(path) == sign else Recognized(self._mark(file, stored.content))
        else:
            self._index.compared(path, sign, is_equal=False)
        return self._read(file, log=False)

    def _read(self, file: Opened, *, log: bool) -> Look:
        expired = self._quiet_s >= self._source.settle_timeout_s
        if self._due.read and not expired and not self._now.final:
            return Later(self._next_look_s())
        self._batches = self._log(file, expired=expired) if log else self._whole(file, expired=expired)
        if self._to_read(file, log=log) > LARGE_BYTES:
            return Large()
        return self.more()

    def more(self) -> Batch | Later:
        """The next batch. Raises OSError."""
        try:
            return next(self._batches)
        except Incomplete:
            self._due.read = True
            return Later(self._next_look_s())

    def _to_read(self, file: Opened, *, log: bool) -> int:
        if file.gz:
            return file.size * 8
        return file.size - (self._own.offset if log and self._own is not None and self._own.offset <= file.size else 0)

    def _next_look_s(self) -> float:
        """Soon while it is young, more rarely later; at the latest when its time is over."""
        left = self._source.settle_timeout_s - self._quiet_s
        return max(0.05, min(max(self._source.settle_s, 0.2, self._quiet_s / 4), left))

    def _whole(self, file: Opened, *, expired: bool) -> Iterator[Batch]:
        documents: list[Read] = []
        size, first = 0, True
        content = content_hash(file.raw_fd)
        reader = read_whole(
            file,
            source=self._source.name,
            max_document_bytes=self._source.max_document_bytes,
            settled_at=self._settled_at,
            final=expired,
        )
        for one in reader:
            length = 0 if isinstance(one, RefusedDocument) else len(one.raw)
            if documents and (len(documents) >= BATCH_DOCUMENTS or size + length > BATCH_BYTES):
                yield Batch(documents, None, first, last=False)
                documents, size, first = [], 0, False
            documents.append(one)
            size += length
        if content_hash(file.raw_fd) != content or not self._is_still(file):
            # It was written to while it was read. What has been admitted is complete in itself; the file is read anew.
            if first:
                raise Incomplete(0, "changed while it was read")
            yield Batch(documents, None, first, last=True, later_s=self._source.settle_s)
            return
        yield Batch(documents, self._mark(file, content), first, last=True)

    def _is_still(self, file: Opened) -> bool:
        """Whether it is as it was when it was opened."""
        return signature_of(os.fstat(file.raw_fd)) == signature_of(file.stat)

    def _log(self, file: Opened, *, expired: bool) -> Iterator[Batch]:
        settled = self._due.closed or self._now.final or self._quiet_s >= self._source.settle_s
        tail: Tail = "refuse" if expired else "take" if settled else "leave"
        start = find_start(file, self._index.candidates(self._due.path, file.stat.st_dev, file.stat.st_ino))
        first = True
        for batch in read_on(
            file,
            start,
            self._number(file, start),
            source=self._source.name,
            max_document_bytes=self._source.max_document_bytes,
            settled_at=self._settled_at,
            tail=tail,
        ):
            refused = batch.last and batch.pending > 0 and tail == "refuse"
            yield Batch(
                batch.documents,
                batch.mark,
                first,
                last=batch.last,
                later_s=self._next_look_s() if batch.pending and not refused else None,
                refused_tail=self._due.signature if refused else None,
                continues=start,
                same_log=self._same_log(file, start) if first else None,
            )
            first = False

    def _number(self, file: Opened, start: FileMark | None) -> int:
        if start is not None:
            return start.log
        own = self._own
        if own is not None and own.offset == 0 and own.inode == file.stat.st_ino:
            return own.log
        number, self._due.log = self._due.log or self._index.next_log(), 0
        return number

    def _same_log(self, file: Opened, start: FileMark | None) -> str | None:
        """By its content, or, before its first line is complete, by its inode."""
        if start is not None:
            return start.path
        own = self._own
        is_own = own is not None and own.offset == 0 and (own.device, own.inode) == (file.stat.st_dev, file.stat.st_ino)
        return self._path if is_own else None

    @property
    def _settled_at(self) -> float:
        return self._due.seen_at

    def _mark(self, file: Opened, content: bytes) -> FileMark:
        """Of a whole file. On a file system with stamps of whole seconds one of this or the last second is not believed: it
        may be written to again without a trace in them."""
        at = file.stat
        is_coarse = at.st_ctime_ns % 1_000_000_000 == 0
        is_young = self._now.wall - max(at.st_mtime, at.st_ctime) < _COARSE_S
        return FileMark(
            source=self._source.name, path=self._path, device=at.st_dev, inode=at.st_ino,
            size=at.st_size, mtime_ns=at.st_mtime_ns, ctime_ns=0 if is_coarse and is_young else at.st_ctime_ns,
            offset=at.st_size, content=content,
        )  # fmt: skip


def _signature_of_mark(mark: FileMark) -> int:
    return signature(mark.size, mark.mtime_ns, mark.ctime_ns, mark.inode)
