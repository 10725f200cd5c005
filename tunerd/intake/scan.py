"""What is in a source's directory: names are listed often, stats are taken rarely. Runs in a worker thread.

inspection.py decides whether a file is complete; file_reader.py decides what happens to it. The scan is the truth that file
events only hint at; each one also arms the watches of the directories it meets.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from tunerd.intake.known_logs import KnownLogs
from tunerd.intake.names import Names
from tunerd.intake.signature import is_unchanged, signature_of
from tunerd.source_tree import LeavesSource, Listed, OpenTree

FULL_PASS_S: Final = 3600.0
FOUND_AT_ONCE: Final = 5_000
"""A scan returns at most this many files if nothing else is wanted; the next one follows at once and finds the rest."""


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
    most: int = FOUND_AT_ONCE,
) -> Listing:
    """List the directory. `restat` names are compared with their stat every time, the others in turn: those of
    part i of n; `by_inode=False`: where inodes say nothing. `older_than` (Unix seconds) leaves out files that are not
    known and were last changed before it. `inodes`, `log_paths`: of logs that are known, which a file that does not fit may
    be. `skip`: odd names that were told already. `leave`: files that need not be found again. `most`: how many it returns. Raises
    OSError where the root cannot be read, or is another directory at the end than at the beginning."""
    scanning = _Scan(
        inside, names, known, arm, recursive=recursive, restat=restat, part=part, by_inode=by_inode, older_than=older_than,
        skip=skip, leave=leave, most=most,
    )  # fmt: skip
    listing = scanning.run()
    is_log = KnownLogs(inodes, [*log_paths, *(relative for relative in listing.found if names.kind(relative) == "log")])
    listing.found += [relative for relative, inode in scanning.others if is_log.may_be(relative, inode) and relative not in leave]
    listing.found = _in_order_of_writing(inside, listing.found, names) + scanning.changed
    if scanning.hits < len(known):
        listing.vanished = _missing(inside, known, listing.unreadable)
    after = os.stat(inside.root)
    if (after.st_dev, after.st_ino) != listing.root:  # a mount came or went meanwhile: half of this is of another directory
        raise OSError(errno.ESTALE, "another directory took its place while it was listed", inside.root)
    return listing


@dataclass(slots=True)
class _Scan:
    """One scan; its parameters are those of `scan`."""

    inside: OpenTree
    names: Names
    known: Mapping[str, int]
    arm: Callable[[str, int], None]
    recursive: bool
    restat: Collection[str]
    part: tuple[int, int]
    by_inode: bool
    older_than: float | None
    skip: Collection[str]
    leave: Collection[str]
    most: int
    listing: Listing = field(init=False)
    changed: list[str] = field(default_factory=list)
    """Known files whose stat is another one."""
    others: list[tuple[str, int]] = field(default_factory=list)
    """Names that do not fit, with their inodes: they may be rotated logs."""
    hits: int = 0
    """Known names that are there."""

    def run(self) -> Listing:
        root = self.inside.root
        if not may_read(root):  # without search permission names could be listed, and each would look as if it were gone
            os.stat(root)  # unless it has itself gone in this very moment
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
        self.listing = Listing(self.inside.identity)
        pending = [""]
        while pending:
            directory = pending.pop()
            self.listing.directories += 1
            if (entries := self._listed(directory)) is None:
                continue
            with entries:
                for entry in entries:
                    relative = f"{directory}/{entry.name}" if directory else entry.name
                    if relative in self.known:
                        self._known(relative, entry)
                        continue
                    is_directory, is_plain = _kind(entry)
                    if is_directory:
                        if self.recursive and self.names.enters(relative):
                            pending.append(relative)
                        elif not self.recursive and self.names.fits(relative) and relative not in self.skip:
                            self.listing.odd.append((relative, "is a directory"))
                    elif self.names.fits(relative):
                        self._new(relative, is_plain)
                    elif is_plain and self.names.may_be_rotated(relative):
                        self.others.append((relative, entry.inode()))
        return self.listing

    def _listed(self, directory: str) -> Listed | None:
        """None: it cannot be listed. Raises OSError for the root."""
        try:
            return _armed(self.inside, directory, self.arm)
        except OSError as exc:
            if not directory:
                raise
            why = "" if isinstance(exc, FileNotFoundError) else exc.strerror or "not to be listed"
            self.listing.unreadable[directory + "/"] = why
            if isinstance(exc, PermissionError) and directory not in self.skip:
                self.listing.odd.append((directory, "cannot be listed (no permission); what is in it is read once it can be"))
            return None

    def _known(self, relative: str, entry: "os.DirEntry[str]") -> None:
        self.hits += 1
        self.listing.files += 1
        turn, turns = self.part
        if (relative in self.restat or hash(relative) % turns == turn) and len(self.changed) < self.most:
            seen = _stat(self.inside, relative, entry)
            if seen is not None and not is_unchanged(self.known.get(relative), signature_of(seen), by_inode=self.by_inode):
                self.changed.append(relative)

    def _new(self, relative: str, is_plain: bool) -> None:
        why = None if is_plain else why_odd(self.inside, relative)
        if why is not None:
            if relative not in self.skip:
                self.listing.odd.append((relative, why))
            return
        self.listing.files += 1
        if relative in self.leave:
            return
        if self.older_than is not None:
            seen = _stat(self.inside, relative)
            if seen is not None and seen.st_mtime < self.older_than:
                self.listing.old.append((relative, signature_of(seen)))
                return
        if len(self.listing.found) < self.most:
            self.listing.found.append(relative)
        else:
            self.listing.more = True


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
