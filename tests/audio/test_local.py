"""audio/local.py: recordings are read only inside the named directories, and never after they were changed."""

import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audio import made
from tests.audio.made import threads
from tests.test_source_tree import busy, exchange
from tunerd.audio.audio_bytes import AudioChanged, AudioUnreadable
from tunerd.audio.header import AudioKind
from tunerd.audio.local import CHUNK_BYTES, AudioDirectories, LocalAudio
from tunerd.file_identity import FileIdentity

ROUNDS = 500


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "rec"
    (root / "day").mkdir(parents=True)
    (root / "day" / "a.wav").write_bytes(made.wav(channels=2))
    (tmp_path / "private.wav").write_bytes(made.wav())
    return root


def why_not(root: Path, path: Path | str) -> str:
    """What is said of a file that cannot be read as audio."""
    with pytest.raises(AudioUnreadable) as caught, AudioDirectories([str(root)]).opened(str(path)) as audio:
        audio.header()
    return str(caught.value)


def identity_of(path: Path) -> FileIdentity:
    return FileIdentity.of(path.stat())


async def read(root: Path, path: Path, identity: FileIdentity) -> bytes:
    audio = LocalAudio(AudioDirectories([str(root)]), str(path), identity, threads())
    found = b"".join([chunk async for chunk in audio.chunks()])
    assert len(found) == await audio.size()
    return found


def test_a_file_inside_is_opened_with_its_identity(root: Path) -> None:
    """The header and the identity are those of the open file."""
    path = root / "day" / "a.wav"
    with AudioDirectories([str(root)]).opened(str(path)) as audio:
        header = audio.header()
        assert (header.kind, header.channels) == (AudioKind.WAV, 2)
        assert audio.identity == identity_of(path)


def test_an_identity_survives_the_ledger(root: Path) -> None:
    """An identity is the same after it was kept as text."""
    identity = identity_of(root / "day" / "a.wav")
    assert FileIdentity.parse(str(identity)) == identity


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["there is no file", "has to wait"]),
        (lambda path: path.write_bytes(b""), ["is empty", "see why"]),
        (lambda path: path.write_text('{"a": 1}'), ["is no audio", "correct the rule"]),
        (lambda path: path.mkdir(), ["is a directory, not a file"]),
        (lambda path: os.mkfifo(path), ["is a FIFO, not a file"]),
        (make_socket, ["is a socket, not a file"]),
        (lambda path: path.symlink_to("/dev/null"), ["is a symbolic link that leaves the directory", "put the file itself there"]),
        (lambda path: path.symlink_to("../private.wav"), ["is a symbolic link that leaves the directory"]),
        (lambda path: path.symlink_to(path.name), ["leads in a circle"]),
    ],
)  # fmt: skip
def test_each_bad_thing_has_its_own_words(root: Path, make: Callable[[Path], object], words: list[str]) -> None:
    """Gone, empty, no audio, a directory, a FIFO, a socket, a link out of the directory: each its own reason and one thing to
    do; nothing of it blocks."""
    make(path := root / "x.wav")
    said = why_not(root, path)
    assert [word for word in words if word not in said] == []
    assert str(path) in said


@pytest.mark.parametrize(
    "path", ["day/a.wav", "", "/..", "{root}/../private.wav", "{root}/day/../../private.wav", "{root}/a\0.wav"]
)
def test_paths_that_could_leave(root: Path, path: str) -> None:
    """A relative path, one with `..` in it, or one with a NUL is refused before anything is opened."""
    assert "not absolute, or has `..`" in why_not(root, path.format(root=root))


@pytest.mark.parametrize("name", ["private.wav", "rec2/a.wav", "rec"])
def test_what_is_outside(root: Path, name: str) -> None:
    """A file beside the directory is refused, also one whose directory begins with the same letters."""
    said = why_not(root, root.parent / name)
    assert "none of the directories" in said
    assert "`audio.files`" in said


def test_a_directory_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    """An unmounted directory is worth another try; a file that is gone is not."""
    with pytest.raises(AudioUnreadable) as caught, AudioDirectories([str(tmp_path / "mnt")]).opened(f"{tmp_path}/mnt/a.wav"):
        pass
    assert caught.value.may_pass
    assert "mount it" in str(caught.value)


