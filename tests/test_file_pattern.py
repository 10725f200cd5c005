"""file_pattern.py: which files a name of a recording stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunerd.file_pattern import FilePattern, escaped

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda t: t not in (".", "..")
)


@given(NAMES, NAMES)
def test_escaped_text_matches_only_itself(text: str, other: str) -> None:
    """Whatever a document has in the place of an id, its name stands for the one file that is called like this."""
    pattern = FilePattern.parse(f"/var/rec/{escaped(text)}")
    assert pattern.is_literal
    assert pattern.directory == "/var/rec"
    assert pattern.matches(f"/var/rec/{text}")
    assert pattern.matches(f"/var/rec/{other}") == (text == other)


@given(NAMES)
def test_an_escaped_directory_is_itself(directory: str) -> None:
    """A directory of the configuration whose name has special characters is that directory, and no other."""
    pattern = FilePattern.parse(f"/{escaped(directory)}/*.wav")
    assert pattern.directory == f"/{directory}"
    assert pattern.matches(f"/{directory}/a.wav")


@pytest.mark.parametrize(
    ("name", "path", "fits"),
    [
        ("/rec/c1*.wav", "/rec/c1-a.wav", True),
        ("/rec/c1*.wav", "/rec/c1.wav", True),
        ("/rec/c1*.wav", "/rec/c2.wav", False),
        ("/rec/c1*.wav", "/rec/c1/a.wav", False),
        ("/rec/*/c1.wav", "/rec/day/c1.wav", True),
        ("/rec/*/c1.wav", "/rec/day/night/c1.wav", False),
        ("/rec/*.wav", "/rec/.c1.wav", False),
        ("/rec/.*.wav", "/rec/.c1.wav", True),
        ("/rec/*.wav", "/other/c1.wav", False),
        ("/rec/c?.wav", "/rec/c1.wav", True),
        ("/rec/c[12].wav", "/rec/c3.wav", False),
        ("/rec/*.wav", "/rec2/c1.wav", False),
        ("/*.wav", "/c1.wav", True),
    ],
)
def test_what_patterns_match(name: str, path: str, fits: bool) -> None:
    """A star stays in its directory, and does not stand for hidden files."""
    assert FilePattern.parse(name).matches(path) is fits
