"""Under which names a log that is known may turn up again: by its inode, or named after it. Values only.

Patterns name the logs that are read; a rotated one may be called anything. It is read if it is one (log_identity.py).
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final

_SEPARATOR: Final = re.compile(r"[.\-_~@+]")


class KnownLogs:
    """The logs of a source as they are now."""

    def __init__(self, inodes: frozenset[int] = frozenset(), paths: Iterable[str] = ()) -> None:
        self._inodes = inodes
        self._names = {os.path.basename(path) for path in paths}
        self._names |= {stem for name in self._names if (stem := name.partition(".")[0])}

    def may_be(self, relative: str, inode: int) -> bool:
        return inode in self._inodes or self.is_named(relative)

    def is_named(self, relative: str) -> bool:
        """Whether a file is named after one of them: `calls.ndjson.prev`, `calls-20260101.ndjson`, `old/calls.ndjson`."""
        return not self._names.isdisjoint(cut_names(os.path.basename(relative)))


def cut_names(name: str) -> Iterator[str]:
    """The name, and what stands before each of its separators: `calls.ndjson.1` gives `calls` and `calls.ndjson`."""
    yield name
    for cut in _SEPARATOR.finditer(name):
        yield name[: cut.start()]


def is_rotated_name(log: str, path: str) -> bool:
    """Whether the file is named after this log."""
    return KnownLogs(paths=[log]).is_named(path)


def is_named_after(log: str, path: str) -> bool:
    """The same by whole paths, and not the other way round: `app.ndjson.1` or `app-1.ndjson` after `app.ndjson`, but neither
    after the other one."""
    stem, ending = os.path.splitext(log)
    is_inside = path.startswith(stem) and path.removesuffix(".gz").endswith(ending)
    return len(path) > len(log) and (path.startswith(log) or is_inside)


def may_be_copy(log: str, path: str) -> bool:
    """Whether a file is named as a copy of this log: after it, or like it in another directory."""
    name, own = os.path.basename(path), os.path.basename(log)
    return is_named_after(own, name) or (own == name and log != path)
