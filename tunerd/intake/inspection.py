"""One look at one file, all of it here because every step uses the descriptor that the first one opened: is the file settled, of
what kind is it, and which documents in it are new. Synchronous, for a worker thread. Each answer is a value, and file_reader.py
acts on it.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, TypeAlias

from tunerd.call import RefusedDocument
from tunerd.config import Source
from tunerd.intake.chain import Chain
from tunerd.intake.content import content_hash
from tunerd.intake.document_maker import Read
from tunerd.intake.due_queue import Due
from tunerd.intake.follow import BATCH_BYTES, BATCH_DOCUMENTS, Tail, read_on
from tunerd.intake.framing import may_be_log
from tunerd.intake.known_logs import cut_names
from tunerd.intake.log_identity import Answer, Identified, LogIdentity, LookUp, SameFile, Wait
from tunerd.intake.looks import Batch, Compare, Large, Later, LeftOut, Look, NotRegular, Recognized, Unchanged, Working
from tunerd.intake.opened import GZIP_ERRORS, Odd, Opened, head_of, is_log, of_descriptor
from tunerd.intake.read import Incomplete, read_whole
from tunerd.intake.scan import why_odd
from tunerd.intake.signature import signature, signature_of
from tunerd.intake.source_files import SourceFiles
from tunerd.ledger import FileMark
from tunerd.record import positional_record
from tunerd.source_tree import LeavesSource

LARGE_BYTES: Final = 256 * 1024
_COARSE_S: Final = 2.5
"""FAT's stamps are of two seconds."""
_WAITS: Final = 100
"""How often a look is put off until another log is read. After that, the other log is taken to be written without end."""
_RACY_NS: Final = 20_000_000
"""Two writes within the file system's time grain leave the same mtime; an event then says more than the stat."""

Looking: TypeAlias = Generator[Look, Answer, None]


@positional_record
class Now:
    """The time of a look; `final` reads whatever is complete without any delay."""

    wall: float
    monotonic: float
    final: bool = False


