"""Whole files: which of them are read again, and which are known whatever was done to them; seen from the directory."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.intake.harness import Running, map_call, put, running, source, swept
from tests.intake.test_run import send, until
from tests.real_parts import needs_mount
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted, DocumentsRead, FileDisposed, FileIgnored
from tunerd.intake.sources import Intake
from tunerd.ledger import Retention
from tunerd.testing import MemoryLedger, Recorder


def text(name: str) -> str:
    return json.dumps({"id": name})


@contextmanager
def same_times(path: Path) -> Iterator[None]:
    """The file there afterwards has the mtime of the one before."""
    at = path.stat()
    yield
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))


def rewrite(path: Path, content: str) -> None:
    """In place, and the mtime set back."""
    with same_times(path), path.open("r+") as file:
        file.write(content)


def rsync(path: Path, content: str) -> None:
    """As rsync -t: a hidden file beside it with the times of the original, renamed into place."""
    hidden = path.with_name(f".{path.name}.XyZ12")
    hidden.write_text(content)
    at = path.stat()
    os.utime(hidden, ns=(at.st_atime_ns, at.st_mtime_ns))
    hidden.rename(path)


def copy(path: Path, content: str) -> None:
    """As cp -p: removed, written anew, the times set."""
    with same_times(path):
        path.unlink()
        path.write_text(content)


def link(path: Path, content: str) -> None:
    """As ln -f of a file that has the same times."""
    other = path.with_name(".other")
    other.unlink(missing_ok=True)
    other.write_text(content)
    at = path.stat()
    os.utime(other, ns=(at.st_atime_ns, at.st_mtime_ns))
    os.link(other, path.with_name(".linked"))
    path.with_name(".linked").rename(path)


REPLACEMENTS = [rewrite, rsync, copy, link]


@pytest.mark.parametrize("replace", REPLACEMENTS)
@pytest.mark.parametrize("watch", ["events", "poll"])
async def test_another_document_of_the_same_size_and_time_is_read(
    tmp_path: Path, replace: Callable[[Path, str], None], watch: str
) -> None:
    """One of equal length with the mtime of the one before, while tunerd runs: by events and by scans alone."""
    path = put(tmp_path / "a.json", text("call-1"))
    async with running(source(tmp_path, watch=watch, rescan_s=0.05 if watch == "poll" else 3600.0)) as run:
        await until(run, "call-1")
        replace(path, text("call-2"))
        await until(run, "call-2")


@pytest.mark.parametrize("replace", REPLACEMENTS)
async def test_another_document_is_read_by_the_next_process(tmp_path: Path, replace: Callable[[Path, str], None]) -> None:
    """The same between two runs."""
    path = put(tmp_path / "a.json", text("call-1"))
    first, _ = await swept(source(tmp_path))
    replace(path, text("call-2"))
    second, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert second.ids() == ["call-2"]


def change_owner(root: Path) -> None:
    for path in root.iterdir():
        os.chmod(path, 0o600)
        os.chown(path, os.getuid(), os.getgid())


def link_all(root: Path) -> None:
    """cp -al: the directory is another one, the files in it are links to the same."""
    old = root.with_name("old")
    root.rename(old)
    root.mkdir()
    for path in old.iterdir():
        os.link(path, root / path.name)


def restore(root: Path) -> None:
    """Written anew from a backup, with their times."""
    backup = root.with_name("backup")
    shutil.copytree(root, backup)
    for path in root.iterdir():
        path.unlink()
    shutil.copytree(backup, root, dirs_exist_ok=True)


def restore_without_times(root: Path) -> None:
    for path in root.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def touch(root: Path) -> None:
    for path in root.iterdir():
        path.touch()


KEPT = [change_owner, link_all, restore, restore_without_times, touch]


async def forgotten(ledger: MemoryLedger, *ids: str) -> None:
    """These calls were sent, longer ago than `keep_sent`."""
    await send(ledger, *ids)
    later = SystemClock().now() + 365 * 86_400.0
    while await ledger.trim(Retention(sent_s=0.0, failed_s=0.0, recordings_s=0.0, max_failed_bytes=0), later):
        pass
    assert not await ledger.story(ids[0])


@pytest.mark.parametrize("act", KEPT)
async def test_what_was_read_is_not_read_again(tmp_path: Path, act: Callable[[Path], None]) -> None:
    """chown -R, cp -al, a restore: the ledger has long forgotten the calls, and they would be sent a second time. The marks
    are those of the files as they are now, so nothing is compared twice."""
    root = tmp_path / "calls"
    root.mkdir()
    names = [f"call-{n}" for n in range(30)]
    for name in names:
        put(root / f"{name}.json", text(name))
    first, _ = await swept(source(root))
    await forgotten(first.ledger, *names)
    act(root)
    second, left = await swept(source(root), ledger=first.ledger)
    assert left == 0
    assert not second.told.seen(DocumentsRead)
    for mark in await first.ledger.marks("agent"):
        at = os.stat(mark.path)
        assert (mark.inode, mark.ctime_ns, mark.mtime_ns) == (at.st_ino, at.st_ctime_ns, at.st_mtime_ns)


@pytest.mark.parametrize("act", KEPT)
@pytest.mark.parametrize("watch", ["events", "poll"])
async def test_what_was_read_is_not_read_again_while_tunerd_runs(tmp_path: Path, act: Callable[[Path], None], watch: str) -> None:
    """The same under a running daemon; a document that comes afterwards is read."""
    root = tmp_path / "calls"
    root.mkdir()
    names = [f"call-{n}" for n in range(10)]
    for name in names:
        put(root / f"{name}.json", text(name))
    async with running(source(root, watch=watch, rescan_s=0.05)) as run:
        await until(run, *names)
        await forgotten(run.ledger, *names)
        act(root)
        put(root / "new.json", text("new"))
        await until(run, "new")
        await marked(run, root)
        assert sorted(run.ids()) == sorted([*names, "new"])


async def marked(run: Running, root: Path) -> None:
    """Until every file is known as it is now."""
    async with asyncio.timeout(20):
        while {(mark.path, mark.inode, mark.ctime_ns) for mark in await run.ledger.marks("agent")} != {  # noqa: ASYNC110
            (str(path), path.stat().st_ino, path.stat().st_ctime_ns) for path in root.iterdir()
        }:
            await asyncio.sleep(0)


async def test_a_file_that_ignore_older_left_out_stays_out(tmp_path: Path) -> None:
    """Another owner makes no old file new."""
    path = put(tmp_path / "old.json", text("old"))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    chosen = source(tmp_path, ignore_older_s=86_400.0, rescan_s=0.05)
    async with running(chosen) as run:
        await run.told.until(FileIgnored)
        change_owner(tmp_path)
        put(tmp_path / "new.json", text("new"))
        await until(run, "new")
        (tmp_path / "old.json").chmod(0o644)
        put(tmp_path / "newer.json", text("newer"))
        await until(run, "newer")
        assert sorted(run.ids()) == ["new", "newer"]


@asynccontextmanager
async def read_and_replaced(root: Path, after_sent: str) -> AsyncIterator[Running]:
    """One call was read and is sent; tunerd does not know yet that another one stands in its place."""
    path = put(root / "a.json", text("call-1"))
    move_to = "done" if after_sent == "move_to" else None
    async with running(source(root, watch="poll", rescan_s=3600.0, after_sent=after_sent, move_to=move_to)) as run:
        await until(run, "call-1")
        rewrite(path, text("call-2"))
        await send(run.ledger, "call-1")
        yield run


@pytest.mark.parametrize("after_sent", ["delete", "move_to"])
async def test_after_sent_leaves_what_was_not_read(tmp_path: Path, after_sent: str) -> None:
    """The document of the same size and time is neither deleted nor moved, but read, and then goes too."""
    async with read_and_replaced(tmp_path, after_sent) as run:
        await until(run, "call-2")
        assert (tmp_path / "a.json").read_text() == text("call-2")
        await send(run.ledger, "call-2")
        await run.told.until(FileDisposed)
        assert not (tmp_path / "a.json").exists()


async def test_a_file_goes_when_its_writer_has_closed_it(tmp_path: Path) -> None:
    """Read when it was quiet, sent, and still open: it stays, and what is written then is read. Closed, it goes."""
    path = tmp_path / "a.json"
    async with running(source(tmp_path, after_sent="delete", rescan_s=0.05)) as run:
        with path.open("w") as writer:
            writer.write(text("call-1"))
            writer.flush()
            await until(run, "call-1")
            await send(run.ledger, "call-1")
            put(tmp_path / "b.json", text("other"))
            await until(run, "other")
            await send(run.ledger, "other")
            await run.told.until(FileDisposed)
            assert [event.path for event in run.told.seen(FileDisposed)] == [str(tmp_path / "b.json")]
            assert path.exists()
            writer.seek(0)
            writer.write(f"[{text('call-1')}, {text('call-2')}]")
            writer.flush()
            await until(run, "call-2")
            await send(run.ledger, "call-2")
        await run.told.until(FileDisposed, 2)
        assert not path.exists()
    assert sorted(event.call_id for event in run.told.seen(CallAdmitted)) == ["call-1", "call-2", "other"]


async def test_a_run_once_names_what_its_writer_has_open(tmp_path: Path) -> None:
    """It does not wait for the writer, and does not touch the file."""
    with (tmp_path / "a.json").open("w") as writer:
        writer.write(text("call-1"))
        writer.flush()
        ledger = MemoryLedger()
        intake = Intake([source(tmp_path, after_sent="delete")], ledger, {"agent": map_call}, SystemClock(), Recorder())
        try:
            await intake.sweep()
            await send(ledger, "call-1")
            await intake.dispose(asyncio.Event())
            (kept,) = intake.kept()
        finally:
            intake.close()
        assert (kept.path, kept.why) == (str(tmp_path / "a.json"), "its writer has it open")
        assert (tmp_path / "a.json").exists()


@contextmanager
def whole_seconds(place: Path) -> Iterator[Path]:
    """A file system whose stamps are whole seconds: ext4 with inodes of 128 bytes."""
    image, mount = place / "image", place / "mounted"
    image.write_bytes(bytes(8 * 1024 * 1024))
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-I", "128", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        root = mount / "calls"
        root.mkdir()
        yield root
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@needs_mount
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="makes a file system")
@pytest.mark.parametrize("watch", ["events", "poll"])
async def test_stamps_of_whole_seconds_hide_no_document(tmp_path: Path, watch: str) -> None:
    """40 documents are replaced by others of the same length within the second in which they were read."""
    with whole_seconds(tmp_path) as root:
        for n in range(40):
            put(root / f"{n}.json", text(f"old-{n:02}"))
        async with running(source(root, watch=watch, rescan_s=0.2, settle_s=0.0)) as run:
            await until(run, *(f"old-{n:02}" for n in range(40)))
            for n in range(40):
                REPLACEMENTS[n % 4](root / f"{n}.json", text(f"new-{n:02}"))
            await until(run, *(f"new-{n:02}" for n in range(40)))
