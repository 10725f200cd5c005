"""Durations and sizes: what is taken, what is refused, and that what is printed can be read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunerd.config.quantities import duration_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h", 3600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("250ms", 0.25),
        ("1h30m", 5400),
        ("1.5s", 1.5),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """One or more numbers, each with its unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "s", "30 s", "-1s", "1y", "1H", "1e3s", "1..5s", "٣s", "30s ", "36501d", "9" * 20 + "s", "1h\n"]
)
def test_what_is_no_duration(text: str) -> None:
    """A number alone, blanks, signs and unknown units are refused."""
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4MiB", 4_194_304),
        ("1GiB", 1_073_741_824),
        ("500kB", 500_000),
        ("1KB", 1000),
        ("2 MB", 2_000_000),
        ("1.5kiB", 1536),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """kB is 1000 bytes, KiB 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4", "4M", "4mb", "MiB", "-1kB", "1TiB", "4  MiB", "4MiB ", "9" * 15 + "GiB"])
def test_what_is_no_size(text: str) -> None:
    """A number alone, short units and unknown ones are refused."""
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.integers(0, 10**12))
def test_milliseconds_are_printed_as_they_are_read(milliseconds: int) -> None:
    """Any duration of whole milliseconds survives the way to text and back."""
    seconds = min(milliseconds / 1000, 3e9)
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.integers(0, 2**50))
def test_bytes_are_printed_as_they_are_read(size: int) -> None:
    """Any size survives the way to text and back."""
    assert parse_size(size_text(size)) == size
