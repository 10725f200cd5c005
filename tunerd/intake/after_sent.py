"""after_sent: deletes or moves a file whose every call is accepted, and only if it is as it was when it was read.

The ledger says which files are done with; nothing here decides that.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.events import Emit, FileDisposed
from tunerd.intake.file_index import FileIndex
from tunerd.intake.monitor import InThread
from tunerd.ledger import FileMark, LedgerUnavailable, Positions

AT_ONCE: Final = 100
PAUSE_S: Final = 1.0
"""How often the ledger is asked while nothing is to be done."""
AGAIN_S: Final = 10.0
LONGEST_S: Final = 300.0
"""How soon a file is tried again that could not be deleted or moved, at first and at most; twice as late each time."""
_ASIDE: Final = ".tunerd-done-"


@dataclass(frozen=True, slots=True)
class Disposed:
    mark: FileMark
    how: str
    """deleted | moved | gone | failed: ..."""

    @property
    def failed(self) -> bool:
        return self.how.startswith("failed")


def target_directory(source: Source) -> str | None:
    """Where `move_to` moves to, absolute."""
    if source.after_sent != "move_to" or source.move_to is None:
        return None
    return os.path.normpath(os.path.join(os.path.abspath(source.path), source.move_to))


def target_of(source: Source, path: str) -> str | None:
    """Where `move_to` moves this file to."""
    target = target_directory(source)
    return None if target is None else os.path.join(target, os.path.relpath(path, os.path.abspath(source.path)))


def disposer(source: Source) -> Callable[[FileMark], Disposed | None] | None:
    """What to do with a file that is done with, for a worker thread; None for `after_sent: keep`. The function gives
    None where the file has changed since it was read: it is read again then."""
    if source.after_sent == "keep":
        return None
    return lambda mark: _dispose(mark, target_of(source, mark.path))


class AfterSent:
    """after_sent of one source, beside the reading: a hundred files at a time in a thread."""

    def __init__(
        self, source: Source, ledger: Positions, index: FileIndex, clock: Clock, emit: Emit, in_thread: InThread
    ) -> None:
        self._source, self._ledger, self._index = source, ledger, index
        self._clock, self._emit, self._in_thread = clock, emit, in_thread
        self._act = disposer(source)
        self._again: dict[str, tuple[float, float]] = {}
        """Of files that could not be disposed of: when to try again (monotonic), and how long that wait was."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, each file as soon as it is done with."""
        if self._act is None:
            return
        is_tidy = False
        while not stop.is_set():
            done = 0
            try:
                if not is_tidy:
                    is_tidy = await self._tidy()
                marks = await self._ledger.disposable(self._source.name, AT_ONCE + len(self._again))
                done = await self._dispose([mark for mark in marks if self._is_due(mark)][:AT_ONCE])
            except LedgerUnavailable:
                pass
            if done == 0:
                await self._clock.wait(stop, PAUSE_S)

    async def run_once(self, stop: asyncio.Event) -> None:
        """Every file that is done with now, each tried once; `stop` cuts it short. What cannot be done now (the ledger
        cannot be written, the directory is gone) is left to the next start."""
        tried: set[str] = set()
        try:
            if self._act is None or not await self._tidy():
                return
            while not stop.is_set():
                marks = await self._ledger.disposable(self._source.name, AT_ONCE + len(tried), to_the_end=True)
                marks = [mark for mark in marks if mark.path not in tried]
                if not marks:
                    return
                tried.update(mark.path for mark in marks)
                await self._dispose(marks)
        except LedgerUnavailable:
            pass

    async def _dispose(self, marks: Sequence[FileMark]) -> int:
        """Gives how many are out of the way."""
        done, act = 0, self._act
        if act is not None and marks:
            endings = await self._in_thread(lambda: [act(mark) for mark in marks])
            for mark, disposed in zip(marks, endings, strict=True):
                if disposed is None:  # another file by now
                    self._again.pop(mark.path, None)
                else:
                    done += await self._note(disposed)
        return done

    def _is_due(self, mark: FileMark) -> bool:
        due_at, _ = self._again.get(mark.path, (0.0, 0.0))
        return self._clock.monotonic() >= due_at

    async def _note(self, disposed: Disposed) -> bool:
        path = disposed.mark.path
        is_told = False
        if disposed.failed:
            is_told = path in self._again
            _, waited_s = self._again.get(path, (0.0, 0.0))
            wait_s = min(2 * waited_s or AGAIN_S, LONGEST_S)
            self._again[path] = self._clock.monotonic() + wait_s, wait_s
        else:
            self._again.pop(path, None)
            self._index.disposed(self._index.relative(path))
            await self._ledger.disposed(self._source.name, path, self._clock.now())
        if disposed.how != "gone" and not is_told:
            self._emit(FileDisposed(source=self._source.name, path=path, how=disposed.how))
        return not disposed.failed

    async def _tidy(self) -> bool:
        """Finish, or take back, what a crash left half done. False: the directory cannot be read yet."""
        try:
            left = await self._in_thread(lambda: leftovers(self._source.path, recursive=self._source.recursive))
        except OSError:
            return False
        for aside in left:
            mark = await self._ledger.mark(self._source.name, _place_of(aside))
            target = target_of(self._source, _place_of(aside))
            if (disposed := await self._in_thread(lambda a=aside, m=mark, t=target: _finish(a, m, t))) is not None:  # type: ignore[misc]
                await self._note(disposed)
        return True


