"""How many logs of all sources are kept open at once. What a source does with them is followed_logs.py's business."""

import resource
import threading
from collections.abc import Callable
from typing import Final, Protocol

MOST: Final = 64
_SHARE: Final = 8
"""Of the process's descriptors logs take at most the eighth part: uploads, files and the ledger need the others."""


class Open(Protocol):
    """A log that is kept open."""

    grew_at: float
    """Monotonic."""

    @property
    def is_at_home(self) -> bool:
        """Whether it can be found again without its descriptor."""
        ...


def most_open() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // _SHARE))


class DescriptorLimit:
    """Shared by all sources: where one log too many is opened, another one gives way. May be asked in any thread."""

    def __init__(self, most: int | None = None, min_free_bytes: int = 0) -> None:
        self.min_free_bytes = min_free_bytes
        """A log that was deleted is closed where its disk has less: an open one holds its room."""
        self._most = most_open() if most is None else most
        self._lock = threading.Lock()
        self._open: dict[Open, Callable[[], None]] = {}

    def opened(self, log: Open, give_way: Callable[[], None]) -> None:
        """`give_way` closes it. Logs that stand at their path go first, of those the one that grew longest ago."""
        with self._lock:
            over = len(self._open) + 1 - self._most
            least = sorted(self._open, key=lambda one: (not one.is_at_home, one.grew_at))[: max(0, over)]
            giving_way = [self._open.pop(one) for one in least]
            self._open[log] = give_way
        for close in giving_way:
            close()

    def closed(self, log: Open) -> None:
        with self._lock:
            self._open.pop(log, None)
