"""What the first bytes of a file say about its audio: the format, the channels, and whether the writer has finished. Pure.

Nothing is decoded. A header that cannot be read to its end still names the format, and counts as one channel.
"""

import struct
from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from tunerd.record import positional_record

HEAD_BYTES: Final = 16 * 1024
"""How many bytes to read for it: a WAV may have some kilobytes of remarks before its format."""

_OPEN_SIZES: Final = (0, 0xFFFF_FFFF)
"""What writers put into a WAV's sizes until they know them."""
_PAD: Final = 1
"""Behind a chunk of odd length; not every writer counts it."""
_MP4_BRANDS: Final = (b"M4A", b"M4B", b"mp4", b"iso", b"dash", b"3g", b"qt  ", b"MSNV", b"F4A")
"""How the brands of audio and video begin; pictures (heic, avif) have the same box."""


class AudioKind(StrEnum):
    """A format of audio that Tuner gets. The value is the extension of a file whose own name has none that fits."""

    WAV = "wav"
    OGG = "ogg"
    FLAC = "flac"
    MPEG = "mp3"
    MP4 = "m4a"
    EBML = "webm"


_EXTENSIONS: Final[Mapping[AudioKind, tuple[str, ...]]] = {
    AudioKind.WAV: ("wav",),
    AudioKind.OGG: ("ogg", "oga", "opus"),
    AudioKind.FLAC: ("flac",),
    AudioKind.MPEG: ("mp3",),
    AudioKind.MP4: ("m4a", "mp4"),
    AudioKind.EBML: ("webm", "mka", "mkv"),
}


@positional_record
class AudioHeader:
    """What the first bytes say."""

    kind: AudioKind
    channels: int = 1
    """Of WAV and Ogg (Opus, Vorbis); 1 for every other format, and where the header is cut."""
    announced_bytes: int | None = None
    """How long a WAV is by its own header; None for other formats, and while the writer has not filled it in."""
    most_bytes: int | None = None
    """How long a WAV is with all that its header covers: a longer one grows, and its header is corrected at the end."""
    is_open: bool = False
    """The sizes of a WAV are those that a writer puts there until it has finished."""

    def is_unfinished(self, size: int) -> bool:
        """Whether a file of this size still lacks something by its own header. A writer that cannot go back to the header (a
        pipe) leaves it like this for ever."""
        if self.is_open or (self.announced_bytes is not None and size < self.announced_bytes):
            return True
        return self.most_bytes is not None and size > self.most_bytes

    def extension(self, name: str) -> str:
        """The extension that Tuner gets, without a dot: the one of the file's name where it fits the content."""
        own = PurePosixPath(name).suffix.removeprefix(".").lower()
        return own if own in _EXTENSIONS[self.kind] else self.kind.value


def read_header(head: bytes) -> AudioHeader | None:
    """Of the first HEAD_BYTES of a file; fewer are enough if there are no more. None: this is no audio."""
    kind = _kind_of(head)
    if kind is AudioKind.WAV:
        return _wav(head)
    if kind is AudioKind.OGG:
        return AudioHeader(kind, channels=_ogg_channels(head))
    return None if kind is None else AudioHeader(kind)


def _kind_of(head: bytes) -> AudioKind | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return AudioKind.WAV
    if head[:4] == b"OggS":
        return AudioKind.OGG
    if head[:4] == b"fLaC":
        return AudioKind.FLAC
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return AudioKind.EBML
    if head[4:8] == b"ftyp" and head[8:12].startswith(_MP4_BRANDS):
        return AudioKind.MP4
    if head[:3] == b"ID3" or _is_mpeg_frame(head):
        return AudioKind.MPEG
    return None


def _is_mpeg_frame(head: bytes) -> bool:
    """Eleven set bits, then fields of which some values are never used. Layer I is not taken: the mark at the start of UTF-16
    text looks like it."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, sample_rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer in (1, 2) and bit_rate not in (0, 15) and sample_rate != 3


def _wav(head: bytes) -> AudioHeader:
    """Chunk after chunk up to the samples, as far as the bytes reach."""
    (riff_bytes,) = struct.unpack_from("<I", head, 4)
    channels, at = 1, 12
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        if name == b"fmt " and at + 12 <= len(head) and size >= 16:
            channels = max(1, struct.unpack_from("<H", head, at + 10)[0])
        elif name == b"data":
            if riff_bytes in _OPEN_SIZES or size == 0xFFFF_FFFF or (size == 0 and len(head) > at + 8):
                return AudioHeader(AudioKind.WAV, channels, is_open=True)
            end = at + 8 + size
            return AudioHeader(AudioKind.WAV, channels, announced_bytes=end, most_bytes=max(end, 8 + riff_bytes) + _PAD)
        at += 8 + size + size % 2
    if riff_bytes in _OPEN_SIZES:
        return AudioHeader(AudioKind.WAV, channels, is_open=True)
    return AudioHeader(AudioKind.WAV, channels, announced_bytes=8 + riff_bytes, most_bytes=8 + riff_bytes + _PAD)


def _ogg_channels(head: bytes) -> int:
    """The first packet of the first page describes the stream."""
    packet = head[27 + head[26] :] if len(head) > 26 else b""
    for begins, at in ((b"OpusHead", 9), (b"\x01vorbis", 11)):
        if packet.startswith(begins) and len(packet) > at:
            return max(1, packet[at])
    return 1
