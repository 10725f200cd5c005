"""Which names of a directory belong to a source, and what a name says of its file. Values only."""

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from tunerd.config import Source

_TEMPORARY: Final = re.compile(r"^[.#]|~$|\.(?:tmp|temp|part|partial|filepart|crdownload|swp|swo|swx|lock)$", re.IGNORECASE)
_ROTATED: Final = re.compile(
    r"(?:[.-](?:\d{1,4}|\d{8}(?:[-T_]?\d{2,6})?|\d{10,13}|\d{4}-\d\d-\d\d(?:[-T_]\d\d[\d:.-]*)?|old|bak))+$"
)
_LOG: Final = re.compile(r"\.(?:ndjson|jsonl)(?:\.gz)?$", re.IGNORECASE)


def is_temporary(name: str) -> bool:
    """Hidden, or by its ending a file that somebody is still writing or editing."""
    return _TEMPORARY.search(name) is not None


class Names:
    """Which names of a directory belong to a source: its globs over the path relative to its root."""

    def __init__(self, source: Source, excluded_directory: str | None = None) -> None:
        self._include = _globs(source.include)
        self._exclude = _globs(source.exclude)
        self._format = source.format
        self._excluded_directory = excluded_directory

    def fits(self, relative: str) -> bool:
        """A rotated name of a log (`calls.ndjson.1`, `calls.ndjson-20260101.gz`) fits where the log's own name does."""
        name = relative.rpartition("/")[2]
        if is_temporary(name):
            return False
        if self._exclude is not None and self._exclude(relative):
            return False
        if self._include is not None and self._include(relative):
            return True
        own = self.log_name(relative)
        return own is not None and self._include is not None and self._include(own)

    def may_be_rotated(self, relative: str) -> bool:
        """Whether a name that does not fit may be the one that a log has now."""
        is_hidden = relative.rpartition("/")[2].startswith(".")
        return not is_hidden and (self._exclude is None or not self._exclude(relative))

    def enters(self, relative: str) -> bool:
        """Whether a recursive source looks into this directory."""
        return not relative.rpartition("/")[2].startswith(".") and relative != self._excluded_directory

    def log_name(self, relative: str) -> str | None:
        """`calls.ndjson` for a rotated name of it, None for every other name."""
        plain = relative.removesuffix(".gz")
        own = _ROTATED.sub("", plain)
        if own == plain and plain == relative:
            return None
        if own == plain and _LOG.search(own) is None and self._format != "ndjson":
            return None
        if self._format == "ndjson" or _LOG.search(own):
            return own
        return None

    def kind(self, relative: str) -> Literal["log", "whole"] | None:
        """What the name alone says; None: look at the content."""
        if self._format == "ndjson" or (self._format == "auto" and self._is_log_name(relative)):
            return "log"
        return "whole" if self._format == "json" else None

    def _is_log_name(self, relative: str) -> bool:
        return _LOG.search(relative) is not None or self.log_name(relative) is not None


def _globs(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """`*.json` fits a name at any depth; a pattern with `/` fits the relative path, `**/` any number of directories."""
    if not patterns:
        return None
    names = [p for p in patterns if "/" not in p]
    paths = [p.removeprefix("./") for p in patterns if "/" in p]
    by_name = re.compile("|".join(fnmatch.translate(p) for p in names)).match if names else None
    by_path = re.compile("|".join(_translate_path(p) for p in paths)).match if paths else None

    def fits(relative: str) -> bool:
        if by_name is not None and by_name(relative.rpartition("/")[2]) is not None:
            return True
        return by_path is not None and by_path(relative) is not None

    return fits


def _translate_path(pattern: str) -> str:
    out = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern):
        if part == "**/":
            out += r"(?:[^/]+/)*"
        elif part == "**":
            out += r".*"
        elif part == "*":
            out += r"[^/]*"
        elif part == "?":
            out += r"[^/]"
        elif part.startswith("[") and part.endswith("]"):
            out += "[" + ("^" + part[2:-1] if part[1] == "!" else part[1:-1]).replace("\\", r"\\") + "]"
        else:
            out += re.escape(part)
    return rf"(?s:{out})\Z"
