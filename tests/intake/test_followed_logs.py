"""Logs that are kept open: for how long, how many, and what is told when one is given up."""

import os
import resource
from pathlib import Path

import pytest

from tests.intake.harness import source, swept
from tunerd.events import LogLeft
from tunerd.intake.descriptors import DescriptorLimit, most_open
from tunerd.intake.followed_logs import MOVED_S, UNLINKED_QUIET_S, FollowedLogs
from tunerd.ledger import FileMark


def follow(logs: FollowedLogs, path: Path, number: int, now: float = 0.0, *, moved_from: Path | None = None) -> FileMark:
    """As after a look that read the log to its end."""
    fd = os.open(path, os.O_RDONLY)
    at = os.fstat(fd)
    mark = FileMark(
        source="agent", path=str(moved_from or path), device=at.st_dev, inode=at.st_ino, size=at.st_size, mtime_ns=at.st_mtime_ns,
        offset=at.st_size, whole=False, log=number, is_there=moved_from is None,
    )  # fmt: skip
    logs.read(fd, mark, now=now, seen=(at.st_size, at.st_mtime_ns))
    os.close(fd)
    return mark


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("{}\n")


def log_at(path: Path) -> Path:
    append(path)
    return path


def test_a_log_that_was_moved_out_is_read_for_ten_minutes(tmp_path: Path) -> None:
    """Then it is looked at once more, closed, and told with its place and its offset."""
    logs, path, moved = FollowedLogs(DescriptorLimit()), log_at(tmp_path / "calls.ndjson"), tmp_path / "olddir"
    follow(logs, path, 1)
    assert logs.poll(1.0).moved == []
    path.rename(moved)
    append(moved)
    path.touch()
    assert logs.poll(2.0).moved == [1]
    mark = follow(logs, moved, 1, 3.0, moved_from=path)
    assert logs.poll(2.0 + MOVED_S - 1).moved == []
    assert logs.poll(2.0 + MOVED_S).moved == [1]
    (left,) = logs.poll(4.0 + MOVED_S).left
    assert left.mark.offset == mark.offset == 6
    assert str(moved) in left.why
    assert len(logs) == 0


def test_a_deleted_log_is_closed_after_five_seconds_of_quiet(tmp_path: Path) -> None:
    """It holds its disk; nothing is told of one that was read to its end."""
    logs, path = FollowedLogs(DescriptorLimit()), log_at(tmp_path / "calls.ndjson")
    follow(logs, path, 1)
    path.unlink()
    assert (logs.poll(10.0).moved, logs.poll(10.0 + UNLINKED_QUIET_S - 1).moved) == ([], [])
    assert logs.poll(10.0 + UNLINKED_QUIET_S).moved == [1]
    assert logs.poll(12.0 + UNLINKED_QUIET_S).left == []
    assert len(logs) == 0


def test_a_deleted_log_does_not_hold_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    """It is looked at once more, and closed at once."""
    logs, path = FollowedLogs(DescriptorLimit(min_free_bytes=1 << 60)), log_at(tmp_path / "calls.ndjson")
    follow(logs, path, 1)
    path.unlink()
    assert logs.poll(1.0).moved == [1]
    logs.poll(1.1)
    assert len(logs) == 0


def test_the_log_that_grew_longest_ago_gives_way(tmp_path: Path) -> None:
    """One that stands at its path can be found again; one that was moved cannot, and stays."""
    limit = DescriptorLimit(2)
    one, other = FollowedLogs(limit), FollowedLogs(limit)
    moved = log_at(tmp_path / "a")
    follow(one, moved, 1, 1.0)
    moved.rename(tmp_path / "elsewhere")
    one.poll(1.0)
    follow(other, log_at(tmp_path / "b"), 1, 2.0)
    follow(one, log_at(tmp_path / "c"), 2, 3.0)
    assert (one.of_number(1) is None, other.of_number(1) is None, one.of_number(2) is None) == (False, True, False)


def test_few_descriptors_leave_room_for_others() -> None:
    """An eighth of what the process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        assert most_open() == 16
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_reader_for_each_file(tmp_path: Path) -> None:
    """Two names of one file are not read at once."""
    logs, path = FollowedLogs(DescriptorLimit()), log_at(tmp_path / "calls.ndjson")
    with logs.reading(path.stat(), str(path)) as first, logs.reading(path.stat(), str(tmp_path / "x")) as second:
        assert (first, second) == (True, False)
    with logs.reading(path.stat(), str(path)) as again:
        assert again


@pytest.mark.parametrize("how", ["moved", "deleted"])
async def test_a_log_that_a_restart_makes_unreachable_is_told(tmp_path: Path, how: str) -> None:
    """Where it was last, and up to where it was read."""
    root = tmp_path / "calls"
    root.mkdir()
    path = root / "calls.ndjson"
    path.write_text('{"id": 1}\n')
    first, _ = await swept(source(root, include=("*.ndjson",)))
    assert first.told.seen(LogLeft) == []
    path.rename(tmp_path / "olddir") if how == "moved" else path.unlink()
    path.write_text('{"id": 2}\n')
    again, _ = await swept(source(root, include=("*.ndjson",)), ledger=first.ledger)
    (left,) = again.told.seen(LogLeft)
    assert (left.path, left.offset, again.ids()) == (str(path), 10, ["2"])
    third, _ = await swept(source(root, include=("*.ndjson",)), ledger=first.ledger)
    assert third.told.seen(LogLeft) == []
