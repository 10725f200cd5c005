"""Makes documents of a file that is read whole. Logs are for follow.py. Nothing in here waits, and nothing touches the ledger."""

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Final

import orjson

from tunerd.audio.spool import AudioSpool, EntryTooLarge
from tunerd.call import SpooledAudio
from tunerd.intake.document_maker import DocumentMaker, Read
from tunerd.intake.embedded_audio import StillTooLarge, without_audio
from tunerd.intake.framing import BOM, NotJson, Slice, Values, parse, parse_form, without_bom
from tunerd.intake.opened import GZIP_ERRORS, TURN_BYTES, Opened, Unpacked, chunks, gzip_trouble, no_gzip
from tunerd.outcome import FailReason

_DOCUMENT_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[{\[]")


class Incomplete(Exception):
    """The content ends too early: whoever writes it is not done, or never will be."""

    def __init__(self, offset: int, what: str) -> None:
        self.offset, self.what = offset, what
        super().__init__(what)


def read_whole(
    file: Opened,
    *,
    source: str,
    max_document_bytes: int,
    settled_at: float,
    final: bool,
    spool: AudioSpool | None = None,
) -> Iterator[Read | None]:
    """The documents of a file that is read as one; None: a turn is over. Raises Incomplete before the first of them where its
    content ends too early, or with `final` ends with a refusal instead: nobody will complete it. `spool`: there goes the audio of
    a document that is too large with it. Raises SpoolFull."""
    maker = DocumentMaker(source, file.path, file.stat.st_mtime_ns, settled_at)
    if (what := no_gzip(file)) is not None:
        yield maker.refuse(0, file.size, b"", "gzip", what)
        return
    try:
        data = b"".join(chunks(file, max_document_bytes + len(BOM) + 1))
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
    is_object = without_bom(data).lstrip()[:1] == b"{"
    del data
    file.file.seek(0)
    if spool is not None and is_object and (made := _with_audio_taken_out(file, maker, spool, max_document_bytes)) is not None:
        yield made
        return
    file.file.seek(0)
    yield from _streamed(file, maker, max_document_bytes)


def _in_memory(data: bytes, maker: DocumentMaker, max_bytes: int, *, final: bool) -> Iterator[Read]:
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


def _with_audio_taken_out(file: Opened, maker: DocumentMaker, spool: AudioSpool, max_bytes: int) -> Read | None:
    """The document that the file holds; None: it is too large, or no document, without its audio, too."""
    spooled: Mapping[str, SpooledAudio] = {}
    try:
        data, spooled = without_audio(chunks(file), spool, f"{file.path}@0", max_bytes)
        text = without_bom(data).strip(b" \t\r\n")
        made = maker.document(Slice(0, text, file.size), parse(text))
    except EntryTooLarge as exc:
        return maker.refuse(0, file.size, b"", "manifest.audio", str(exc), FailReason.TOO_LARGE)
    except (StillTooLarge, NotJson, *GZIP_ERRORS):
        for one in spooled.values():
            spool.answered(one.location)
        return None
    return replace(made, spooled=spooled)


def _streamed(file: Opened, maker: DocumentMaker, max_bytes: int) -> Iterator[Read | None]:
    values, unpacked, length, count, turn = Values(max_bytes), Unpacked(file, max_bytes), 0, 0, 0
    try:
        for chunk in chunks(file):
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


def _ending(values: Values, maker: DocumentMaker, length: int) -> Iterator[Read]:
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
            for number, chunk in enumerate(chunks(file)):
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
