"""The whole of intake over real directories, with real events: what is written ends in the ledger."""

import asyncio
import gzip
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.intake.harness import Running, map_call, put, running, source, swept
from tunerd.call import Call, Form, RefusedDocument, State
from tunerd.clock import SystemClock
from tunerd.events import (
    CallAdmitted,
    CallDuplicate,
    CallFailed,
    DocumentIgnored,
    DocumentsRead,
    FileDisposed,
    FileIgnored,
    IntakePaused,
    IntakeResumed,
    RecordingAdmitted,
)
from tunerd.intake.admission_gate import Limits
from tunerd.intake.content import hash_of
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Admission, Admitted, Delivered, FileMark, Filter, LedgerUnavailable
from tunerd.ledger.sqlite.connect import scripts
from tunerd.outcome import FailReason, IntakeReason
from tunerd.testing import FakeClock, MemoryLedger


async def until_scanned(run: Running) -> None:
    """Wait until the first scan of each source is over (its watches are armed then)."""
    async with asyncio.timeout(10):
        while any(one.last_scan_at is None for one in run.intake.statuses()):  # noqa: ASYNC110
            await asyncio.sleep(0)  # threads are at work: this only gives way


async def until(told: Running, *ids: str) -> None:
    """Wait until these calls are admitted."""
    async with asyncio.timeout(20):
        while not set(ids) <= set(told.ids()):
            await told.told.until(CallAdmitted, len(told.ids()) + 1)


async def until_unread(run: Running, *, is_unread: bool) -> None:
    """Wait until a file was seen that is not read, or until there is none."""
    async with asyncio.timeout(20):
        while (run.intake.statuses()[0].unread_since is not None) is not is_unread:  # noqa: ASYNC110
            await asyncio.sleep(0)  # threads are at work: this only gives way


async def test_the_status_says_since_when_a_file_waits_to_be_read(tmp_path: Path) -> None:
    """From the moment it was seen until it is complete and read."""
    async with running(source(tmp_path, settle_timeout_s=3600.0)) as run:
        await until_scanned(run)
        before = SystemClock().now()
        (tmp_path / "a.json").write_text('{"id": ')
        await until_unread(run, is_unread=True)
        since = run.intake.statuses()[0].unread_since
        assert since is not None
        assert before - 1 <= since <= SystemClock().now()
        put(tmp_path / "a.json", {"id": "a"})
        await until(run, "a")
        await until_unread(run, is_unread=False)


async def send(ledger: MemoryLedger, *ids: str) -> None:
    """Let these calls be accepted; others that are claimed on the way are given back."""
    now, back = SystemClock().now(), []
    for _ in range(100):
        claimed = (await ledger.claim("tuner", Form.CREATE_CALL, lambda unfrozen: unfrozen.payload, now)).claimed
        if claimed is None:
            break
        if claimed.call_id in ids:
            await ledger.settle(claimed.row, Delivered(status=200, tuner_call_id=None, already_there=False), now)
        else:
            back.append(claimed.row)
    for row in back:
        await ledger.release(row, now)


async def test_files_there_before_the_start_and_new_ones(tmp_path: Path) -> None:
    """What lies there is read, and so is what is renamed into place, closed after writing, or linked afterwards."""
    put(tmp_path / "before.json", {"id": "before"})
    (tmp_path / ".hidden.json").write_text('{"id": "hidden"}')
    (tmp_path / "x.json.tmp").write_text('{"id": "tmp"}')
    async with running(source(tmp_path, rescan_s=3600)) as run:
        await until(run, "before")
        put(tmp_path / "renamed.json", {"id": "renamed"})
        (tmp_path / "closed.json").write_text('{"id": "closed"}')
        os.link(tmp_path / ".hidden.json", tmp_path / "linked.json")
        await until(run, "renamed", "closed", "hidden")
    assert sorted(run.ids()) == ["before", "closed", "hidden", "renamed"]


async def test_without_events_scans_find_the_same(tmp_path: Path) -> None:
    """`watch: poll` needs no inotify."""
    async with running(source(tmp_path, watch="poll", rescan_s=0.05)) as run:
        await until_scanned(run)
        assert not run.intake.statuses()[0].watching
        put(tmp_path / "a.json", {"id": "a"})
        await until(run, "a")


