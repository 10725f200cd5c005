"""Where one generation of a log ends and the next begins, for calls that are gathered over both: which log a new one follows,
and which logs were cut off. The decision is succession.py's; this looks at the directory, for one source.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final, TypeAlias

from tunerd.call import RefusedDocument
from tunerd.intake.admission import Made
from tunerd.intake.file_index import FileIndex
from tunerd.intake.known_logs import KnownLogs, is_named_after, is_rotated_name
from tunerd.intake.looks import Batch
from tunerd.intake.signature import signature_of
from tunerd.intake.succession import Follows, NotYet, Seen, UnknownPredecessor, succession, was_at_home
from tunerd.ledger import FileMark

POSTPONED_S: Final = 0.1
PATIENCE_STEP_S: Final = 1.2
_POSTPONED: Final = 50
"""Steps (a minute; in a sweep: looks) that tunerd waits for the log before while nothing more is read of it. After a crash a
batch of 256 documents is admitted one by one, with its mark at the end: with 5 s calls went out without their beginning."""
_LISTINGS: Final = 5
LOST_S: Final = 10.0
"""How long a log may be nowhere to be found (it is being renamed, or compressed) before it counts as gone."""


Beginning: TypeAlias = Follows | UnknownPredecessor | None
"""None: it need not be known."""


class Begins(Enum):
    """The first document of a log."""

    EMPTY = auto()
    """There is none yet."""
    KEYED = auto()
    UNKNOWN = auto()
    """It has no key, cannot be read, or is not mapped yet."""


class Postponed(Exception):
    """Another log has to be read first."""

    def __init__(self, read_up_to: int = 0) -> None:
        super().__init__(read_up_to)
        self.read_up_to = read_up_to
        """As of succession.NotYet."""


def is_new_log(batch: Batch) -> bool:
    """Nothing was read of it before."""
    is_log = batch.mark is not None and batch.mark.log > 0
    return is_log and batch.first and (batch.continues is None or batch.continues.offset == 0)


def _home_of(batch: Batch, mark: FileMark) -> str:
    """The path at which the log was first seen: it may have been renamed before the first line was written."""
    before = batch.continues
    return before.home if before is not None and (before.log == mark.log or before.offset == 0) and before.home else mark.path


class Generations:
    """Of the logs of one source that gathers."""

    def __init__(self, index: FileIndex) -> None:
        self._index = index
        self._lost_since: dict[int, float] = {}
        self._reported: set[int] = set()

    def beginning(self, batch: Batch, mark: FileMark, begins: Begins, *, postponed: int) -> Beginning:
        """What stood before a new log. Lists its directory: for a thread. Raises Postponed, and OSError."""
        home, others = _home_of(batch, mark), [log for log in self._index.all_logs() if log.log != mark.log]
        truncated = self._truncated(mark, home, others)
        if begins is Begins.EMPTY:
            return truncated
        may_wait = postponed < _POSTPONED
        beside = self._beside(mark.path, home, may_wait=may_wait)
        # Its time is that of now, not of when it was opened: it may have been empty then, and its writer still in the one before.
        written_at = max([mark.mtime_ns, *(seen.mtime_ns for seen in beside if seen.inode == mark.inode)])
        found = succession(Seen(home, mark.inode, mark.size, written_at), beside, others, may_wait=may_wait)
        if isinstance(found, NotYet):
            raise Postponed(found.read_up_to)
        if truncated is not None:
            return truncated
        if begins is Begins.KEYED and not (isinstance(found, UnknownPredecessor) and found.is_gap):
            return None
        return found

    def _beside(self, path: str, home: str, *, may_wait: bool) -> Sequence[Seen]:
        """The files that may be of the same log. A directory that is listed while a rotation renames files in it may give one
        twice, or not at all: it is listed until two listings agree. Raises Postponed."""
        before = self._listed(path, home)
        for _ in range(_LISTINGS):
            found = self._listed(path, home)
            if found is not None and before is not None and found.keys() == before.keys():
                return list(found.values())
            before = found
        if may_wait:
            raise Postponed
        return list((before or {}).values())

    def _listed(self, path: str, home: str) -> dict[tuple[str, int], Seen] | None:
        """By path and inode; None: one was renamed meanwhile."""
        found: dict[tuple[str, int], Seen] = {}
        named, name = KnownLogs(paths=[home]), os.path.basename(home)
        with os.scandir(os.path.dirname(path)) as entries:
            for entry in entries:
                if not named.is_named(entry.name) and not KnownLogs(paths=[entry.name]).is_named(name):
                    continue
                try:
                    at = entry.stat(follow_symlinks=False)
                except OSError:
                    return None
                if stat.S_ISREG(at.st_mode):
                    is_left_out = self._index.is_left_out(self._index.relative(entry.path), signature_of(at))
                    found[(entry.path, at.st_ino)] = Seen(entry.path, at.st_ino, at.st_size, at.st_mtime_ns, is_left_out)
        return found

    def _truncated(self, mark: FileMark, home: str, others: Sequence[FileMark]) -> UnknownPredecessor | None:
        """A new log in the file of another one, which is not there any more: that one is cut off, and so are copies that were
        made of it. Or a new log that is such a copy: the file that it is named after was never renamed."""
        before = was_at_home(home, others)
        if before is not None and before.home_inode == mark.inode:
            copies = [log for log in others if log.log > before.log and log.home != home and is_rotated_name(home, log.home)]
            return UnknownPredecessor([before, *copies])
        earlier = [log for log in others if log.log < mark.log]  # of a copy the file may have been truncated, and read on, since
        for path in {log.home for log in earlier if is_named_after(log.home, home)}:
            last = was_at_home(path, earlier)
            with suppress(OSError):
                if last is not None and os.stat(path).st_ino == last.home_inode:
                    return UnknownPredecessor([mark])
        return None

    def lost(self, now: float, after_s: float) -> Sequence[FileMark]:
        """Logs that are nowhere to be found, and of which nobody knows whether there was more in them than was read. Each is
        given once, `after_s` from when it was first missed. `now`: monotonic."""
        gone = {mark.log: mark for mark in self._index.moved_logs() if mark.carry and _may_have_grown(mark)}
        for number in self._lost_since.keys() - gone.keys():
            del self._lost_since[number]
        for number in gone:
            self._lost_since.setdefault(number, now)
        return [
            mark for number, mark in gone.items() if now - self._lost_since[number] >= after_s and number not in self._reported
        ]

    def mark_reported(self, logs: Sequence[FileMark]) -> None:
        self._reported.update(log.log for log in logs)


def how_it_begins(made: Made) -> Begins:
    document, mapped = made
    if isinstance(document, RefusedDocument) or mapped.fragment is None:
        return Begins.UNKNOWN if mapped.recording is None else Begins.KEYED
    return Begins.KEYED if mapped.fragment.key else Begins.UNKNOWN


def _may_have_grown(mark: FileMark) -> bool:
    """A log that was renamed had been left by its writer; one that was read to its end after it had left its place, too."""
    return mark.size == 0 or (mark.is_there and mark.path == mark.home)
