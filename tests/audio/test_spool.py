"""audio/spool.py: audio of documents is kept until nobody needs it, and never more than the spool may hold."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunerd.audio.spool import AudioSpool, EntryTooLarge, SpoolFull
from tunerd.file_identity import FileIdentity


@pytest.fixture
def spool(tmp_path: Path) -> AudioSpool:
    return AudioSpool(str(tmp_path / "spool"), 1000)


def test_an_entry_holds_the_audio(spool: AudioSpool) -> None:
    """Its bytes are those of all chunks, only this user may read it, and its identity is that of its file."""
    location, identity = spool.add("/calls/a.json", [b"RIFF", b"more"])
    path = Path(spool.path_of(location))
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (b"RIFFmore", 0o600, 0o700)
    assert identity == FileIdentity.of(path.stat())
    assert spool.locations() == [location]


def test_the_same_document_has_the_same_entry(spool: AudioSpool) -> None:
    """A document that is read again makes no second entry; another document with the same audio has its own."""
    entry = first, _ = spool.add("/calls/a.json", [b"audio"])
    assert spool.add("/calls/a.json", [b"au", b"dio"]) == entry
    other, _ = spool.add("/calls/b.json", [b"audio"])
    assert sorted(spool.locations()) == sorted({first, other})
    spool.remove(first)
    assert spool.locations() == [other]


def test_a_full_spool_takes_nothing(spool: AudioSpool) -> None:
    """More than the bound is refused, in the middle of a stream too, and leaves nothing behind; room that is given back counts."""
    first, _ = spool.add("/calls/a.json", [bytes(600)])
    for chunks in ([bytes(401)], [bytes(300), bytes(101)]):
        with pytest.raises(SpoolFull, match="max_spool is 1,000"):
            spool.add("/calls/b.json", chunks)
    assert [path.name for path in Path(spool.directory).iterdir()] == [first.removeprefix("embedded:")]
    spool.add("/calls/a.json", [bytes(400)])
    spool.remove(first)
    spool.add("/calls/c.json", [bytes(600)])


def test_what_an_empty_spool_could_not_hold(spool: AudioSpool) -> None:
    """Audio of one document that is larger than the whole spool raises another error than a full spool does, and leaves no file."""
    spool.add("/calls/a.json", [bytes(400)])
    for chunks, beside in (([bytes(1001)], 0), ([bytes(600), bytes(401)], 0), ([bytes(1)], 1000)):
        with pytest.raises(EntryTooLarge, match=r"ledger\.max_spool allows \(1,000 bytes\)"):
            spool.add("/calls/b.json", chunks, beside=beside)
    spool.add("/calls/c.json", [bytes(600)])
    assert len(list(Path(spool.directory).iterdir())) == 2


def test_reading_a_document_again_needs_no_room(spool: AudioSpool) -> None:
    """The same entry again counts once; the room of an earlier process is counted, too."""
    for _ in range(3):
        spool.add("/calls/a.json", [bytes(400)])
    again = AudioSpool(spool.directory, 1000)
    again.add("/calls/b.json", [bytes(600)])
    with pytest.raises(SpoolFull):
        again.add("/calls/c.json", [b"x"])


def test_what_nobody_refers_to_is_removed(spool: AudioSpool) -> None:
    """Entries that the ledger does not know are removed, but not one whose document is just being admitted."""
    known, _ = spool.add("/calls/a.json", [b"a"])
    fresh, _ = spool.add("/calls/b.json", [b"b"])
    assert spool.sweep({known}) == 0
    assert sorted(spool.locations()) == sorted([known, fresh])
    assert spool.sweep(set()) == 1
    assert spool.locations() == [fresh]
    after_a_kill = AudioSpool(spool.directory, 1000)
    assert after_a_kill.sweep(set()) == 1
    assert after_a_kill.locations() == []


def test_an_entry_that_the_ledger_did_not_take_is_removed(spool: AudioSpool) -> None:
    """Soon after the admission of its document is answered, but not by a sweep that may have asked the ledger before that."""
    taken, _ = spool.add("/calls/a.json", [b"a"])
    refused, _ = spool.add("/calls/b.json", [b"b"])
    for location in (taken, refused, "embedded:known-for-long"):
        spool.answered(location)
    assert spool.sweep(set()) == 0
    assert spool.sweep({taken}) == 1
    assert spool.locations() == [taken]


def test_what_a_kill_left_half_written_is_removed(spool: AudioSpool) -> None:
    """A stream that breaks leaves nothing, and what a kill left is removed at the start."""

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("no base64")

    with pytest.raises(ValueError, match="no base64"):
        spool.add("/calls/a.json", broken())
    assert list(Path(spool.directory).iterdir()) == []
    (Path(spool.directory) / ".new-1").write_bytes(b"half")
    spool.clear_unfinished()
    assert list(Path(spool.directory).iterdir()) == []


def test_a_location_names_nothing_outside(spool: AudioSpool) -> None:
    """Whatever text comes as a location, its path is directly in the spool."""
    assert spool.path_of("embedded:../../etc/passwd") == f"{spool.directory}/passwd"


def test_names_do_not_tell_the_place(spool: AudioSpool) -> None:
    """The name is a hash: no id of a call is in it."""
    location, _ = spool.add("/calls/+4915112345678.json", [b"x"])
    name = location.removeprefix("embedded:")
    assert hashlib.sha256(b"/calls/+4915112345678.json\0x").hexdigest().startswith(name)
