"""after_sent decides when a file whose calls were all accepted is deleted or moved, how often that is tried, and what to report.

The ledger says which files are finished, removal.py does the work on one of them.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, assert_never

from tunerd.events import FileDisposed
from tunerd.intake.aside_names import ASIDE, is_original, original_of
from tunerd.intake.removal import Changed, Ending, Missing, NotRemoved, Removal, Removed, Unfinished
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.ledger import FileMark, LedgerUnavailable
from tunerd.source_tree import SourceTree

AT_ONCE: Final = 100
PAUSE_S: Final = 1.0
"""How often the ledger is asked while nothing is to be done."""
AGAIN_S: Final = 10.0
LONGEST_S: Final = 300.0
"""How soon a file is tried again that could not be deleted or moved, at first and at most; twice as late each time."""

LookAgain: TypeAlias = Callable[[str], None]
"""Called with a relative path: what stands there is not what was read, whatever its stat says."""


class AfterSent:
    """after_sent of one source, beside the reading: a hundred files at a time in a thread."""

    def __init__(self, runtime: SourceRuntime, files: SourceFiles, look_again: LookAgain) -> None:
        source = runtime.source
        self._name, self._recursive, self._tree, self._index = source.name, source.recursive, files.tree, files.index
        self._runtime, self._ledger, self._clock, self._look_again = runtime, runtime.ledger, runtime.clock, look_again
        self._removal = None if source.after_sent == "keep" else Removal(source, files.tree, runtime.clock.now)
        self._again: dict[str, tuple[float, float]] = {}
        """Of files that could not go: when to try again (monotonic), and how long that wait was."""
        self._told: set[str] = set()
        """Those whose failure was reported."""
        self._is_tidy = False
        self._is_once = False
        self.unfinished: dict[str, str] = {}
        """Path -> why `run_once` left it: its writer has it open, or may have."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, each file as soon as it is finished."""
        if self._removal is None:
            return
        while not stop.is_set():
            done = 0
            try:
                if not self._is_tidy:
                    self._is_tidy = await self._tidy(self._removal)
                waiting = self._waiting()
                done = await self._remove(self._removal, await self._ledger.disposable(self._name, AT_ONCE, leave=waiting))
            except LedgerUnavailable:
                pass
            if done == 0:
                await self._clock.wait(stop, PAUSE_S)

    async def run_once(self, stop: asyncio.Event) -> None:
        """Every file that is finished now, each tried once; `stop` cuts it short. What cannot be done now (the ledger
        cannot be written, the directory is gone, its writer has it open) is left to the next start."""
        tried: set[str] = set()
        self._is_once = True
        try:
            if self._removal is None or not await self._tidy(self._removal):
                return
            while not stop.is_set():
                marks = await self._ledger.disposable(self._name, AT_ONCE, to_the_end=True, leave=tried)
                if not marks:
                    return
                tried.update(mark.path for mark in marks)
                await self._remove(self._removal, marks)
        except LedgerUnavailable:
            pass

    def was_seen(self, relative: str, *, closed: bool) -> None:
        """A file was read anew, or its writer has closed it: what was put off because of either is tried now."""
        if self._removal is not None:
            self._index.note_closed(relative, closed=closed)
            self._again.pop(self._index.absolute(relative), None)

    async def _remove(self, removal: Removal, marks: Sequence[FileMark]) -> int:
        """Gives how many are out of the way."""
        if not marks:
            return 0
        try:
            endings = await self._runtime.in_thread(lambda: removal.remove(marks, self._index.closed))
        except OSError:  # the root is not there: the scan says so, and nothing known is dropped
            endings = [Missing()] * len(marks)
        return sum([await self._note(mark.path, ending) for mark, ending in zip(marks, endings, strict=True)])

    async def _note(self, path: str, ending: Ending) -> bool:
        """Whether it is out of the way."""
        match ending:
            case Removed(how):
                self._again.pop(path, None)
                self._told.discard(path)
                self._index.disposed(self._index.relative(path))
                await self._ledger.disposed(self._name, path, self._clock.now())
                self._runtime.emit(FileDisposed(source=self._name, path=path, how=how))
                return True
            case NotRemoved(why, is_aside):
                self._is_tidy = self._is_tidy and not is_aside
                if path not in self._told:
                    self._told.add(path)
                    self._runtime.emit(FileDisposed(source=self._name, path=path, how=f"failed: {why}"))
                self._put_off(path, LONGEST_S)
            case Unfinished(why, seconds):
                if self._is_once:
                    self.unfinished[path] = why
                self._put_off(path, LONGEST_S if seconds is None else min(LONGEST_S, seconds))
            case Changed():
                self._look_again(self._index.relative(path))
                self._put_off(path, LONGEST_S)
            case Missing():
                self._put_off(path, LONGEST_S)
            case _:
                assert_never(ending)
        return False

    def _put_off(self, path: str, longest_s: float) -> None:
        _, waited_s = self._again.get(path, (0.0, 0.0))
        wait_s = min(2 * waited_s or AGAIN_S, longest_s)
        self._again[path] = self._clock.monotonic() + wait_s, wait_s

    def _waiting(self) -> dict[str, tuple[float, float]]:
        """Those that are not tried now. One that the ledger does not offer any more is forgotten: it vanished, or changed."""
        now = self._clock.monotonic()
        over = [path for path, (due_at, _) in self._again.items() if due_at <= now]
        for path in over:
            if self._again[path][0] < now - 2 * LONGEST_S:
                del self._again[path]
                self._told.discard(path)
        return {path: again for path, again in self._again.items() if again[0] > now}

    # What a crash left.

    async def _tidy(self, removal: Removal) -> bool:
        """Finish, or take back, what a crash left half done. False: the directory cannot be read yet."""
        try:
            left = await self._runtime.in_thread(lambda: leftovers(self._tree, recursive=self._recursive))
        except OSError:
            return False
        for aside in left:
            mark = await self._mark_of(aside)
            ending = await self._runtime.in_thread(lambda a=aside, m=mark: removal.finish(a, m))  # type: ignore[misc]
            await self._note(mark.path if mark is not None else self._index.absolute(aside), ending)
        return True

    async def _mark_of(self, aside: str) -> FileMark | None:
        """The mark of the file that was set aside; of a very long name only the beginning stands there."""
        directory, name = os.path.split(aside)
        begins, is_whole = original_of(name)
        place = self._index.absolute(os.path.join(directory, begins))
        if is_whole:
            return await self._ledger.mark(self._name, place)
        for vanished in (False, True):
            after: str | None = place
            while after is not None:
                marks = await self._ledger.marks(self._name, after, vanished=vanished)
                for mark in marks:
                    if is_original(os.path.basename(mark.path), name) and os.path.dirname(mark.path) == os.path.dirname(place):
                        return mark
                after = marks[-1].path if marks and marks[-1].path.startswith(place) else None
        return None


def leftovers(tree: SourceTree, *, recursive: bool) -> list[str]:
    """Relative paths of files that were set aside and got no further. Raises OSError where the root cannot be read."""
    found: list[str] = []
    with tree.opened() as inside:
        pending = [""]
        while pending:
            directory = pending.pop()
            try:
                with inside.listed(directory) as entries:
                    for entry in entries:
                        relative = os.path.join(directory, entry.name)
                        if entry.name.startswith(ASIDE):
                            found.append(relative)
                        elif recursive and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                            pending.append(relative)
            except OSError:
                if not directory:
                    raise
    return found