async def test_a_file_written_in_steps_is_read_once_it_is_complete(tmp_path: Path) -> None:
    """Closing a half-written file is no end: the rest may come in another write."""
    async with running(source(tmp_path, rescan_s=3600)) as run:
        await until_scanned(run)
        path = tmp_path / "a.json"
        path.write_text('{"id": ')
        put(tmp_path / "b.json", {"id": "b"})
        await until(run, "b")
        with path.open("a") as file:
            file.write('"a"}')
        await until(run, "a")
    assert not run.told.seen(CallFailed)


async def test_what_is_never_completed_is_refused_and_repaired(tmp_path: Path) -> None:
    """After settle_timeout half a file stands as failed; the repaired file takes its failed row away."""
    async with running(source(tmp_path, rescan_s=3600, settle_timeout_s=0.2)) as run:
        (tmp_path / "a.json").write_text('{"id": ')
        (tmp_path / "empty.json").touch()
        failed = await run.told.until(CallFailed, 2)
        assert {event.reason for event in failed} == {FailReason.UNREADABLE}
        assert len(await run.ledger.calls(Filter(states=frozenset({State.FAILED})))) == 2
        put(tmp_path / "a.json", {"id": "a"})
        put(tmp_path / "empty.json", {"id": "e"})
        await until(run, "a", "e")
        assert not await run.ledger.calls(Filter(states=frozenset({State.FAILED})))


async def test_a_file_that_came_back_while_nobody_looked_is_known(tmp_path: Path) -> None:
    """It vanished, the daemon ended, it came back: it is not read again, and its mark stays for longer than 7 days."""
    path, away = put(tmp_path / "a.json", {"id": "a"}), tmp_path / "away"
    log = tmp_path / "l.ndjson"
    log.write_text('{"id": "l"}\n')
    first, _ = await swept(source(tmp_path))
    for one in (path, log):
        one.rename(away.with_suffix(one.suffix))
    await swept(source(tmp_path, include=("*.json", "*.ndjson"), exclude=("away*",)), ledger=first.ledger)
    assert not await first.ledger.marks("agent")
    for one in (path, log):
        away.with_suffix(one.suffix).rename(one)
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert not again.told.seen(DocumentsRead)
    assert not await first.ledger.marks("agent", vanished=True)


async def test_more_files_come_back_than_are_remembered(tmp_path: Path) -> None:
    """Beyond what is kept in memory the ledger is asked: nothing is read twice."""
    count = 210
    ledger, marks = MemoryLedger(), list[FileMark]()
    for i in range(count):
        path = tmp_path / f"{i}.json"
        path.touch()
        at = path.stat()
        mark = FileMark(
            source="agent", path=str(path), device=at.st_dev, inode=at.st_ino, size=0, mtime_ns=at.st_mtime_ns,
            ctime_ns=at.st_ctime_ns, offset=0, content=hash_of(b""),
        )  # fmt: skip
        marks.append(mark)
    ledger.change(lambda store: [store.files.set_mark(mark, 0.0) for mark in marks])
    await ledger.vanished("agent", [str(tmp_path / f"{i}.json") for i in range(count)], 0.0)
    again, left = await swept(source(tmp_path), ledger=ledger, options=IntakeOptions(gone_kept=200))
    assert left == 0
    assert not again.told.seen(CallFailed)


async def test_an_empty_list_is_told(tmp_path: Path) -> None:
    """No document is in it, and nothing failed; that it was seen is told once."""
    put(tmp_path / "a.json", [])
    run, _ = await swept(source(tmp_path))
    (told,) = run.told.seen(FileIgnored)
    assert "empty list" in told.why
    again, _ = await swept(source(tmp_path), ledger=run.ledger)
    assert not again.told.events


async def test_an_overwritten_file_is_read_again(tmp_path: Path) -> None:
    """Another document under the same name is another call; the same one again is a duplicate."""
    async with running(source(tmp_path, rescan_s=3600)) as run:
        put(tmp_path / "a.json", {"id": "first"})
        await until(run, "first")
        put(tmp_path / "a.json", {"id": "second"})
        await until(run, "second")
        put(tmp_path / "b.json", {"id": "second"})
        await run.told.until(CallDuplicate)


async def test_a_restart_reads_nothing_twice(tmp_path: Path) -> None:
    """The ledger's marks say what was read: whole files and logs."""
    put(tmp_path / "a.json", {"id": "a"})
    (tmp_path / "l.ndjson").write_text('{"id": "l1"}\n{"id": "l2"}')
    first, _ = await swept(source(tmp_path))
    assert sorted(first.ids()) == ["a", "l1", "l2"]
    with (tmp_path / "l.ndjson").open("a") as file:
        file.write('\n{"id": "l3"}\n')
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert [type(event).__name__ for event in again.told.events if not isinstance(event, CallAdmitted)].count(
        "CallDuplicate"
    ) == 0
    assert again.ids() == ["l3"]


