"""The logs of one source that are kept open by a descriptor, all of them here because one lock guards them: they are read to
their end wherever they are moved, and known by their inode while they are open. Which log an unknown file is: log_identity.py.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from tunerd.intake.descriptors import DescriptorLimit
from tunerd.intake.known_logs import is_rotated_name
from tunerd.intake.opened import GZIP_MAGIC
from tunerd.ledger import FileMark
from tunerd.record import positional_record

UNLINKED_QUIET_S: Final = 5.0
"""A log without a name is closed when nothing was written to it for so long: it holds its disk."""
MOVED_S: Final = 600.0
"""A log that was moved out of the directory is read for so long."""
IDLE_S: Final = 86_400.0
"""A log that did not grow for so long is closed: an open one holds its mount. Scans still see it grow."""


@dataclass(slots=True, eq=False)
class FollowedLog:
    """One open log."""

    fd: int
    mark: FileMark
    """How far it was read. Its path is the last one that it had in the directory."""
    grew_at: float
    """Monotonic time at which something was read of it, or it was opened."""
    seen: tuple[int, int] = (0, 0)
    """Its size and mtime when it was last read to its end (what was not a complete line apart)."""
    left_at: float | None = None
    """Monotonic time at which it was no longer at its path."""
    is_last_look: bool = False
    """It is closed after the next look."""

    @property
    def is_at_home(self) -> bool:
        return self.left_at is None

    def stat(self) -> os.stat_result:
        return os.fstat(self.fd)

    def is_read(self) -> bool:
        """Whether nothing came since it was last read to its end."""
        at = self.stat()
        return (at.st_size, at.st_mtime_ns) == self.seen


@positional_record
class OpenLog:
    """An open log, as it was when it was asked for: another thread may have closed it since."""

    at: os.stat_result
    is_read: bool
    """Nothing came since it was last read to its end."""


@positional_record
class Left:
    """A log that is no longer read: where it was read to, and why it is not read on."""

    mark: FileMark
    why: str


@dataclass(slots=True)
class Polled:
    """What a look at all open logs found."""

    grown: list[str] = field(default_factory=list)
    """Absolute paths of logs at their path that changed."""
    moved: list[int] = field(default_factory=list)
    """Numbers of logs that are elsewhere and want a look."""
    left: list[Left] = field(default_factory=list)


class FollowedLogs:
    """May be used in any thread."""

    def __init__(self, limit: DescriptorLimit) -> None:
        self._limit = limit
        self._lock = threading.RLock()
        self._by_file: dict[tuple[int, int], FollowedLog] = {}
        self._by_number: dict[int, FollowedLog] = {}
        self.read_elsewhere = 0
        """How often something was read of logs that are not at their paths."""
        self._in_use: dict[tuple[int, int], str] = {}
        self._logs_in_use: set[int] = set()
        self._given_up: list[Left] = []

    def __len__(self) -> int:
        return len(self._by_number)

    @contextmanager
    def reading(self, at: os.stat_result, path: str) -> Iterator[bool]:
        """One reader for each file, whatever its names, and for the files of a directory that are named after one another: False
        while another one is at it. Until a log is durable nobody can know that another file is its copy, or comes after it."""
        key = at.st_dev, at.st_ino
        with self._lock:
            is_free = key not in self._in_use and not any(_are_generations(path, other) for other in self._in_use.values())
            if is_free:
                self._in_use[key] = path
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._in_use.pop(key, None)

    @contextmanager
    def reading_log(self, number: int) -> Iterator[bool]:
        """The same for each log, which may be found in two files at once: False while it is read in another one."""
        with self._lock:
            is_free = number not in self._logs_in_use
            if is_free:
                self._logs_in_use.add(number)
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._logs_in_use.discard(number)

    def of_file(self, at: os.stat_result) -> FollowedLog | None:
        """The open log that this file is: as long as our descriptor on it is open, nobody else gets its inode."""
        with self._lock:
            return self._by_file.get((at.st_dev, at.st_ino))

    def of_number(self, number: int) -> FollowedLog | None:
        with self._lock:
            return self._by_number.get(number)

    def state(self, number: int) -> OpenLog | None:
        """How an open log is now."""
        with self._lock:
            log = self._by_number.get(number)
            return OpenLog(log.stat(), log.is_read()) if log is not None else None

    def descriptor(self, number: int) -> int | None:
        """A descriptor of an open log for the caller, who closes it: the log's own one may be closed in another thread, and
        its number then is another file's."""
        with self._lock:
            log = self._by_number.get(number)
            return os.dup(log.fd) if log is not None else None

    def read(self, fd: int, mark: FileMark, *, now: float, seen: tuple[int, int] | None) -> None:
        """The file behind `fd` was read up to `mark`; `seen`: to its end, as it was then. A duplicate of `fd` stays open."""
        at = os.fstat(fd)
        key = at.st_dev, at.st_ino
        with self._lock:
            self.read_elsewhere += not mark.is_there
            known = self._by_file.get(key)
            if known is not None and known.mark.log != mark.log:
                self._drop(known)
                known = None
            other = self._by_number.get(mark.log)
            if other is not None and other is not known:  # a copy of it is read on instead
                self._drop(other)
            if known is not None:
                if mark.offset > known.mark.offset:
                    known.grew_at = now
                known.mark, known.left_at = mark, known.left_at if not mark.is_there else None
                known.seen = seen or known.seen
                return
            with suppress(OSError):  # no descriptor is left: it is found by its path and content
                log = FollowedLog(os.dup(fd), mark, now, seen or (0, 0))
                os.set_inheritable(log.fd, False)
                self._by_file[key] = self._by_number[mark.log] = log
                self._limit.opened(log, lambda: self._give_way(log))

    def unread_elsewhere(self, written_ns: int) -> int | None:
        """The number of a log that is not at its path, and of which something is unread. A log that had nothing in it so far,
        and was written to later than `written_ns`, is not given: in a source that gathers it waits for older logs itself."""
        for log in self._all():
            with self._lock:
                if self._by_number.get(log.mark.log) is not log or log.is_read():
                    continue
                at = log.stat()
                is_older = log.mark.offset > 0 or at.st_mtime_ns < written_ns
                if is_older and not _leads_to(log.mark.path, at):
                    return log.mark.log
        return None

    def leave_home(self, number: int, now: float) -> None:
        """Look at whether this log is still at its path."""
        with self._lock:
            log = self._by_number.get(number)
            if log is not None and log.left_at is None and not _leads_to(log.mark.path, log.stat()):
                log.left_at = now

    def adopt(self, marks: Sequence[FileMark], open_file: Callable[[str], int], now: float) -> None:
        """Open logs that are as they were read: after a start nothing would be known of them but their paths."""
        for mark in marks:
            try:
                fd = open_file(mark.path)
            except OSError:
                continue
            try:
                at = os.fstat(fd)
                is_same = (at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns) == (
                    *(mark.inode, mark.size, mark.mtime_ns, mark.ctime_ns),
                )
                is_plain = os.pread(fd, 2, 0) != GZIP_MAGIC
                if is_same and is_plain and self.of_number(mark.log) is None and self.of_file(at) is None:
                    self.read(fd, mark, now=now, seen=(at.st_size, at.st_mtime_ns))
            finally:
                os.close(fd)

    def _give_way(self, log: FollowedLog) -> None:
        with self._lock:
            if not log.is_at_home and self._by_number.get(log.mark.log) is log and not log.is_read():
                why = "it was moved or deleted, and too many logs are open; what is behind this was not read"
                self._given_up.append(Left(log.mark, why))
            self._drop(log)

    def drop(self, log: FollowedLog) -> None:
        with self._lock:
            self._drop(log)

    def _drop(self, log: FollowedLog) -> None:
        if self._by_number.get(log.mark.log) is not log:
            return
        del self._by_number[log.mark.log]
        for key in [key for key, one in self._by_file.items() if one is log]:
            del self._by_file[key]
        self._limit.closed(log)
        os.close(log.fd)

    def close(self) -> None:
        for log in self._all():
            self.drop(log)

    def _all(self) -> Sequence[FollowedLog]:
        with self._lock:
            return list(self._by_number.values())

    def poll(self, now: float) -> Polled:
        """Look at the size of every open log, and at whether it is still at its path. Closes those whose time is over."""
        polled = Polled()
        for log in self._all():
            with self._lock:
                if self._by_number.get(log.mark.log) is log:
                    self._poll(log, polled, now)
        with self._lock:
            polled.left += self._given_up
            self._given_up.clear()
        return polled

    def _poll(self, log: FollowedLog, polled: Polled, now: float) -> None:
        at = log.stat()
        is_home = _leads_to(log.mark.path, at)
        if is_home:
            log.left_at = None
        elif log.left_at is None:
            log.left_at = now
        is_read = (at.st_size, at.st_mtime_ns) == log.seen
        if is_home:
            if not is_read:
                polled.grown.append(log.mark.path)
            elif now - log.grew_at > IDLE_S:
                self._drop(log)
            return
        if not is_read and not log.is_last_look:
            log.grew_at = now  # its quiet begins anew
        left_s, quiet_s = now - (log.left_at or now), now - max(log.grew_at, log.left_at or now)
        is_unlinked = at.st_nlink == 0
        is_over = quiet_s >= UNLINKED_QUIET_S if is_unlinked else left_s >= MOVED_S
        is_pressed = is_unlinked and _free_bytes(log.fd) < self._limit.min_free_bytes
        if log.is_last_look and (at.st_dev, at.st_ino) not in self._in_use:
            polled.left += [left] if (left := self._left(log, at, is_pressed=is_pressed)) else []
            self._drop(log)
        elif is_over or is_pressed:
            log.is_last_look = True
            polled.moved.append(log.mark.log)
        elif not is_read:
            polled.moved.append(log.mark.log)

    def _left(self, log: FollowedLog, at: os.stat_result, *, is_pressed: bool) -> Left | None:
        """What to report of a log that is closed; nothing of one that was read to its end and is gone."""
        behind = at.st_size - log.mark.offset
        if at.st_nlink == 0:
            if behind <= 0:
                return None
            why = "its disk was nearly full" if is_pressed else "what is left is no complete line"
            return Left(log.mark, f"it was deleted, and {why}: {behind:,} bytes behind this were not read")
        where = ""
        with suppress(OSError):
            where = f" to {os.readlink(f'/proc/self/fd/{log.fd}')}"
        why = f"it was moved{where} and was read there for 10 minutes; what is written to it from now on is not read"
        return Left(log.mark, why)


def _are_generations(path: str, other: str) -> bool:
    is_beside = os.path.dirname(path) == os.path.dirname(other)
    return is_beside and path != other and (is_rotated_name(path, other) or is_rotated_name(other, path))


def _leads_to(path: str, at: os.stat_result) -> bool:
    try:
        there = os.stat(path)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (at.st_dev, at.st_ino)


def _free_bytes(fd: int) -> int:
    at = os.fstatvfs(fd)
    return at.f_bavail * at.f_frsize
