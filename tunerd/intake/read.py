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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final, Literal, TypeAlias

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
from tunerd.outcome import FailReason

Read: TypeAlias = Document | RefusedDocument

CHUNK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 64 * 1024
GZIP_ERRORS: Final = (EOFError, gzip.BadGzipFile, zlib.error)
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

    @property
    def size(self) -> int:
        return self.stat.st_size


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
    at = os.fstat(fd)
    if not stat.S_ISREG(at.st_mode):
        os.close(fd)
        raise Odd(path)
    with open(fd, "rb", buffering=0) as raw:
        named_gz = path.endswith(".gz")
        gz = os.pread(fd, 2, 0) == b"\x1f\x8b" if named_gz or at.st_size >= 18 else False
        content: IO[bytes] = raw
        if gz:
            content = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        elif named_gz and at.st_size < 2:  # even its first two bytes are still to come
            content = io.BytesIO()
        yield Opened(path, content, at, gz, fd)


def head_of(file: Opened) -> bytes:
    """The first bytes of content; the file is at its start again afterwards. As much as there is of a cut .gz."""
    try:
        head = b"".join(_chunks(file, _HEAD_BYTES, _HEAD_BYTES))
    except GZIP_ERRORS:
        head = b""
    file.file.seek(0)
    return head


def is_log(file: Opened, by_name: Literal["log", "whole"] | None) -> bool:
    """Whether to follow the file as a log; its content decides where its name does not."""
    return by_name == "log" if by_name is not None else looks_like_log(head_of(file))


