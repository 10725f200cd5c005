"""Which call the first documents of a new log belong to, when they have no key: the one that was carried at the end of the log
that it follows. Only if nothing can have been between the two; else no call is known for them, and that call may continue
elsewhere.

Values only: generations.py lists the directory and waits.
"""

from collections.abc import Sequence

from tunerd.intake.known_logs import is_rotated_name
from tunerd.ledger import FileMark
from tunerd.record import positional_record


@positional_record
class Seen:
    """A file of the directory."""

    path: str
    inode: int
    size: int
    mtime_ns: int
    is_left_out: bool = False
    """It is not read as it is: it is no log."""


@positional_record
class Follows:
    """The log continues where this one ended."""

    log: FileMark


@positional_record
class UnknownPredecessor:
    """What was written before this log is not known. The calls at the ends of `torn` logs may continue in it."""

    torn: Sequence[FileMark] = ()
    is_gap: bool = False
    """There may have been another log between that nobody read: the log before is gone, or there is a file that was not read."""


@positional_record
class NotYet:
    """Another log has to be read to its end first."""

    read_up_to: int = 0
    """How many bytes were read of the logs that are waited for: while this changes it is worth waiting."""


def succession(
    new: Seen, listing: Sequence[Seen], marks: Sequence[FileMark], *, may_wait: bool
) -> Follows | UnknownPredecessor | NotYet:
    """`listing`: the files beside it, listed when there was something in it already: then its writer had left the log before
    it. `marks`: of all logs of the source that are known, wherever they are; without its own.

    The log before it is the one that was last written to before it. It is surely that one if it was at this path once, if no
    later one was, if it is still there, and if it was read to its end. A log that came and went between two looks at the path
    is still there, too, under a name like theirs: rotations remove the oldest."""
    beside = [seen for seen in listing if seen.inode != new.inode and seen.size > 0 and _is_of_one_log(seen.path, new.path)]
    older = [seen for seen in beside if seen.mtime_ns <= new.mtime_ns]
    read = _marks_by_inode(beside, marks)
    at_home = was_at_home(new.path, marks)
    since = 0 if at_home is None else at_home.mtime_ns  # what was written before the last one is not between
    unread = [seen for seen in older if seen.mtime_ns >= since and not _is_read(seen, read.get(seen.inode))]
    is_unread = bool(unread)
    if may_wait and not all(seen.is_left_out for seen in unread):
        return NotYet(sum(mark.offset for seen in unread if (mark := read.get(seen.inode)) is not None))
    if at_home is not None and at_home.home_inode == new.inode:
        return UnknownPredecessor([at_home])  # it was truncated
    last_at = max((seen.mtime_ns for seen in older), default=0)
    last = [(seen, read.get(seen.inode)) for seen in older if seen.mtime_ns == last_at]
    # An earlier log in the same tick of the clock, or beside one that is gone, had its successor.
    after = 0 if at_home is None else at_home.log
    last = [(seen, mark) for seen, mark in last if mark is None or mark.log >= after or not _is_read(seen, mark)]
    if at_home is not None and [mark for _, mark in last] == [at_home] and _is_read(last[0][0], at_home):
        return Follows(at_home)
    torn = sorted({mark.log: mark for _, mark in last if mark is not None and mark.log >= after}.items())
    is_gone = at_home is not None and at_home.inode not in {seen.inode for seen in older}
    return UnknownPredecessor([mark for _, mark in torn] or ([at_home] if at_home is not None else []), is_unread or is_gone)


def _marks_by_inode(listing: Sequence[Seen], marks: Sequence[FileMark]) -> dict[int, FileMark]:
    """The mark of each file. Of a log that is gone another one may have got the inode: the mark that fits is the file's, else the
    newest one."""
    sizes = {seen.inode: seen for seen in listing}
    found: dict[int, FileMark] = {}
    for mark in sorted(marks, key=lambda mark: mark.log):
        if (seen := sizes.get(mark.inode)) is not None and not _is_read(seen, found.get(mark.inode)):
            found[mark.inode] = mark
    return found


def was_at_home(path: str, marks: Sequence[FileMark]) -> FileMark | None:
    """The last log that was first read at this path, and had something in it."""
    return max((mark for mark in marks if mark.home == path and mark.offset > 0), key=lambda mark: mark.log, default=None)


def _is_read(seen: Seen, mark: FileMark | None) -> bool:
    """To its end, as it is now; a mark has no size while something stands behind it."""
    return mark is not None and (seen.size, seen.mtime_ns) == (mark.size, mark.mtime_ns)


def _is_of_one_log(path: str, other: str) -> bool:
    return is_rotated_name(other, path) or is_rotated_name(path, other)
