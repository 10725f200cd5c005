"""Paths to be looked at, and when: at most MOST of them, each once; beyond that only "scan now". No input or output.

A path rests here while its file settles and while JSON in it is not complete yet.
"""

import asyncio
import heapq
from dataclasses import dataclass
from typing import Final

MOST: Final = 10_000


@dataclass(slots=True)
class Due:
    """One path, relative to its root, and what is known of how it settles."""

    path: str
    at: float
    """Monotonic time of the next look."""
    seen_at: float
    """Unix seconds at which it was first seen as it is."""
    closed: bool = False
    """Closed after writing or moved into place: settled."""
    since: float | None = None
    """Monotonic time since which `signature` holds."""
    signature: int = 0
    moved_log: int = 0
    """Of a log that was moved away from its path: its number; `path` only tells it apart."""
    waits: int = 0
    """How often it could not be decided which log it is."""
    postponed: int = 0
    """How often in a row its beginning had to wait for another log, of which nothing more was read."""
    waited_at: int = -1
    """How far the logs that it waits for were read then."""
    waits_since: float = 0.0
    """Monotonic time since which nothing more was read of them."""
    read: bool = False
    """It was read in this state and found incomplete: not again before it changes or its time is over."""

    def wait_for(self, read_up_to: int, now: float) -> None:
        """Its beginning has to wait for other logs, which were read up to there."""
        has_changed = read_up_to != self.waited_at  # less of it: one of them is read to its end
        self.waited_at, self.waits_since = read_up_to, now if has_changed else self.waits_since
        self.postponed = 1 if has_changed else self.postponed + 1

    def waited_s(self, now: float) -> float:
        """How long in vain."""
        return now - self.waits_since if self.postponed else 0.0


def moved_key(log: int) -> str:
    """What tells a log that was moved away from its path apart, in place of a path."""
    return f"\0{log}"


class DueQueue:
    def __init__(self) -> None:
        self._paths: dict[str, Due] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._order = 0
        self._busy: dict[str, float] = {}
        """Path -> since when it has been seen."""
        self.changed = asyncio.Event()
        """Set whenever there may be something new to do."""
        self.scan_now = asyncio.Event()

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    @property
    def busy(self) -> bool:
        return bool(self._busy)

    def add(self, path: str, *, now: float, wall: float, closed: bool) -> None:
        """A change was seen: look at it now. What was known of its settling stays known."""
        due = self._paths.get(path)
        if due is None:
            if len(self._paths) >= MOST:
                self.scan_now.set()
                return
            due = self._paths[path] = Due(path, now, wall)
        due.at = min(due.at, now)
        due.closed = due.closed or closed
        self._push(due)

    def add_moved(self, log: int, *, now: float, wall: float) -> None:
        """The same of a log that is elsewhere than at its path."""
        key = moved_key(log)
        if (due := self._paths.get(key)) is None:
            due = self._paths[key] = Due(key, now, wall, moved_log=log)
        due.at = min(due.at, now)
        self._push(due)

    def put_back(self, due: Due) -> None:
        """To be visited again at `due.at`; a change that was seen meanwhile wins."""
        newer = self._paths.get(due.path)
        if newer is not None:
            newer.since, newer.signature, newer.read = due.since, due.signature, due.read and not newer.closed
            newer.seen_at = min(newer.seen_at, due.seen_at)
            newer.postponed, newer.waited_at, newer.waits_since = due.postponed, due.waited_at, due.waits_since
            return
        self._paths[due.path] = due
        self._push(due)

    def pop(self, now: float) -> Due | None:
        """The next path that is due and that no other worker has; call `done` when the look is over."""
        later: list[tuple[float, int, str]] = []
        taken: Due | None = None
        while self._heap and self._heap[0][0] <= now:
            at, order, path = heapq.heappop(self._heap)
            due = self._paths.get(path)
            if due is None or due.at != at:
                continue
            if path in self._busy:
                later.append((at, order, path))
                continue
            del self._paths[path]
            self._busy[path] = due.seen_at
            taken = due
            break
        for entry in later:
            heapq.heappush(self._heap, entry)
        return taken

    def done(self, path: str) -> None:
        self._busy.pop(path, None)
        if path in self._paths:
            self.changed.set()

    def unread_since(self) -> float | None:
        """Unix seconds at which the first of the files was seen that are not read yet."""
        return min((*(due.seen_at for due in self._paths.values()), *self._busy.values()), default=None)

    def unread_in_folders(self) -> dict[str, float]:
        """The same for each directory below the root."""
        found: dict[str, float] = {}
        for path, seen_at in (*((due.path, due.seen_at) for due in self._paths.values()), *self._busy.items()):
            folder = path.rpartition("/")[0]
            if folder:
                found[folder] = min(seen_at, found.get(folder, seen_at))
        return found

    def next_at(self) -> float | None:
        """When the next path is due that nobody has in hand."""
        while self._heap:
            at, _, path = self._heap[0]
            due = self._paths.get(path)
            if due is not None and due.at == at:
                if path in self._busy:
                    break
                return at
            heapq.heappop(self._heap)
        return min((due.at for due in self._paths.values() if due.path not in self._busy), default=None)

    def hurry(self, now: float) -> None:
        """Everything that waits is due now (the last scan)."""
        for due in self._paths.values():
            due.at = now
            self._push(due)

    def clear(self) -> None:
        self._paths.clear()
        self._heap.clear()

    def _push(self, due: Due) -> None:
        self._order += 1
        heapq.heappush(self._heap, (due.at, self._order, due.path))
        self.changed.set()
