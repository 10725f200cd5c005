"""Regular expressions of users, run by RE2: it takes time in proportion to the text, whatever the pattern. Pure.

Python's own engine may take minutes for a short text, and cannot be stopped: it holds the lock of the interpreter. What
RE2 does not know is an error at load that names the part (pattern_syntax.py). The library is imported with the first pattern.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

from tunerd.mapping.pattern_syntax import BadPattern, in_words, translated
from tunerd.record import positional_record

__all__ = ["OVERLAP", "PIECE", "BadPattern", "Pattern", "compile_pattern", "compile_redaction", "find_all"]

PIECE: Final = 1_000
"""Characters of a text in which all matches are looked for at a time: the work for these may grow with the square of the piece,
so it must not grow with the text."""
OVERLAP: Final = 250
"""Of two pieces; a match up to this length is found at any offset."""
_HALVES: Final = re.compile("[\ud800-\udfff]")


@positional_record
class Pattern:
    """A compiled pattern."""

    text: str
    names: Mapping[str, int]
    """Of its named groups, and their numbers."""
    _engine: Any

    def found(self, text: str) -> bool:
        return self._engine.search(_plain(text)) is not None

    def whole(self, text: str) -> bool:
        """Whether the pattern takes all of the text."""
        return self._engine.fullmatch(_plain(text)) is not None

    def groups(self, text: str) -> dict[str, str | None] | None:
        """The named groups of the first match, or {match} where there are none; None where it is not found."""
        found = self._engine.search(_plain(text))
        if found is None:
            return None
        if not self.names:
            start, end = found.span()
            return {"match": text[start:end]}
        spans = [(name, *found.span(number)) for name, number in self.names.items()]
        return {name: text[start:end] if start >= 0 else None for name, start, end in spans}

    def spans(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Start and end of every match that lies between these places. `^`, `$` and word boundaries see what is around."""
        before, after = max(0, start - 1), min(len(text), end + 1)
        part = _plain(text[before:after])
        for found in self._engine.finditer(part, start - before, end - before):
            begins, ends = found.span()
            yield begins + before, ends + before


def compile_pattern(text: str, *, ignore_case: bool = False) -> Pattern:
    """Raises BadPattern for what is no regular expression, or has a part that RE2 does not know."""
    engine, options = _engine(ignore_case)
    try:
        compiled = engine.compile(translated(text), options)
    except engine.error as error:
        raise BadPattern(in_words(error.args[0] if error.args else b"")) from None
    except UnicodeEncodeError:
        raise BadPattern("is not a regular expression: it has half a character (a surrogate) in it") from None
    return Pattern(text, compiled.groupindex, compiled)


def compile_redaction(text: str) -> Pattern:
    """A pattern whose matches are taken out. Raises BadPattern, also for one that matches nothing at all."""
    pattern = compile_pattern(text)
    if pattern.found(""):
        raise BadPattern("also matches empty text, so it would be everywhere; ask for at least one character")
    return pattern


@cache
def _engine(ignore_case: bool) -> tuple[Any, Any]:
    engine: Any = import_module("re2")
    options = engine.Options()
    options.log_errors = False  # it writes to stderr
    options.case_sensitive = not ignore_case
    return engine, options


def _plain(text: str) -> str:
    """The text without half characters (names of files may have some), which RE2 does not take. As long as before."""
    return text if text.isascii() else _HALVES.sub("\ufffd", text)


def find_all(pattern: Pattern, text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every match that is not empty, piece by piece."""
    at, length = 0, len(text)
    while at < length:
        end = min(at + PIECE, length)
        past, again = at, None
        for start, stop in pattern.spans(text, at, end):
            if stop == end < length and start > at:
                again = start  # the match may continue behind the piece
                break
            if stop > start:
                yield start, stop
            past = stop
        at = again if again is not None else length if end == length else max(past, end - OVERLAP)
