"""Users' regular expressions: what they mean, what is refused, and that texts of any length are searched in bounded time."""

import re
import time
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tunerd.mapping.patterns import OVERLAP, PIECE, BadPattern, compile_pattern, compile_redaction, find_all

GOOD = [
    r"TCK-\d+", r"\b\d{3}-\d{2}-\d{4}\b", r"(?:\d[ -]?){13,16}", r"\w+-\d+", r"[A-Za-z]+ [A-Za-z]+", r".*foo",
    r"(?i)passport (?:no|number)?\s*[:#]?\s*\w+", r"(?:[a-z]+\.)+com", r"(?:Mr|Mrs|Ms)\.? [A-Z][a-z]+", r"(?:ab|ac)+d",
    r"\bname is (\w+ ){1,3}\w+", r"(?:,?\d{3})+z", r"[^@]+@[^@]+\.[a-z]+", r"PO[ -]?\d{6}(?:[A-Z]|/\d)?", "[äöü]{2,}",
    r"\d{1,20}\d{1,20}x", r"(?:\w|\d)+-", r"(?i)(?:a|A)+b", r"\p{Lu}\p{Ll}+", r"(?s:a.b)", r"(?m)^pin \d+$", r"[]a]+x", r"[^]a]",
]  # fmt: skip

