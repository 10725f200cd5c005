"""Events from the real kernel, and what happens without them; the bounded set of hints; what a scan costs and finds."""

import asyncio
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import pytest

from tests.intake.harness import age, files_of, listed, put, running, runtime_of, source
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted, WatchDegraded
from tunerd.intake import inotify
from tunerd.intake.due_queue import MOST, DueQueue
from tunerd.intake.file_index import FileIndex
from tunerd.intake.inotify import HAS_INOTIFY, Hint, Tell, Watcher, WatchLimit
from tunerd.intake.monitor import AT_ONCE, DirectoryMonitor
from tunerd.intake.names import Names, is_temporary
from tunerd.intake.signature import signature
from tunerd.ledger import FileMark
from tunerd.testing import Recorder

T = TypeVar("T")

_PRIVATE = {"InotifyConstants", "inotify_add_watch", "inotify_init", "inotify_rm_watch"}
_CONSTANTS = set(re.findall(r"_In\.(\w+)", Path(inotify.__file__).read_text()))

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


class Heard:
    def __init__(self) -> None:
        self.hints: list[tuple[Hint, str]] = []
        self._news = asyncio.Event()

    def __call__(self, hint: Hint, path: str) -> None:
        self.hints.append((hint, os.path.basename(path)))
        self._news.set()

    async def until(self, hint: Hint, name: str) -> None:
        async with asyncio.timeout(10):
            while (hint, name) not in self.hints:
                self._news.clear()
                await self._news.wait()


def test_the_private_names_of_watchdog_are_there() -> None:
    """Its bindings are no promise of its. Without them all would go on, by scans, and new files would be found late."""
    inotify = importlib.import_module("watchdog.observers.inotify_c")
    missing = [name for name in sorted(_PRIVATE) if not hasattr(inotify, name)]
    missing += [name for name in sorted(_CONSTANTS) if not hasattr(getattr(inotify, "InotifyConstants", None), name)]
    assert not missing, (
        f"watchdog {version('watchdog')} has no {', '.join(missing)} in watchdog.observers.inotify_c: change "
        "tunerd/intake/inotify.py, or the upper bound in pyproject.toml"
    )
    assert HAS_INOTIFY


