"""Takes audio out of a document that is too large to be read into memory: its base64 goes into the spool while the file is read,
and the document is mapped with a short text in its place. Blocking, for a thread.

Only strings that are long and base64 to their end are taken out. Nothing here parses JSON: it only tells strings from the rest.
"""

import binascii
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

from tunerd.audio.spool import AudioSpool
from tunerd.call import SpooledAudio

LONG_CHARS: Final = 64 * 1024
"""Shorter strings stay where they are."""

_STOP: Final = re.compile(rb'["\\]')
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=]*")


class StillTooLarge(Exception):
    """Without its audio the document is too large, too; or it has a long string that is no base64."""


def without_audio(
    chunks: Iterable[bytes], spool: AudioSpool, place: str, max_bytes: int
) -> tuple[bytes, Mapping[str, SpooledAudio]]:
    """The document of a file, and what is in place of its audio. `place`: of the document. Raises StillTooLarge, SpoolFull,
    EntryTooLarge and what reading raises; what went into the spool before is removed with others that nobody refers to."""
    strings, kept = _Strings(chunks), bytearray()
    spooled: dict[str, SpooledAudio] = {}
    spooled_bytes = 0

    def keep(text: bytes) -> None:
        if len(kept) + len(text) > max_bytes:
            raise StillTooLarge
        kept.extend(text)

    try:
        while outside := strings.outside():
            keep(outside)
            if not outside.endswith(b'"'):
                continue
            inside = strings.inside()
            begin, is_whole = _beginning(inside)
            if is_whole or _BASE64.fullmatch(_unescaped(begin)) is None:
                for part in chain([begin], inside):
                    keep(part)
            else:
                where = f"{place}#{len(spooled)}" if spooled else place
                location, identity = spool.add(where, _decoded(chain([begin], inside)), beside=spooled_bytes)
                spooled_bytes += identity.size
                name = f"spooled-{secrets.token_hex(16)}"
                spooled[name] = SpooledAudio(location, str(identity))
                keep(name.encode())
            keep(b'"')
    except BaseException:
        for one in spooled.values():
            spool.answered(one.location)
        raise
    return bytes(kept), spooled


class _Strings:
    """The bytes of a file, in turn outside of strings and inside."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data, self._at = b"", 0

    def outside(self) -> bytes:
        """Up to the quote that begins the next string, with it; or a piece without one. Empty: the file is over."""
        if not self._fill():
            return b""
        end = self._data.find(b'"', self._at) + 1
        return self._take(end or len(self._data))

    def inside(self) -> Iterator[bytes]:
        """The string that begins here, in pieces that cut no escape. Ends behind its quote. Raises StillTooLarge if the file ends
        first."""
        while self._fill():
            stop = _STOP.search(self._data, self._at)
            end = len(self._data) if stop is None else stop.start()
            if end > self._at:
                yield self._take(end)
            elif self._data[end : end + 1] == b'"':
                self._take(end + 1)
                return
            else:
                backslash = self._take(end + 1)
                if self._fill():
                    yield backslash + self._take(self._at + 1)
        raise StillTooLarge

    def _fill(self) -> bool:
        while self._at >= len(self._data):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._data, self._at = chunk, 0
        return True

    def _take(self, end: int) -> bytes:
        taken, self._at = self._data[self._at : end], end
        return taken


def _beginning(parts: Iterator[bytes]) -> tuple[bytes, bool]:
    """The first LONG_CHARS of a string, or all of it."""
    held = bytearray()
    for part in parts:
        held += part
        if len(held) > LONG_CHARS:
            return bytes(held), False
    return bytes(held), True


def _unescaped(text: bytes) -> bytes:
    """Without line ends. What base64 cannot hold becomes a sign that it cannot hold either."""

    def one(escape: re.Match[bytes]) -> bytes:
        return b"/" if escape[1] == b"/" else b"" if escape[1] in b"nr" else b"!"

    return _ESCAPE.sub(one, text)


def _decoded(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Raises StillTooLarge if it is no base64."""
    left, is_over = b"", False
    for part in parts:
        text = left + _unescaped(part)
        whole, left = text[: len(text) // 4 * 4], text[len(text) // 4 * 4 :]
        if not whole:
            continue
        try:
            if is_over:
                raise StillTooLarge
            yield binascii.a2b_base64(whole, strict_mode=True)
        except binascii.Error as exc:
            raise StillTooLarge from exc
        is_over = whole.endswith(b"=")
    if left:
        raise StillTooLarge