SLOW_ELSEWHERE = [
    r"(a+)+x", r"(a|aa)+$", r"(a?){30}a{30}", r"(.*)(.*)x", r"(\w+\s?)+:", r"(\d+)*-", r"([a-z]*)*x", r"(x+x+)+y",
    r"^(([a-z])+.)+[A-Z]([a-z])+$", r"\d+\d+\d+x", r"(?:a|a)*b", r"(?:(?:a{0,5}){0,5}){0,5}b", r"(?i)(?:ab|AB)+c",
    r"(?:a{1,9}){1,99}b", r".*.*=", r"(?:.|\s)*?END", r"\s*\w+:", r"[a-z]+@", r".*foo", r"(?:\d[ -]?){13,16}x", r"a.*b|a",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_patterns_that_people_write(text: str) -> None:
    """Are taken as they are."""
    compile_redaction(text)


@pytest.mark.parametrize(
    ("text", "part", "advice"),
    [
        (r"pin(?=\d)", "(?=", "name the part"),
        (r"\d{4}(?!\d)", "(?!", "say what may follow"),
        (r"(?<=pin )\d{4}", "(?<=", "name the part"),
        (r"(?<!\d)\d{4}", "(?<!", "say what may stand before"),
        (r"(\w+) \1", r"\1", "alternatives"),
        (r"(?P<w>\w+) (?P=w)", "(?P=", "alternatives"),
        (r"(?>a+)b", "(?>", "(?:...)"),
        (r"(a)?(?(1)b|c)", "(?(", "both cases"),
        (r"(?#why)a", "(?#", "leave it out"),
        (r"(?x) a b", "(?x)", "without blanks"),
        (r"(?ia)\w", "(?ia)", "[0-9]"),
        (r"a++b", "++", "leave the + out"),
        (r"a{1001}", "{1001}", "1000"),
        (r"\bÄrzte", r"\b", r"(?:^|\P{L})"),
    ],
)
def test_what_re2_does_not_know_is_told_with_a_way_around(text: str, part: str, advice: str) -> None:
    """The part is named, so that it can be found in a long pattern."""
    with pytest.raises(BadPattern) as told:
        compile_pattern(text)
    assert f"`{part}`" in str(told.value)
    assert advice in str(told.value)


@pytest.mark.parametrize("text", ["(", "[a", "a{2,1}", "*", "(?P<1>a)", "\\", "(?P<a>x)(?P<a>y)", "[z-a]", "\\q", "a)", "\udc80"])
def test_no_regular_expressions(text: str) -> None:
    """Are told as such."""
    with pytest.raises(BadPattern, match="is not a regular expression"):
        compile_pattern(text)


@pytest.mark.parametrize("text", ["x*", "", "a|", "(?:)", "a?"])
def test_patterns_that_match_nothing_at_all(text: str) -> None:
    """Would be between all characters."""
    with pytest.raises(BadPattern, match="empty text"):
        compile_redaction(text)


MEANING = [
    r"\d+", r"\D+", r"\w+", r"\W+", r"\s+", r"\S+", r"[\d]+", r"[^\d]+", r"[\w-]+", r"[^\w]+", r"[\s,]+", r"[^\s]+", r"[\S,]+",
    r"[\D]+", r"[^\W\d]+", r"a{,3}b", r"[]x]+", r"[^]x]+", r"\x41", r"\u00e4+", r"\101", r"[\b]", r"b\Z", r"\Aa",
    r"(?i)straße", r"(?i)ÄB", r"(?P<one>a)(?P<two>b)?", r"(?s)a.b", r"(?m)^b", r"a|b", r"(a)(?i:B)", r"[a-f\d]+", r"\.\-\/",
]  # fmt: skip
"""What Python and RE2 write differently, or the same."""
_CHARACTERS = "abAB xX],-[_09\u0663\u00e4\u00c4\u00df\u00a0\u2003\u3000\u4e2d\u00b2\n\t\x0b\x1c\x85\x08"


@pytest.mark.parametrize("pattern", MEANING)
@settings(max_examples=examples(15), deadline=None)
@example("STRAßE ab\u0663\x0b")
@given(st.text(_CHARACTERS, max_size=12))
def test_patterns_mean_what_they_mean_in_python(pattern: str, text: str) -> None:
    """Classes of all scripts, escapes, groups and flags: the same match in the same place, the same groups."""
    ours, theirs = compile_pattern(pattern), re.compile(pattern)
    found = theirs.search(text)
    groups = None if found is None else found.groupdict() if theirs.groupindex else {"match": found.group()}
    assert ours.groups(text) == groups
    assert ours.found(text) is (found is not None)
    assert ours.whole(text) is (theirs.fullmatch(text) is not None)
    assert dict(ours.names) == dict(theirs.groupindex)


def test_half_characters_in_a_text_are_no_obstacle() -> None:
    """Names of files may hold bytes that are no text; what stands around them is found, and given as it is."""
    assert compile_pattern("(?P<day>[0-9]+)/(?P<rest>.*)").groups("2026/a\udcff\u00e4") == {
        "day": "2026",
        "rest": "a\udcff\u00e4",
    }


@pytest.mark.parametrize("at", [0, 1, PIECE - OVERLAP, PIECE - 10, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 7, 9_990])
def test_a_match_is_found_wherever_it_stands(at: int) -> None:
    """Over the ends of pieces, too."""
    for pattern in (r"TCK-\d+", r"\bTCK-\d+\b", r"[TÄ]CK-[\d]+"):
        text = "ä" * at + " TCK-123456 " + "y" * 5_000
        assert list(find_all(compile_redaction(pattern), text)) == [(at + 1, at + 11)]


def test_the_ends_of_a_piece_are_not_the_ends_of_the_text() -> None:
    """`^`, `$` and word boundaries see what is around."""
    text = "1" * 5 * PIECE
    assert list(find_all(compile_redaction("^1"), text)) == [(0, 1)]
    assert list(find_all(compile_redaction("1$"), text)) == [(5 * PIECE - 1, 5 * PIECE)]
    assert list(find_all(compile_redaction(r"\b1"), text)) == [(0, 1)]


def test_matches_as_long_as_the_overlap_are_found_whole() -> None:
    """What is longer than a piece is found in parts."""
    pattern = compile_redaction(r"<[a-z]+>")
    for at in range(0, 3 * PIECE, 37):
        found = "<" + "a" * (OVERLAP - 2) + ">"
        assert list(find_all(pattern, "-" * at + found + "-" * PIECE)) == [(at, at + OVERLAP)]
    assert sum(end - start for start, end in find_all(compile_redaction(r"\d+"), "1" * 12_345)) == 12_345


def test_empty_matches_are_no_matches() -> None:
    """A pattern of a place alone finds nothing, and ends."""
    assert list(find_all(compile_redaction(r"\b"), "foo " * 2_000)) == []


def _took(work: object) -> float:
    began = time.process_time()
    assert callable(work)
    work()
    return time.process_time() - began


@pytest.mark.parametrize("pattern", SLOW_ELSEWHERE)
def test_time_grows_with_the_text_alone(pattern: str) -> None:
    """Where Python's engine takes minutes: eight times the text takes about eight times as long, as redaction and in rules."""
    ours = compile_pattern(pattern)

    def both(unit: str, length: int) -> None:
        text = unit * (length // len(unit))
        ours.groups(text)
        list(find_all(ours, text))

    for unit in ("a", "1", "1 ", "fo", "ab", "x"):
        both(unit, 1_000)
        short, long = (_took(partial(both, unit, length)) for length in (2_000, 16_000))
        assert long < 32 * max(short, 0.01), unit
