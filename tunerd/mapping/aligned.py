"""A row's text and its words say the same twice: what is found in one of them is taken out of the other, too. Pure.

They are compared by letters and digits alone. Where they differ (`4111` in the text, `four one one one` in the words),
everything between the last word before the hit and the first one after it that both have is taken.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

_MOST_COMPARISONS: Final = 1_000_000
"""Of the tokens of one row; beyond, all of its words are taken."""


@dataclass(frozen=True, slots=True)
class Hit:
    start: int
    end: int
    kind: str


Find = Callable[[str], Sequence[Hit]]
"""The hits in a text, in order, none over another."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """The letters and digits of a text, and where each stands in it."""

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
    stands in the text, too (hits to add to the text's), and how many words were blanked of each kind."""
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
        for hit, part in zip(hits, parts, strict=True):
            found = list(of_words.all_of(part))
            for span in found:
                blank(*span, hit.kind)
            if len(found) < parts.count(part):  # at least one of them is said in another way
                for number in _between(text, hit, said):
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


def _between(text: str, hit: Hit, said: Sequence[str]) -> range:
    """The words between the neighbours of the hit that text and words have both."""
    before, inside, after = (
        [_plain(token) for token in part.split()] for part in (text[: hit.start], text[hit.start : hit.end], text[hit.end :])
    )
    tokens, words = [*before, *inside, *after], [_plain(word) for word in said]
    if len(tokens) * len(words) > _MOST_COMPARISONS:
        return range(len(said))
    first, last = len(before), len(before) + len(inside)
    low, high = 0, len(words)
    for block in SequenceMatcher(None, tokens, words, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            if block.a + step < first:
                low = block.b + step + 1
            elif block.a + step >= last:
                return range(low, min(high, block.b + step))
    return range(low, high)


def _plain(token: str) -> str:
    return "".join([char for char in token.casefold() if char.isalnum()])
