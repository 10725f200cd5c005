"""audio/header.py: what the first bytes of a file say."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audio import made
from tunerd.audio.header import HEAD_BYTES, AudioHeader, AudioKind, read_header


@pytest.mark.parametrize(
    ("head", "kind", "channels"),
    [
        (made.wav(), AudioKind.WAV, 1),
        (made.wav(channels=2), AudioKind.WAV, 2),
        (made.opus(1), AudioKind.OGG, 1),
        (made.opus(2), AudioKind.OGG, 2),
        (made.vorbis(2), AudioKind.OGG, 2),
        (made.ogg(b"Speex   1.2"), AudioKind.OGG, 1),
        (b"fLaC\0\0\0\x22", AudioKind.FLAC, 1),
        (b"ID3\x04\0\0\0\0\0\0", AudioKind.MPEG, 1),
        (b"\xff\xfb\x90\x64", AudioKind.MPEG, 1),
        (b"\xff\xf3\x44\xc4", AudioKind.MPEG, 1),
        (b"\0\0\0\x1cftypM4A \0\0\0\0", AudioKind.MP4, 1),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", AudioKind.MP4, 1),
        (b"\0\0\0\x18ftypisom\0\0\2\0", AudioKind.MP4, 1),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", AudioKind.EBML, 1),
    ],
)
def test_formats_are_known_by_their_first_bytes(head: bytes, kind: AudioKind, channels: int) -> None:
    """Each format that Tuner gets is recognised, and WAV, Opus and Vorbis tell their channels."""
    found = read_header(head)
    assert found is not None
    assert (found.kind, found.channels) == (kind, channels)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"R",
        b"RIFF\x10\0\0\0AVI LIST",
        b"%PDF-1.7",
        b"<html><body>404</body></html>",
        b'{"call_id": "c-1"}',
        "\ufeff{}".encode("utf-16-le"),
        "\ufeff{}".encode("utf-16-be"),
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x18ftypheic\0\0\0\0",
        b"\0\0\0\x1cftypavif\0\0\0\0",
        b"PK\3\4",
        bytes(64),
    ],
)
def test_what_is_no_audio(head: bytes) -> None:
    """Pages, documents, pictures, text in UTF-16 and empty files are no audio."""
    assert read_header(head) is None


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_json_document_is_audio(value: object) -> None:
    """A document of a call is never taken for its recording, in any of the encodings of JSON."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_header(json.dumps(value, ensure_ascii=True).encode(encoding)) is None


@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"OggS", b"\xff\xfb", b"\0\0\0\0ftyp", made.opus(2)]))
def test_any_bytes_have_an_answer(tail: bytes, begins: bytes) -> None:
    """Cut and damaged headers raise nothing, and have at least one channel."""
    found = read_header(begins + tail)
    assert found is None or found.channels >= 1


@given(st.integers(0, 43), st.integers(1, 8))
def test_a_cut_wav_header_is_mono(cut: int, channels: int) -> None:
    """A truncated WAV header falls back to one channel, and never tells another number than the whole one."""
    found = read_header(made.wav(channels=channels)[:cut])
    if cut < 12:
        assert found is None
    else:
        assert found is not None
        assert found.channels == (channels if cut >= 24 else 1)
        assert found.is_unfinished(cut)


@given(
    st.lists(st.tuples(st.sampled_from([b"JUNK", b"bext", b"LIST", b"fact"]), st.integers(0, 700)), max_size=6),
    st.integers(1, 8),
    st.integers(0, 5000),
)
def test_remarks_before_the_format(remarks: list[tuple[bytes, int]], channels: int, samples: int) -> None:
    """A WAV may have other chunks, of odd lengths too, before its format and its samples; its announced length counts them."""
    body = b"".join(struct.pack("<4sI", name, size) + bytes(size + size % 2) for name, size in remarks)
    body += struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, 8000, 8000, 1, 8) + struct.pack("<4sI", b"data", samples)
    body += bytes(samples)
    whole = struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body
    found = read_header(whole[:HEAD_BYTES])
    assert found is not None
    assert (found.kind, found.channels, found.announced_bytes) == (AudioKind.WAV, channels, len(whole))
    assert not found.is_unfinished(len(whole))
    assert samples == 0 or found.is_unfinished(len(whole) - 1)
    assert found.is_unfinished(len(whole) + 2)


@pytest.mark.parametrize("sizes", [0, 0xFFFF_FFFF])
def test_a_wav_that_is_still_being_written(sizes: int) -> None:
    """Sizes of 0 or 0xFFFFFFFF mean that the writer has not finished; the channels are known nevertheless."""
    found = read_header(made.unfinished_wav(channels=2, sizes=sizes))
    assert found is not None
    assert found.is_open
    assert found.channels == 2
    assert found.is_unfinished(10**12)


def test_a_wav_whose_length_is_filled_in_but_not_its_samples() -> None:
    """A header with the length of a whole file, of which half is there (a copy that is not finished), is unfinished; a writer
    that fills in only the size of its samples at the end (0 until then) is, too."""
    whole = made.wav(seconds=1)
    found = read_header(whole[:4000])
    assert found is not None
    assert found.is_unfinished(4000)
    assert not found.is_unfinished(len(whole))
    begun = bytearray(whole)
    begun[40:44] = bytes(4)
    assert read_header(bytes(begun)) == AudioHeader(AudioKind.WAV, 1, is_open=True)


def test_a_finished_wav_without_a_sample() -> None:
    """A WAV of a call in which nothing was recorded is finished: its size is 0 because nothing follows."""
    silent = made.wav(seconds=0)
    found = read_header(silent)
    assert found is not None
    assert not found.is_unfinished(len(silent))


@pytest.mark.parametrize(
    ("name", "kind", "extension"),
    [
        ("a.wav", AudioKind.WAV, "wav"),
        ("A.WAV", AudioKind.WAV, "wav"),
        ("a.opus", AudioKind.OGG, "opus"),
        ("a.ogg", AudioKind.OGG, "ogg"),
        ("a", AudioKind.OGG, "ogg"),
        ("a.mp4", AudioKind.MP4, "mp4"),
        ("a.mkv", AudioKind.EBML, "mkv"),
        ("a.wav", AudioKind.MPEG, "mp3"),
        ("a.wav/b", AudioKind.FLAC, "flac"),
        (".wav", AudioKind.MPEG, "mp3"),
    ],
)
def test_the_extension_that_tuner_gets(name: str, kind: AudioKind, extension: str) -> None:
    """The name's own extension where it fits the content; an MP3 that somebody named .wav is sent as mp3."""
    assert AudioHeader(kind).extension(name) == extension
