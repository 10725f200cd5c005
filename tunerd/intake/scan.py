"""What is in a source's directory: names are listed often, stats are taken rarely. Runs in a worker thread.

Whether a file is complete is for read.py, what happens to it for file_reader.py. The scan is the truth that file events only
hint at; each one also arms the watches of the directories it meets.
"""

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from tunerd.config import Source
from tunerd.intake.known_logs import KnownLogs
from tunerd.intake.source_tree import LeavesSource, Listed, OpenTree

FULL_PASS_S: Final = 3600.0
FOUND_AT_ONCE: Final = 5_000
"""A scan hands out at most so many files; the rest is found by the next one, which follows at once."""

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


_INODE_BITS: Final = 16


def signature(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> int:
    """One number that tells a changed file from an unchanged one; kept for every known file, so it is small. The inode
    has the lowest bits for itself."""
    times = hash((size, mtime_ns, ctime_ns)) & ((1 << 44) - 1)
    return times << _INODE_BITS | (inode ^ inode >> _INODE_BITS ^ inode >> 2 * _INODE_BITS) & ((1 << _INODE_BITS) - 1)


def signature_of(at: os.stat_result) -> int:
    return signature(at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino)


def differ_in_inode_only(one: int, other: int) -> bool:
    return one != other and one >> _INODE_BITS == other >> _INODE_BITS


def is_unchanged(known: int | None, sign: int, *, by_inode: bool) -> bool:
    """Whether two signatures are of the same file, `by_inode` or whatever the inode is."""
    return known == sign or (not by_inode and known is not None and differ_in_inode_only(known, sign))


@dataclass(slots=True)
class Listing:
    """What one scan saw. Paths are relative to the root."""

    root: tuple[int, int]
    """Device and inode of the root."""
    found: list[str] = field(default_factory=list)
    """Files that are not known, or not as they are now; new names first, the oldest first where they may be logs."""
    vanished: list[str] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    """Names that fit but are not regular files of the directory, and why."""
    old: list[tuple[str, int]] = field(default_factory=list)
    """Files left out by ignore_older, with their signature."""
    directories: int = 0
    files: int = 0
    """Names that fit and are regular files."""
    more: bool = False
    """There was more than fits into one listing: scan again soon."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Directories below the root (with their slash) that could not be listed, and why; empty: it is gone. Nothing in them
    counts as vanished."""


def scan(
    inside: OpenTree,
    names: Names,
    known: Mapping[str, int],
    *,
    recursive: bool,
    arm: Callable[[str, int], None],
    restat: Collection[str] = frozenset(),
    part: tuple[int, int] = (0, 1),
    by_inode: bool = True,
    inodes: frozenset[int] = frozenset(),
    log_paths: Collection[str] = (),
    older_than: float | None = None,
    skip: Collection[str] = frozenset(),
    leave: Collection[str] = frozenset(),
) -> Listing:
    """List the directory. `restat` names are compared with their stat every time, the others in turn: those of
    part i of n; `by_inode=False`: where inodes say nothing. `older_than` (Unix seconds) leaves out files that are not
    known and were last changed before it. `inodes`, `log_paths`: of logs that are known, which a file that does not fit may
    be. `skip`: odd names that were told already. `leave`: files that need not be found again. Raises OSError where the root
    cannot be read, or is another directory at the end than at the beginning."""
    root = inside.root
    if not may_read(root):  # without search permission names could be listed, and each would look as if it were gone
        os.stat(root)  # unless it has itself gone in this very moment
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
    listing = Listing(inside.identity)
    changed: list[str] = []
    others: list[tuple[str, int]] = []
    hits = 0
    turn, turns = part
    pending = [""]
    while pending:
        directory = pending.pop()
        listing.directories += 1
        try:
            entries = _armed(inside, directory, arm)
        except OSError as exc:
            if not directory:
                raise
            listing.unreadable[directory + "/"] = "" if isinstance(exc, FileNotFoundError) else exc.strerror or "not to be listed"
            if isinstance(exc, PermissionError) and directory not in skip:
                listing.odd.append((directory, "cannot be listed (no permission); what is in it is read once it can be"))
            continue
        with entries:
            for entry in entries:
                relative = f"{directory}/{entry.name}" if directory else entry.name
                if relative in known:
                    hits += 1
                    listing.files += 1
                    if (relative in restat or hash(relative) % turns == turn) and len(changed) < FOUND_AT_ONCE:
                        seen = _stat(inside, relative, entry)
                        if seen is not None and not is_unchanged(known.get(relative), signature_of(seen), by_inode=by_inode):
                            changed.append(relative)
                    continue
                is_directory, is_plain = _kind(entry)
                if is_directory:
                    if recursive and names.enters(relative):
                        pending.append(relative)
                    elif not recursive and names.fits(relative) and relative not in skip:
                        listing.odd.append((relative, "is a directory"))
                    continue
                if not names.fits(relative):
                    if is_plain and names.may_be_rotated(relative):
                        others.append((relative, entry.inode()))
                    continue
                why = None if is_plain else why_odd(inside, relative)
                if why is not None:
                    if relative not in skip:
                        listing.odd.append((relative, why))
                    continue
                listing.files += 1
                if relative in leave:
                    continue
                if older_than is not None:
                    seen = _stat(inside, relative, entry)
                    if seen is not None and seen.st_mtime < older_than:
                        listing.old.append((relative, signature_of(seen)))
                        continue
                if len(listing.found) < FOUND_AT_ONCE:
                    listing.found.append(relative)
                else:
                    listing.more = True
    logs = KnownLogs(inodes, [*log_paths, *(relative for relative in listing.found if names.kind(relative) == "log")])
    listing.found += [relative for relative, inode in others if logs.may_be(relative, inode) and relative not in leave]
    listing.found = _in_order_of_writing(inside, listing.found, names) + changed
    if hits < len(known):
        listing.vanished = _missing(inside, known, listing.unreadable)
    after = os.stat(root)
    if (after.st_dev, after.st_ino) != listing.root:  # a mount came or went meanwhile: half of this is of another directory
        raise OSError(errno.ESTALE, "another directory took its place while it was listed", root)
    return listing


def _in_order_of_writing(inside: OpenTree, found: list[str], names: Names) -> list[str]:
    """What may be logs stands in the order in which they were last written, the oldest first: so they are numbered. In one tick
    of the clock a rotated name, which is longer, stands before the log's own."""
    if len(found) < 2 or not any(names.kind(relative) != "whole" for relative in found):
        return found
    times = {relative: at.st_mtime_ns for relative in found if (at := _stat(inside, relative)) is not None}
    return sorted(found, key=lambda relative: (times.get(relative, 0), -len(relative)))


def _armed(inside: OpenTree, directory: str, arm: Callable[[str, int], None]) -> Listed:
    """Watched before it is listed: what is created in between is seen by one of the two."""
    entries = inside.listed(directory)
    try:
        arm(os.path.join(inside.root, directory) if directory else inside.root, entries.fd)
    except OSError:
        entries.close()
        raise
    return entries


def _kind(entry: "os.DirEntry[str]") -> tuple[bool, bool]:
    """Whether it is a directory, and whether a regular file; no link is followed. One entry that cannot be asked must not
    end the scan: it is neither, and whoever visits it finds out why."""
    try:
        return entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
    except OSError:
        return False, False


def may_read(directory: str) -> bool:
    """Whether this process may list the directory and reach what is in it."""
    return os.access(directory, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _missing(inside: OpenTree, known: Mapping[str, int], unreadable: Collection[str]) -> list[str]:
    hidden = tuple(unreadable)
    return [
        relative for relative in list(known) if not _is_there(inside, relative) and not (hidden and relative.startswith(hidden))
    ]


def _is_there(inside: OpenTree, relative: str) -> bool:
    try:
        inside.stat(relative)
    except (FileNotFoundError, NotADirectoryError, LeavesSource):
        return False
    except OSError:
        return True  # nobody knows
    return True


def why_odd(inside: OpenTree, relative: str) -> str | None:
    """Why a name is not read: no regular file, or a symlink that leaves the directory. None: it is read."""
    try:
        mode = inside.stat(relative, follow_links=True).st_mode
    except LeavesSource as exc:
        return exc.why
    except OSError:
        return None  # gone again, or a link that leads nowhere: the inspection finds out
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket"}
    return f"is a {kinds.get(stat.S_IFMT(mode), 'device')}"


def _stat(inside: OpenTree, relative: str, entry: "os.DirEntry[str] | None" = None) -> os.stat_result | None:
    """Of a file, or of the one that a link leads to."""
    try:
        if entry is not None and not stat.S_ISLNK((at := entry.stat(follow_symlinks=False)).st_mode):
            return at
        return inside.stat(relative, follow_links=True)
    except OSError:
        return None
