"""What one source has read already, kept small: a number for each file, a mark for each log. The ledger has the same
on disk; this copy spares a query for each name at each scan. No input or output here.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Final

from tunerd.intake.signature import differ_in_inode_only, is_unchanged, signature
from tunerd.ledger import FileMark

_RECENT: Final = 4_000
"""Files looked at last: compared with their stat at every scan, the others once an hour."""
GONE_KEPT: Final = 10_000
_MOVED: Final = 1_000
_LIES: Final = 20
"""Files in a row that only had another inode, after which a file system counts as one that makes up new ones."""


class FileIndex:
    def __init__(self, root: str, gone_kept: int = GONE_KEPT) -> None:
        self._root = root.rstrip("/") + "/"
        self.signatures: dict[str, int] = {}
        """Relative path -> signature of the file as it was read. Also what a scan compares with."""
        self.logs: dict[str, FileMark] = {}
        self._path_of: dict[int, str] = {}
        """Number of a log -> its relative path."""
        self._moved: OrderedDict[int, FileMark] = OrderedDict()
        """Logs whose path holds another one (rotation) or nothing, until they are found."""
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._gone_kept = gone_kept
        self.has_forgotten = False
        """More files vanished than are kept here; the ledger knows them all."""
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.devices: set[int] = set()
        """File systems that files were read from."""
        self._inode_lies = 0
        """Files in a row of which only the inode was another; negative: once it was not for nothing."""
        self.closed: set[str] = set()
        """Where `after_sent` takes files: those that were closed or moved into place (an event said so) as they were read."""
        self._lock = threading.RLock()
        """Threads ask how far a log was read while the event loop moves it from one path to another."""
        self.last_log = 0
        """The greatest number of a log so far."""
        self.refused_tails: dict[str, int] = {}
        """Logs whose unfinished last line stands as refused, with the signature it was refused at."""

    def load(self, marks: Sequence[FileMark]) -> None:
        for mark in marks:
            if mark.path.startswith(self._root):
                self.remember(mark, recent=False)

    def load_moved(self, marks: Sequence[FileMark]) -> None:
        """Logs that were at no path at the last look of the process before this one."""
        for mark in reversed(marks):
            if mark.path.startswith(self._root):
                self.moved_away(mark)

    def load_vanished(self, marks: Sequence[FileMark]) -> None:
        """Files that were gone at the last look of the process before this one: they may be back."""
        for mark in marks:
            if mark.path.startswith(self._root):
                self.remember(mark, recent=False)
                self.vanished(self.relative(mark.path))

    def relative(self, path: str) -> str:
        return path.removeprefix(self._root)

    def absolute(self, relative: str) -> str:
        return self._root + relative

    def remember(self, mark: FileMark, *, recent: bool = True) -> None:
        with self._lock:
            relative = self.relative(mark.path)
            self.signatures[relative] = signature(mark.size, mark.mtime_ns, mark.ctime_ns, mark.inode)
            self.devices.add(mark.device)
            self.numbered(mark.log)
            self.replaced(relative, by=mark.log)
            if not mark.whole:
                self._found(mark.log, relative)
                self.logs[relative], self._path_of[mark.log] = mark, relative
            if recent:
                self._used(relative)

    def _used(self, relative: str) -> None:
        self._recent[relative] = None
        self._recent.move_to_end(relative)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def forget(self, relative: str) -> None:
        """It is not what was read: it is read anew."""
        self.signatures.pop(relative, None)

    def next_log(self) -> int:
        """The number of a log that nobody knows. May be asked in any thread."""
        with self._lock:
            self.last_log += 1
            return self.last_log

    def leave_out(self, relative: str, sign: int, *, recent: bool = True) -> None:
        """A file that is not read on purpose, until it changes: it is old (ignore_older), or it is no log yet. `recent`: each
        scan compares it, since it may become one."""
        self.signatures[relative] = sign
        if recent:
            self._used(relative)

    def is_left_out(self, relative: str, sign: int) -> bool:
        """Whether a file is not read on purpose, as it is now. May be asked in any thread."""
        return self.signatures.get(relative) == sign and relative not in self.logs

    def numbered(self, log: int) -> None:
        """This number is taken."""
        if log > self.last_log:
            with self._lock:
                self.last_log = max(self.last_log, log)

    def replaced(self, relative: str, *, by: int) -> None:
        """The path holds the log of the number `by` (0: none) now; the one that it held is looked for under other names."""
        with self._lock:
            mark = self.logs.get(relative)
            if mark is not None and mark.log != by:
                del self.logs[relative]
                self._path_of.pop(mark.log, None)
                self.moved_away(mark)

    def read_elsewhere(self, mark: FileMark) -> None:
        """A log was read by its descriptor, at another place than its path."""
        relative = self.relative(mark.path)
        if (known := self.logs.get(relative)) is not None and known.log == mark.log:
            self.logs[relative] = mark
        else:
            self.moved_away(mark)

    def moved_away(self, mark: FileMark) -> None:
        """A log whose path holds another one, or nothing."""
        if mark.offset > 0:
            self._moved[mark.log] = mark
            while len(self._moved) > _MOVED:
                self._moved.popitem(last=False)

    def _found(self, log: int, relative: str) -> None:
        """The log is here; where it was, if elsewhere, is another one or none."""
        self._moved.pop(log, None)
        before = self._path_of.pop(log, None)
        if before is not None and before != relative and before in self.logs:
            del self.logs[before]
            self.signatures.pop(before, None)
            self._recent.pop(before, None)

    @property
    def inodes(self) -> frozenset[int]:
        """Of logs: by them a scan finds those that were renamed, whatever they are called now."""
        return frozenset(mark.inode for mark in [*self.logs.values(), *self._moved.values()])

    @property
    def log_paths(self) -> Sequence[str]:
        """Relative paths at which logs were, the one or other time."""
        return [*self.logs, *(self.relative(mark.path) for mark in self._moved.values())]

    def was_read_on(self, log: int, offset: int) -> bool:
        """Whether more of a log was read than up to this offset. May be asked in any thread."""
        with self._lock:
            path = self._path_of.get(log)
            mark = self.logs.get(path) if path is not None else self._moved.get(log)
            return mark is not None and mark.offset > offset

    def all_logs(self) -> Sequence[FileMark]:
        """As far as they were read, wherever they are, in the order in which they were discovered. May be asked in any thread."""
        found: dict[int, FileMark] = {}
        for mark in (*self.logs.copy().values(), *self._moved.copy().values()):  # one that was renamed just now stands in both
            if mark.log not in found or found[mark.log].offset <= mark.offset:
                found[mark.log] = mark
        return [found[number] for number in sorted(found)]

    def moved_logs(self) -> Sequence[FileMark]:
        """Those that are at none of the paths."""
        return list(self._moved.copy().values())

    def is_found(self, log: int) -> bool:
        """Whether a log is at one of the paths."""
        return log in self._path_of

    def vanished(self, relative: str) -> None:
        sign = self.signatures.pop(relative, None)
        if sign is not None:
            self._gone[relative] = sign
            while len(self._gone) > self._gone_kept:
                self._gone.popitem(last=False)
                self.has_forgotten = True
        self.replaced(relative, by=0)
        self._recent.pop(relative, None)
        self.closed.discard(relative)
        self.refused_tails.pop(relative, None)

    def note_closed(self, relative: str, *, closed: bool) -> None:
        """Whether its writer had closed the file when it was read. Not noted of a file that is not known (any more): the event of
        its deletion comes late, and nothing would take the note away again."""
        if closed and relative in self.signatures:
            self.closed.add(relative)
        else:
            self.closed.discard(relative)

    def disposed(self, relative: str) -> None:
        """after_sent took it: nothing of it comes back."""
        self.signatures.pop(relative, None)
        self._recent.pop(relative, None)
        self.closed.discard(relative)

    @property
    def trusts_inodes(self) -> bool:
        """False on a file system that gives a file another inode each time (some network mounts do): it says nothing there."""
        return self._inode_lies < _LIES

    def is_as_read(self, relative: str, sign: int) -> bool:
        """Whether the file at a path is as it was read, by its stat."""
        return is_unchanged(self.signatures.get(relative), sign, by_inode=self.trusts_inodes)

    def was_read(self, relative: str) -> bool:
        """Whether the ledger may know what stood at this path, as it was read."""
        return relative in self.signatures or relative in self._gone

    def compared(self, relative: str, sign: int, *, is_equal: bool) -> None:
        """Its stat is another than when it was read; whether its content is."""
        before = self.signatures.get(relative)
        if before is not None and differ_in_inode_only(before, sign):
            self._inode_lies = self._inode_lies + 1 if is_equal and self._inode_lies >= 0 else -1

    def came_back(self, mark: FileMark) -> None:
        """The file at this path is what was read, and it is known by this mark from now on."""
        self._gone.pop(self.relative(mark.path), None)
        self.remember(mark)

    @property
    def restat(self) -> Collection[str]:
        return self._recent.keys() | self.logs.keys() if len(self.logs) <= _RECENT else self._recent.keys()
