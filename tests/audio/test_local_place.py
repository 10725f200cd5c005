"""audio/local_place.py and spool_place.py: files and spool entries as delivery uses them."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.audio import made
from tests.audio.made import local_place, threads
from tests.real_parts import needs_strace
from tunerd.audio.audio_bytes import AudioPlace, AudioUnreadable, NotDisposed, Settled, Unsettled
from tunerd.audio.spool import AudioSpool
from tunerd.audio.spool_place import SpoolPlace
from tunerd.call import AfterUpload, AudioPlan, Publish
from tunerd.file_identity import FileIdentity
from tunerd.location import file_location


@pytest.fixture
async def busy_threads() -> AsyncIterator[None]:
    """The threads of the event loop, in which host names are resolved, have all something to do until the end."""
    over, threads = threading.Event(), ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    loop.run_in_executor(None, over.wait)
    yield
    over.set()


def plan_for(directory: Path, after_upload: AfterUpload = AfterUpload.KEEP) -> AudioPlan:
    return AudioPlan(publish=Publish.UPLOAD, files=(str(directory),), after_upload=after_upload, move_to="done")


@pytest.mark.usefixtures("busy_threads")
@pytest.mark.parametrize("is_spooled", [False, True])
async def test_audio_has_threads_of_its_own(tmp_path: Path, *, is_spooled: bool) -> None:
    """Looking at audio, reading and removing it takes no thread of the loop: a hung mount of recordings must not keep calls
    without audio from finding the destination's host."""
    content, path = made.wav(), tmp_path / "a.wav"
    path.write_bytes(content)
    spool = AudioSpool(str(tmp_path / "spool"), 1_000_000)
    place: AudioPlace = SpoolPlace(spool, threads()) if is_spooled else local_place()
    location = spool.add("/calls/a.json", [content])[0] if is_spooled else file_location(str(path)).text
    plan = plan_for(tmp_path, AfterUpload.DELETE)
    async with asyncio.timeout(10):
        looked = await place.look(location, plan, "", time.time() + 100)
        assert isinstance(looked, Settled)
        audio = place.bytes_of(location, plan, looked.identity)
        assert await audio.size() == len(content)
        assert b"".join([chunk async for chunk in audio.chunks()]) == content
        assert await place.dispose(location, plan, looked.identity) is None


async def look(path: Path, now: float) -> Settled | Unsettled:
    return await local_place().look(file_location(str(path)).text, plan_for(path.parent), "", now)


async def test_a_clock_that_is_behind_settles_nothing(tmp_path: Path) -> None:
    """A file whose time lies a little ahead (another machine's clock) was just written; one of next year is not waited for."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav())
    at = path.stat().st_mtime
    assert isinstance(await look(path, at - 30), Unsettled)
    assert isinstance(await look(path, at - 365 * 86_400), Settled)


async def test_a_file_that_somebody_writes_is_not_settled(tmp_path: Path) -> None:
    """A caller on hold leaves gaps. It is settled when its writer has closed it, or has written nothing for a minute."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav())
    now = path.stat().st_mtime + 30
    with path.open("ab"):
        assert isinstance(await look(path, now), Unsettled)
        assert isinstance(await look(path, now + 40), Settled)
    assert isinstance(await look(path, now), Settled)


async def test_a_wav_longer_than_its_header_says_may_still_grow(tmp_path: Path) -> None:
    """Its writer corrects the sizes at the end; one that never does is taken after a minute."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav() + b"\1\2" * 400)
    written_at = path.stat().st_mtime
    assert isinstance(await look(path, written_at + 30), Unsettled)
    assert isinstance(await look(path, written_at + 70), Settled)


@pytest.mark.parametrize("after", [AfterUpload.DELETE, AfterUpload.MOVE_TO])
@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_kill_while_an_uploaded_file_is_removed(tmp_path: Path, after: AfterUpload, *, is_taken: bool) -> None:
    """The file was set aside and nothing more: the next start carries out the rest, also if its name is another file's by now."""
    path = tmp_path / "a.wav"
    path.write_bytes(content := made.wav())
    identity = FileIdentity.of(path.stat())
    path.rename(tmp_path / f".tunerd-uploaded-{identity.inode:x}-{identity.mtime_ns:x}")
    if is_taken:
        path.write_bytes(b"another call")
    assert await local_place().dispose(file_location(str(path)).text, plan_for(tmp_path, after), str(identity)) is None
    assert not list(tmp_path.glob(".tunerd-*"))
    assert [one.read_bytes() for one in tmp_path.glob("done/*")] == ([content] if after is AfterUpload.MOVE_TO else [])
    assert path.exists() == is_taken


@pytest.mark.parametrize("after", [AfterUpload.DELETE, AfterUpload.MOVE_TO])
@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_file_that_was_overwritten_while_it_was_removed(tmp_path: Path, after: AfterUpload, *, is_taken: bool) -> None:
    """A recorder wrote the next customer's call over it, in place and with the same length, after it was looked at and before it
    was set aside. It is put back, beside a file that has its name by now."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav())
    identity = FileIdentity.of(path.stat())
    aside = tmp_path / f".tunerd-uploaded-{identity.inode:x}-{identity.mtime_ns:x}"
    path.rename(aside)
    content = bytes(identity.size)
    with aside.open("r+b") as file:
        file.write(content)
    os.utime(aside, ns=(identity.mtime_ns, identity.mtime_ns + 1))
    if is_taken:
        path.write_bytes(b"another call")
    done = await local_place().dispose(file_location(str(path)).text, plan_for(tmp_path, after), str(identity))
    assert done is not None
    assert done.is_final
    assert (tmp_path / ("1-a.wav" if is_taken else "a.wav")).read_bytes() == content
    assert not list(tmp_path.glob(".tunerd-*"))
    assert not list(tmp_path.glob("done/*"))


@pytest.mark.parametrize("after", [AfterUpload.DELETE, AfterUpload.MOVE_TO])
async def test_an_uploaded_file_that_somebody_writes_stays_until_they_close_it(tmp_path: Path, after: AfterUpload) -> None:
    """Its recorder may have begun the next call in it."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav())
    with path.open("r+b"):
        kept = await dispose_of(str(path), after)
        assert kept is not None
        assert "open for writing" in kept.why
        assert not kept.is_final
        assert path.exists()
    assert await dispose_of(str(path), after) is None
    assert not path.exists()