@pytest.mark.parametrize("rotation", ["rename", "copytruncate", "gzip"])
async def test_a_log_is_followed_through_rotation(tmp_path: Path, rotation: str) -> None:
    """While its writer keeps it open, appends, and rotates: every line once."""
    log = tmp_path / "calls.ndjson"
    async with running(source(tmp_path, rescan_s=0.1)) as run:
        for turn in range(3):
            with log.open("a") as file:
                for line in range(3):
                    file.write(json.dumps({"id": f"{turn}.{line}", "x": "y" * 500}) + "\n")
                    file.flush()
                    await until(run, f"{turn}.{line}")
                file.write(json.dumps({"id": f"{turn}.last", "x": "z" * 2000}) + "\n")
            old = tmp_path / f"calls.ndjson.{turn + 1}"
            if rotation == "rename":
                log.rename(old)
            elif rotation == "copytruncate":
                old.write_bytes(log.read_bytes())
                os.truncate(log, 0)
            else:
                put_bytes(old.with_name(old.name + ".gz"), gzip.compress(log.read_bytes()))
                log.unlink()
        await until(run, "2.last")
    wanted = sorted(f"{turn}.{line}" for turn in range(3) for line in [0, 1, 2, "last"])
    assert sorted(run.ids()) == wanted


def put_bytes(path: Path, data: bytes) -> None:
    hidden = path.with_name(".part")
    hidden.write_bytes(data)
    hidden.rename(path)


async def test_half_a_line_is_refused_where_it_stands_and_still_completed(tmp_path: Path) -> None:
    """The last line of a writer that died is visible as failed, once; if it lives after all, its call is read."""
    log = tmp_path / "calls.ndjson"
    log.write_text('{"id": "a"}\n{"id": ')
    async with running(source(tmp_path, rescan_s=0.1, settle_timeout_s=0.3)) as run:
        await until(run, "a")
        (failed,) = await run.told.until(CallFailed)
        assert failed.path.endswith("calls.ndjson@12")
        with log.open("a") as file:
            file.write('"b"}\n')
        await until(run, "b")
        assert not await run.ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert len(run.told.seen(CallFailed)) == 1


@pytest.mark.parametrize("lines", [0, 1])
async def test_a_completed_line_supersedes_its_failed_row_after_rotation_and_restart(tmp_path: Path, lines: int) -> None:
    """Nobody has to remember that it was refused: the log is known by its content, or by its inode before it has a line."""
    log = tmp_path / "calls.ndjson"
    log.write_text('{"id": "a"}\n' * lines + '{"id": "b')
    first, _ = await swept(source(tmp_path, settle_timeout_s=0.0))
    assert len(first.told.seen(CallFailed)) == 1
    with log.open("a") as file:
        file.write('b"}\n')
    if lines:
        log.rename(tmp_path / "calls.ndjson.1")
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert again.ids() == ["bb"]
    assert not await again.ledger.calls(Filter(states=frozenset({State.FAILED})))


async def test_nuls_left_by_a_crash_are_visible_and_the_log_goes_on(tmp_path: Path) -> None:
    """The zero-filled tail of a crash is one failed row, before and after its writer goes on behind it."""
    log = tmp_path / "calls.ndjson"
    log.write_bytes(b'{"id": "a"}\n' + bytes(5000))
    async with running(source(tmp_path, rescan_s=0.1, settle_timeout_s=0.3)) as run:
        await until(run, "a")
        (failed,) = await run.told.until(CallFailed)
        assert failed.path.endswith("calls.ndjson@12")
        assert failed.what.startswith("NUL bytes")
        with log.open("ab") as file:
            file.write(bytes(100) + b'{"id": "b"}\n' + bytes(50) + b"\n")
        await until(run, "b")
        rows = await run.ledger.calls(Filter(states=frozenset({State.FAILED})))
        assert [row.offset for row in rows] == [12, 5124]


