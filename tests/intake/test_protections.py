"""Roots that come and go, watches that are not to be had, lost events, a ledger that stays full, after_sent cut short."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.descriptors import no_descriptors
from tests.intake.harness import files_of, put, running, runtime_of, source, swept
from tests.intake.test_run import send, until, until_scanned
from tunerd.call import ManifestStrategy, State
from tunerd.clock import SystemClock
from tunerd.events import (
    CallAdmitted,
    CallDuplicate,
    DocumentsRead,
    FileDisposed,
    FileIgnored,
    IntakePaused,
    IntakeResumed,
    RecordingMatched,
    WatchDegraded,
)
from tunerd.intake.admission_gate import AdmissionGate, Limits
from tunerd.intake.aside_names import aside_name
from tunerd.intake.due_queue import DueQueue
from tunerd.intake.inotify import Hint, Tell, Watcher
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.ledger import Admission, Gauges, Retention
from tunerd.outcome import IntakeReason
from tunerd.testing import FakeClock, MemoryLedger, make_call

T = TypeVar("T")
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
_QUEUED = Path("/proc/sys/fs/inotify/max_queued_events")

# The root comes and goes.


@pytest.mark.parametrize("gone_s", [1.0, 60.0, 3600.0, 9 * 86_400.0])
@pytest.mark.parametrize("how", ["gone", "empty"])
async def test_a_root_may_be_away_for_any_time(tmp_path: Path, how: str, gone_s: float) -> None:
    """A second to nine days (a vanished file's mark is kept for seven): one pause is told, no mark is dropped or begins
    to age, and when the root is back nothing is read again."""
    root, away, clock = tmp_path / "calls", tmp_path / "away", FakeClock()
    root.mkdir()
    for i in range(3):
        os.utime(put(root / f"{i}.json", {"id": f"c{i}"}), (1_000_000, 1_000_000))
    (root / "l.ndjson").write_text('{"id": "l"}\n')
    async with running(source(root, watch="poll"), clock=clock) as run:
        await advance_until(clock, run.told, CallAdmitted, 4)
        root.rename(away)
        if how == "empty":
            root.mkdir()
        await advance_until(clock, run.told, IntakePaused, 1)
        for _ in range(5):  # some of the time is lived through, the rest is slept through
            clock.jump(gone_s / 5)
            await clock.advance(min(gone_s, 60.0) / 5)
            await run.ledger.trim(KEEP_ALL, clock.now())
            assert await run.ledger.marks("agent", vanished=True) == []
            assert len(await run.ledger.marks("agent")) == 4
        if how == "empty":
            root.rmdir()
        away.rename(root)
        await advance_until(clock, run.told, IntakeResumed, 1)
        put(root / "new.json", {"id": "new"})
        await advance_until(clock, run.told, CallAdmitted, 5)
        assert len(await run.ledger.marks("agent")) == 5
    assert sorted(run.ids()) == ["c0", "c1", "c2", "l", "new"]
    assert not run.told.seen(CallDuplicate)
    assert [event.reason for event in run.told.seen(IntakePaused)] == [IntakeReason.MISSING]


KEEP_ALL = Retention(sent_s=1e12, failed_s=1e12, recordings_s=1e12, max_failed_bytes=10**12)


async def advance_until(clock: FakeClock, told: object, kind: type, count: int) -> None:
    """Let time pass in steps until so many facts were told."""
    async with asyncio.timeout(20):
        while len(told.seen(kind)) < count:  # type: ignore[attr-defined]
            await clock.advance(0.5)
            await asyncio.sleep(0.001)  # threads are at work: the fake clock does not wait for them


async def test_a_file_that_could_not_be_opened_is_tried_again(tmp_path: Path) -> None:
    """Out of descriptors (EMFILE) when its event came: it is told once, and read when there are some again, long before
    the next scan and without another event."""
    clock = FakeClock()
    async with running(source(tmp_path, rescan_s=3600.0), clock=clock) as run:
        await until_scanned(run)
        put(tmp_path / "a.json", {"id": "a"})
        with no_descriptors():
            (ignored,) = await run.told.until(FileIgnored)
            await clock.advance(20)
            await asyncio.sleep(0)
        assert "Too many open files" in ignored.why
        assert run.ids() == []
        await advance_until(clock, run.told, CallAdmitted, 1)
        assert run.intake.statuses()[0].settling == 0
    assert run.ids() == ["a"]
    assert len(run.told.seen(FileIgnored)) == 1


async def test_a_directory_that_could_not_be_opened_is_not_missing(tmp_path: Path) -> None:
    """Out of descriptors when it is listed: the pause says so instead of blaming the directory, nothing known is dropped,
    and a second after there are some again it is read."""
    clock = FakeClock()
    put(tmp_path / "a.json", {"id": "a"})
    os.utime(tmp_path / "a.json", (1_000_000, 1_000_000))
    async with running(source(tmp_path, watch="poll", rescan_s=1.0), clock=clock) as run:
        await advance_until(clock, run.told, CallAdmitted, 1)
        with no_descriptors():
            await advance_until(clock, run.told, IntakePaused, 1)
            await clock.advance(20)
        assert run.told.seen(IntakePaused)[0].reason is IntakeReason.DENIED
        assert "LimitNOFILE" in run.told.seen(IntakePaused)[0].detail
        await advance_until(clock, run.told, IntakeResumed, 1)
        assert len(await run.ledger.marks("agent")) == 1
    assert run.ids() == ["a"]
    assert len(run.told.seen(IntakePaused)) == 1


# Watches and events.


@contextmanager
def sysctl(place: Path, value: int) -> Iterator[None]:
    before = place.read_text()
    place.write_text(str(value))
    try:
        yield
    finally:
        place.write_text(before)


def _may_set_sysctls() -> bool:
    try:
        _QUEUED.write_text(_QUEUED.read_text())
    except OSError:
        return False
    return True


@pytest.fixture
def as_root() -> None:
    """Sysctls can be set. A person who cannot skips; CI fails."""
    if not _may_set_sysctls():
        assert not os.environ.get("CI"), "CI runs as root, so that kernel limits can be tried"
        pytest.skip("needs root, to set fs.inotify sysctls")


@pytest.mark.needs_root
@pytest.mark.usefixtures("as_root")
async def test_the_kernels_watch_limit(tmp_path: Path) -> None:
    """Directories beyond fs.inotify.max_user_watches are scanned; it is told once, with the sysctl to set."""
    for i in range(12):
        (tmp_path / f"d{i}").mkdir()
    with sysctl(_WATCHES, 4):
        async with running(source(tmp_path, recursive=True, rescan_s=0.05)) as run:
            (degraded,) = await run.told.until(WatchDegraded)
            assert "sysctl fs.inotify.max_user_watches" in degraded.detail
            assert run.intake.statuses()[0].inotify_fallback
            for i in range(12):
                put(tmp_path / f"d{i}/a.json", {"id": f"a{i}"})
            await until(run, *(f"a{i}" for i in range(12)))
    assert len(run.told.seen(WatchDegraded)) == 1


@pytest.mark.needs_root
@pytest.mark.usefixtures("as_root")
async def test_a_queue_of_sixteen_events(tmp_path: Path) -> None:
    """A burst overflows the kernel's queue: the scan that this asks for finds every file, long before the next regular one."""
    with sysctl(_QUEUED, 16):
        async with running(source(tmp_path, rescan_s=3600.0)) as run:
            await until_scanned(run)
            for i in range(300):
                put(tmp_path / f"{i}.json", {"id": f"c{i}"})
            await until(run, *(f"c{i}" for i in range(300)))
    assert len(run.ids()) == 300


class Deaf(Watcher):
    """Watches, and hears nothing: as on a mount whose events never come."""

    def arm(self, directory: str, tell: Tell, fd: int = -1) -> None:
        def hear_nothing(hint: Hint, path: str) -> None:
            pass

        super().arm(directory, hear_nothing)


async def test_without_any_event_the_scan_finds_everything(tmp_path: Path) -> None:
    """Events are hints; files, changes and growing logs are found all the same."""
    log = tmp_path / "l.ndjson"
    async with running(source(tmp_path, rescan_s=0.05), watcher=Deaf()) as run:
        await until_scanned(run)
        put(tmp_path / "a.json", {"id": "a"})
        log.write_text('{"id": "l1"}\n')
        await until(run, "a", "l1")
        put(tmp_path / "a.json", {"id": "changed"})
        with log.open("a") as file:
            file.write('{"id": "l2"}\n')
        await until(run, "changed", "l2")


async def test_a_look_that_is_asked_for_sees_what_is_there(tmp_path: Path) -> None:
    """`tunerd drain` asks for it: however long it is to the next scan, when the look is done every file that was there
    when it began is known, and a directory that is not there holds nothing up."""
    sources = (source(tmp_path, watch="poll", rescan_s=3600.0), source(tmp_path / "none", name="none", watch="poll"))
    async with running(*sources) as run:
        while run.intake.statuses()[0].last_scan_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for turn in range(3):
            put(tmp_path / f"{turn}.json", {"id": f"c{turn}"})
            number = run.intake.look()
            assert run.intake.looked() < number
            async with asyncio.timeout(10):
                while run.intake.looked() < number:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert run.intake.busy() or f"c{turn}" in run.ids()
            await until(run, f"c{turn}")


async def test_events_that_are_lost_during_a_scan_want_another(tmp_path: Path) -> None:
    """The scan that is going on may have passed the place already."""
    hints, clock, stop = DueQueue(), FakeClock(), asyncio.Event()
    settings = source(tmp_path, rescan_s=3600.0, watch="poll")

    class Losing(SourceRuntime):
        async def in_thread(self, work: Callable[[], T]) -> T:
            listing = work()
            if monitor.last_scan_at is None:
                put(tmp_path / "a.json", {"id": "a"})
                monitor.tell(Hint.LOST, str(tmp_path))
            return listing

    monitor = DirectoryMonitor(runtime_of(settings, clock, lambda _: None, Losing), files_of(settings, due=hints))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(monitor.scan_forever(stop))
        while not len(hints):
            await clock.advance(0.1)
            assert clock.monotonic() < 1000 + 10, "the next regular scan is an hour away"
        stop.set()
        hints.scan_now.set()


# A ledger that is full all the time.


@pytest.mark.parametrize(
    ("pending", "waiting", "failed", "closed"),
    [
        (1000, 0, 0, False),
        (1001, 0, 0, True),
        (900, 500, 0, False),
        (900, 501, 0, True),
        (0, 0, 10**9, False),
    ],
)
def test_what_fills_the_ledger(pending: int, waiting: int, failed: int, closed: bool) -> None:
    """Open calls up to max_pending_bytes, those that wait for a recording up to half of it; failed ones don't count."""
    gauges = Gauges(calls={State.FAILED: failed}, oldest_at={}, pending_bytes=pending, waiting_bytes=waiting)
    gate = AdmissionGate(lambda: gauges, Limits(max_pending_bytes=1000), FakeClock())
    assert (gate.closed() is not None) is closed


@pytest.mark.parametrize(("unmapped", "closed"), [(400, False), (401, True)])
def test_documents_that_no_rule_could_map_fill_the_ledger(unmapped: int, closed: bool) -> None:
    """They are kept whole until somebody acts, so that a wrong rule stays repairable; beyond the limit the files are the buffer."""
    gauges = Gauges(calls={}, oldest_at={}, pending_bytes=600, waiting_bytes=0, unmapped_bytes=unmapped)
    gate = AdmissionGate(lambda: gauges, Limits(max_pending_bytes=1000), FakeClock())
    why = gate.closed()
    assert (why is not None) is closed
    assert why is None or (why[0] is IntakeReason.FULL and "tunerd retry" in why[1] and "tunerd dismiss" in why[1])


async def test_back_pressure_for_a_whole_run(tmp_path: Path) -> None:
    """Held at max_pending_bytes until the last waiting call has left: every manifest comes in, each call that it is for
    leaves, no new call comes in meanwhile, and then all of them do."""
    calls, manifests, ledger = tmp_path / "calls", tmp_path / "egress", MemoryLedger()
    calls.mkdir()
    manifests.mkdir()
    for i in range(20):
        put(calls / f"{i}.json", {"id": f"new{i}"})
        wants = ManifestStrategy(source="egress", key=f"r{i}", within_s=None, wait_s=1e6)
        await ledger.admit(Admission(calls=[make_call(f"w{i}", source="before", strategies=(wants,))]), SystemClock().now())
    most = ledger.gauges().pending_bytes // 20 - 1
    both = (source(calls), source(manifests, name="egress", destination=""))
    async with running(*both, ledger=ledger, limits=Limits(max_pending_bytes=most)) as run:
        await run.told.until(IntakePaused)
        for turn in range(20):
            assert ledger.gauges().pending_bytes > most
            assert run.ids() == []
            put(manifests / f"{turn}.json", {"room": f"r{turn}"})
            await run.told.until(RecordingMatched, turn + 1)
            await send(ledger, f"w{turn}")
            assert (await ledger.story(f"w{turn}"))[0].call.state is State.SENT
        while len(run.ids()) < 20:
            await run.told.until(CallAdmitted, len(run.ids()) + 1)
            await send(ledger, *run.ids())
    assert sorted(run.ids()) == sorted(f"new{i}" for i in range(20))
    assert [event.source for event in run.told.seen(IntakePaused)][:1] == ["agent"]


# Files that stay, and files that go.


async def test_a_file_that_is_kept_is_not_sent_again_when_its_row_has_gone(tmp_path: Path) -> None:
    """Retention removed the call; the file's mark lives as long as the file does, over restarts."""
    put(tmp_path / "a.json", {"id": "a"})
    (tmp_path / "l.ndjson").write_text('{"id": "l"}\n')
    first, _ = await swept(source(tmp_path))
    await send(first.ledger, "a", "l")
    year = SystemClock().now() + 365 * 86_400.0
    while await first.ledger.trim(Retention(sent_s=0.0, failed_s=0.0, recordings_s=0.0, max_failed_bytes=0), year):
        pass
    assert not await first.ledger.story("a")
    again, _ = await swept(source(tmp_path), ledger=first.ledger)
    assert not again.told.seen(DocumentsRead)


_CUT = """
import os, sys
from tunerd.config import Source
from tunerd.intake import removal
from tunerd.intake.content import content_hash
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.source_tree import SourceTree
from tunerd.ledger import FileMark
how, root, path, target = sys.argv[1:]
with open(path) as file:
    at, content = os.fstat(file.fileno()), content_hash(file.fileno())
mark = FileMark(source="agent", path=path, device=at.st_dev, inode=at.st_ino, size=at.st_size, mtime_ns=at.st_mtime_ns,
                ctime_ns=at.st_ctime_ns, offset=at.st_size, content=content)
def die(*_, **__): os._exit(9)
os.unlink = die
rename = removal._rename
def once(*arguments):
    removal._rename = die if how == "renamed" else rename
    removal._rename_at = None
    os.rename(arguments[0], arguments[2], src_dir_fd=arguments[1], dst_dir_fd=arguments[3])
removal._rename = once
source = Source(name="agent", path=root, after_sent="move_to" if target else "delete", move_to=target or None)
removal.Removal(source, SourceTree(root), lambda: at.st_ctime).remove([mark], ())
"""


@pytest.mark.parametrize(
    ("after_sent", "cut"), [("delete", "renamed"), ("move_to", "renamed"), ("move_to", "linked")]
)  # fmt: skip
async def test_what_after_sent_left_half_done_is_finished(tmp_path: Path, after_sent: str, cut: str) -> None:
    """The process died between its steps: the next one ends what was begun, and no hidden file stays."""
    root = tmp_path / "calls"
    (root / "done").mkdir(parents=True)
    path = put(root / "a.json", {"id": "a"})
    chosen = source(root, after_sent=after_sent, move_to="done" if after_sent == "move_to" else None)
    first, _ = await swept(chosen)
    await send(first.ledger, "a")
    target = "done" if after_sent == "move_to" else ""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _CUT, cut, str(root), str(path), target)
    assert await process.wait() == 9
    assert [one.name for one in root.glob(".tunerd*")]
    async with running(chosen, ledger=first.ledger) as run:
        await run.told.until(FileDisposed)
    left = sorted(one.name for one in root.rglob("*") if one.is_file())
    assert left == (["a.json"] if after_sent == "move_to" else [])
    assert not run.told.seen(DocumentsRead)
    assert await first.ledger.marks("agent") == []


