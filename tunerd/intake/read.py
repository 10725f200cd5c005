"""Opens files and makes documents of them; synchronous, for a worker thread or a command. Whole files here, logs in
follow.py; where one document ends is framing.py's business. Nothing in here waits, and nothing touches the ledger.
"""

import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, TypeAlias

import orjson

from tunerd.call import KEPT_HEAD_BYTES, Document, Origin, Refusal, RefusedDocument
from tunerd.intake.framing import (
    BOM,
    Lines,
    NotJson,
    Slice,
    Values,
    looks_like_log,
    parse,
    parse_form,
    values_of_line,
    without_bom,
)
from tunerd.intake.refused_lines import is_noise
from tunerd.intake.source_tree import SourceTree
from tunerd.outcome import FailReason

Read: TypeAlias = Document | RefusedDocument

CHUNK_BYTES: Final = 256 * 1024
TURN_BYTES: Final = 4 * 1024 * 1024
"""What is read in one turn where nothing comes of it: about 10 ms, compressed 30."""
_UNPACKED_DOCUMENTS: Final = 64
"""Compressed content may have so many times `max_document` without a document in it."""
_HEAD_BYTES: Final = 64 * 1024
GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_ERRORS: Final = (EOFError, gzip.BadGzipFile, zlib.error)
ITEMS_REFUSED: Final = 20
"""Bare values in a row that are refused one by one."""
_ITEM: Final = re.compile(rb'(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,"\s])(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,"])*+', re.DOTALL)
_TEXT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*(?:[{\[]|\Z)")
_DOCUMENT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[{\[]")


class Incomplete(Exception):
    """The content ends too early: whoever writes it is not done, or never will be."""

    def __init__(self, offset: int, what: str) -> None:
        self.offset, self.what = offset, what
        super().__init__(what)


class Odd(Exception):
    """The name is no regular file (any more)."""


@dataclass(frozen=True, slots=True)
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
        while not head and (chunk := b"".join(_chunks(file, _HEAD_BYTES, _HEAD_BYTES))):
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


def _chunks(file: Opened, limit: int | None = None, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    got = 0
    while limit is None or got < limit:
        chunk = file.file.read(size if limit is None else min(size, limit - got))
        if not chunk:
            return
        got += len(chunk)
        yield chunk


def read_whole(file: Opened, *, source: str, max_document_bytes: int, settled_at: float, final: bool) -> Iterator[Read | None]:
    """The documents of a file that is read as one; None: a turn is over. Raises Incomplete before the first of them where its
    content ends too early, or with `final` ends with a refusal instead: nobody will complete it."""
    maker = Maker(source, file.path, file.stat.st_mtime_ns, settled_at)
    if (what := no_gzip(file)) is not None:
        yield maker.refuse(0, file.size, b"", "gzip", what)
        return
    try:
        data = b"".join(_chunks(file, max_document_bytes + len(BOM) + 1))
    except GZIP_ERRORS as exc:
        if isinstance(exc, EOFError) and not final:
            raise Incomplete(0, "the compressed data ends early") from exc
        yield maker.refuse(0, file.size, b"", "gzip", gzip_trouble(exc))
        return
    if len(data) <= max_document_bytes + len(BOM):
        yield from _in_memory(data, maker, max_document_bytes, final=final)
        return
    if not final and not (yield from _ends_well(file, data, max_document_bytes)):
        raise Incomplete(0, "the last value is not complete")
    del data
    file.file.seek(0)
    yield from _streamed(file, maker, max_document_bytes)


def _in_memory(data: bytes, maker: "Maker", max_bytes: int, *, final: bool) -> Iterator[Read]:
    text = without_bom(data).strip(b" \t\r\n")
    start = data.find(text[:1]) if text else 0
    if text[:1] == b"{":  # nearly always: the whole file is one document
        try:
            yield maker.document(Slice(start, text, len(text)), parse(text))
            return
        except NotJson:
            pass
    if (form := parse_form(text)) is not None:
        yield maker.document(Slice(0, orjson.dumps(form), len(data)), form)
        return
    values = Values(max_bytes)
    slices = list(values.feed(data))
    rest = values.rest()
    # NUL bytes: room that was reserved and not written yet, or what a crash left of it.
    if (values.incomplete or b"\0" in text) and not final:
        raise Incomplete(rest.offset if rest else 0, "the file is empty" if values.blank else "the last value is not complete")
    for found in slices:
        yield from maker.of_value(found)
    yield from _ending(values, maker, len(data))


def _streamed(file: Opened, maker: "Maker", max_bytes: int) -> Iterator[Read | None]:
    values, unpacked, length, count, turn = Values(max_bytes), Unpacked(file, max_bytes), 0, 0, 0
    try:
        for chunk in _chunks(file):
            length, turn = length + len(chunk), turn + len(chunk)
            for found in values.feed(chunk):
                yield from maker.of_value(found)
                count, turn = count + 1, 0
            unpacked.read(len(chunk), count)
            if unpacked.is_too_much:
                yield maker.refuse(length, 0, b"", "gzip", unpacked.what)
                return
            if turn >= TURN_BYTES:
                yield None
                turn = 0
    except GZIP_ERRORS as exc:
        yield maker.refuse(length, 0, b"", "gzip", gzip_trouble(exc))
        return
    yield from _ending(values, maker, length)


def _ending(values: Values, maker: "Maker", length: int) -> Iterator[Read]:
    rest = values.rest()
    if rest is not None and rest.too_large:
        yield maker.too_large(rest)
    elif rest is not None and rest.junk:
        yield from maker.of_junk(rest)
    elif rest is not None:
        what = "the JSON ends before it is complete; its writer stopped in the middle. Write the file again, whole"
        yield maker.refuse(rest.offset, rest.length, rest.raw, f"byte {rest.offset + rest.length}", what)
    elif values.blank:
        yield maker.refuse(0, length, b"", "byte 0", "the file is empty; write the document and it is read")
    elif values.incomplete:
        yield maker.refuse(length, 0, b"", f"byte {length}", "the list has no closing ]; its writer stopped in the middle")


def _ends_well(file: Opened, head: bytes, max_bytes: int) -> Generator[None, None, bool]:
    """Whether a large file's last byte closes what its first one opens: cheap, and told before anything is admitted."""
    last, blank, turn, unpacked = b"", b" \t\r\n", 0, Unpacked(file, max_bytes)
    first = _DOCUMENT_START.match(head)
    if first is None:
        return True
    if file.gz:
        try:
            for number, chunk in enumerate(_chunks(file)):
                end = chunk.rstrip(blank)[-1:]
                last = end or last
                unpacked.read(len(chunk), number if end else -2)
                if unpacked.is_too_much:
                    return True  # whoever reads it refuses it
                turn += len(chunk)
                if turn >= TURN_BYTES:
                    yield None
                    turn = 0
        except EOFError:
            return False
        except GZIP_ERRORS:
            return True  # damaged, not cut: the refusal says so
    else:
        back = min(file.size, 4096)
        file.file.seek(file.size - back)
        last = file.file.read(back).rstrip(blank)[-1:]
    return last == {b"{": b"}", b"[": b"]"}[first[0][-1:]]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes documents and refusals of slices of one file."""

    source: str
    path: str
    mtime_ns: int
    settled_at: float
    log: int = 0
    """The number of the log that it is."""

    def document(self, found: Slice, value: object) -> Document:
        origin = self._origin(found.offset, found.length)
        return Document(origin=origin, raw=found.raw, value=value, settled_at=self.settled_at)  # type: ignore[arg-type]

    def made_of(self, found: Slice) -> Read:
        if found.too_large:
            return self.too_large(found)
        if found.hole:
            return self.hole(found)
        if found.junk:
            return next(self.of_junk(found))
        try:
            return self.document(found, parse(found.raw))
        except NotJson as exc:
            return self.refuse(found.offset, found.length, found.raw, exc.where, exc.what)

    def of_value(self, found: Slice) -> Iterator[Read]:
        """One document or refusal, or several refusals where bare values follow each other in a list."""
        if found.junk:
            yield from self.of_junk(found)
        else:
            yield self.made_of(found)

    def of_junk(self, found: Slice) -> Iterator[RefusedDocument]:
        """A refusal; in a list one for each item. A list of a million numbers must not fill the ledger: of a long run
        one for each of the first items, and one for all others."""
        if not found.in_list or found.raw.startswith(b"\0"):
            yield self.not_a_document(found)
            return
        is_cut = len(found.raw) == KEPT_HEAD_BYTES < found.length
        for count, item in enumerate(_ITEM.finditer(found.raw)):
            if count == ITEMS_REFUSED or (is_cut and item.end() == len(found.raw)):
                what = "from here on the list has no objects for a while; each call document must be a JSON object"
                at = found.offset + item.start()
                yield self.refuse(at, found.length - item.start(), found.raw[item.start() :], f"byte {at}", what)
                return
            text = item[0].rstrip()
            yield self.not_a_document(Slice(found.offset + item.start(), text, len(text), junk=True))

    def of_line(self, line: Slice, max_bytes: int) -> list[Read]:
        """The documents of a log's line: one, or several that stand in it without a newline between."""
        made = self.made_of(line)
        if isinstance(made, Document) or line.too_large or line.hole:
            return [made]
        several = values_of_line(line, max_bytes)
        return [made] if len(several) < 2 else [self.made_of(found) for found in several]

    def too_large(self, found: Slice) -> RefusedDocument:
        what = f"{found.length:,} bytes are more than max_document; raise it for this source, or write smaller documents"
        return self.refuse(found.offset, found.length, found.raw, f"byte {found.offset}", what, FailReason.TOO_LARGE)

    def hole(self, found: Slice) -> RefusedDocument:
        """NUL bytes. They are not kept: nothing can be read of them, and more of them are the same failure."""
        what = (
            "NUL bytes stand here, where documents should: a crash of the machine lost what was written, or room was "
            "reserved and is not written yet. If their writer still has them, let it write them again; then dismiss this"
        )
        return self.refuse(found.offset, found.length, b"", f"byte {found.offset}", what)

    def not_a_document(self, found: Slice) -> RefusedDocument:
        if found.raw.startswith(b"\0"):
            return self.hole(found)
        try:
            parse(found.raw)
        except NotJson as exc:
            where = f"byte {found.offset}" if found.offset else exc.where
            return self.refuse(found.offset, found.length, found.raw, where, exc.what)
        return self.refuse(found.offset, found.length, found.raw, f"byte {found.offset}", "not a JSON object")

    def refuse(
        self, offset: int, length: int, raw: bytes, where: str, what: str, reason: FailReason = FailReason.UNREADABLE
    ) -> RefusedDocument:
        return RefusedDocument(
            origin=self._origin(offset, length),
            refusal=Refusal(reason=reason, where=where, what=what),
            head=raw[:KEPT_HEAD_BYTES],
            settled_at=self.settled_at,
        )

    def _origin(self, offset: int, length: int) -> Origin:
        return Origin(source=self.source, path=self.path, offset=offset, length=length, mtime_ns=self.mtime_ns, log=self.log)


# For commands: one file now, without ledger or settling.


def _without_turns(found: Iterator[Read | None]) -> Iterator[Read]:
    return (one for one in found if one is not None)


def read_documents(
    path: str,
    format: Literal["auto", "json", "ndjson"] = "auto",
    max_document_bytes: int = 4 * 1024 * 1024,
    *,
    source: str = "",
    settled_at: float = 0.0,
    root: str | None = None,
    keep_noise: bool = True,
) -> Iterator[Read]:
    """Every document of one file as it stands; what is broken or incomplete comes as a refusal. `root`: the directory of the
    source that the file is of. `keep_noise`: lines of a log that are no JSON come as
    refusals, too. Raises OSError, and ValueError where the path is no regular file."""
    path = os.path.abspath(path)
    try:
        with opened(path) if root is None else _opened_below(os.path.abspath(root), path) as file:
            by_name: Literal["log", "whole"] | None = "log" if format == "ndjson" else "whole" if format == "json" else None
            if format == "auto" and path.removesuffix(".gz").endswith((".ndjson", ".jsonl")):
                by_name = "log"
            if not is_log(file, by_name):
                yield from _without_turns(
                    read_whole(file, source=source, max_document_bytes=max_document_bytes, settled_at=settled_at, final=True)
                )
                return
            maker = Maker(source, path, file.stat.st_mtime_ns, settled_at)
            if (what := no_gzip(file)) is not None:
                yield maker.refuse(0, file.size, b"", "gzip", what)
                return
            lines = Lines(max_document_bytes, 0)
            try:
                for chunk in _chunks(file):
                    for found in lines.feed(chunk):
                        for one in found:
                            yield from _without_noise(maker.of_line(one, max_document_bytes), keep_noise)
                    if lines.in_hole:
                        lines.skip(file.skip_hole())
            except GZIP_ERRORS as exc:
                yield maker.refuse(lines.line_at, 0, b"", "gzip", gzip_trouble(exc))
                return
            for last in lines.rest():
                yield from _without_noise(maker.of_line(last, max_document_bytes), keep_noise)
    except Odd as exc:
        raise ValueError(f"{path} is not a regular file") from exc


def _without_noise(made: list[Read], keep_noise: bool) -> list[Read]:
    return made if keep_noise else [one for one in made if not is_noise(one)]


@contextmanager
def _opened_below(root: str, path: str) -> Iterator[Opened]:
    """The same of a file of a source, whose writer may link what it likes: no link is followed out of `root`. Raises
    LeavesSource."""
    if not path.startswith(root.rstrip("/") + "/"):  # read when the source had another path
        with opened(path) as file:
            yield file
        return
    with SourceTree(root).opened() as inside:
        fd = inside.open(os.path.relpath(path, root))
    with of_descriptor(fd, path) as file:
        yield file


def read_place(
    path: str,
    offset: int,
    length: int,
    max_document_bytes: int = 4 * 1024 * 1024,
    *,
    source: str = "",
    settled_at: float = 0.0,
    root: str | None = None,
) -> Read:
    """One place of a file again, as `retry` needs it: the bytes that stood there if they are a document now, else the
    document that begins there (a repaired file is rarely as long as it was). `root`: the directory of the source that the
    file is of. Raises OSError, and ValueError where the path is no regular file."""
    try:
        with opened(path) if root is None else _opened_below(os.path.abspath(root), path) as file:
            maker = Maker(source, path, file.stat.st_mtime_ns, settled_at)
            try:
                file.file.seek(offset)
                if 0 < length <= max_document_bytes:
                    text = file.file.read(length).strip(b" \t\r\n\0")
                    text = without_bom(text) if offset == 0 else text
                    if text[:1] in (b"{", b"["):
                        try:
                            return maker.document(Slice(offset, text, length), parse(text))
                        except NotJson:
                            pass
                    file.file.seek(offset)
                return _first(file, maker, offset, max_document_bytes)
            except GZIP_ERRORS as exc:
                return maker.refuse(offset, length, b"", "gzip", gzip_trouble(exc))
    except Odd as exc:
        raise ValueError(f"{path} is not a regular file") from exc


def _first(file: Opened, maker: Maker, offset: int, max_bytes: int) -> Read:
    if offset == 0:
        whole = read_whole(file, source=maker.source, max_document_bytes=max_bytes, settled_at=maker.settled_at, final=True)
        nothing = maker.refuse(0, 0, b"", "byte 0", "an empty list: there is no document in it any more")
        return next(_without_turns(whole), nothing)
    values = Values(max_bytes, offset)
    for chunk in _chunks(file):
        for found in values.feed(chunk):
            return maker.made_of(found)
    rest = values.rest() or Slice(offset, b"", 0, junk=True)
    return maker.made_of(rest)