async def test_room_that_was_reserved_is_no_failure_once_it_is_written(tmp_path: Path) -> None:
    """A writer that reserves room ahead: what stood there as NULs is superseded by what is written into it."""
    log = tmp_path / "calls.ndjson"
    log.write_bytes(b'{"id": "a"}\n' + bytes(50))
    first, _ = await swept(source(tmp_path, settle_timeout_s=0.0))
    assert len(first.told.seen(CallFailed)) == 1
    with log.open("r+b") as file:
        file.seek(12)
        file.write(b'{"id": "b"}\n')
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert again.ids() == ["b"]
    assert not await again.ledger.calls(Filter(states=frozenset({State.FAILED})))


@pytest.mark.parametrize("name", ["calls.ndjson", "calls.log"])
async def test_a_log_truncated_under_a_writer_that_goes_on_at_its_offset(tmp_path: Path, name: str) -> None:
    """copytruncate without O_APPEND leaves a hole of gigabytes before the next line: it is passed over, not read, and
    what follows is taken without any failure, also as the log goes on."""
    log = tmp_path / name
    hole = 500_000_000_000
    with log.open("wb") as file:
        try:
            file.seek(hole)
            file.write(b'{"id": "a"}\n{"id": "b"}\n')
            file.flush()
            if os.lseek(file.fileno(), 0, os.SEEK_DATA) < hole // 2:
                pytest.skip("this file system does not tell holes")
        except OSError:
            pytest.skip("this file system has no files of 500 GB")
    first, left = await swept(source(tmp_path, include=("*",)))
    assert (first.ids(), left) == (["a", "b"], 0)
    with log.open("ab") as file:
        file.write(b'{"id": "c"}\n')
    again, left = await swept(source(tmp_path, include=("*",)), ledger=first.ledger)
    assert (again.ids(), left) == (["c"], 0)
    assert not await again.ledger.calls(Filter(states=frozenset({State.FAILED})))


async def test_another_log_in_its_place_leaves_the_failed_row(tmp_path: Path) -> None:
    """What was refused of a log that is gone stays visible, even if the new one's line begins alike."""
    log = tmp_path / "calls.ndjson"
    log.write_text('{"id": "a"}\n{"id": "')
    first, _ = await swept(source(tmp_path, settle_timeout_s=0.0))
    log.unlink()
    put(log, '{"id": "x"}\n{"id": "y"}\n')
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert again.ids() == ["x", "y"]
    assert len(await again.ledger.calls(Filter(states=frozenset({State.FAILED})))) == 1


async def test_odd_names_are_told_once_and_never_read(tmp_path: Path) -> None:
    """A FIFO, a socket, a directory, a symlink that leaves the directory; one that stays inside is read."""
    root, outside = tmp_path / "calls", tmp_path / "outside.json"
    root.mkdir()
    outside.write_text('{"id": "outside"}')
    os.mkfifo(root / "fifo.json")
    (root / "directory.json").mkdir()
    (root / "out.json").symlink_to(outside)
    (root / "in.json").symlink_to(root / "real.json")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "socket.json"))
        put(root / "real.json", {"id": "real"})
        async with running(source(root, rescan_s=0.05)) as run:
            await until(run, "real")
            await run.told.until(CallDuplicate)  # the link inside
            await run.told.until(FileIgnored, 4)
            os.utime(root / "fifo.json")
            put(root / "b.json", {"id": "b"})
            await until(run, "b")
    assert sorted(Path(event.path).name for event in run.told.seen(FileIgnored)) == [
        "directory.json", "fifo.json", "out.json", "socket.json",
    ]  # fmt: skip
    assert "outside" not in run.ids()