class FileInspection:
    """Use: `look()`; after a Compare `compare()`; after a Large or a Batch that is not the last, `more()` until one is;
    always `close()`."""

    def __init__(self, source: Source, files: SourceFiles, due: Due, now: Now) -> None:
        self._source, self._due, self._now = source, due, now
        self._tree, self._names, self._index, self._followed = files.tree, files.names, files.index, files.followed
        self._spool = files.spool
        self._own = files.index.logs.get(due.path)
        self._moved = files.followed.of_number(due.moved_log) if due.moved_log else None
        self._refused_tail = files.index.refused_tails.get(due.path)
        self.path = os.path.join(files.root, due.path) if self._moved is None else self._moved.mark.path
        """Absolute; of a log that was moved elsewhere the last one that it had in the directory."""
        self._open = ExitStack()
        self._file: Opened | None = None
        self._batches: Looking = _nothing()
        self._quiet_s = 0.0
        self._is_log = False

    def close(self) -> None:
        """The batches refer to this inspection: kept, the two would hold the last batch until Python looks for cycles."""
        self._open.close()
        self._batches = _nothing()

    def look(self) -> Look:
        """Raises OSError where the file cannot be read now."""
        return self._closed_unless_going_on(self._look())

    def compare(self, stored: FileMark | None) -> Look:
        """What a whole file is whose stat proves nothing; `stored`: the ledger's mark of its path. Raises OSError."""
        return self._closed_unless_going_on(self._compare(stored))

    def found(self, marks: Sequence[FileMark]) -> Look:
        """After a LookUp: what the ledger knows. Raises OSError."""
        return self._next(lambda: self._batches.send(marks))

    @property
    def log_fd(self) -> int | None:
        """Of a plain log that is being read."""
        return self._file.raw_fd if self._file is not None and self._is_log and not self._file.gz else None

    @property
    def seen(self) -> tuple[int, int] | None:
        """Size and mtime as the file was opened."""
        return (self._file.stat.st_size, self._file.stat.st_mtime_ns) if self._file is not None else None

    def _closed_unless_going_on(self, look: Look) -> Look:
        """A log stays in use until what was read of it is known to all (`close`)."""
        if not self._is_log and not (isinstance(look, Large | Compare | Working) or (isinstance(look, Batch) and not look.last)):
            self.close()
        return look

    def _open_file(self) -> Opened | NotRegular | None:
        if self._due.moved_log:
            moved = self._followed.descriptor(self._due.moved_log) if self._moved is not None else None
            return self._open.enter_context(of_descriptor(moved, self.path)) if moved is not None else None
        try:
            with self._tree.opened() as inside:
                if (why := why_odd(inside, self._due.path)) is not None:
                    return NotRegular(why)
                fd = inside.open(self._due.path)
            return self._open.enter_context(of_descriptor(fd, self.path))
        except LeavesSource as exc:
            return NotRegular(exc.why)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Odd:
            return NotRegular("is not a regular file")

    def _look(self) -> Look:
        file = self._open_file()
        if not isinstance(file, Opened):
            return file or Unchanged()
        self._file = file
        at, due, now = file.stat, self._due, self._now
        sign = signature_of(at)
        # Of a whole file that was closed or moved here the content is compared; a log is read on from where it was left.
        is_doubtful = due.closed and (self._own is None or 0 <= now.wall * 1e9 - at.st_mtime_ns < _RACY_NS)
        is_as_read = self._index.is_as_read(due.path, sign) and not is_doubtful and self._moved is None
        if is_as_read or sign == self._refused_tail:
            return Unchanged()
        if due.signature != sign or due.since is None:
            due.signature, due.since, due.read = sign, now.monotonic, False
        # Unchanged since the file's own times say so (a backlog is read at once), or since we watch it.
        self._quiet_s = max(now.wall - max(at.st_mtime, at.st_ctime), now.monotonic - due.since, 0.0)
        log = self._is_log = self._moved is not None or not self._names.fits(due.path) or is_log(file, self._names.kind(due.path))
        if log and not self._open.enter_context(self._followed.reading(at, self.path)):
            return Later(0.05, is_busy=True)  # it, or one that it may be a copy of, is being read
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
        expired = self._quiet_s >= self._source.settle_timeout_s or (self._moved is not None and self._moved.is_last_look)
        if self._due.read and not expired and not self._now.final:
            return Later(self._next_look_s())
        self._batches = self._log(file, expired=expired) if log else self._whole(file, expired=expired)
        if self._to_read(file, log=log) > LARGE_BYTES:
            return Large()
        return self.more()

    def more(self) -> Look:
        """The next batch, or that a turn is over. Raises OSError."""
        return self._next(lambda: next(self._batches))

    def _next(self, ask: Callable[[], Look]) -> Look:
        try:
            return ask()
        except Incomplete:
            self._due.read = True
            return Later(self._next_look_s())

    def _to_read(self, file: Opened, *, log: bool) -> int:
        if file.gz:
            return file.size * 8
        mark = self._moved.mark if self._moved is not None else self._own
        return file.size - (mark.offset if log and mark is not None and mark.offset <= file.size else 0)

    def _next_look_s(self) -> float:
        """Soon while it is young, more rarely later; at the latest when its time is over."""
        left = self._source.settle_timeout_s - self._quiet_s
        return max(0.05, min(max(self._source.settle_s, 0.2, self._quiet_s / 4), left))

    def _whole(self, file: Opened, *, expired: bool) -> Looking:
        documents: list[Read] = []
        size, first = 0, True
        content = content_hash(file.raw_fd)
        reader = read_whole(
            file,
            source=self._source.name,
            max_document_bytes=self._source.max_document_bytes,
            settled_at=self._settled_at,
            final=expired,
            spool=self._spool,
        )
        for one in reader:
            if one is None:
                yield Working()
                continue
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

    def _log(self, file: Opened, *, expired: bool) -> Looking:
        settled = self._due.closed or self._now.final or self._quiet_s >= self._source.settle_s
        tail: Tail = "refuse" if expired else "take" if settled else "leave"
        found = yield from self._identified(file, expired=expired)
        if not isinstance(found, Identified):
            yield found
            return
        if not found.is_known and self._moved is not None:
            yield Unchanged()  # it was truncated where it is now, outside
            return
        if not found.is_known and not self._names.fits(self._due.path) and not self._is_rotated(file):
            yield LeftOut(signature_of(file.stat))  # no name of the source's, and none of its logs either
            return
        if (start := found.start) is not None:  # a copy starts at the end of a log that nobody may read on meanwhile
            is_free = self._open.enter_context(self._followed.reading_log(start.log))
            if not is_free or self._index.was_read_on(start.log, start.offset):
                yield Later(0.05, is_busy=True)  # it was, or is being, read in another file
                return
        # A log that was empty so far gets its number now: its writer may have been in the one before it all the time.
        is_begun = start is not None and start.offset > 0
        first, number = True, found.number if found.number and is_begun else self._new_number()
        for batch in read_on(
            file,
            found.chain,
            number,
            source=self._source.name,
            max_document_bytes=self._source.max_document_bytes,
            settled_at=self._settled_at,
            tail=tail,
        ):
            if batch is None:
                yield Working()
                continue
            refused = batch.last and batch.pending > 0 and tail == "refuse"
            yield Batch(
                batch.documents,
                batch.mark if self._moved is None else replace(batch.mark, is_there=False),
                first,
                last=batch.last,
                later_s=self._next_look_s() if batch.pending and not refused else None,
                refused_tail=self._due.signature if refused else None,
                continues=start,
                same_log=start.path if first and start is not None and start.log == found.number else None,
            )
            first = False

    def _identified(self, file: Opened, *, expired: bool) -> Generator[Working | LookUp, Answer, Identified | Later | SameFile]:
        self._due.waits += 1
        identity = LogIdentity(
            file=file, own=self._own, followed=self._followed, stat=self._stat, open_file=self._open_path, quiet_s=self._quiet_s,
            is_final=self._now.final, may_wait=self._due.waits <= _WAITS,
        )  # fmt: skip
        try:
            asking = identity.identify()
            step = next(asking)
            while True:
                answer = yield step or Working()
                step = asking.send(answer)
        except StopIteration as stop:
            found: Identified | Wait | SameFile = stop.value
        except EOFError as exc:
            if not expired:  # it is still being compressed
                raise Incomplete(0, "the compressed data ends early") from exc
            file.file.seek(0)
            return Identified(Chain(), is_known=False)
        except GZIP_ERRORS:
            file.file.seek(0)  # damaged before its known part ends: whoever reads it says so
            return Identified(Chain(), is_known=False)
        if isinstance(found, Wait):
            return Later(found.seconds, first=found.log, is_busy=True)
        if isinstance(found, Identified):
            self._due.waits = 0
        return found

    def _is_rotated(self, file: Opened) -> bool:
        """Whether it is named as a log with something behind, and is one: a rotation of which nothing was read before."""
        folder, _, name = self._due.path.rpartition("/")
        before = [f"{folder}/{cut}" if folder else cut for cut in cut_names(name)]
        is_named = any((self._names.kind(one) == "log" and self._names.fits(one)) or one in self._index.logs for one in before)
        return is_named and may_be_log(head_of(file))

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            with self._tree.opened() as inside:
                return inside.stat(self._index.relative(path), follow_links=True)
        except OSError:
            return None

    def _open_path(self, path: str) -> int:
        with self._tree.opened() as inside:
            return inside.open(self._index.relative(path))

    def _new_number(self) -> int:
        """Given when its first documents are read, and not with its name: a rotation may have put another file there since. Of a
        source that gathers the log before it is read first (generations.py), so that numbers go by age."""
        return self._index.next_log()

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
            source=self._source.name, path=self.path, device=at.st_dev, inode=at.st_ino,
            size=at.st_size, mtime_ns=at.st_mtime_ns, ctime_ns=0 if is_coarse and is_young else at.st_ctime_ns,
            offset=at.st_size, content=content,
        )  # fmt: skip


def _nothing() -> Looking:
    yield Unchanged()


def _signature_of_mark(mark: FileMark) -> int:
    return signature(mark.size, mark.mtime_ns, mark.ctime_ns, mark.inode)