async def test_a_file_that_was_set_aside_while_somebody_opened_it_is_put_back(tmp_path: Path) -> None:
    """Whoever opened it before it had another name may write the next call into it at any time."""
    path = tmp_path / "a.wav"
    path.write_bytes(made.wav())
    identity = FileIdentity.of(path.stat())
    with path.open("r+b"):
        path.rename(tmp_path / f".tunerd-uploaded-{identity.inode:x}-{identity.mtime_ns:x}")
        kept = await local_place().dispose(file_location(str(path)).text, plan_for(tmp_path, AfterUpload.DELETE), str(identity))
    assert kept is not None
    assert path.exists()


@pytest.mark.parametrize("move_to", ["done", "done/2026", "./done"])
async def test_no_link_on_the_way_of_move_to_is_followed(tmp_path: Path, move_to: str) -> None:
    """Whoever may write into the directory of recordings does not choose where else tunerd writes; the file stays."""
    inside, outside = tmp_path / "rec", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "done").symlink_to(outside)
    path = inside / "a.wav"
    path.write_bytes(content := made.wav())
    kept = await dispose_of(str(path), MOVE, move_to)
    assert kept is not None
    assert "symbolic link" in kept.why
    assert path.read_bytes() == content
    assert not list(outside.iterdir())


@pytest.mark.parametrize("move_to", ["done/2026/", "../done", "{outside}/done"])
async def test_a_directory_of_move_to_is_made(tmp_path: Path, move_to: str) -> None:
    """Inside the directory of recordings, and outside of it if the configuration says so: a link that it names there is followed."""
    (tmp_path / "rec" / "today").mkdir(parents=True)
    outside = tmp_path / "link"
    (tmp_path / "real").mkdir()
    outside.symlink_to(tmp_path / "real")
    path = tmp_path / "rec" / "today" / "a.wav"
    path.write_bytes(content := made.wav())
    move_to = move_to.format(outside=outside)
    plan = replace(plan_for(tmp_path / "rec", MOVE), move_to=move_to)
    identity = str(FileIdentity.of(path.stat()))
    assert await local_place().dispose(file_location(str(path)).text, plan, identity) is None
    assert (path.parent / move_to / "a.wav").read_bytes() == content
    assert not path.exists()


_DISPOSE = """
import asyncio, sys
from tests.audio.test_local_place import MOVE, dispose_of
print(asyncio.run(dispose_of(sys.argv[1], MOVE)) or "")
"""
MOVE = AfterUpload.MOVE_TO


async def dispose_of(path: str, after: AfterUpload, move_to: str = "done") -> NotDisposed | None:
    identity, plan = str(FileIdentity.of(Path(path).stat())), replace(plan_for(Path(path).parent, after), move_to=move_to)
    return await local_place().dispose(file_location(path).text, plan, identity)


@needs_strace
def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    """FAT, CIFS and some of FUSE have none: the file is moved all the same, and never over another one."""
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.wav").write_bytes(b"another call")
    path = tmp_path / "a.wav"
    path.write_bytes(content := made.wav())
    strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "calls"),
        "-e",
        "trace=link,linkat",
        "-e",
        "inject=link,linkat:error=EPERM",
    ]
    done = subprocess.run([*strace, sys.executable, "-c", _DISPOSE, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert "EPERM" in (tmp_path / "calls").read_text()
    assert {one.name: one.read_bytes() for one in tmp_path.glob("done/*")} == {"a.wav": b"another call", "1-a.wav": content}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["calls", "done"]


async def test_a_spool_entry_that_cannot_be_removed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk became read-only: that is said, and tried again later, as with a file."""
    spool = AudioSpool(str(tmp_path), 1_000_000)
    location, identity = spool.add("/calls/a.json", [made.wav()])

    def refuse(path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "unlink", refuse)
    kept = await SpoolPlace(spool, threads()).dispose(location, plan_for(tmp_path), str(identity))
    assert kept is not None
    assert (kept.is_final, "stays: Read-only file system" in kept.why) == (False, True)


async def test_a_file_that_a_network_file_system_loses_once_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESTALE: another machine deleted it. It is said in words, and worth another try."""
    path, fstat = tmp_path / "a.wav", os.fstat
    path.write_bytes(made.wav())

    def stale(fd: int) -> os.stat_result:
        at = fstat(fd)
        if at.st_ino == path.stat().st_ino:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return at

    monkeypatch.setattr(os, "fstat", stale)
    with pytest.raises(AudioUnreadable, match="Stale file handle") as raised:
        await local_place().look(file_location(str(path)).text, plan_for(tmp_path), "", time.time() + 100)
    assert raised.value.may_pass