async def test_globs_and_directories(tmp_path: Path) -> None:
    """A pattern without / fits a name at any depth, one with / the relative path; new directories are watched."""
    for name in ("a/one.json", "a/skip/two.json", "b/three.json", "four.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / name, {"id": name})
    chosen = source(tmp_path, recursive=True, include=("a/**/*.json", "four.*"), exclude=("**/skip/*",), rescan_s=3600)
    async with running(chosen) as run:
        await until(run, "a/one.json", "four.json")
        (tmp_path / "a/new/deep").mkdir(parents=True)
        put(tmp_path / "a/new/deep/five.json", {"id": "five"})
        await until(run, "five")
    assert sorted(run.ids()) == ["a/one.json", "five", "four.json"]


async def test_old_files_are_left_out_and_named_once(tmp_path: Path) -> None:
    """ignore_older says how many it leaves out, once, and not for each file."""
    for i in range(5):
        os.utime(put(tmp_path / f"{i}.json", {"id": str(i)}), (1_000_000, 1_000_000))
    put(tmp_path / "new.json", {"id": "new"})
    async with running(source(tmp_path, ignore_older_s=86_400.0, rescan_s=0.05)) as run:
        await until(run, "new")
        put(tmp_path / "newer.json", {"id": "newer"})
        await until(run, "newer")
    (event,) = run.told.seen(FileIgnored)
    assert event.why.startswith("5 file(s) older")
    assert sorted(run.ids()) == ["new", "newer"]


@pytest.mark.parametrize("swap", ["gone", "empty"])
async def test_a_lost_root_drops_nothing(tmp_path: Path, swap: str) -> None:
    """The root vanishes, or an empty directory stands in its place: a pause is told, and when it is back nothing is
    read twice and new files are seen by events again."""
    root, away = tmp_path / "calls", tmp_path / "away"
    root.mkdir()
    put(root / "a.json", {"id": "a"})
    async with running(source(root, rescan_s=0.05)) as run:
        await until(run, "a")
        root.rename(away)
        if swap == "empty":
            root.mkdir()
        (paused,) = await run.told.until(IntakePaused)
        assert paused.reason is IntakeReason.MISSING
        assert run.intake.statuses()[0].paused is IntakeReason.MISSING
        assert run.intake.statuses()[0].files == 1
        if swap == "empty":
            root.rmdir()
        away.rename(root)
        await run.told.until(IntakeResumed)
        put(root / "b.json", {"id": "b"})
        await until(run, "b")
        assert await run.ledger.mark("agent", str(root / "a.json")) is not None
    assert run.ids() == ["a", "b"]
    assert not run.told.seen(CallDuplicate)


@contextmanager
def denied() -> Iterator[Path]:
    """A directory that others may enter, while this process has no right but those of "other"."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        user = os.geteuid()
        if user == 0:
            scripts()  # what is installed may be where "other" may not read
            os.seteuid(65534)
        try:
            yield root
        finally:
            os.seteuid(user)


def forbid(root: Path, mode: int) -> None:
    """Of another owner where the tests run as root, else of this one."""
    nobody = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
        root.chmod(mode)
        os.seteuid(nobody)
    else:
        root.chmod((mode & 0o7) << 6)


@pytest.mark.parametrize("mode", [0o700, 0o744, 0o711])
async def test_a_directory_that_may_not_be_read_is_denied_at_once(mode: int) -> None:
    """At the start, and heals by itself; also where its names can be listed, but nothing in it reached."""
    with denied() as root:
        forbid(root, mode)
        async with running(source(root, rescan_s=3600)) as run:
            (paused,) = await run.told.until(IntakePaused)
            assert paused.reason is IntakeReason.DENIED
            assert run.intake.statuses()[0].paused is IntakeReason.DENIED
            forbid(root, 0o755)
            await run.told.until(IntakeResumed)


async def test_a_directory_that_is_closed_while_it_is_read_is_denied_once_a_file_comes() -> None:
    """Not only at the next scan; the file is not blamed, and read when the directory may be."""
    with denied() as root:
        forbid(root, 0o777)
        async with running(source(root, rescan_s=3600, settle_s=30.0)) as run:
            await until_scanned(run)
            written = root / "a.json"
            with written.open("w") as file:
                file.write('{"id": "a"}')
                forbid(root, 0o700)  # the event of the close finds it closed
            (paused,) = await run.told.until(IntakePaused)
            assert paused.reason is IntakeReason.DENIED
            forbid(root, 0o777)
            await run.told.until(IntakeResumed)
            await until(run, "a")
            assert not run.told.seen(FileIgnored)


async def test_a_directory_below_that_may_not_be_listed_is_told() -> None:
    """What is in it is not read, and nobody would know; the others are."""
    with denied() as root:
        forbid(root, 0o777)
        for name in ("open", "closed"):
            (root / name).mkdir(mode=0o777)
            put(root / name / "a.json", {"id": name})
        (root / "closed").chmod(0)
        async with running(source(root, recursive=True, rescan_s=0.05)) as run:
            await until(run, "open")
            (told,) = await run.told.until(FileIgnored)
            assert (Path(told.path).name, "no permission" in told.why) == ("closed", True)
            (root / "closed").chmod(0o700)
            await until(run, "closed")


async def test_a_link_that_cannot_be_followed_holds_up_nobody() -> None:
    """Into a directory without permission, or to itself: told once, and at the scans that follow the other files are
    still found."""
    with denied() as root, tempfile.TemporaryDirectory(dir="/tmp") as elsewhere:
        forbid(root, 0o777)
        closed = Path(elsewhere) / "closed"
        closed.mkdir(mode=0o700)
        closed.chmod(0)
        (root / "closed.json").symlink_to(closed / "a.json")
        (root / "loop.json").symlink_to("loop.json")
        async with running(source(root, rescan_s=0.05, watch="poll")) as run:
            told = await run.told.until(FileIgnored, 2)
            for name in ("b", "c", "d"):  # each is found by another scan
                put(root / f"{name}.json", {"id": name})
                await until(run, name)
            closed.chmod(0o700)
        assert {Path(event.path).name: event.why.partition(" (")[0] for event in told} == {
            "closed.json": "is a symbolic link that leaves the directory",
            "loop.json": "cannot be read",
        }
        assert len(run.told.seen(FileIgnored)) == 2
        assert not run.told.seen(IntakePaused)


async def test_a_root_that_is_made_later(tmp_path: Path) -> None:
    """A sidecar starts before its agent: the source pauses, then heals."""
    async with running(source(tmp_path / "later", rescan_s=3600)) as run:
        await run.told.until(IntakePaused)
        (tmp_path / "later").mkdir()
        await run.told.until(IntakeResumed)
        put(tmp_path / "later/a.json", {"id": "a"})
        await until(run, "a")


async def test_a_full_ledger_stops_calls_but_not_manifests(tmp_path: Path) -> None:
    """Back-pressure leaves calls on disk, and lets recordings in, for which the calls in the ledger wait."""
    calls, manifests = tmp_path / "calls", tmp_path / "manifests"
    calls.mkdir()
    manifests.mkdir()
    put(calls / "a.json", {"id": "a"})
    first, _ = await swept(source(calls))
    put(calls / "b.json", {"id": "b"})
    full = Limits(max_pending_bytes=10)
    async with running(
        source(calls), source(manifests, name="egress", destination=""), ledger=first.ledger, limits=full
    ) as run:  # fmt: skip
        (paused,) = await run.told.until(IntakePaused)
        assert (paused.source, paused.reason) == ("agent", IntakeReason.FULL)
        put(manifests / "m.json", {"room": "r1"})
        await run.told.until(RecordingAdmitted)
        assert run.ids() == []
        await send(run.ledger, "a")
        await until(run, "b")
        await run.told.until(IntakeResumed)


class Failing(MemoryLedger):
    """A ledger whose disk is full for the first admissions."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
        return asyncio.ensure_future(self._admit(admission, now))

    async def _admit(self, admission: Admission, now: float) -> Admitted:
        if self.times > 0:
            self.times -= 1
            raise LedgerUnavailable("no space left")
        return await super().admit(admission, now)


async def test_a_full_disk_pauses_and_loses_nothing(tmp_path: Path) -> None:
    """Intake waits with what it has in hand, and goes on by itself."""
    put(tmp_path / "a.json", {"id": "a"})
    async with running(source(tmp_path), ledger=Failing(1)) as run:
        (paused,) = await run.told.until(IntakePaused)
        assert paused.reason is IntakeReason.DISK
        await until(run, "a")
        await run.told.until(IntakeResumed)


async def test_a_defect_of_the_mapping_sets_one_document_aside(tmp_path: Path) -> None:
    """The others are read, and the one is visible with its text, ready for `retry`."""
    put(tmp_path / "a.json", [{"id": "a"}, {"boom": 1}, {"ignore": 1}, {"id": "b"}])
    run, _ = await swept(source(tmp_path))
    assert run.ids() == ["a", "b"]
    (failed,) = run.told.seen(CallFailed)
    assert failed.reason is FailReason.CRASHED
    assert "KeyError" in failed.what
    assert len(run.told.seen(DocumentIgnored)) == 1
    (row,) = await run.ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert await run.ledger.document(row.row) == b'{"boom": 1}'


async def test_a_list_of_many_documents_goes_in_in_batches(tmp_path: Path) -> None:
    """At most 64 in one transaction; the file is marked with the last of them."""
    seen: list[tuple[int, FileMark | None, bool]] = []

    class Watching(MemoryLedger):
        def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
            return asyncio.ensure_future(self._admit(admission, now))

        async def _admit(self, admission: Admission, now: float) -> Admitted:
            seen.append((len(admission.calls), admission.mark, admission.replaces_failed))
            return await super().admit(admission, now)

    put(tmp_path / "a.json", [{"id": f"c{i}"} for i in range(150)])
    run, _ = await swept(source(tmp_path), ledger=Watching())
    assert [(count, mark is not None, first) for count, mark, first in seen] == [
        (64, False, True), (64, False, False), (22, True, False),
    ]  # fmt: skip
    assert len(run.ids()) == 150


@pytest.mark.parametrize("after_sent", ["delete", "move_to"])
async def test_after_sent_takes_what_is_done_and_unchanged(tmp_path: Path, after_sent: str) -> None:
    """Only a file of which every call is accepted, and never over another file."""
    root = tmp_path / "calls"
    (root / "done/sub").mkdir(parents=True)
    (root / "sub").mkdir()
    (root / "done/sub/a.json").write_text("already here")
    put(root / "sub/a.json", {"id": "a"})
    put(root / "open.json", [{"id": "b"}, {"id": "c"}])
    chosen = source(root, recursive=True, after_sent=after_sent, move_to="done/" if after_sent == "move_to" else None)
    async with running(chosen) as run:
        await until(run, "a", "b", "c")
        await send(run.ledger, "a", "b")
        (disposed,) = await run.told.until(FileDisposed)
        assert disposed.how == ("deleted" if after_sent == "delete" else "moved")
        assert not (root / "sub/a.json").exists()
        assert (root / "open.json").exists()
        assert (root / "done/sub/a.json").read_text() == "already here"
        if after_sent == "move_to":
            assert json.loads((root / "done/sub/a.json.1").read_text()) == {"id": "a"}
    assert not list(root.rglob(".tunerd*"))


async def test_the_last_scan_takes_what_is_complete(tmp_path: Path) -> None:
    """On stop nothing waits to settle: complete documents go in, half ones stay for the next start."""
    async with running(source(tmp_path, settle_s=3600.0, rescan_s=3600.0)) as run:
        await until_scanned(run)
        held = (tmp_path / "a.json").open("w")
        held.write('{"id": "a"}')
        held.flush()
        half = (tmp_path / "half.json").open("w")
        half.write('{"id": ')
        half.flush()
        run.stop.set()
    held.close()
    half.close()
    assert run.ids() == ["a"]
    assert not run.told.seen(CallFailed)


async def test_a_reload_changes_sources_without_losing_files(tmp_path: Path) -> None:
    """A removed source ends, a new one starts, an unchanged one goes on with its new mapping."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    put(one / "a.json", {"id": "a"})
    first = source(one, name="first")
    async with running(first, source(tmp_path / "gone", name="gone")) as run:
        await until(run, "a")
        await run.told.until(IntakePaused)
        mapped: list[Call | RefusedDocument | None] = []
        await run.intake.update(
            [first, source(two, name="second")],
            {"first": lambda document: mapped.append(None) or map_call(document), "second": map_call},  # type: ignore[func-returns-value]
        )
        assert [event.source for event in run.told.seen(IntakeResumed)] == ["gone"]
        put(one / "b.json", {"id": "b"})
        put(two / "c.json", {"id": "c"})
        await until(run, "b", "c")
        assert len(mapped) == 1
    assert run.ids().count("a") == 1


async def test_the_end_is_not_told_as_read_again(tmp_path: Path) -> None:
    """A directory that is not there is not there at the end of a daemon or of a `run --once`, either."""
    async with running(source(tmp_path / "gone")) as run:
        await run.told.until(IntakePaused)
    assert not run.told.seen(IntakeResumed)
    once, _ = await swept(source(tmp_path / "gone"))
    assert once.told.seen(IntakePaused)
    assert not once.told.seen(IntakeResumed)


async def test_what_is_left_by_a_sweep_is_counted(tmp_path: Path) -> None:
    """`run --once` learns that a file was not complete; one that has been so for long is refused instead."""
    (tmp_path / "half.json").write_text('{"id": ')
    _, left = await swept(source(tmp_path))
    assert left == 1
    run, left = await swept(source(tmp_path, settle_timeout_s=0.0))
    assert left == 0
    assert len(run.told.seen(CallFailed)) == 1


async def test_what_a_sweep_cannot_read_is_named_and_not_waited_for() -> None:
    """A file of another user, a link to itself, a directory below: none of them counts as a file that will be complete,
    and each is there with its path and why. Once it can be read it is."""
    with denied() as root:
        forbid(root, 0o777)
        for name in ("open", "closed"):
            (root / name).mkdir(mode=0o777)
        put(root / "secret.json", {"id": "secret"}).chmod(0)
        (root / "loop.json").symlink_to("loop.json")
        put(root / "half.json", '{"id": ')
        put(root / "open" / "a.json", {"id": "a"})
        put(root / "closed" / "b.json", {"id": "b"})
        (root / "closed").chmod(0)
        run, left = await swept(source(root, recursive=True))
        assert (run.ids(), left) == (["a"], 1)
        assert {os.path.relpath(one.path, root): one.why for one in run.unread} == {
            "closed": "cannot be listed (Permission denied)",
            "secret.json": "cannot be read (Permission denied)",
            "loop.json": "cannot be read (Too many levels of symbolic links)",
            "half.json": "not complete yet",
        }
        for name in ("closed", "secret.json"):
            (root / name).chmod(0o700)
        (root / "loop.json").unlink()
        put(root / "half.json", {"id": "half"})
        again, left = await swept(source(root, recursive=True), ledger=run.ledger)
        assert (sorted(again.ids()), left, again.unread) == (["b", "half", "secret"], 0, [])


async def test_a_file_that_becomes_readable_is_read_by_the_next_sweep_of_the_same_run() -> None:
    """`run --once --wait` looks again: what could not be read is asked anew, also where it is known, and named no more."""
    with denied() as root:
        forbid(root, 0o777)
        log = put(root / "calls.ndjson", '{"id": "one"}\n')
        known = source(root, include=("*.ndjson",))
        first, _ = await swept(known)
        log.write_text('{"id": "one"}\n{"id": "two"}\n')
        log.chmod(0)
        intake = Intake([known], first.ledger, {"agent": map_call}, SystemClock(), first.told)
        try:
            assert await intake.sweep() == 0
            assert [one.path for one in intake.unread()] == [str(log)]
            log.chmod(0o600)
            assert await intake.sweep() == 0
            assert not intake.unread()
        finally:
            intake.close()
    assert [event.call_id for event in first.told.seen(CallAdmitted)] == ["one", "two"]


async def test_a_file_that_cannot_be_read_stays_visible_until_it_can() -> None:
    """In the status of its source, as long as it is tried again; a directory below is counted, too."""
    with denied() as root:
        forbid(root, 0o777)
        (root / "below").mkdir()
        (root / "below").chmod(0)
        secret, clock = put(root / "secret.json", {"id": "a"}), FakeClock()
        secret.chmod(0)
        async with running(source(root, recursive=True, watch="poll", rescan_s=1.0), clock=clock) as run:

            async def until_unreadable(count: int) -> None:
                async with asyncio.timeout(20):
                    while run.intake.statuses()[0].unreadable != count:
                        await clock.advance(0.5)
                        await asyncio.sleep(0.001)

            assert run.intake.statuses()[0].unreadable == 0
            await until_unreadable(2)
            (root / "below").chmod(0o700)
            await until_unreadable(1)
            seen = set()
            passing = asyncio.create_task(clock.advance(20))
            while not passing.done():  # also while it is being tried again
                status = run.intake.statuses()[0]
                example = status.unreadable_example
                seen.add((status.unreadable, example and example.path, example and example.why))
                await asyncio.sleep(0)
            assert seen == {(1, str(secret), "cannot be read (Permission denied)")}
            secret.chmod(0o600)
            await until_unreadable(0)
            assert run.intake.statuses()[0].unreadable_example is None
        assert run.ids() == ["a"]


async def test_many_files_that_cannot_be_read_hide_no_other(tmp_path: Path) -> None:
    """More of them than a sweep keeps in mind at a time: it still comes to its end, and to the file behind them."""
    for number in range(210):
        (tmp_path / f"{number}.json").symlink_to(f"{number}.json")
    put(tmp_path / "good.json", {"id": "good"})
    async with asyncio.timeout(60):
        run, left = await swept(source(tmp_path), options=IntakeOptions(found_at_once=200))
    assert (run.ids(), left, len(run.unread)) == (["good"], 0, 210)


@pytest.mark.parametrize(("mode", "why"), [(None, "it is not there; check `path`"), (0o700, "it cannot be read: give this")])
async def test_a_directory_that_a_sweep_cannot_read_is_named(mode: int | None, why: str) -> None:
    """Mistyped or denied: the source, its directory and what to do."""
    with denied() as root:
        if mode is not None:
            forbid(root, mode)
        run, left = await swept(source(root if mode is not None else root / "mistyped"))
        (one,) = run.unread
        assert (left, one.source, one.path) == (0, "agent", str(root if mode is not None else root / "mistyped"))
        assert one.why.startswith(why)
