"""The reader of logs against a model in memory: whatever happens to the files, nothing is lost, half-read or read twice."""

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.intake.harness import listed, source
from tunerd.call import Document
from tunerd.intake.due_queue import Due
from tunerd.intake.file_index import FileIndex
from tunerd.intake.inspection import Batch, Inspection, Large, Now
from tunerd.intake.scan import Names
from tunerd.intake.source_tree import SourceTree
from tunerd.ledger import FileMark


class Follower(RuleBasedStateMachine):
    """One writer with one log, rotated in every way there is, and a reader that may restart at any moment.

    The model holds what was written as complete lines and what is on disk at all; data that the reader never had a
    chance to see (truncated before a visit) is the only thing that may be missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.log = self.root / "calls.ndjson"
        self.source = source(self.root)
        self.names = Names(self.source)
        self.number = 0
        self.owed: set[str] = set()
        """Ids of complete lines that are on disk and were not read yet."""
        self.read: list[str] = []
        self.marks: dict[str, FileMark] = {}
        self.partial = b""
        self.time = 1000.0
        self.rotations = 0

    @initialize()
    def begin(self) -> None:
        self.log.touch()
        self._restarted()

    def _restarted(self) -> None:
        self.known = FileIndex(str(self.root), lambda name: self.names.log_name(name) or name)
        self.known.load(list(self.marks.values()))

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def _line(self, size: int) -> bytes:
        self.number += 1
        self.owed.add(f"c{self.number}")
        return json.dumps({"id": f"c{self.number}", "x": "é" * size}, ensure_ascii=False).encode()

    def _append(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    @rule(count=st.integers(1, 5), size=st.integers(0, 900))
    def write(self, count: int, size: int) -> None:
        """Whole lines, the first one ending what stood half-written."""
        data = self.partial[:0]
        if self.partial:
            self._append(self.partial + b"\n")
            self.partial = b""
        for _ in range(count):
            data += self._line(size) + b"\n"
        self._append(data)

    @rule(size=st.integers(0, 300), cut=st.integers(1, 600))
    @precondition(lambda self: not self.partial)
    def write_part(self, size: int, cut: int) -> None:
        """Half a line: the rest comes with the next write."""
        line = self._line(size)
        cut = min(cut, len(line) - 1)
        self._append(line[:cut])
        self.partial = line[cut:]

    @rule()
    @precondition(lambda self: self.partial)
    def finish_without_newline(self) -> None:
        """The line is complete JSON, but its newline is still to come."""
        self._append(self.partial)
        self.partial = b""
        self._visit_all(tail=True)
        self._append(b"\n")

    @rule()
    @precondition(lambda self: not self.partial)
    def rename_rotate(self) -> None:
        for number in range(9, 0, -1):
            older = self.root / f"calls.ndjson.{number}"
            if older.exists():
                older.rename(self.root / f"calls.ndjson.{number + 1}")
        self.log.rename(self.root / "calls.ndjson.1")
        self.log.touch()

    @rule()
    @precondition(lambda self: not self.partial)
    def copy_truncate(self) -> None:
        self.rotations += 1
        shutil.copyfile(self.log, self.root / f"calls.ndjson-{20260101 + self.rotations}")
        os.truncate(self.log, 0)

    @rule()
    @precondition(lambda self: not self.partial)
    def compress_rotated(self) -> None:
        for older in sorted(self.root.glob("calls.ndjson[.-]*[0-9]")):
            hidden = self.root / ".gz"
            hidden.write_bytes(gzip.compress(older.read_bytes()))
            self.rotations += 1  # a name of its own: to write over an older archive would be to lose it
            hidden.rename(self.root / f"calls.ndjson-{20260101 + self.rotations}.gz")
            older.unlink()

    @rule()
    @precondition(lambda self: not self.partial)
    def visit_then_truncate_and_regrow(self) -> None:
        """In place, past the old offset: the new lines are new, and all of them are read."""
        self._visit_all()
        size = self.log.stat().st_size
        os.truncate(self.log, 0)
        data = b""
        while len(data) <= size:
            data += self._line(400) + b"\n"
        self._append(data)

    @rule()
    @precondition(lambda self: not self.partial)
    def visit_then_truncate_under_a_writer_without_append(self) -> None:
        """It goes on at its old offset: a hole stands before the next line."""
        self._visit_all()
        size = self.log.stat().st_size
        os.truncate(self.log, 0)
        with self.log.open("r+b") as file:
            file.seek(size)
            file.write(self._line(100) + b"\n")

    @rule()
    @precondition(lambda self: not self.partial)
    def visit_then_delete_and_make_anew(self) -> None:
        """Mostly with the same inode."""
        self._visit_all()
        self.log.unlink()
        self.log.touch()

    @rule()
    def restart(self) -> None:
        """Only what the ledger has is left."""
        self._restarted()

    @rule()
    def visit(self) -> None:
        self._visit_all()

    @rule(after=st.integers(0, 3))
    def die_during_a_visit(self, after: int) -> None:
        """Some batches became durable, then the process ended."""
        self._visit_all(batches=after)
        self._restarted()

    def _visit_all(self, *, tail: bool = False, batches: int = 1_000_000) -> None:
        self.time += 100
        listing = listed(
            self.root, self.names, self.known.signatures, recursive=False, arm=lambda *_: None, restat=self.known.restat
        )
        for path in listing.vanished:
            self.known.vanished(path)
        for path in listing.found:
            due = Due(path, self.time, 0.0, closed=tail)
            batches = self._visit_one(due, batches)
            if batches <= 0:
                return

    def _visit_one(self, due: Due, batches: int) -> int:
        visit = Inspection(self.source, SourceTree(str(self.root)), self.names, due, Now(0.0, self.time, final=True), self.known)
        try:
            look = visit.look()
            while isinstance(look, Batch | Large):
                if isinstance(look, Batch):
                    if batches <= 0:
                        return 0
                    batches -= 1
                    self._admit(look)
                    if look.last:
                        break
                look = visit.more()
        finally:
            visit.close()
        return batches

    def _admit(self, batch: Batch) -> None:
        for document in batch.documents:
            assert isinstance(document, Document), document
            assert isinstance(document.value, dict)
            one = str(document.value["id"])
            assert one not in self.read, f"{one} was read twice"
            self.read.append(one)
            self.owed.discard(one)
        assert batch.mark is not None
        self.marks[batch.mark.path] = batch.mark
        relative = self.known.relative(batch.mark.path)
        if batch.first and (batch.continues is None or batch.continues.path != batch.mark.path):
            self.known.replaced(relative)
        self.known.remember(batch.mark)

    @invariant()
    def after_a_visit_nothing_is_owed(self) -> None:
        """Everything that is complete on disk is read by one more visit."""
        before = dict(self.marks), list(self.read)
        half = {f"c{self.number}"} if self.partial else set()
        known = self.known
        owed = set(self.owed)
        self._restarted()  # on a copy of what is durable
        self._visit_all()
        assert self.owed <= half, sorted(self.owed - half)
        self.marks, self.read = before
        self.owed, self.known = owed, known


TestFollower = Follower.TestCase
TestFollower.settings = settings(
    max_examples=40, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