def test_watchdog_is_bounded_because_its_private_names_are_used() -> None:
    """A fresh machine gets no major version that nobody has tried."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (asked,) = [one for one in project["dependencies"] if one.startswith("watchdog")]
    below = re.search(r"<(\d+)$", asked)
    assert below is not None, asked
    assert int(version("watchdog").partition(".")[0]) < int(below[1])


def test_without_the_private_names_scans_go_on_and_the_reason_is_told(tmp_path: Path) -> None:
    """A watchdog whose bindings are elsewhere: a reason with what to do, no traceback."""
    (tmp_path / "watchdog" / "observers").mkdir(parents=True)
    for file in ("__init__.py", "observers/__init__.py", "observers/inotify_c.py"):
        (tmp_path / "watchdog" / file).write_text("")
    asks = "from tunerd.intake.inotify import Watcher, WatchLimit\ntry: Watcher().open()\nexcept WatchLimit as exc: print(exc)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", asks], env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "a package watchdog of a version that tunerd does not know" in done.stdout


async def test_only_what_matters_is_heard(tmp_path: Path) -> None:
    """Closing after writing, moving in and creating are heard; reading, moving out and deleting are not."""
    watcher, heard = Watcher(), Heard()
    watcher.open()
    watcher.arm(str(tmp_path), heard)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.json").read_text()
    os.chmod(tmp_path / "a.json", 0o600)
    (tmp_path.parent / "b.json").write_text("{}")
    (tmp_path.parent / "b.json").rename(tmp_path / "b.json")
    (tmp_path / "b.json").rename(tmp_path.parent / "gone.json")
    (tmp_path / "a.json").unlink()
    (tmp_path / "last").mkdir()
    await heard.until(Hint.DIRECTORY, "last")
    watcher.close()
    assert heard.hints == [
        (Hint.CREATED, "a.json"), (Hint.CLOSED, "a.json"), (Hint.CLOSED, "b.json"), (Hint.DIRECTORY, "last"),
    ]  # fmt: skip


async def test_an_overflow_of_the_kernels_queue_asks_for_a_scan(tmp_path: Path) -> None:
    """More events than the kernel keeps (16,384 by default) before the loop gets to read them."""
    limit = int(_QUEUE.read_text())
    watcher, heard = Watcher(), Heard()
    watcher.open()
    watcher.arm(str(tmp_path), heard)
    names = [str(tmp_path / f"{i}.json") for i in range(2)]
    for i in range(limit + 100):  # alternating: the kernel merges an event that repeats the last one
        os.close(os.open(names[i % 2], os.O_CREAT | os.O_WRONLY))
    await heard.until(Hint.LOST, tmp_path.name)
    watcher.close()


async def test_a_storm_of_events_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    """However many events there are, one turn of the event loop takes only some of them, and none is lost."""
    watcher, turn, heard = Watcher(), 0, Counter[int]()
    files, every = 3_000, asyncio.Event()

    def tell(hint: Hint, path: str) -> None:
        heard[turn] += 1
        if heard.total() == files:
            every.set()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if not every.is_set():
            asyncio.get_running_loop().call_soon(count_turns)

    for number in range(files):
        (tmp_path / f".{number}").touch()
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    watcher.open()
    watcher.arm(str(inbox), tell)
    for number in range(files):
        (tmp_path / f".{number}").rename(inbox / f"{number}.json")
    count_turns()
    async with asyncio.timeout(10):
        await every.wait()
    watcher.close()
    assert max(heard.values()) <= 256


async def test_a_directory_that_was_replaced_is_lost_until_it_is_armed_again(tmp_path: Path) -> None:
    """A removed or renamed root tells that it is lost; the scan that follows arms the new one."""
    watcher, heard, root = Watcher(), Heard(), tmp_path / "root"
    watcher.open()
    for lose in (os.rmdir, lambda path: os.rename(path, tmp_path / "elsewhere")):
        root.mkdir()
        watcher.arm(str(root), heard)
        heard.hints.clear()
        lose(root)
        await heard.until(Hint.LOST, "root")
        assert watcher.watched(heard) == 0
    root.mkdir()
    watcher.arm(str(root), heard)
    (root / "a.json").write_text("{}")
    await heard.until(Hint.CLOSED, "a.json")
    (tmp_path / "elsewhere/old.json").write_text("{}")
    (root / "b.json").write_text("{}")
    await heard.until(Hint.CLOSED, "b.json")
    assert (Hint.CLOSED, "old.json") not in heard.hints
    watcher.close()


async def test_two_sources_may_share_a_directory(tmp_path: Path) -> None:
    """Each hears the events; when one goes the other still does."""
    watcher, one, two = Watcher(), Heard(), Heard()
    watcher.open()
    watcher.arm(str(tmp_path), one)
    watcher.arm(str(tmp_path), two)
    watcher.disarm(one)
    (tmp_path / "a.json").write_text("{}")
    await two.until(Hint.CLOSED, "a.json")
    assert one.hints == []
    watcher.close()


class NoMoreWatches(Watcher):
    refuses = True

    def arm(self, directory: str, tell: Tell, fd: int = -1) -> None:
        if self.refuses:
            raise WatchLimit("raise the sysctl fs.inotify.max_user_watches")
        super().arm(directory, tell, fd)


async def test_without_watches_scans_go_on(tmp_path: Path) -> None:
    """The limit is told once with the sysctl to raise, and files are found all the same."""
    watcher = NoMoreWatches()
    async with running(source(tmp_path, rescan_s=0.05), watcher=watcher) as run:
        (degraded,) = await run.told.until(WatchDegraded)
        assert "fs.inotify.max_user_watches" in degraded.detail
        put(tmp_path / "a.json", {"id": "a"})
        await run.told.until(CallAdmitted)
        assert run.intake.statuses()[0].inotify_fallback
        watcher.refuses = False
        asked = run.intake.look()
        async with asyncio.timeout(20):
            while run.intake.looked() < asked:  # noqa: ASYNC110
                await asyncio.sleep(0)  # a thread is at work: this only gives way
        assert not run.intake.statuses()[0].inotify_fallback
    assert len(run.told.seen(WatchDegraded)) == 1


async def test_sources_that_poll_do_not_fall_back(tmp_path: Path) -> None:
    """With `watch: poll` nobody wanted events."""
    async with running(source(tmp_path, watch="poll", rescan_s=0.05), watcher=NoMoreWatches()) as run:
        put(tmp_path / "a.json", {"id": "a"})
        await run.told.until(CallAdmitted)
        assert not run.intake.statuses()[0].inotify_fallback


def test_hints_are_bounded() -> None:
    """Beyond the limit there is only "scan now"."""
    hints = DueQueue()
    for i in range(MOST):
        hints.add(str(i), now=0.0, wall=0.0, closed=True)
    assert not hints.scan_now.is_set()
    hints.add("one more", now=0.0, wall=0.0, closed=True)
    assert hints.scan_now.is_set()
    assert len(hints) == MOST


def test_a_path_in_hand_is_not_handed_out_twice() -> None:
    """A change that is seen during a visit leads to another one afterwards."""
    hints = DueQueue()
    hints.add("a", now=0.0, wall=0.0, closed=False)
    due = hints.pop(0.0)
    assert due is not None
    hints.add("a", now=0.0, wall=0.0, closed=True)
    assert hints.pop(0.0) is None
    hints.done("a")
    again = hints.pop(0.0)
    assert again is not None
    assert again.closed
    assert hints.pop(99.0) is None


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        ("a.json", False), (".a.json", True), ("a.json~", True), ("a.json.tmp", True), ("a.json.PART", True),
        ("a.json.swp", True), ("#a.json#", True), ("tmp.json", False), ("part.json", False), ("a.json.crdownload", True),
    ],
)  # fmt: skip
def test_names_that_somebody_still_writes(name: str, temporary: bool) -> None:
    """Hidden, backup and partial names are left alone."""
    assert is_temporary(name) is temporary


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("calls.ndjson", None), ("calls.ndjson.1", "calls.ndjson"), ("calls.ndjson.12.gz", "calls.ndjson"),
        ("calls.ndjson-20260101", "calls.ndjson"), ("calls.ndjson-20260101-1200.gz", "calls.ndjson"),
        ("calls.jsonl.old", "calls.jsonl"), ("calls.ndjson.gz", "calls.ndjson"), ("a.json.1", None),
        ("calls.ndjson.2026-01-01", "calls.ndjson"), ("calls.ndjson.2026-01-01_10", "calls.ndjson"),
        ("sub/calls.ndjson.1", "sub/calls.ndjson"),
    ],
)  # fmt: skip
def test_rotated_names_belong_to_their_log(name: str, own: str | None, tmp_path: Path) -> None:
    """Where a pattern fits a log it fits its rotated names, or what was not read before a rotation would be lost."""
    names = Names(source(tmp_path))
    assert names.log_name(name) == own
    assert names.fits(name) is (own is not None or not name.startswith("a.json"))


def test_a_scan_takes_no_stat_of_what_it_knows(tmp_path: Path) -> None:
    """FileIndex names are compared with their stat in turn: over all parts every change is found exactly once."""
    for i in range(40):
        (tmp_path / f"{i}.json").write_text("{}")
    known = {f"{i}.json": 1 for i in range(40)}  # none is as it was
    listings = [
        listed(tmp_path, Names(source(tmp_path)), known, recursive=False, arm=lambda *_: None, part=(i, 4)) for i in range(4)
    ]
    found = [name for listing in listings for name in listing.found]
    assert sorted(found) == sorted(known)
    assert max(len(listing.found) for listing in listings) < 40
    restat = listed(
        tmp_path, Names(source(tmp_path)), known, recursive=False, arm=lambda *_: None, part=(9, 4), restat={"7.json"}
    )
    assert "7.json" in restat.found


def test_a_file_that_is_back_may_be_known(tmp_path: Path) -> None:
    """Of a path that vanished it stays known that it was read; marks of other roots are none of ours."""
    known = FileIndex(str(tmp_path))
    marks = [
        FileMark(source="s", path=str(tmp_path / "a.json"), device=1, inode=1, size=5, mtime_ns=7, ctime_ns=8, offset=5),
        FileMark(source="s", path="/elsewhere/b.json", device=1, inode=2, size=5, mtime_ns=7, ctime_ns=8, offset=5),
    ]
    known.load(marks)
    assert known.signatures == {"a.json": signature(5, 7, 8, 1)}
    known.vanished("a.json")
    assert known.signatures == {}
    assert known.was_read("a.json")
    assert not known.was_read("b.json")
    known.came_back(marks[0])
    assert known.is_as_read("a.json", signature(5, 7, 8, 1))


@pytest.mark.parametrize("field", range(4))
def test_each_part_of_a_stat_tells_a_changed_file(tmp_path: Path, field: int) -> None:
    """Size, mtime, ctime and inode: a file is as it was read only while all of them are."""
    known, stat = FileIndex(str(tmp_path)), [5, 7, 8, 1]
    known.load([FileMark(source="s", path=str(tmp_path / "a.json"), device=1, inode=1, size=5, mtime_ns=7, ctime_ns=8, offset=5)])
    assert known.is_as_read("a.json", signature(*stat))
    stat[field] += 1
    assert not known.is_as_read("a.json", signature(*stat))


def test_inodes_that_change_all_the_time_say_nothing(tmp_path: Path) -> None:
    """Where 20 files in a row only had another inode, and were what was read, a file is known by the rest of its stat; not
    where another inode once meant another content."""
    known = FileIndex(str(tmp_path))
    known.load([FileMark(source="s", path=str(tmp_path / "a.json"), device=1, inode=1, size=5, mtime_ns=7, ctime_ns=8, offset=5)])
    for inode in range(2, 22):
        assert not known.is_as_read("a.json", signature(5, 7, 8, 1000))
        known.compared("a.json", signature(5, 7, 8, inode), is_equal=True)
    assert known.is_as_read("a.json", signature(5, 7, 8, 1000))
    assert not known.is_as_read("a.json", signature(5, 7, 9, 1000))
    known = FileIndex(str(tmp_path))
    known.load([FileMark(source="s", path=str(tmp_path / "a.json"), device=1, inode=1, size=5, mtime_ns=7, ctime_ns=8, offset=5)])
    known.compared("a.json", signature(5, 7, 8, 2), is_equal=False)
    for inode in range(2, 42):
        known.compared("a.json", signature(5, 7, 8, inode), is_equal=True)
    assert not known.is_as_read("a.json", signature(5, 7, 8, 1000))


def test_logs_that_left_their_path_are_remembered(tmp_path: Path) -> None:
    """Two logs that were lost from one path, and the third that stands there: a scan finds each by its inode."""
    known = FileIndex(str(tmp_path))
    for log in (1, 2, 3):
        known.remember(
            FileMark(
                source="s", path=str(tmp_path / "l.ndjson"), device=1, inode=70 + log, size=9, mtime_ns=7, offset=9,
                content=b"hash", whole=False, log=log,
            )
        )  # fmt: skip
    assert known.inodes == {71, 72, 73}
    assert [known.is_found(log) for log in (1, 2, 3)] == [False, False, True]
    assert known.next_log() == 4


async def test_a_listing_of_many_names_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    """What a scan finds, leaves out as too old, or misses is gone through in parts, with turns of the loop for the others."""
    turn, ended, count = 0, False, 3 * AT_ONCE
    handled = Counter[int]()

    class Told(FileIndex):
        def leave_out(self, relative: str, sign: int, *, recent: bool = True) -> None:
            handled[turn] += 1
            super().leave_out(relative, sign, recent=recent)

        def vanished(self, relative: str) -> None:
            handled[turn] += 1
            super().vanished(relative)

    class Counting(DueQueue):
        def add(self, path: str, *, now: float, wall: float, closed: bool, log: int = 0) -> None:
            handled[turn] += 1
            super().add(path, now=now, wall=wall, closed=closed)

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        if not ended:
            asyncio.get_running_loop().call_soon(count_turns)

    settings = source(tmp_path, ignore_older_s=3600.0, watch="poll")
    files = files_of(settings, index=Told(str(tmp_path)), due=Counting())
    monitor = DirectoryMonitor(runtime_of(settings, SystemClock(), Recorder()), files)
    for number in range(count):
        (tmp_path / f"new{number}.json").touch()
        old = tmp_path / f"old{number}.json"
        old.touch()
        age(old, 7200)
    count_turns()
    await monitor.scan_once()
    for path in tmp_path.iterdir():
        path.unlink()
    await monitor.scan_once()
    ended = True
    assert handled.total() == 3 * count  # new, old; and the old ones, which are known, gone
    assert max(handled.values()) <= 2 * AT_ONCE  # the end of one part, and the next


@pytest.mark.parametrize("when", ["before it is listed", "after it is listed"])
def test_a_root_that_is_swapped_while_it_is_listed_says_nothing(tmp_path: Path, when: str) -> None:
    """Half of the listing is of the lost mount, half of the empty directory under it: no file counts as gone, and the empty
    directory is not taken for the root that is known."""
    root = tmp_path / "calls"
    root.mkdir()
    (root / "a.json").write_text("{}")
    (root / "below").mkdir()
    known = {"a.json": 1, "b.json": 1}
    swap_at = str(root) if when == "before it is listed" else str(root / "below")

    def swap(directory: str, _: int) -> None:
        if directory == swap_at:
            root.rename(tmp_path / "away")
            root.mkdir()

    with pytest.raises(OSError, match="took its place"):
        listed(root, Names(source(root)), known, recursive=True, arm=swap)