def leftovers(root: str, *, recursive: bool) -> list[str]:
    """Files that were renamed aside and got no further. Raises OSError where the root cannot be read."""
    os.stat(root)
    root, found = os.path.abspath(root), []
    for directory, directories, names in os.walk(root):
        found += [os.path.join(directory, name) for name in names if name.startswith(_ASIDE)]
        if not recursive:
            directories.clear()
    return found


def _aside_of(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, _ASIDE + name)


def _place_of(aside: str) -> str:
    directory, name = os.path.split(aside)
    return os.path.join(directory, name.removeprefix(_ASIDE))


def _finish(aside: str, mark: FileMark | None, target: str | None) -> Disposed | None:
    """It was done with when it was renamed: if it is still what was read, end what was begun; else put it back."""
    try:
        if mark is None or not _is_as_read(aside, mark):
            _put_back(aside, _place_of(aside))
            return None
        if os.path.lexists(mark.path) and os.path.samefile(aside, mark.path):  # it was being put back
            os.unlink(aside)
            return None
        if target is None:
            os.unlink(aside)
            return Disposed(mark, "deleted")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not _is_linked(aside, target):
            _move_without_overwriting(aside, target)
        else:
            os.unlink(aside)
        return Disposed(mark, "moved")
    except FileNotFoundError:
        return None
    except OSError as exc:
        if mark is None:
            return None
        with suppress(OSError):
            _put_back(aside, mark.path)
        return Disposed(mark, f"failed: {os.strerror(exc.errno or errno.EIO)}")


def _is_linked(aside: str, target: str) -> bool:
    """Whether the move got as far as the link."""
    if os.stat(aside).st_nlink < 2:
        return False
    directory, name = os.path.split(target)
    with os.scandir(directory) as entries:
        return any(
            (entry.name == name or entry.name.startswith(name + ".")) and os.path.samefile(aside, entry.path) for entry in entries
        )


def _dispose(mark: FileMark, target: str | None) -> Disposed | None:
    aside = _aside_of(mark.path)
    try:
        if not _is_as_read(mark.path, mark):
            return None
        if target is not None:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.stat(os.path.dirname(target)).st_dev != os.lstat(mark.path).st_dev:
                return Disposed(mark, "failed: move_to is on another file system than the source; choose a directory beside it")
        # Out of the way first, looked at again, and only then given up: between the look above and now a writer may
        # have renamed a new document into this place, and that one must not go.
        os.rename(mark.path, aside)
        try:
            if not _is_as_read(aside, mark):
                _put_back(aside, mark.path)
                return None
            if target is None:
                os.unlink(aside)
                return Disposed(mark, "deleted")
            _move_without_overwriting(aside, target)
            return Disposed(mark, "moved")
        except OSError:
            _put_back(aside, mark.path)  # under its name it is seen, and tried again
            raise
    except FileNotFoundError:
        return Disposed(mark, "gone")
    except OSError as exc:
        return Disposed(mark, f"failed: {os.strerror(exc.errno or errno.EIO)}")


def _is_as_read(path: str, mark: FileMark) -> bool:
    at = os.lstat(path)
    return (at.st_size, at.st_mtime_ns) == (mark.size, mark.mtime_ns)


def _put_back(aside: str, path: str) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        # A still newer one is there already; this one gets a name beside it, under which it is read too.
        stem, dot, rest = os.path.basename(path).partition(".")
        os.rename(aside, os.path.join(os.path.dirname(path), f"{stem}-{os.stat(aside).st_mtime_ns}{dot}{rest}"))
        return
    os.unlink(aside)


def _move_without_overwriting(aside: str, target: str) -> None:
    for attempt in range(1000):
        place = target if attempt == 0 else f"{target}.{attempt}"
        try:
            os.link(aside, place)
        except FileExistsError:
            continue
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            if os.path.lexists(place):  # no hard links on this file system: the next best
                continue
            os.rename(aside, place)
            return
        os.unlink(aside)
        return
    raise FileExistsError(errno.EEXIST, "1,000 files of this name are there already")
