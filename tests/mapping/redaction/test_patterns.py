"""Users' regular expressions: what is refused, and that texts of any length are searched in bounded time."""

import time

import pytest

from tunerd.mapping.patterns import OVERLAP, PIECE, BadPattern, compile_pattern, find_all

GOOD = [
    r"TCK-\d+", r"\b\d{3}-\d{2}-\d{4}\b", r"(?:\d[ -]?){13,16}", r"\w+-\d+", r"[A-Za-z]+ [A-Za-z]+", r".*foo",
    r"(?i)passport (?:no|number)?\s*[:#]?\s*\w+", r"(?:[a-z]+\.)+com", r"(?:Mr|Mrs|Ms)\.? [A-Z][a-z]+", r"(?:ab|ac)+d",
    r"\bname is (\w+ ){1,3}\w+", r"\w++-\d++", r"(?:,?\d{3})+z", r"[^@]+@[^@]+\.[a-z]+", r"(\w+) \1", r"(?<=pin )\d{4}",
    r"(?P<x>\d{4})(?!\d)", r"PO[ -]?\d{6}(?:[A-Z]|/\d)?", "[äöü]{2,}", r"\d{1,20}\d{1,20}x", r"(?:\w|\d)+-", r"(?i)(?:a|A)+b",
]  # fmt: skip

SLOW = [
    r"(a+)+x", r"(a|aa)+$", r"(a?){30}a{30}", r"(.*)(.*)x", r"(\w+\s?)+:", r"(\d+)*-", r"([a-z]*)*x", r"(x+x+)+y",
    r"^(([a-z])+.)+[A-Z]([a-z])+$", r"\d+\d+\d+x", r"(?=(a+)+b)c", r"(?:a|a)*b", r"(?:(?:a{0,5}){0,5}){0,5}b",
    r"(?i)(?:ab|AB)+c", r"(?:a{1,9}){1,99}b", r".*.*=", r"(?:.|\s)*?END",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_patterns_that_people_write(text: str) -> None:
    """Are taken as they are."""
    compile_pattern(text)


@pytest.mark.parametrize("text", SLOW)
def test_patterns_that_may_never_end(text: str) -> None:
    """Are refused, and told how to mend them."""
    with pytest.raises(BadPattern, match=r"very long .* bound them"):
        compile_pattern(text)


@pytest.mark.parametrize("text", ["(", "[a", "a{2,1}", "*", "(?P<1>a)", "\\", "(?<=a+)b", "[[a]"])
def test_no_regular_expressions(text: str) -> None:
    """Are told as such, in the words of Python."""
    with pytest.raises(BadPattern, match="is not a regular expression"):
        compile_pattern(text)


@pytest.mark.parametrize("text", ["x*", "", "a|", "(?:)", "a?"])
def test_patterns_that_match_nothing_at_all(text: str) -> None:
    """Would stand between all characters."""
    with pytest.raises(BadPattern, match="empty text"):
        compile_pattern(text)


@pytest.mark.parametrize("at", [0, 1, PIECE - OVERLAP, PIECE - 10, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE - 7, 9_990])
def test_a_match_is_found_wherever_it_stands(at: int) -> None:
    """Over the ends of pieces, too."""
    text = "x" * at + "TCK-123456" + "y" * 5_000
    assert list(find_all(compile_pattern(r"TCK-\d+"), text)) == [(at, at + 10)]


def test_matches_as_long_as_the_overlap_are_found_whole() -> None:
    """What is longer than a piece is found in parts."""
    pattern = compile_pattern(r"<[a-z]+>")
    for at in range(0, 3 * PIECE, 37):
        found = "<" + "a" * (OVERLAP - 2) + ">"
        assert list(find_all(pattern, "-" * at + found + "-" * PIECE)) == [(at, at + OVERLAP)]
    assert sum(end - start for start, end in find_all(compile_pattern(r"\d+"), "1" * 12_345)) == 12_345


def test_empty_matches_are_no_matches() -> None:
    """A pattern of a place alone finds nothing, and ends."""
    assert list(find_all(compile_pattern(r"\b(?=foo)"), "foo " * 2_000)) == []


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        (r"\d+x", "1"),
        (r"\s*\w+:", " "),
        (r"[a-z]+@", "a"),
        (r".*foo", "fo"),
        (r"(?:\d[ -]?){13,16}x", "1 "),
        (r"\d{1,20}\d{1,20}x", "1"),
    ],
)
def test_the_worst_text_is_searched_in_bounded_time(pattern: str, unit: str) -> None:
    """What is quadratic in a piece is linear in the text."""
    compiled = compile_pattern(pattern)
    began = time.process_time()
    assert list(find_all(compiled, unit * (100_000 // len(unit)))) == []
    assert time.process_time() - began < 5
