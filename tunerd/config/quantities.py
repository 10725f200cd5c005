"""Durations and sizes as people write them: `30s`, `1h30m`, `250ms`; `4MiB`, `500kB`. Pure.

Used for the configuration and for options of commands; everything past that edge is seconds and bytes.
"""

import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES: Final = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_MAX_S: Final = 36_500 * 86_400.0
_MAX_BYTES: Final = 2**60

DURATION_PATTERN: Final = r"^([0-9]{1,12}(\.[0-9]{1,9})?(ms|s|m|h|d|w))+$"
SIZE_PATTERN: Final = r"^[0-9]{1,18}(\.[0-9]{1,9})? ?(B|[kK]B|MB|GB|[kK]iB|MiB|GiB)$"
"""For the JSON Schema: the two forms that the functions below take."""

_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|[smhdw])", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([kK]B|MB|GB|[kK]iB|MiB|GiB|B)", re.ASCII)

DURATION_FORM: Final = "a duration like 250ms, 30s, 10m, 1h or 7d"
SIZE_FORM: Final = "a size like 500kB, 4MiB or 1GiB"


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError with the form to write."""
    if not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        raise ValueError(f"not {DURATION_FORM}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _MAX_S:
        raise ValueError("longer than 100 years")
    return round(seconds, 6)


def parse_size(text: str) -> int:
    """Bytes; kB is 1000, KiB 1024. Raises ValueError with the form to write."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"not {SIZE_FORM}")
    unit = found[2].replace("KB", "kB").replace("kiB", "KiB")
    size = round(float(found[1]) * _BYTES[unit])
    if size > _MAX_BYTES:
        raise ValueError("larger than any disk")
    return size


def duration_text(seconds: float) -> str:
    """The shortest single-unit text that parse_duration reads back: 5400.0 -> `90m`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if seconds and count == int(count):
            return f"{int(count)}{unit}"
    if seconds * 1000 == int(seconds * 1000):
        return f"{int(seconds * 1000)}ms" if seconds else "0s"
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


def size_text(size: int) -> str:
    """The shortest text that parse_size reads back: 4194304 -> `4MiB`."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"
