"""An answer's body, decompressed. Pure.

tunerd asks for no compression (`Accept-Encoding: identity`), but some proxies compress all the same. What is decoded is
bounded, so that a small answer cannot fill the memory.
"""

import zlib
from typing import Final

ANSWER_BYTES: Final = 1024 * 1024
"""At most this much of an answer is read, and at most this much of it is decoded."""
TOO_LONG: Final = f"its body is longer than {ANSWER_BYTES // 1024:,} KiB"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MOST_CODINGS: Final = 3
_PIECE_BYTES: Final = 64 * 1024


def decode(body: bytes, coding: str) -> tuple[bytes, str]:
    """The body without the codings of its Content-Encoding header, at most ANSWER_BYTES of it; and why it could not be
    read to its end, empty if it was. A body that begins as gzip is decoded without the header, too."""
    codings = [name for part in coding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    if not codings and body.startswith(_GZIP_MAGIC):
        codings = ["gzip"]
    if len(codings) > _MOST_CODINGS:
        return b"", "its body is compressed too often"
    for name in reversed(codings):  # the last one was applied last
        if name in ("gzip", "x-gzip"):
            windows: tuple[int, ...] = (31,)
        elif name == "deflate":
            windows = (15, -15)  # some servers leave out the zlib wrapper
        else:
            return b"", "its body is compressed in a way that tunerd does not know"
        body, unread = _inflate(body, windows)
        if unread:
            return body, unread
    return body, ""


def _inflate(body: bytes, windows: tuple[int, ...]) -> tuple[bytes, str]:
    for bits in windows:
        try:
            return _inflated(body, bits)
        except zlib.error:
            continue
    return b"", "its body is not compressed as its header says"


def _inflated(body: bytes, bits: int) -> tuple[bytes, str]:
    """One or several members, one after the other. Raises zlib.error."""
    parts: list[bytes] = []
    room = ANSWER_BYTES + 1
    while body and room > 0:
        inflater = zlib.decompressobj(bits)
        while body and room > 0 and not inflater.eof:
            part = inflater.decompress(body, min(room, _PIECE_BYTES))
            if not part and not inflater.eof and inflater.unconsumed_tail == body:
                break
            parts.append(part)
            room -= len(part)
            body = inflater.unconsumed_tail
        if inflater.eof:
            body = inflater.unused_data.lstrip(b"\x00")  # padding behind the last member
        elif room > 0:
            return b"".join(parts), "its compressed body is cut off"
    content = b"".join(parts)
    if len(content) > ANSWER_BYTES:
        return content[:ANSWER_BYTES], TOO_LONG
    return content, ""