def _chunks(file: Opened, limit: int | None = None, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    got = 0
    while limit is None or got < limit:
        chunk = file.file.read(size if limit is None else min(size, limit - got))
        if not chunk:
            return
        got += len(chunk)
        yield chunk


def read_whole(file: Opened, *, source: str, max_document_bytes: int, settled_at: float, final: bool) -> Iterator[Read]:
    """The documents of a file that is read as one. Raises Incomplete before the first of them where its content ends
    too early, or with `final` ends with a refusal instead: nobody will complete it."""
    maker = Maker(source, file.path, file.stat.st_mtime_ns, settled_at)
    try:
        data = b"".join(_chunks(file, max_document_bytes + len(BOM) + 1))
    except EOFError as exc:
        if not final:
            raise Incomplete(0, "the compressed data ends early") from exc
        yield maker.refuse(0, file.size, b"", "gzip", "the compressed data ends early; write the file again, whole")
        return
    except GZIP_ERRORS as exc:
        yield maker.refuse(0, file.size, b"", "gzip", f"damaged compressed data ({type(exc).__name__}); write the file again")
        return
    if len(data) <= max_document_bytes + len(BOM):
        yield from _in_memory(data, maker, max_document_bytes, final=final)
        return
    if not final and not _ends_well(file, data):
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
        yield maker.made_of(found)
    yield from _ending(values, maker, len(data))


def _streamed(file: Opened, maker: "Maker", max_bytes: int) -> Iterator[Read]:
    values, length = Values(max_bytes), 0
    try:
        for chunk in _chunks(file):
            length += len(chunk)
            for found in values.feed(chunk):
                yield maker.made_of(found)
    except GZIP_ERRORS as exc:
        yield maker.refuse(length, 0, b"", "gzip", f"the compressed data is damaged or ends early ({type(exc).__name__})")
        return
    yield from _ending(values, maker, length)


def _ending(values: Values, maker: "Maker", length: int) -> Iterator[RefusedDocument]:
    rest = values.rest()
    if rest is not None and rest.too_large:
        yield maker.too_large(rest)
    elif rest is not None and rest.junk:
        yield maker.not_a_document(rest)
    elif rest is not None:
        what = "the JSON ends before it is complete; its writer stopped in the middle. Write the file again, whole"
        yield maker.refuse(rest.offset, rest.length, rest.raw, f"byte {rest.offset + rest.length}", what)
    elif values.blank:
        yield maker.refuse(0, length, b"", "byte 0", "the file is empty; write the document and it is read")
    elif values.incomplete:
        yield maker.refuse(length, 0, b"", f"byte {length}", "the list has no closing ]; its writer stopped in the middle")


def _ends_well(file: Opened, head: bytes) -> bool:
    """Whether a large file's last byte closes what its first one opens: cheap, and told before anything is admitted."""
    last, blank = b"", b" \t\r\n"
    if file.gz:
        try:
            for chunk in _chunks(file):
                last = chunk.rstrip(blank)[-1:] or last
        except EOFError:
            return False
        except GZIP_ERRORS:
            return True  # damaged, not cut: the refusal says so
    else:
        back = min(file.size, 4096)
        file.file.seek(file.size - back)
        last = file.file.read(back).rstrip(blank)[-1:]
    first = _DOCUMENT_START.match(head)
    return first is None or last == {b"{": b"}", b"[": b"]"}[first[0][-1:]]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes documents and refusals of slices of one file."""

    source: str
    path: str
    mtime_ns: int
    settled_at: float

    def document(self, found: Slice, value: object) -> Document:
        origin = self._origin(found.offset, found.length)
        return Document(origin=origin, raw=found.raw, value=value, settled_at=self.settled_at)  # type: ignore[arg-type]

    def made_of(self, found: Slice) -> Read:
        if found.too_large:
            return self.too_large(found)
        if found.junk:
            return self.not_a_document(found)
        try:
            return self.document(found, parse(found.raw))
        except NotJson as exc:
            return self.refuse(found.offset, found.length, found.raw, exc.where, exc.what)

    def of_line(self, line: Slice, max_bytes: int) -> list[Read]:
        """The documents of a log's line: one, or several that stand in it without a newline between."""
        made = self.made_of(line)
        if isinstance(made, Document) or line.too_large:
            return [made]
        several = values_of_line(line, max_bytes)
        return [made] if len(several) < 2 else [self.made_of(found) for found in several]

    def too_large(self, found: Slice) -> RefusedDocument:
        what = f"{found.length:,} bytes are more than max_document; raise it for this source, or write smaller documents"
        return self.refuse(found.offset, found.length, found.raw, f"byte {found.offset}", what, FailReason.TOO_LARGE)

    def not_a_document(self, found: Slice) -> RefusedDocument:
        try:
            parse(found.raw)
            where, what = f"byte {found.offset}", "not a JSON object"
        except NotJson as exc:
            where, what = exc.where, exc.what
        return self.refuse(found.offset, found.length, found.raw, where, what)

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
        return Origin(source=self.source, path=self.path, offset=offset, length=length, mtime_ns=self.mtime_ns)


# For commands: one file now, without ledger or settling.


def read_documents(
    path: str,
    format: Literal["auto", "json", "ndjson"] = "auto",
    max_document_bytes: int = 4 * 1024 * 1024,
    *,
    source: str = "",
    settled_at: float = 0.0,
) -> Iterator[Read]:
    """Every document of one file as it stands; what is broken or incomplete comes as a refusal. Raises OSError, and
    ValueError where the path is no regular file."""
    path = os.path.abspath(path)
    try:
        with opened(path) as file:
            by_name: Literal["log", "whole"] | None = "log" if format == "ndjson" else "whole" if format == "json" else None
            if format == "auto" and path.removesuffix(".gz").endswith((".ndjson", ".jsonl")):
                by_name = "log"
            if not is_log(file, by_name):
                yield from read_whole(
                    file, source=source, max_document_bytes=max_document_bytes, settled_at=settled_at, final=True
                )
                return
            maker = Maker(source, path, file.stat.st_mtime_ns, settled_at)
            lines = Lines(max_document_bytes, 0)
            try:
                for chunk in _chunks(file):
                    for line in lines.feed(chunk):
                        yield from maker.of_line(line, max_document_bytes)
            except GZIP_ERRORS:
                yield maker.refuse(lines.line_at, 0, b"", "gzip", "the compressed data is damaged or ends early")
                return
            if (last := lines.rest()) is not None:
                yield from maker.of_line(last, max_document_bytes)
    except Odd as exc:
        raise ValueError(f"{path} is not a regular file") from exc


def read_place(
    path: str, offset: int, length: int, max_document_bytes: int = 4 * 1024 * 1024, *, source: str = "", settled_at: float = 0.0
) -> Read:
    """One place of a file again, as `retry` needs it: the bytes that stood there if they are a document now, else the
    document that begins there (a repaired file is rarely as long as it was). Raises OSError, and ValueError where the
    path is no regular file."""
    try:
        with opened(path) as file:
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
            except GZIP_ERRORS:
                return maker.refuse(offset, length, b"", "gzip", "the compressed data is damaged or ends early")
    except Odd as exc:
        raise ValueError(f"{path} is not a regular file") from exc


def _first(file: Opened, maker: Maker, offset: int, max_bytes: int) -> Read:
    if offset == 0:
        whole = read_whole(file, source=maker.source, max_document_bytes=max_bytes, settled_at=maker.settled_at, final=True)
        nothing = maker.refuse(0, 0, b"", "byte 0", "an empty list: there is no document in it any more")
        return next(whole, nothing)
    values = Values(max_bytes, offset)
    for chunk in _chunks(file):
        for found in values.feed(chunk):
            return maker.made_of(found)
    rest = values.rest() or Slice(offset, b"", 0, junk=True)
    return maker.made_of(rest)
