"""after_sent: deletes or moves a file whose every call is accepted, and only if it is as it was when it was read.

The ledger says which files are done with; nothing here decides that.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tunerd.config import Source
from tunerd.ledger import FileMark

AT_ONCE: Final = 100
PAUSE_S: Final = 1.0
"""How often the ledger is asked while nothing is to be done."""
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


def disposer(source: Source) -> Callable[[FileMark], Disposed | None] | None:
    """What to do with a file that is done with, for a worker thread; None for `after_sent: keep`. The function gives
    None where the file has changed since it was read: it is read again then."""
    root, target = os.path.abspath(source.path), target_directory(source)
    if source.after_sent == "delete":
        return lambda mark: _dispose(mark, None)
    if target is not None:
        return lambda mark: _dispose(mark, os.path.join(target, os.path.relpath(mark.path, root)))
    return None


def _dispose(mark: FileMark, target: str | None) -> Disposed | None:
    directory, name = os.path.split(mark.path)
    aside = os.path.join(directory, f"{_ASIDE}{name}"[:250])
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
        if not _is_as_read(aside, mark):
            _put_back(aside, mark.path)
            return None
        if target is None:
            os.unlink(aside)
            return Disposed(mark, "deleted")
        _move_without_overwriting(aside, target)
        return Disposed(mark, "moved")
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
