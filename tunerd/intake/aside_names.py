"""The hidden names that files get before they are deleted or moved, at a length that the file system takes."""

import hashlib
import os
from typing import Final

ASIDE: Final = ".tunerd-done-"
"""What the name begins with that a file has between the last look at it and its end: hidden, and nobody opens it by it."""
_HASH_LENGTH: Final = 16
_STEM_BYTES: Final = 64
_NAME_BYTES: Final = 255


def aside_name(name: str, folder: int) -> str:
    """Of a length that fits, whatever the name's own, and another one for each name."""
    return fitted(f"{ASIDE}{_hash(name)}-{name}", "", folder)


def original_of(aside: str) -> tuple[str, bool]:
    """The name that a file had which was set aside (`aside` without directories), and whether that is all of it: of a
    very long one it is only the beginning."""
    begins = aside[len(ASIDE) + _HASH_LENGTH + 1 :]
    return begins, is_original(begins, aside)


def is_original(name: str, aside: str) -> bool:
    return aside[len(ASIDE) :].startswith(_hash(name) + "-")


def _hash(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=_HASH_LENGTH // 2).hexdigest()


def fitted(stem: str, end: str, folder: int) -> str:
    """Both together; what is too long for a name there is cut, from the end of the stem, then from the beginning of the
    end."""
    try:
        most = os.fpathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        most = _NAME_BYTES
    end = _last(end, most - min(_STEM_BYTES, len(os.fsencode(stem))))
    return _first(stem, most - len(os.fsencode(end))) + end


def _first(text: str, most: int) -> str:
    """The name cut to at most this many bytes, between two characters."""
    raw = os.fsencode(text)
    while 0 < most < len(raw) and _is_inside(raw[most]):
        most -= 1
    return os.fsdecode(raw[:most])


def _last(text: str, most: int) -> str:
    raw = os.fsencode(text)
    start = max(0, len(raw) - most)
    while 0 < start < len(raw) and _is_inside(raw[start]):
        start += 1
    return os.fsdecode(raw[start:])


def _is_inside(byte: int) -> bool:
    """Whether this byte continues a character of UTF-8."""
    return byte & 0xC0 == 0x80
