"""Regular expressions that users write for redaction: compiled, tried for endless work, and run on pieces of bounded length.

Python's `re` cannot be stopped while it works, so what could take it minutes is refused when the configuration is read;
of those in rules and `path_groups` `tunerd check` warns. Pure.
"""

import importlib
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

PIECE: Final = 1_000
"""Characters of a text that a pattern sees at a time, so that even its worst case is short."""
OVERLAP: Final = 250
"""Of two pieces; a match up to this length is found wherever it stands."""
MAX_WAYS: Final = 4 * PIECE
"""Ways to try from one starting point: one open repeat that what follows could have matched too."""
MAX_WAYS_IN_A_PATH: Final = 4 * PIECE * PIECE
"""A path is short: there two open repeats do no harm."""

_parser: Any = importlib.import_module("re._parser")
_SAMPLE: Final = frozenset({*map(chr, range(9, 127)), "\u00e4", "\u00a0", "\u0663", "\u4e2d"})
"""Stands for all characters."""
_Set = frozenset[str]


class BadPattern(ValueError):
    """Says in a person's words what is wrong with a pattern."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """Raises BadPattern for what is no regular expression, matches nothing at all, or could take far too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pattern = re.compile(text)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise BadPattern(f"is not a regular expression: {error}") from None
    if pattern.search("") is not None:
        raise BadPattern("also matches empty text, so it would be everywhere; ask for at least one character")
    if (slow := slowness(text)) is not None:
        raise BadPattern(slow)
    return pattern


def slowness(text: str, *, ignore_case: bool = False, most_ways: int = MAX_WAYS) -> str | None:
    """That a regular expression could take far too long, in a person's words; None where it could not, or is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pattern = re.compile(text, re.IGNORECASE if ignore_case else 0)
            parsed = _parser.parse(text, pattern.flags)
        except (re.error, RecursionError, OverflowError, ValueError):
            return None
    try:
        ways = _Ways(bool(pattern.flags & re.IGNORECASE), most_ways).of(list(parsed), frozenset())
    except RecursionError:
        ways = most_ways + 1
    if ways <= most_ways:
        return None
    return (
        "could take very long on some texts, because repeats in it may match the same characters in many ways; "
        "bound them, like \\d{1,20} for \\d+, and use at most one open .* or .+"
    )


def find_all(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every match that is not empty; long texts piece by piece."""
    if len(text) <= PIECE:
        yield from (found.span() for found in pattern.finditer(text) if found.end() > found.start())
        return
    at, length = 0, len(text)
    while at < length:
        end = min(at + PIECE, length)
        found = pattern.search(text, at, end)
        if found is not None and found.end() == end < length and found.start() > at:
            found = pattern.match(text, found.start(), min(found.start() + PIECE, length)) or found
        if found is not None and found.end() > found.start():
            yield found.span()
            at = found.end()
        elif found is not None:
            at = found.end() + 1
        else:
            at = end if end == length else end - OVERLAP


class _Ways:
    """How many ways a backtracking matcher may try from one start, from above. Only choices count that the next character
    does not decide: `\\w+-` has one way, `\\w+\\d` as many as the text is long, `(\\w+)+-` two to the power of that."""

    def __init__(self, ignore_case: bool, most: int) -> None:
        """`most`: where counting ends."""
        self._ignore_case = ignore_case
        self._most = most

    def of(self, items: Sequence[Any], follow: _Set) -> int:
        """`follow`: characters that may come after the items; empty at the end of the pattern, where every way is a match
        and none is tried twice."""
        ways = 1
        for at, (kind, what) in enumerate(items):
            after, through = self._first(items[at + 1 :])
            after = after | follow if through else after
            ways *= self._one(str(kind), what, after)
            if ways > self._most:
                return self._most + 1
        return ways

    def _one(self, kind: str, what: Any, follow: _Set) -> int:
        if kind == "BRANCH":
            firsts = [self._first(branch) for branch in what[1]]
            ways = [self.of(branch, follow) for branch in what[1]]
            alike = any(
                through or one & other
                for at, (one, through) in enumerate(firsts)
                for other, _ in firsts[at + 1 :]
            )  # fmt: skip
            return sum(ways) if alike else max(ways)
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, body = int(what[0]), min(int(what[1]), PIECE), list(what[2])
            first, through = self._first(body)
            again = first if high > 1 else frozenset()
            tried = self.of(body, follow | again)
            unclear = high > low and (through or bool(first & follow))
            if through and high > 1:
                return self._most + 1  # turns of a loop that match nothing
            if high == 1:
                return tried + 1 if unclear else tried
            if tried > 1:
                return self._most + 1 if high > 12 else min(tried**high * (high - low + 1), self._most + 1)
            return high - low + 1 if unclear else 1
        if kind in ("SUBPATTERN", "ASSERT", "ASSERT_NOT", "ATOMIC_GROUP", "GROUPREF_EXISTS", "POSSESSIVE_REPEAT"):
            inner = self._inner(kind, what)
            return 1 if inner is None else self.of(inner, follow if kind == "SUBPATTERN" else frozenset())
        return 1

    @staticmethod
    def _inner(kind: str, what: Any) -> list[Any] | None:
        match kind:
            case "SUBPATTERN":
                return list(what[3])
            case "ASSERT" | "ASSERT_NOT":
                return list(what[1])
            case "ATOMIC_GROUP":
                return list(what)
            case "POSSESSIVE_REPEAT":
                return list(what[2])
        return None

    def _first(self, items: Sequence[Any]) -> tuple[_Set, bool]:
        """The characters that may come first, and whether the items may match nothing."""
        found: _Set = frozenset()
        for kind, what in items:
            chars, through = self._first_of(str(kind), what)
            found |= chars
            if not through:
                return found, False
        return found, True

    def _first_of(self, kind: str, what: Any) -> tuple[_Set, bool]:
        match kind:
            case "LITERAL":
                return self._cased(frozenset({chr(what)})), False
            case "NOT_LITERAL":
                return _SAMPLE - self._cased(frozenset({chr(what)})), False
            case "ANY":
                return _SAMPLE, False
            case "IN":
                return self._cased(_members(what)), False
            case "BRANCH":
                firsts = [self._first(branch) for branch in what[1]]
                return frozenset().union(*(chars for chars, _ in firsts)), any(through for _, through in firsts)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                chars, through = self._first(list(what[2]))
                return chars, through or int(what[0]) == 0
            case "SUBPATTERN" | "ATOMIC_GROUP":
                return self._first(self._inner(kind, what) or [])
            case "AT" | "ASSERT" | "ASSERT_NOT":
                return frozenset(), True
        return _SAMPLE, True  # a reference to a group, or what a later Python brings: anything

    def _cased(self, chars: _Set) -> _Set:
        if not self._ignore_case:
            return chars
        return frozenset({*chars, *(char.lower() for char in chars), *(char.upper() for char in chars)})


def _members(items: Sequence[Any]) -> _Set:
    """The sample's characters of one [...] class."""
    negated, found = False, set[str]()
    for kind, what in items:
        match str(kind):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.add(chr(what))
            case "RANGE":
                found |= {char for char in _SAMPLE if what[0] <= ord(char) <= what[1]} | {chr(what[0])}
            case "CATEGORY":
                found |= _category(str(what))
    return _SAMPLE - found if negated else frozenset(found)


def _category(name: str) -> _Set:
    chars = frozenset(
        char for char in _SAMPLE
        if (char.isdecimal() if "DIGIT" in name else char.isspace() if "SPACE" in name else char.isalnum() or char == "_")
    )  # fmt: skip
    return _SAMPLE - chars if "NOT" in name else chars
