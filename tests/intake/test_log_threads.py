"""Logs that several threads look at: what one of them asks is not overtaken by another."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.intake.harness import files_of, map_call, source
from tunerd.call import Document
from tunerd.clock import SystemClock
from tunerd.config import Source
from tunerd.events import CallAdmitted
from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.due_queue import Due, moved_key
from tunerd.intake.file_index import FileIndex
from tunerd.intake.followed_logs import FollowedLogs
from tunerd.intake.inspection import FileInspection, Now
from tunerd.intake.log_identity import LookUp
from tunerd.intake.looks import Batch, Later, Unchanged
from tunerd.intake.sources import Intake
from tunerd.ledger import FileMark
from tunerd.testing import MemoryLedger, Recorder


@dataclass
class Reader:
    """Inspects logs of one source, and knows what they held."""

    source: Source
    index: FileIndex = field(init=False)
    followed: FollowedLogs = field(init=False)

    def __post_init__(self) -> None:
        self.index, self.followed = FileIndex(self.source.path), FollowedLogs(DescriptorLimit())

    def inspection(self, name: str, *, moved_log: int = 0) -> FileInspection:
        due, now = Due(name, 0.0, 0.0, moved_log=moved_log), Now(0.0, 1e6, final=True)
        return FileInspection(self.source, files_of(self.source, index=self.index, followed=self.followed), due, now)

    def read(self, name: str) -> FileMark:
        """As a worker does: what was read is known to all before the log is free."""
        inspection = self.inspection(name)
        look = inspection.look()
        if isinstance(look, LookUp):
            look = inspection.found([])
        assert isinstance(look, Batch)
        assert look.mark is not None
        assert inspection.log_fd is not None
        self.index.remember(look.mark)
        self.followed.read(inspection.log_fd, look.mark, now=0.0, seen=inspection.seen)
        inspection.close()
        return look.mark


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(source(tmp_path, include=("*.ndjson",)))
    yield reader
    reader.followed.close()


def append(path: Path, one: str) -> None:
    with path.open("a") as file:
        file.write(f'{{"id": "{one}"}}\n')


def test_a_copy_is_not_read_from_where_its_log_was_before(reader: Reader, tmp_path: Path) -> None:
    """The log is read on while the ledger is asked which one the copy is: it is asked again, and no line is read twice."""
    log = tmp_path / "calls.ndjson"
    append(log, "one")
    before = reader.read("calls.ndjson")
    append(log, "two")
    (tmp_path / "old").mkdir()
    shutil.copyfile(log, tmp_path / "old" / "calls.ndjson.1")
    copy = reader.inspection("old/calls.ndjson.1")
    assert isinstance(copy.look(), LookUp)
    after = reader.read("calls.ndjson")
    assert isinstance(copy.found([before]), Later)
    copy.close()
    copy = reader.inspection("old/calls.ndjson.1")
    assert isinstance(copy.look(), LookUp)
    look = copy.found([after])
    assert isinstance(look, Batch)
    assert [one.raw for one in look.documents if isinstance(one, Document)] == []
    copy.close()


def test_a_copy_beside_its_log_waits_until_the_log_is_durable(reader: Reader, tmp_path: Path) -> None:
    """Nothing is known of the log before that, so the copy would be read as a log of its own."""
    append(tmp_path / "calls.ndjson", "one")
    shutil.copyfile(tmp_path / "calls.ndjson", tmp_path / "calls.ndjson.1")
    append(tmp_path / "other.ndjson", "other")
    log = reader.inspection("calls.ndjson")
    assert isinstance(log.look(), LookUp)
    assert isinstance(reader.inspection("calls.ndjson.1").look(), Later)
    reader.read("other.ndjson")  # nobody waits for a log of another name
    log.close()
    mark = reader.read("calls.ndjson")
    copy = reader.inspection("calls.ndjson.1")
    assert isinstance(copy.look(), LookUp)
    look = copy.found([mark])
    assert isinstance(look, Batch)
    assert look.documents == []
    copy.close()


def test_a_log_that_was_closed_meanwhile_is_not_another_file(reader: Reader, tmp_path: Path) -> None:
    """A log's descriptor is closed, and its number is that of a directory, before a worker gets to read the log by it."""
    log = tmp_path / "calls.ndjson"
    append(log, "one")
    mark = reader.read("calls.ndjson")
    log.rename(tmp_path / "elsewhere")
    inspection = reader.inspection(moved_key(mark.log), moved_log=mark.log)
    known = reader.followed.of_number(mark.log)
    assert known is not None
    reader.followed.drop(known)
    directories = [os.open(tmp_path, os.O_RDONLY) for _ in range(8)]
    try:
        assert known.fd in directories
        assert isinstance(inspection.look(), Unchanged)
        assert reader.followed.state(mark.log) is None
    finally:
        inspection.close()
        for one in directories:
            os.close(one)


def test_how_far_a_log_was_read_is_known_while_it_changes_its_path(tmp_path: Path) -> None:
    """A thread asks while the event loop gives the log's path to another log, and finds it under a new one."""
    index, stop, answers = FileIndex(str(tmp_path)), threading.Event(), set[bool]()

    def mark(name: str, log: int) -> FileMark:
        return FileMark(
            source="agent", path=str(tmp_path / name), device=1, inode=log, size=9, mtime_ns=1, offset=9, whole=False, log=log
        )

    def ask() -> None:
        while not stop.is_set():
            answers.add(index.was_read_on(1, 5))

    index.remember(mark("calls.ndjson", 1))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3_000):
            index.remember(mark("calls.ndjson", 2))
            index.remember(mark("calls.ndjson.1", 1))
            index.vanished("calls.ndjson.1")
            index.remember(mark("calls.ndjson", 1))
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert answers == {True}


async def test_a_file_that_was_no_log_yet_is_compared_by_each_scan(tmp_path: Path) -> None:
    """A copy that a scan finds empty, and another name of a log that later is a log of its own, are read when they have lines."""
    ledger, told = MemoryLedger(), Recorder()
    chosen = source(tmp_path, include=("*.ndjson",), watch="poll")
    intake = Intake([chosen], ledger, {"agent": map_call}, SystemClock(), told)
    try:
        append(tmp_path / "calls.ndjson", "one")
        copies = [tmp_path / f"calls.ndjson{ending}" for ending in (".prev", "+1", ".saved-by-hand", "_2")]
        for copy in copies:
            copy.touch()
        other = tmp_path / "calls.ndjson.other"
        other.hardlink_to(tmp_path / "calls.ndjson")
        assert await intake.sweep() == 0
        for number, copy in enumerate(copies):
            append(copy, f"copy-{number}")
        other.unlink()
        append(other, "other")
        assert await intake.sweep() == 0
    finally:
        intake.close()
    assert sorted(event.call_id for event in told.seen(CallAdmitted)) == ["copy-0", "copy-1", "copy-2", "copy-3", "one", "other"]
