"""What one source has read already, kept small: a number for each file, a mark for each log. The ledger has the same
on disk; this copy spares a query for each name at each scan. No input or output here.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from tunerd.intake.scan import differ_in_inode_only, is_unchanged, signature
from tunerd.ledger import FileMark

_RECENT: Final = 4_000
"""Files read last: compared with their stat at every scan, the others once an hour."""
_GONE: Final = 10_000
_CANDIDATES: Final = 400
_FEW: Final = 200
_LIES: Final = 20
"""Files in a row that only had another inode, after which a file system counts as one that makes up new ones."""


K = TypeVar("K")


class FileIndex:
    def __init__(self, root: str, base_of: Callable[[str], str]) -> None:
        """`base_of` gives the name of the log that a rotated name belongs to (itself for any other name)."""
        self._root = root.rstrip("/") + "/"
        self._base_of = base_of
        self.signatures: dict[str, int] = {}
        """Relative path -> signature of the file as it was read. Also what a scan compares with."""
        self.logs: dict[str, FileMark] = {}
        self._by_inode: dict[tuple[int, int], set[str]] = {}
        self._by_base: dict[str, set[str]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self.has_forgotten = False
        """More files vanished than are kept here; the ledger knows them all."""
        self._lost_logs: OrderedDict[tuple[str, int], FileMark] = OrderedDict()
        """Logs whose path now holds another one (rotation) or nothing: still known by content."""
        self._recent: OrderedDict[str, None] = OrderedDict()
        self.devices: set[int] = set()
        """File systems that files were read from."""
        self._inode_lies = 0
        """Files in a row of which only the inode was another; negative: once it was not for nothing."""
        self.closed: set[str] = set()
        """Where `after_sent` takes files: those that were closed or moved into place (an event said so) as they were read."""
        self._numbering = threading.Lock()
        self.last_log = 0
        """The greatest number of a log so far."""
        self.refused_tails: dict[str, int] = {}
        """Logs whose unfinished last line stands as refused, with the signature it was refused at."""

    def load(self, marks: Sequence[FileMark]) -> None:
        for mark in marks:
            if mark.path.startswith(self._root):
                self.remember(mark, recent=False)

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
        relative = self.relative(mark.path)
        self.signatures[relative] = signature(mark.size, mark.mtime_ns, mark.ctime_ns, mark.inode)
        self.devices.add(mark.device)
        self._unlog(relative)
        if mark.log > self.last_log:
            with self._numbering:
                self.last_log = max(self.last_log, mark.log)
        if not mark.whole:
            self.logs[relative] = mark
            self._by_inode.setdefault((mark.device, mark.inode), set()).add(relative)
            self._by_base.setdefault(self._base_of(relative), set()).add(relative)
        if recent:
            self._recent[relative] = None
            self._recent.move_to_end(relative)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def forget(self, relative: str) -> None:
        """It is not what was read: it is read anew."""
        self.signatures.pop(relative, None)

    def next_log(self) -> int:
        """The number of a log that nobody knows. May be asked in any thread."""
        with self._numbering:
            self.last_log += 1
            return self.last_log

    def leave_out(self, relative: str, sign: int) -> None:
        """A file that is not read on purpose (ignore_older), until it changes."""
        self.signatures[relative] = sign

    def replaced(self, relative: str) -> None:
        """The path holds another log now; the one it held is looked for under other names."""
        if (mark := self.logs.get(relative)) is not None and mark.offset > 0:
            self._lost_logs[relative, mark.log] = mark
            while len(self._lost_logs) > 1_000:
                self._lost_logs.popitem(last=False)

    def vanished(self, relative: str) -> None:
        sign = self.signatures.pop(relative, None)
        if sign is not None:
            self._gone[relative] = sign
            while len(self._gone) > _GONE:
                self._gone.popitem(last=False)
                self.has_forgotten = True
        self.replaced(relative)
        self._unlog(relative)
        self._recent.pop(relative, None)
        self.closed.discard(relative)
        self.refused_tails.pop(relative, None)

    def _unlog(self, relative: str) -> None:
        mark = self.logs.pop(relative, None)
        if mark is None:
            return
        _take_out(self._by_inode, (mark.device, mark.inode), relative)
        _take_out(self._by_base, self._base_of(relative), relative)

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

    def candidates(self, relative: str, device: int, inode: int) -> list[FileMark]:
        """Which known logs this file may continue, likeliest first: its own path, its inode, other names of the same
        log, logs that were lost from their path. Where there are few logs, any of them. May run in another thread."""
        own = self.logs.get(relative)
        likely = [self.logs.get(name) for name in list(self._by_inode.get((device, inode), ()))]
        likely += [self.logs.get(name) for name in list(self._by_base.get(self._base_of(relative), ()))]
        others = list(self._lost_logs.values())
        if len(self.logs) <= _FEW:
            others += list(self.logs.values())
        # Of two logs that begin alike the longer one tells more.
        others.sort(key=lambda mark: -mark.offset)
        chosen = [mark for mark in [own, *likely, *others][:_CANDIDATES] if mark is not None]
        found = {(mark.path, mark.log): mark for mark in chosen}
        return list(found.values())


def _take_out(index: dict[K, set[str]], key: K, name: str) -> None:
    names = index.get(key, set())
    names.discard(name)
    if not names:
        index.pop(key, None)
