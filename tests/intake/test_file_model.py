"""Whole files and after_sent against a model: whatever a writer does, no document is lost unread, none of what was read is
read again, and nothing outside the source is read, moved or deleted."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.intake.harness import files_of, listed, source
from tests.test_source_tree import exchange
from tunerd.call import Document
from tunerd.intake.after_sent import leftovers
from tunerd.intake.aside_names import aside_name
from tunerd.intake.due_queue import Due
from tunerd.intake.file_index import FileIndex
from tunerd.intake.inspection import FileInspection, Now
from tunerd.intake.looks import Batch, Compare, LeftOut, Recognized
from tunerd.intake.names import Names
from tunerd.intake.removal import Changed, Removal, Removed, Unfinished
from tunerd.ledger import FileMark
from tunerd.source_tree import SourceTree

NAMES = ["a.json", "day/a.json", "x" * 250 + ".json"]
names = st.sampled_from(NAMES)
there = st.integers(0, 3)
"""One of the files that are there."""


class Files(RuleBasedStateMachine):
    """A writer with a few names, in a directory and in one below it, and a reader that may restart at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.root, self.outside = self.place / "calls", self.place / "outside"
        self.number = 0
        self.read: set[str] = set()
        """What was read, as text."""
        self.marks: dict[str, FileMark] = {}
        """What is durable: path -> mark, also of files that vanished."""
        self.writers: dict[Path, IO[str]] = {}
        self.moves = False

    @initialize(moves=st.booleans())
    def begin(self, moves: bool) -> None:
        (self.root / "day").mkdir(parents=True)
        self.outside.mkdir()
        for name in ("a.json", "b.json"):
            (self.outside / name).write_text('{"id": "outside"}')
        after_sent = {"after_sent": "move_to", "move_to": "done"} if moves else {"after_sent": "delete"}
        self.source = source(self.root, recursive=True, **after_sent)
        self.names = Names(self.source, "done" if moves else None)
        self.tree = SourceTree(str(self.root))
        self.removal = Removal(self.source, self.tree, lambda: time.time() + 7200)
        self.restart()
        for name in NAMES[:2]:
            self.renames_a_document_into_place(name)
        self.scans()

    def teardown(self) -> None:
        for writer in self.writers.values():
            writer.close()
        shutil.rmtree(self.place)

    def _text(self) -> str:
        self.number += 1
        return f'{{"id": "call-{self.number:04}"}}'

    def _files(self) -> dict[Path, str]:
        """What is there to be read, without any link."""
        found = {}
        for folder in (self.root, self.root / "day", self.root / "trap"):
            if not folder.is_symlink() and folder.is_dir():
                found |= {path: path.read_text() for path in folder.glob("*.json") if path.is_file() and not path.is_symlink()}
        return found

    def _below(self, name: str) -> Path | None:
        """The place of a name; None while its directory is a link to the outside."""
        path = self.root / name
        return None if path.parent.is_symlink() or path in self.writers else path

    def _one(self, number: int) -> Path | None:
        """A file that is there, and that nobody has open."""
        found = sorted(path for path in self._files() if path not in self.writers)
        return found[number % len(found)] if found else None

    # The writer.

    @rule(name=names)
    def renames_a_document_into_place(self, name: str) -> None:
        if (path := self._below(name)) is not None:
            hidden = path.with_name(".new")
            hidden.write_text(self._text())
            hidden.rename(path)

    @rule(number=there)
    def copies_one_over_it_with_its_times(self, number: int) -> None:
        """rsync -t, cp -p"""
        if (path := self._one(number)) is not None:
            at, hidden = path.stat(), path.with_name(".new")
            hidden.write_text(self._text())
            os.utime(hidden, ns=(at.st_atime_ns, at.st_mtime_ns))
            hidden.rename(path)

    @rule(number=there)
    def rewrites_it_and_sets_its_time_back(self, number: int) -> None:
        if (path := self._one(number)) is not None:
            at = path.stat()
            with path.open("r+") as file:
                file.write(self._text())
            os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))

    @rule(name=names)
    def opens_it_and_writes(self, name: str) -> None:
        if (path := self._below(name)) is not None and not path.is_symlink():
            writer = self.writers[path] = path.open("w")
            writer.write(self._text())
            writer.flush()

    @rule()
    def writes_on(self) -> None:
        for writer in self.writers.values():
            writer.seek(0)
            writer.write(self._text())
            writer.flush()

    @rule()
    def closes(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    @rule(number=there, other=names)
    def moves_or_exchanges(self, number: int, other: str) -> None:
        here, there = self._one(number), self._below(other)
        if here is not None and there is not None and here != there:
            exchange(here, there) if there.exists() else here.rename(there)

    @rule(number=there, other=names)
    def links(self, number: int, other: str) -> None:
        here, there = self._one(number), self._below(other)
        if here is not None and there is not None and not os.path.lexists(there):
            os.link(here, there)

    @rule(number=there)
    def deletes(self, number: int) -> None:
        if (path := self._one(number)) is not None:
            path.unlink()

    @rule()
    def changes_the_owner(self) -> None:
        for path in self._files():
            path.chmod(path.stat().st_mode ^ 0o040)

    @rule(is_copy=st.booleans())
    def restores_everything(self, is_copy: bool) -> None:
        """From a backup, with its times (cp -a), or as links to it (cp -al)."""
        if not self.writers:
            for path in self._files():
                backup = self.place / "backup.json"
                (shutil.copy2 if is_copy else os.link)(path, backup)
                path.unlink()
                (shutil.copy2 if is_copy else os.link)(backup, path)
                backup.unlink()

    @rule()
    def lets_the_directory_and_a_link_change_places(self) -> None:
        if not any(path.parent.name == "day" for path in self.writers):
            trap = self.root / "trap"
            if not trap.exists():
                trap.symlink_to(self.outside)
            exchange(self.root / "day", trap)

    @rule(name=names)
    def puts_a_link_to_the_outside(self, name: str) -> None:
        if (path := self._below(name)) is not None and not path.exists():
            path.symlink_to(self.outside / "a.json")

    @rule(name=names)
    def takes_the_link_away(self, name: str) -> None:
        if (path := self._below(name)) is not None and path.is_symlink():
            path.unlink()

    # The reader.

    @rule()
    def restart(self) -> None:
        self.index = FileIndex(str(self.root))
        self.index.load(list(self.marks.values()))

    @rule(name=names, is_closed=st.booleans())
    def is_told_of_a_file(self, name: str, is_closed: bool) -> None:
        self._inspect(name, is_closed)

    @rule()
    def scans(self) -> None:
        listing = listed(self.root, self.names, self.index.signatures, recursive=True, arm=lambda *_: None)
        for relative in listing.vanished:
            self.index.vanished(relative)
        for relative in listing.found:
            self._inspect(relative, False)

    def _inspect(self, relative: str, is_closed: bool) -> None:
        due = Due(relative, 0.0, 0.0, closed=is_closed)
        now = Now(time.time(), 1e6, final=True)
        files = files_of(self.source, tree=self.tree, names=self.names, index=self.index)
        inspection = FileInspection(self.source, files, due, now)
        try:
            look = inspection.look()
            if isinstance(look, Compare):
                look = inspection.compare(self.marks.get(self.index.absolute(relative)))
        finally:
            inspection.close()
        if isinstance(look, Recognized):
            self.marks[look.mark.path] = look.mark
            self.index.came_back(look.mark)
        if isinstance(look, Batch):
            self._admit(look)
        assert not isinstance(look, LeftOut)

    def _admit(self, batch: Batch) -> None:
        assert batch.mark is not None
        (document,) = batch.documents
        assert isinstance(document, Document)
        assert b"outside" not in document.raw
        before = self.marks.get(batch.mark.path)
        assert before is None or before.content != batch.mark.content, "it was read, and is read again"
        self.read.add(document.raw.decode())
        self.marks[batch.mark.path] = batch.mark
        self.index.remember(batch.mark)

    # after_sent: each call is sent as soon as it was read.

    @rule()
    def after_sent_takes_what_is_done(self) -> None:
        for mark in list(self.marks.values()):
            before = self._files()
            (ending,) = self.removal.remove([mark], ())
            path = Path(mark.path)
            gone = {text for path, text in before.items() if path not in self._files()}
            assert gone <= self.read
            assert len(gone) == isinstance(ending, Removed)
            if isinstance(ending, Removed):
                assert path not in self.writers
                self._forget(mark)
            elif isinstance(ending, Changed):
                self.index.forget(self.index.relative(mark.path))
            if path in self.writers and before.get(path) in self.read and not path.parent.is_symlink():
                assert isinstance(ending, Unfinished | Changed)

    def _forget(self, mark: FileMark) -> None:
        del self.marks[mark.path]
        self.index.disposed(self.index.relative(mark.path))

    @rule(number=there, is_replaced=st.booleans())
    def dies_while_after_sent_takes_one(self, number: int, is_replaced: bool) -> None:
        """Between its steps; the next process finds what is left. In the last instant it may have been replaced."""
        path = self._one(number)
        if path is None or str(path) not in self.marks or self._files()[path] not in self.read:
            return
        fd = os.open(path.parent, os.O_RDONLY)
        aside = path.with_name(aside_name(path.name, fd))
        os.close(fd)
        path.rename(aside)
        if is_replaced:
            aside.write_text(self._text())
        self.restart()
        self.tidies()

    def tidies(self) -> None:
        for aside in leftovers(self.tree, recursive=True):
            text = (self.root / aside).read_text()
            original = {m.path: m for m in self.marks.values() if Path(m.path).parent == (self.root / aside).parent}
            fd = os.open((self.root / aside).parent, os.O_RDONLY)
            mark = next((m for m in original.values() if aside_name(Path(m.path).name, fd) == Path(aside).name), None)
            os.close(fd)
            ending = self.removal.finish(aside, mark)
            if mark is not None and isinstance(ending, Removed):
                assert text in self.read
                self._forget(mark)

    # What is true.

    @invariant()
    def nothing_outside_is_touched(self) -> None:
        assert {path.name: path.read_text() for path in self.outside.iterdir()} == {
            "a.json": '{"id": "outside"}', "b.json": '{"id": "outside"}',
        }  # fmt: skip

    @invariant()
    def nothing_is_owed_after_a_scan(self) -> None:
        """By a copy of the reader that looks through everything once."""
        if not hasattr(self, "index"):
            return
        before = dict(self.marks), set(self.read)
        index = self.index
        self.restart()
        self.scans()
        owed = {text for path, text in self._files().items() if path.name != ".new"} - self.read
        assert not owed
        self.marks, self.read = before
        self.index = index


TestFiles = Files.TestCase
TestFiles.settings = settings(
    max_examples=int(os.environ.get("TUNERD_EXAMPLES", "15")), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
