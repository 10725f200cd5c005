"""For commands: the documents of one file, or of one place in it, as they are now; without ledger or settling."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tunerd.audio.spool import AudioSpool
from tunerd.intake.document_maker import DocumentMaker, Read
from tunerd.intake.framing import Lines, NotJson, Slice, Values, parse, without_bom
from tunerd.intake.opened import GZIP_ERRORS, Odd, Opened, chunks, gzip_trouble, is_log, no_gzip, of_descriptor, opened
from tunerd.intake.read import read_whole
from tunerd.intake.refused_lines import is_noise
from tunerd.source_tree import SourceTree


def _whole(file: Opened, maker: DocumentMaker, max_bytes: int, spool: AudioSpool | None) -> Iterator[Read]:
    found = read_whole(
        file, source=maker.source, max_document_bytes=max_bytes, settled_at=maker.settled_at, final=True, spool=spool
    )
    return (one for one in found if one is not None)


def read_documents(
    path: str,
    format: Literal["auto", "json", "ndjson"] = "auto",
    max_document_bytes: int = 4 * 1024 * 1024,
    *,
    source: str = "",
    settled_at: float = 0.0,
    root: str | None = None,
    spool: AudioSpool | None = None,
    keep_noise: bool = True,
) -> Iterator[Read]:
    """Every document of one file as it stands; what is broken or incomplete comes as a refusal. `root`: the directory of the
    source that the file is of. `spool`: as of `read_whole`. `keep_noise`: lines of a log that are no JSON come as
    refusals, too. Raises OSError, SpoolFull, and ValueError where the path is no regular file."""
    path = os.path.abspath(path)
    try:
        with opened(path) if root is None else _opened_below(os.path.abspath(root), path) as file:
            by_name: Literal["log", "whole"] | None = "log" if format == "ndjson" else "whole" if format == "json" else None
            if format == "auto" and path.removesuffix(".gz").endswith((".ndjson", ".jsonl")):
                by_name = "log"
            if not is_log(file, by_name):
                maker = DocumentMaker(source, path, file.stat.st_mtime_ns, settled_at)
                yield from _whole(file, maker, max_document_bytes, spool)
                return
            maker = DocumentMaker(source, path, file.stat.st_mtime_ns, settled_at)
            if (what := no_gzip(file)) is not None:
                yield maker.refuse(0, file.size, b"", "gzip", what)
                return
            lines = Lines(max_document_bytes, 0)
            try:
                for chunk in chunks(file):
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
    spool: AudioSpool | None = None,
) -> Read:
    """One place of a file again, as `retry` needs it: the bytes that stood there if they are a document now, else the
    document that begins there (a repaired file is rarely as long as it was). `root`: the directory of the source that the
    file is of. `spool`: as of `read_whole`. Raises OSError, SpoolFull, and ValueError where the path is no regular file."""
    try:
        with opened(path) if root is None else _opened_below(os.path.abspath(root), path) as file:
            maker = DocumentMaker(source, path, file.stat.st_mtime_ns, settled_at)
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
                return _first(file, maker, offset, max_document_bytes, spool)
            except GZIP_ERRORS as exc:
                return maker.refuse(offset, length, b"", "gzip", gzip_trouble(exc))
    except Odd as exc:
        raise ValueError(f"{path} is not a regular file") from exc


def _first(file: Opened, maker: DocumentMaker, offset: int, max_bytes: int, spool: AudioSpool | None) -> Read:
    if offset == 0:
        nothing = maker.refuse(0, 0, b"", "byte 0", "an empty list: there is no document in it any more")
        return next(_whole(file, maker, max_bytes, spool), nothing)
    values = Values(max_bytes, offset)
    for chunk in chunks(file):
        for found in values.feed(chunk):
            return maker.made_of(found)
    rest = values.rest() or Slice(offset, b"", 0, junk=True)
    return maker.made_of(rest)
