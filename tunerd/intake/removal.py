"""Deletes or moves one file after all its calls were sent, all of it here because a step that fails undoes the ones before it:
only a file that is what was read goes, and only if nobody writes to it any more.

All of it by descriptors below the source's root (source_tree.py). after_sent.py decides which files go, when one is tried again,
and what is reported. Synchronous, for a worker thread.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Literal, TypeAlias

from tunerd.config import Source
from tunerd.intake.aside_names import aside_name, fitted
from tunerd.intake.content import content_hash
from tunerd.ledger import FileMark
from tunerd.record import positional_record
from tunerd.source_tree import LeavesSource, OpenTree, SourceTree
from tunerd.writers import QUIET_S, Writers, has_writer

_MOST_OF_A_NAME: Final = 1000
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_REPLACE: Final = 1
_ALL_TAKEN: Final = "1,000 files of this name are in move_to already"
_OTHER_FILE_SYSTEM: Final = "move_to is on another file system than the source; choose a directory beside it"


@positional_record
class Removed:
    how: Literal["deleted", "moved"]


@positional_record
class Changed:
    """It is not what was read. It stands under its name (or beside it, where a newer one does), and has to be read."""


@positional_record
class Unfinished:
    """Its writer has it open, or may have."""

    why: str
    seconds: float | None = None
    """After which that is over, where it is known."""


@positional_record
class Missing:
    """Not there now, or no regular file: whoever scans the directory finds out why."""


@positional_record
class NotRemoved:
    why: str
    is_aside: bool = False
    """It could not even be put back under its name."""


Ending: TypeAlias = Removed | Changed | Unfinished | Missing | NotRemoved


def target_directory(source: Source) -> str | None:
    """Where `move_to` moves to, absolute."""
    if source.after_sent != "move_to" or source.move_to is None:
        return None
    return os.path.normpath(os.path.join(os.path.abspath(source.path), source.move_to))


class Removal:
    """Of one source whose `after_sent` is not `keep`."""

    def __init__(self, source: Source, tree: SourceTree, now: Callable[[], float]) -> None:
        self._tree, self._now = tree, now
        self._target = target_directory(source)
        self._target_tree: SourceTree | None = None
        self._inside: str | None = None
        """`move_to` relative to the root, where it lies in it."""
        if self._target is not None:
            inside = os.path.relpath(self._target, tree.root)
            if inside == ".." or inside.startswith("../"):
                self._target_tree = SourceTree(self._target)
            else:
                self._inside = "" if inside == "." else inside

    def remove(self, marks: Sequence[FileMark], closed: Collection[str]) -> list[Ending]:
        """One after the other; `closed`: paths relative to the root that were closed or moved into place (an event said
        so) as they were read. Raises OSError where the root cannot be opened."""
        writers = Writers()
        with self._tree.opened() as inside:
            return [self._one(inside, mark, writers, closed) for mark in marks]

    def finish(self, aside: str, mark: FileMark | None) -> Ending:
        """End, or take back, what a crash left half done. `aside`: the relative path of a file that was set aside;
        `mark`: of the file that it was (`original`), if the ledger knows it."""
        directory, name = os.path.split(aside)
        with self._tree.opened() as inside:
            try:
                with inside.folder(directory) as folder, _opened(name, folder) as fd:
                    if mark is None:
                        return NotRemoved("its name is not known any more, and its calls were sent: delete or move it yourself")
                    original = os.path.basename(mark.path)
                    if _is_same(folder, original, fd):  # it was being put back
                        os.unlink(name, dir_fd=folder)
                        return Missing()
                    if not _is_as_read(fd, mark) or _exists(folder, original):
                        _put_back(name, original, folder)
                        return Changed()
                    try:
                        return self._end(inside, folder, name, original, directory)
                    except OSError as exc:
                        return _put_back_after(exc, name, original, folder)
            except (FileNotFoundError, NotADirectoryError):
                return Missing()
            except OSError as exc:
                return NotRemoved(_words(exc))

    def _one(self, inside: OpenTree, mark: FileMark, writers: Writers, closed: Collection[str]) -> Ending:
        relative = os.path.relpath(mark.path, self._tree.root)
        directory, name = os.path.split(relative)
        try:
            with inside.folder(directory) as folder, _opened(name, folder) as fd:
                unfinished = self._unfinished(fd, mark.path, writers, is_closed=relative in closed)
                if unfinished is not None:
                    return unfinished
                return self._take(inside, folder, directory, name, fd) if _is_as_read(fd, mark) else Changed()
        except (FileNotFoundError, NotADirectoryError):
            return Missing()
        except OSError as exc:
            return NotRemoved(_words(exc))

    def _unfinished(self, fd: int, path: str, writers: Writers, *, is_closed: bool) -> Unfinished | None:
        is_open = writers.has_writer(fd, path)
        if is_open:
            return Unfinished("its writer has it open")
        left_s = os.fstat(fd).st_ctime + QUIET_S - self._now()
        if is_open is None and not is_closed and left_s > 0:
            why = "whether its writer still has it open cannot be known here; it is left until an hour after its last change"
            return Unfinished(why, left_s)
        return None

    def _take(self, inside: OpenTree, folder: int, directory: str, name: str, fd: int) -> Ending:
        """Out of its writers' reach first, looked at again, and only then given up: since the look before a writer may have
        opened it, or renamed a new document into its place, and that one must not go."""
        before, aside = os.fstat(fd), aside_name(name, folder)
        if self._target is not None:
            with self._target_opened(inside, directory) as target:
                if os.fstat(target).st_dev != before.st_dev:
                    return NotRemoved(_OTHER_FILE_SYSTEM)
                if all(_exists(target, place) for place in _places(name, target)):
                    return NotRemoved(_ALL_TAKEN)
        try:
            _rename(name, folder, aside, folder)
        except FileExistsError:  # left by somebody
            _put_back(aside, name, folder)
            return NotRemoved(f"{aside} was in the way, and is put back beside it")
        try:
            after = os.fstat(fd)
            is_same = _is_same(folder, aside, fd) and (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
            if is_same and not has_writer(fd):
                return self._end(inside, folder, aside, name, directory)
            _put_back(aside, name, folder)
            return Unfinished("its writer opened it again") if is_same else Changed()
        except OSError as exc:  # under its name it is seen, and tried again
            return _put_back_after(exc, aside, name, folder)

    def _end(self, inside: OpenTree, folder: int, aside: str, name: str, directory: str) -> Removed:
        if self._target is None:
            os.unlink(aside, dir_fd=folder)
            return Removed("deleted")
        with self._target_opened(inside, directory) as target:
            for place in _places(name, target):
                if _is_linked(aside, folder, place, target):  # as far as a crash let it get, without renameat2
                    os.unlink(aside, dir_fd=folder)
                    return Removed("moved")
                with suppress(FileExistsError):
                    _rename(aside, folder, place, target)
                    return Removed("moved")
        raise FileExistsError(errno.EEXIST, _ALL_TAKEN)

    @contextmanager
    def _target_opened(self, inside: OpenTree, directory: str) -> Iterator[int]:
        """The directory to move to; made if it is missing. The configured one may be a link where it lies outside."""
        try:
            if self._target_tree is None:
                with inside.folder(os.path.join(self._inside or "", directory), make=True) as folder:
                    yield folder
                return
            os.makedirs(self._target_tree.root, exist_ok=True)
            with self._target_tree.opened() as outside, outside.folder(directory, make=True) as folder:
                yield folder
        except (NotADirectoryError, LeavesSource) as exc:
            what = "move_to is no directory, or leads through a symbolic link; name the directory that it leads to"
            raise OSError(errno.EPERM, what) from exc


def _places(name: str, target: int) -> Iterator[str]:
    """The names that a file may take where it is moved to."""
    yield name
    for number in range(1, _MOST_OF_A_NAME):
        yield fitted(name, f".{number}", target)


# Steps.


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    """A regular file. Raises FileNotFoundError for all that is none."""
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise FileNotFoundError(name)
    try:
        fd = os.open(name, _OPEN, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(name) from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(name)
        yield fd
    finally:
        os.close(fd)


def _is_as_read(fd: int, mark: FileMark) -> bool:
    """Its content decides, and that nobody wrote while it was looked at; where the content was not kept, its stat."""
    before = os.fstat(fd)
    if before.st_size != mark.size:
        return False
    if not mark.content:
        return (before.st_mtime_ns, before.st_ctime_ns, before.st_ino) == (mark.mtime_ns, mark.ctime_ns, mark.inode)
    is_equal = content_hash(fd) == mark.content
    after = os.fstat(fd)
    return is_equal and (after.st_size, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def _is_same(folder: int, name: str, fd: int) -> bool:
    try:
        at, own = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (at.st_dev, at.st_ino) == (own.st_dev, own.st_ino)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_linked(aside: str, folder: int, place: str, target: int) -> bool:
    at = os.stat(aside, dir_fd=folder, follow_symlinks=False)
    if at.st_nlink < 2 or not _exists(target, place):
        return False
    there = os.stat(place, dir_fd=target, follow_symlinks=False)
    return (at.st_dev, at.st_ino) == (there.st_dev, there.st_ino)


def _put_back(aside: str, name: str, folder: int) -> None:
    """Under its own name; where a newer one is there already, under one beside it, where it is read too."""
    written = os.stat(aside, dir_fd=folder, follow_symlinks=False).st_mtime_ns
    stem, dot, rest = name.partition(".")
    for number in range(_MOST_OF_A_NAME):
        place = name
        if number:
            place = fitted(stem, f"-{written + number - 1}{dot}{rest}", folder)
        with suppress(FileExistsError):
            _rename(aside, folder, place, folder)
            return


def _put_back_after(exc: OSError, aside: str, name: str, folder: int) -> NotRemoved:
    try:
        _put_back(aside, name, folder)
    except OSError:
        return NotRemoved(_words(exc), is_aside=True)
    return NotRemoved(_words(exc))


_rename_at: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _rename(name: str, folder: int, new: str, new_folder: int) -> None:
    """Never over another file: FileExistsError."""
    if _rename_at is not None:
        if _rename_at(folder, os.fsencode(name), new_folder, os.fsencode(new), _NO_REPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS):  # not on this file system, not in this kernel
            raise OSError(code, os.strerror(code), name)
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=new_folder, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if _exists(new_folder, new):  # no hard links there: the next best
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from exc
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=new_folder)
        return
    os.unlink(name, dir_fd=folder)


def _words(exc: OSError) -> str:
    if exc.errno == errno.EXDEV and not isinstance(exc, LeavesSource):
        return _OTHER_FILE_SYSTEM
    if exc.errno == errno.EPERM and exc.strerror and exc.strerror.startswith("move_to"):
        return exc.strerror
    return os.strerror(exc.errno or errno.EIO)