@pytest.mark.parametrize("trouble", ["a file where the directory should be", "every name is taken"])
async def test_after_sent_is_tried_again_until_it_works(tmp_path: Path, trouble: str) -> None:
    """What hinders it is told once. The file stands in its place meanwhile, and goes within five minutes after that was
    mended, without a restart; it is not read again."""
    root, clock = tmp_path / "calls", FakeClock()
    done = root / "done"
    root.mkdir()
    if trouble == "every name is taken":
        done.mkdir()
        taken = [done / "a.json", *(done / f"a.json.{n}" for n in range(1, 1000))]
    else:
        taken = [done]
    for one in taken:
        one.touch()
    path = put(root / "a.json", {"id": "a"})
    async with running(source(root, after_sent="move_to", move_to="done"), clock=clock) as run:
        await advance_until(clock, run.told, CallAdmitted, 1)
        await send(run.ledger, "a")
        await advance_until(clock, run.told, FileDisposed, 1)
        for _ in range(60):
            await clock.advance(30)
            await asyncio.sleep(0.001)
        assert len(run.told.seen(FileDisposed)) == 1
        assert path.exists()
        for one in taken:
            one.unlink()
        mended_at = clock.monotonic()
        await advance_until(clock, run.told, FileDisposed, 2)
        assert clock.monotonic() - mended_at <= 302
        assert (done / "a.json").exists()
        assert not path.exists()
    assert [event.how.partition(":")[0] for event in run.told.seen(FileDisposed)] == ["failed", "moved"]
    assert len(run.told.seen(DocumentsRead)) == 1


async def test_a_half_done_file_that_is_not_what_was_read_is_put_back(tmp_path: Path) -> None:
    """It was renamed aside in the instant in which it was replaced: it is a document like any other."""
    put(tmp_path / "a.json", {"id": "a"})
    first, _ = await swept(source(tmp_path))
    await send(first.ledger, "a")
    fd = os.open(tmp_path, os.O_RDONLY)
    aside = tmp_path / aside_name("a.json", fd)
    os.close(fd)
    (tmp_path / "a.json").unlink()
    aside.write_text(json.dumps({"id": "b"}))
    async with running(source(tmp_path, after_sent="delete", rescan_s=0.05), ledger=first.ledger) as run:
        await until(run, "b")
    assert json.loads((tmp_path / "a.json").read_text()) == {"id": "b"}
