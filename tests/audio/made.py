"""Small audio files, made as their writers make them, and what reads them."""

import io
import struct
import wave

from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.local_place import LocalPlace
from tunerd.clock import SystemClock


def threads() -> DirectoryThreads:
    """Whose events nobody hears."""
    return DirectoryThreads(SystemClock(), lambda _: None)


def local_place() -> LocalPlace:
    return LocalPlace(threads())


def wav(*, channels: int = 1, seconds: float = 0.1, rate: int = 8000) -> bytes:
    """A finished WAV of silence, by the standard library's writer."""
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(b"\0" * int(seconds * rate) * 2 * channels)
    return out.getvalue()


def unfinished_wav(*, channels: int = 1, sizes: int = 0, written: int = 800) -> bytes:
    """A WAV as it is on disk while somebody records: the sizes in its header are not known yet."""
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", sizes, b"WAVE", b"fmt ", 16, 1, channels, 8000, 16000 * channels, 2, 16)
    return head + struct.pack("<4sI", b"data", sizes) + b"\1\2" * (written // 2)


def ogg(packet: bytes) -> bytes:
    """The first page of an Ogg stream whose first packet is this."""
    return b"OggS" + bytes(22) + bytes([1, len(packet)]) + packet


def opus(channels: int) -> bytes:
    return ogg(b"OpusHead" + bytes([1, channels]) + bytes(9))


def vorbis(channels: int) -> bytes:
    return ogg(b"\x01vorbis" + bytes(4) + bytes([channels]) + bytes(18))
