"""A row's text and its words say the same twice: what is found in one of them is taken out of the other, too. Pure.

They are compared by letters and digits alone. Where they differ (`4111` in the text, `four one one one` in the words),
everything between the last word before the hit and the first one after it that both have is taken.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from tunerd.record import positional_record

_TOKEN: Final = re.compile(r"\S+")
_MOST_COMPARISONS: Final = 1_000_000
"""Of the tokens of one row; beyond, all of its words are taken."""


@positional_record
class Hit:
    start: int
    end: int
    kind: str


Find = Callable[[str], Sequence[Hit]]
"""The hits in a text, in order, none over another."""


@positional_record
class _Stream:
    """The letters and digits of a text, and the offset of each in it."""

    chars: str
    places: Sequence[int]

    @classmethod
    def of(cls, text: str) -> "_Stream":
        pairs = [(char, at) for at, given in enumerate(text) if given.isalnum() for char in given.casefold()]
        return cls("".join([char for char, _ in pairs]), [at for _, at in pairs])

    def span(self, hit: Hit) -> tuple[int, int]:
        """The hit in letters and digits."""
        return bisect_left(self.places, hit.start), bisect_left(self.places, hit.end)

    def all_of(self, part: str) -> Iterator[tuple[int, int]]:
        """Start and end in the text of everything that reads like `part`."""
        at = self.chars.find(part)
        while part and at >= 0:
            yield self.places[at], self.places[at + len(part) - 1] + 1
            at = self.chars.find(part, at + len(part))


def blank_words(
    words: Sequence[dict[str, Any]], text: str, hits: Sequence[Hit], find: Find
) -> tuple[list[Hit], Mapping[str, int]]:
    """Blank every word that a hit touches, in place; `hits` are those of the text. Gives what was found in the words and
    is in the text, too (hits to add to the text's), and how many words were blanked of each kind."""
    said: list[str] = [word["word"] for word in words]
    joined = " ".join(said)
    own = find(joined)
    if not own and not hits:
        return [], {}
    starts = _starts(said)
    of_text, of_words = _Stream.of(text), _Stream.of(joined)
    kinds: dict[int, str] = {}

    def blank(start: int, end: int, kind: str) -> None:
        for number in range(max(0, bisect_left(starts, start + 1) - 1), bisect_left(starts, end)):
            kinds.setdefault(number, kind)

    for hit in own:
        blank(hit.start, hit.end, hit.kind)
    more: list[Hit] = []
    if of_text.chars == of_words.chars:
        for start, end, kind in ((*of_text.span(hit), hit.kind) for hit in hits):
            if end > start:
                blank(of_words.places[start], of_words.places[end - 1] + 1, kind)
        for start, end, kind in ((*of_words.span(hit), hit.kind) for hit in own):
            if end > start:
                more.append(Hit(of_text.places[start], of_text.places[end - 1] + 1, kind))
    else:
        parts = [of_text.chars[slice(*of_text.span(hit))] for hit in hits]
        often = Counter(parts)
        found = {part: list(of_words.all_of(part)) for part in often}
        sides: _Sides | None = None
        for hit, part in zip(hits, parts, strict=True):
            for span in found[part] if often[part] else ():
                blank(*span, hit.kind)
            if len(found[part]) < often[part]:  # at least one of them is said in another way
                sides = sides or _Sides(text, said)
                for number in sides.between(hit):
                    kinds.setdefault(number, hit.kind)
        for hit in own:
            start, end = of_words.span(hit)
            more += [Hit(*span, hit.kind) for span in of_text.all_of(of_words.chars[start:end])]
    for number, kind in kinds.items():
        words[number]["word"] = f"[{kind}]"
    return more, Counter(kinds.values())


def _starts(said: Sequence[str]) -> list[int]:
    starts, at = [], 0
    for word in said:
        starts.append(at)
        at += len(word) + 1
    return starts


class _Sides:
    """What text and words have both, in order: looked for once a row, however many hits it has."""

    def __init__(self, text: str, said: Sequence[str]) -> None:
        self._spans = [found.span() for found in _TOKEN.finditer(text)]
        tokens, words = [_plain(text[start:end]) for start, end in self._spans], [_plain(word) for word in said]
        self._count = len(said)
        self._pairs: list[tuple[int, int]] | None = None
        if len(tokens) * len(words) <= _MOST_COMPARISONS:
            blocks = SequenceMatcher(None, tokens, words, autojunk=False).get_matching_blocks()
            self._pairs = [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]

    def between(self, hit: Hit) -> range:
        """The words between the neighbours of the hit that text and words have both."""
        if self._pairs is None:
            return range(self._count)
        first = bisect_right(self._spans, hit.start, key=_end)
        last = bisect_left(self._spans, hit.end, key=_begin)
        before = bisect_left(self._pairs, (first, 0))
        after = bisect_left(self._pairs, (last, 0))
        low = self._pairs[before - 1][1] + 1 if before else 0
        high = self._pairs[after][1] if after < len(self._pairs) else self._count
        return range(low, high)


def _begin(span: tuple[int, int]) -> int:
    return span[0]


def _end(span: tuple[int, int]) -> int:
    return span[1]


def _plain(token: str) -> str:
    return "".join([char for char in token.casefold() if char.isalnum()])