def test_the_innermost_directory_counts(root: Path) -> None:
    """Of two directories inside each other the inner one holds the file, and a link out of it is refused."""
    (root / "day" / "up.wav").symlink_to("../a.wav")
    (root / "a.wav").write_bytes(made.wav())
    both = AudioDirectories([str(root), str(root / "day")])
    with pytest.raises(AudioUnreadable, match="leaves the directory"), both.opened(f"{root}/day/up.wav"):
        pass
    with AudioDirectories([str(root)]).opened(f"{root}/day/up.wav") as audio:
        assert audio.identity == identity_of(root / "a.wav")


@given(st.lists(st.sampled_from(["..", ".", "", "day", "a.wav", "out", "*", "\0", "private.wav"]), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_outside_is_ever_opened(root: Path, parts: list[str]) -> None:
    """Whatever the parts of a path are, what is opened is inside the directory."""
    if not (out := root / "out").is_symlink():
        out.symlink_to("..")
    try:
        with AudioDirectories([str(root)]).opened(f"{root}/{'/'.join(parts)}") as audio:
            assert audio.identity == identity_of(root / "day" / "a.wav")
    except AudioUnreadable:
        pass


def test_a_link_that_is_exchanged_between_check_and_open(root: Path) -> None:
    """While a directory is exchanged with a link out of the root again and again, only the file inside is ever opened."""
    (root.parent / "out").mkdir()
    (root.parent / "out" / "a.wav").write_bytes(made.wav())
    (root / "link").symlink_to("../out")
    inside, directories, seen = identity_of(root / "day" / "a.wav").inode, AudioDirectories([str(root)]), 0
    with busy(lambda: exchange(root / "day", root / "link")):
        for _ in range(ROUNDS):
            try:
                with directories.opened(f"{root}/day/a.wav") as audio:
                    assert audio.identity.inode == inside
                    seen += 1
            except AudioUnreadable:
                pass
    assert seen


# Identity.


async def test_an_unchanged_file_is_read_to_its_end(root: Path) -> None:
    """Every byte comes, in chunks."""
    path = root / "long.wav"
    path.write_bytes(whole := made.wav(seconds=60))
    assert len(whole) > 2 * CHUNK_BYTES
    assert await read(root, path, identity_of(path)) == whole


def rewrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace(path: Path) -> None:
    other = path.with_name("other.wav")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def rewrite_with_its_time(path: Path) -> None:
    at = path.stat()
    path.write_bytes(bytes(at.st_size))
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def cut(path: Path) -> None:
    os.truncate(path, 100)


CHANGES = [rewrite, rewrite_with_its_time, replace, touch, append, cut]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_was_changed_is_not_read(root: Path, change: Callable[[Path], None]) -> None:
    """Overwritten, replaced by another file of the same size and time, touched, grown or cut: none of it is read."""
    path = root / "day" / "a.wav"
    identity = identity_of(path)
    change(path)
    audio = LocalAudio(AudioDirectories([str(root)]), str(path), identity, threads())
    with pytest.raises(AudioChanged, match="a file of its own"):
        await audio.size()
    with pytest.raises(AudioChanged):
        await anext(audio.chunks())


async def _read_on(chunks: AsyncIterator[bytes], given: bytearray) -> None:
    async for chunk in chunks:
        given += chunk


@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_changes_while_it_is_read(root: Path, change: Callable[[Path], None]) -> None:
    """No byte of what stands there now is given: only what was read before, and that is not all."""
    path = root / "long.wav"
    path.write_bytes(whole := made.wav(seconds=150))
    chunks = LocalAudio(AudioDirectories([str(root)]), str(path), identity_of(path), threads()).chunks()
    given = bytearray(await anext(chunks))
    assert given == whole[:CHUNK_BYTES]
    change(path)
    with pytest.raises(AudioChanged):
        await _read_on(chunks, given)
    assert whole.startswith(given)
    assert len(given) < len(whole)


def test_a_change_between_open_and_read(root: Path) -> None:
    """What is written after the file was opened is noticed by the read itself."""
    path = root / "day" / "a.wav"
    with AudioDirectories([str(root)]).opened(str(path)) as audio:
        append(path)
        with pytest.raises(AudioChanged):
            audio.read(0, 10)


def test_modes_are_told_apart(root: Path) -> None:
    """A device is named as one."""
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    try:
        os.mknod(root / "null.wav", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no right to make devices here")
    assert "is a device, not a file" in why_not(root, root / "null.wav")
