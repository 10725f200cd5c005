"""Finds where one document ends and the next begins, all of it here because a line of a log may hold several values: bytes in,
raw slices out, in bounded memory. Pure.

opened.py opens files; what a document means is decided in mapping/. Duplicate keys: the last one wins, as with
every JSON reader the agents use themselves (docs/decisions).
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

import orjson

from tunerd.call import KEPT_HEAD_BYTES, Json
from tunerd.record import positional_record

BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n"
_NOT_BLANK: Final = re.compile(rb"[^ \t\r\n]")
_NOT_BETWEEN: Final = re.compile(rb"[^ \t\r\n,]")
_NOT_HOLLOW: Final = re.compile(rb"[^\0 \t\r\n]")
# In a value: whole strings in one step where they are complete, else the quote alone; and what opens or closes.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\]]', re.DOTALL)
_STRING_END: Final = re.compile(rb'["\\]')
_FORM: Final = re.compile(rb"[A-Za-z0-9_.%+\-\[\]]+=[^\s{}\"<>]*\s*")


@positional_record
class Slice:
    """The bytes of one document, without what separates it from its neighbours."""

    offset: int
    """Bytes of content before it."""
    raw: bytes
    """The whole text; of one that is too large or not JSON at all, its first KEPT_HEAD_BYTES."""
    length: int
    too_large: bool = False
    junk: bool = False
    """Text between documents that is neither object nor list."""
    in_list: bool = False
    """Of junk: it was found in a list, as one item or several with their commas."""
    hole: bool = False
    """NUL bytes where lines of a log should be; `raw` is empty."""


class NotJson(ValueError):
    """The text is no document. `where` is its place, `what` says what is wrong; neither quotes the text."""

    def __init__(self, where: str, what: str) -> None:
        self.where, self.what = where, what
        super().__init__(f"{where}: {what}")


def parse(raw: bytes) -> Json:
    """The value of one document: an object or a list. Raises NotJson."""
    try:
        value: Json = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise _not_json(exc) from exc
    if not isinstance(value, dict | list):
        raise NotJson("line 1", f"{_kind(value)}, not an object; a document must be a JSON object")
    return value


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    return "a text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"


def _not_json(exc: orjson.JSONDecodeError) -> NotJson:
    where, why = f"line {exc.lineno} column {exc.colno}", exc.msg.lower()
    if "utf-8" in why:
        return NotJson(where, "not valid UTF-8; write the file as UTF-8")
    if "depth" in why or "recursion" in why:
        return NotJson(where, "nested more than 1,024 levels deep; no call document is")
    if "infinity" in why:
        return NotJson(where, "a number is too large for JSON readers; write it as text or leave it out")
    if "surrogate" in why:
        return NotJson(where, "half of a surrogate pair (\\ud800 to \\udfff alone) is not text; escape characters whole")
    return NotJson(where, f"not JSON: {exc.msg.split(': line ')[0]}. NaN, Infinity, comments and single quotes are not JSON")


def parse_form(content: bytes) -> dict[str, str] | None:
    """A form-urlencoded body (`CallSid=CA1&RecordingUrl=https%3A...`) as an object of texts; None where it is none."""
    if not _FORM.fullmatch(content):
        return None
    try:
        pairs = parse_qsl(content.strip().decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:  # UnicodeDecodeError is one too
        return None
    return dict(pairs)


def without_bom(content: bytes) -> bytes:
    return content.removeprefix(BOM)


class Values:
    """Splits content into its JSON values: one, several without anything between them, or the elements of a list.

    Feed chunks in order, then ask `incomplete`. A list is never built: its elements come out one by one, and of one
    over `max_bytes` only the head is kept. Commas are not checked; each slice is parsed by whoever takes it.
    """

    def __init__(self, max_bytes: int, offset: int = 0) -> None:
        self._max = max_bytes
        self._at = offset
        """Offset of the next chunk."""
        self._in_list = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._junk = False
        self._parts: list[bytes] = []
        self._start = 0
        self._length = 0
        self._seen = False
        self._lead = offset == 0

    @property
    def incomplete(self) -> bool:
        """Whether the content ends before its last value does (or has none at all)."""
        return self._depth > 0 or self._in_list or not self._seen

    @property
    def blank(self) -> bool:
        """Whether nothing but white space came so far."""
        return not self._seen

    def rest(self) -> Slice | None:
        """The value that is not complete: for the refusal of a file that was never completed."""
        if self._depth > 0 or self._junk:
            return Slice(
                self._start, self._kept(), self._length, self._length > self._max, self._junk, self._junk and self._in_list
            )
        return None

    def feed(self, chunk: bytes) -> Iterator[Slice]:
        if chunk and self._lead and self._at < len(BOM):
            chunk = self._strip_bom(chunk)
        i, end = 0, len(chunk)
        while i < end:
            if self._depth > 0:
                stop = self._advance(chunk, i)
                self._keep(chunk, i, stop)
                i = stop
                if self._depth == 0 and not self._in_string:
                    yield self._close()
                continue
            if self._in_string:  # of a list: a text among its elements
                stop = self._end_string(chunk, i)
                self._keep(chunk, i, stop)
                i = stop
                continue
            found = (_NOT_BETWEEN if self._in_list else _NOT_BLANK).search(chunk, i)
            if found is None:
                if self._junk:
                    self._keep(chunk, i, end)
                break
            if self._junk and self._in_list and chunk[found.start()] in b"{[]":
                self._length = self._at + found.start() - self._start
                yield self._close()
            i = self._begin(chunk, i, found.start())
        self._at += end

    def _strip_bom(self, chunk: bytes) -> bytes:
        # Fed byte by byte the BOM comes in parts: each part is blanked, so that offsets stay those of the file.
        expected = BOM[self._at : self._at + len(chunk)]
        if expected and chunk.startswith(expected):
            return b" " * len(expected) + chunk[len(expected) :]
        self._lead = False
        return chunk

    def _begin(self, chunk: bytes, i: int, at: int) -> int:
        """Start the value at `at`; returns how far the chunk is used up."""
        first = chunk[at]
        self._seen = True
        if self._in_list and first == 0x5D:
            self._in_list = False
            return at + 1
        if first in b"{[" and not (self._junk and not self._in_list):
            if first == 0x5B and not self._in_list:
                self._in_list = True
                return at + 1
            self._start, self._parts, self._length = self._at + at, [chunk[at : at + 1]], 1
            self._depth = 1
            return at + 1
        if not self._junk:
            self._junk, self._start, self._parts, self._length = True, self._at + at, [], 0
            i = at
        if not self._in_list:
            # Not JSON from here on: the rest of the content is one refusal, not one for each word.
            self._keep(chunk, i, len(chunk))
            return len(chunk)
        token = _TOKEN.search(chunk, at)
        if token is None:
            stop = len(chunk)
        elif token[0] == b'"':
            self._in_string = True
            stop = self._end_string(chunk, token.end())
        else:
            stop = token.end() if token[0][0] == 0x22 else max(token.start(), at + 1)
        self._keep(chunk, i, stop)
        return stop

    def _advance(self, chunk: bytes, i: int) -> int:
        """Go through the open value until it ends or the chunk does."""
        end = len(chunk)
        if self._in_string:
            i = self._end_string(chunk, i)
            if self._in_string:
                return end
        for token in _TOKEN.finditer(chunk, i):
            text = token[0]
            if len(text) > 1:
                continue
            byte = text[0]
            if byte == 0x22:
                self._in_string = True
                self._end_string(chunk, token.end())
                return end
            if byte in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return token.end()
        return end

    def _end_string(self, chunk: bytes, i: int) -> int:
        """Go through the open string until it ends or the chunk does."""
        if self._escaped:
            self._escaped = False
            i += 1
        while (found := _STRING_END.search(chunk, i)) is not None:
            if chunk[found.start()] == 0x22:
                self._in_string = False
                return found.end()
            i = found.end() + 1
            if i > len(chunk):
                self._escaped = True
        return len(chunk)

    def _keep(self, chunk: bytes, start: int, stop: int) -> None:
        before = self._length
        self._length += stop - start
        limit = KEPT_HEAD_BYTES if self._junk else self._max
        if self._length <= limit:
            self._parts.append(chunk[start:stop])
        elif before <= limit:
            head = b"".join([*self._parts, chunk[start : start + KEPT_HEAD_BYTES]])[:KEPT_HEAD_BYTES]
            self._parts = [head]

    def _kept(self) -> bytes:
        return b"".join(self._parts)

    def _close(self) -> Slice:
        junk, too_large = self._junk, not self._junk and self._length > self._max
        made = Slice(self._start, self._kept(), self._length, too_large, junk, junk and self._in_list)
        self._parts, self._junk = [], False
        return made


class Lines:
    """Splits a log into its lines; blank ones are left out, of one over `max_bytes` only the head is kept.

    NUL bytes in front of a line are passed over, however many, and never kept. At the start of a log they are what
    copy-truncate leaves before the next append. Anywhere else, and on a line of nothing else, something is lost: they
    are given out as a hole, before the line that follows them.
    """

    def __init__(self, max_bytes: int, offset: int) -> None:
        self._max = max_bytes
        self._parts: list[bytes] = []
        self._length = 0
        """Of the open line, without what was passed over in front of it."""
        self._lead = 0
        self._hollow = False
        """Whether NUL bytes are among what was passed over."""
        self.line_at = offset
        """Offset of the line that is not complete yet: everything before it has been given out."""

    @property
    def in_hole(self) -> bool:
        """Whether the open line begins with NUL bytes."""
        return self._hollow and self._length == 0

    def feed(self, chunk: bytes) -> Iterator[list[Slice]]:
        """For each line that ends in the chunk: nothing, a line, a hole, or a hole and the line behind it."""
        start = 0
        while (stop := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk, start, stop)
            found = self.rest()
            self._next_line(newline=1)
            start = stop + 1
            if found:
                yield found
        self._keep(chunk, start, len(chunk))

    def skip(self, count: int) -> None:
        """Pass over NUL bytes that nobody read (a hole of the file system), while `in_hole`."""
        self._lead += count

    def rest(self) -> list[Slice]:
        """The hole before the last line, then the line, without its newline; either may be missing."""
        line = self._line()
        found = [Slice(self.line_at, b"", self._lead, hole=True)] if self._hollow and (line is None or self.line_at > 0) else []
        return found if line is None else [*found, line]

    def take_rest(self) -> None:
        """The last line was taken as a document: the next line begins behind it."""
        self._next_line(newline=0)

    def _next_line(self, newline: int) -> None:
        self.line_at += self._lead + self._length + newline
        self._parts, self._length, self._lead, self._hollow = [], 0, 0, False

    def _keep(self, chunk: bytes, start: int, stop: int) -> None:
        if self._length == 0 and start < stop and chunk[start] <= 0x20:
            found = _NOT_HOLLOW.search(chunk, start, stop)
            begin = found.start() if found else stop
            self._hollow = self._hollow or chunk.find(b"\0", start, begin) >= 0
            self._lead += begin - start
            start = begin
        before = self._length
        self._length += stop - start
        if self._length <= self._max:
            self._parts.append(chunk[start:stop])
        elif before <= self._max:
            self._parts = [b"".join([*self._parts, chunk[start : start + KEPT_HEAD_BYTES]])[:KEPT_HEAD_BYTES]]

    def _line(self) -> Slice | None:
        raw = b"".join(self._parts)
        at = self.line_at + self._lead
        if self._length > self._max:
            return Slice(at, raw, self._length, too_large=True)
        if at == 0:
            raw = without_bom(raw)
        text = raw.strip(_BLANK)
        lead = self._length - len(raw.lstrip(_BLANK))
        return Slice(at + lead, text, len(text)) if text else None


def values_of_line(line: Slice, max_bytes: int) -> list[Slice]:
    """The documents of one line: mostly one; several where values follow each other without a newline. A list in a
    line is one document."""
    if not line.raw.startswith(b"{"):
        return [line]
    values = Values(max_bytes, line.offset)
    found = list(values.feed(line.raw))
    if values.incomplete or values.rest() is not None or not found:
        return [line]
    return found


def may_be_log(head: bytes) -> bool:
    """Whether the first line is a JSON object, or its beginning looks like one."""
    first, newline, _ = without_bom(head.lstrip(b"\0")).partition(b"\n")
    if not newline:
        return first.startswith(b"{")
    try:
        return isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        return False


def looks_like_log(head: bytes) -> bool:
    """Whether content reads as one JSON object a line: its first line is one, and another begins behind it."""
    first, newline, rest = without_bom(head.lstrip(b"\0")).partition(b"\n")
    if not newline or not rest.lstrip(_BLANK).startswith(b"{"):
        return False
    try:
        return isinstance(orjson.loads(first), dict)
    except orjson.JSONDecodeError:
        return False
