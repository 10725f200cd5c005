"""Two daemons with two ledgers on one directory: each says that the other is there, and nothing else happens."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunerd.events import Event, ReadByAnother
from tunerd.intake.other_readers import LOCK_EVERY_S, OtherReaders, tell_other_readers
from tunerd.testing import FakeClock


def test_the_second_sees_the_first_with_its_ledger(tmp_path: Path) -> None:
    """By device and inode, whatever the path; its own marks and other directories are nobody else's."""
    calls, other = tmp_path / "calls", tmp_path / "other"
    calls.mkdir()
    other.mkdir()
    (tmp_path / "link").symlink_to(calls)
    first, second = OtherReaders("/var/lib/one.db"), OtherReaders("/var/lib/two.db")
    assert first.look({"a": str(calls), "twice": str(calls), "b": str(other)}) == {}
    assert second.look({"s": str(tmp_path / "link"), "gone": str(tmp_path / "none")}) == {
        "s": f"another tunerd (process {os.getpid()}, ledger /var/lib/one.db)"
    }
    assert "ledger /var/lib/two.db" in first.look({"a": str(calls)})["a"]
    first.close()
    assert second.look({"s": str(calls)}) == {}
    second.close()


def test_nothing_is_written_and_nobody_is_kept_out(tmp_path: Path) -> None:
    """A directory that cannot be written serves as well; its times stay, its agent may lock it, and it can be removed."""
    before = tmp_path.stat()
    tmp_path.chmod(0o555)
    first, second = OtherReaders("/one"), OtherReaders("/two")
    for one in (first, second):
        one.look({"a": str(tmp_path)})
        one.lock({"a": str(tmp_path)})
    assert subprocess.run(["flock", "--nonblock", str(tmp_path), "true"], check=False).returncode == 0
    tmp_path.chmod(before.st_mode)
    assert os.listdir(tmp_path) == []
    assert tmp_path.stat().st_mtime_ns == before.st_mtime_ns
    first.close()
    second.close()


def test_a_lock_is_seen_where_the_socket_is_not(tmp_path: Path) -> None:
    """What another container with the same volume sees: that there is somebody, whatever the process numbers."""
    roots = {"a": str(tmp_path)}
    first, second, third = (OtherReaders("/l", own=own) for own in (0, 7, 2**31 - 1))
    first.lock(roots)
    assert first.locked_by_others() == set()
    second.lock(roots)
    third.lock({**roots, "gone": str(tmp_path / "gone")})
    assert first.locked_by_others() == second.locked_by_others() == third.locked_by_others() == {"a"}
    first.unlock()
    third.unlock()
    assert second.locked_by_others() == set()
    second.close()


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """After SIGKILL the next one sees nobody."""
    code = ("import sys; from tunerd.intake.other_readers import OtherReaders; r = OtherReaders('/killed.db'); "
            "r.look({'a': sys.argv[1]}); r.lock({'a': sys.argv[1]}); print('ready', flush=True); sys.stdin.read()")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    mine, roots = OtherReaders("/mine"), {"a": str(tmp_path)}
    assert mine.look(roots) == {"a": f"another tunerd (process {process.pid}, ledger /killed.db)"}
    mine.lock(roots)
    assert mine.locked_by_others() == {"a"}
    process.kill()
    process.communicate()
    assert mine.look(roots) == {}
    assert mine.locked_by_others() == set()
    mine.close()


@pytest.mark.parametrize("by", ["socket", "lock"])
async def test_each_source_is_told_once_and_stands_in_the_status(tmp_path: Path, by: str) -> None:
    """When the other comes; when it has gone the status no longer shows it."""
    clock, stop, events, states = FakeClock(), asyncio.Event(), list[Event](), list[dict[str, str]]()
    other, roots = OtherReaders("/other.db"), {"a": str(tmp_path)}
    if by == "socket":
        other.look(roots)
    else:
        other.lock(roots)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            tell_other_readers(
                OtherReaders("/mine.db"), lambda: roots, lambda now: states.append(dict(now)), clock, events.append, stop
            )
        )
        await _until(lambda: bool(events), clock)
        looks = len(states)
        await _until(lambda: len(states) > looks + 2, clock)
        other.close()
        await _until(lambda: states[-1] == {}, clock)
        stop.set()
    assert [(event.source, event.path) for event in events if isinstance(event, ReadByAnother)] == [("a", str(tmp_path))]


async def _until(is_so: object, clock: FakeClock) -> None:
    assert callable(is_so)
    async with asyncio.timeout(20):
        while not is_so():
            await clock.advance(LOCK_EVERY_S / 60)
            await asyncio.to_thread(os.getpid)


def test_a_lock_that_is_being_given_back_is_not_closed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing it hangs with its mount, in a thread; the process ends meanwhile."""
    readers, closed, close = OtherReaders("/l"), [], os.close
    readers.lock({"a": str(tmp_path)})

    def hangs(fd: int) -> None:
        closed.append(fd)
        if len(closed) == 1:
            readers.close()

    monkeypatch.setattr(os, "close", hangs)
    readers.unlock()
    monkeypatch.undo()
    assert len(closed) == 1
    close(closed[0])
