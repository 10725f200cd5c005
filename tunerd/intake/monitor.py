"""Watches over one source's directory: turns file events and scans into hints, and notices when the root is gone.

What a hinted file holds is for inspection.py. Nothing known is dropped while the root is missing or was swapped for another.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Final, TypeVar

from tunerd.events import FileIgnored, LogLeft, WatchDegraded
from tunerd.intake.descriptors import MOST
from tunerd.intake.inotify import Hint, WatchLimit
from tunerd.intake.known_logs import KnownLogs
from tunerd.intake.scan import FULL_PASS_S, Listing, may_read, scan
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.ledger import LedgerUnavailable
from tunerd.outcome import IntakeReason
from tunerd.source_tree import OpenTree

T = TypeVar("T")
_MISSING_S: Final = 1.0
"""How often a missing root is looked for."""
AT_ONCE: Final = 500
"""Names of a listing that one turn of the event loop takes."""
_POLL_S: Final = 2.0


class DirectoryMonitor:
    def __init__(self, runtime: SourceRuntime, files: SourceFiles) -> None:
        self._runtime, self._source = runtime, runtime.source
        self._names, self._index, self._due, self._followed, self._tree = (
            *(files.names, files.index, files.due, files.followed, files.tree),
        )
        self._watcher = runtime.shared.watcher if runtime.source.watch == "events" else None
        self._clock, self._emit, self._pauses, self._root = runtime.clock, runtime.emit, runtime.pauses, files.root
        self._identity: tuple[int, int] | None = None
        self._told: set[str] = set()
        self._refused: str | None = None
        self._no_watch: str | None = None
        """Why the last scan could not watch a directory, as far as it is done."""
        self._degraded = False
        self._turn = 0
        self._unreadable = False
        self._logs = KnownLogs()
        self.last_scan_at: float | None = None
        self._asked = 0
        self.looked = 0
        """The last of the looks that were asked for (`look`) that is done: a scan that began after it has ended."""
        self.knows_all = False
        """The last scan went well, and there was nothing in the directory that it had to leave to the next one."""
        self.unlisted: dict[str, str] = {}
        """Directories below the root that the last scan could not list, and why."""

    @property
    def watching(self) -> bool:
        return self._watcher is not None and self._watcher.watched(self.tell) > 0

    @property
    def is_fallback(self) -> bool:
        """Whether `watch: events` is wanted, and some directories are only scanned because the kernel gives no watch for them."""
        return self._watcher is not None and (self._watcher.is_refused or self._no_watch is not None)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.disarm(self.tell)

    def tell(self, hint: Hint, path: str) -> None:
        """What the watcher calls, in the event loop."""
        if hint is Hint.LOST:
            self._due.scan_now.set()
            return
        relative = self._index.relative(path)
        if hint is Hint.DIRECTORY:
            if self._source.recursive and self._names.enters(relative):
                self._due.scan_now.set()
            return
        if self._names.fits(relative) or (self._logs.is_named(relative) and self._names.may_be_rotated(relative)):
            self._hint(relative, closed=hint is Hint.CLOSED)

    def odd(self, relative: str, why: str) -> None:
        """Tell, once, that a name is not read."""
        if relative not in self._told:
            self._told.add(relative)
            self._emit(FileIgnored(source=self._source.name, path=self._index.absolute(relative), why=why))

    def look_again(self, relative: str) -> None:
        """What stands there is not what was read, whatever its stat says."""
        self._index.forget(relative)
        self._hint(relative, closed=False)

    def look(self, number: int) -> None:
        """Scan at once; `looked` reaches `number` when that is done."""
        self._asked = number
        self._due.scan_now.set()

    def _hint(self, relative: str, *, closed: bool) -> None:
        self._due.add(relative, now=self._clock.monotonic(), wall=self._clock.now(), closed=closed)

    async def scan_forever(self, stop: asyncio.Event) -> None:
        """A scan each `rescan`, at once when events were lost, and each second while the root is missing."""
        while not stop.is_set():
            self._due.scan_now.clear()  # what is lost, or asked, from now on wants the next scan
            more = await self.scan_once()
            if self._unreadable:
                await self._clock.wait(stop, _MISSING_S)
                continue
            # A full listing was cut: go on as soon as its files have been taken.
            delay = 0.2 if more else self._source.rescan_s
            if await self._clock.wait(self._due.scan_now, delay) and not stop.is_set():
                await self._clock.wait(stop, 0.1)  # a storm of "scan now" is one scan

    async def is_denied(self) -> bool:
        """Whether a file cannot be read because the directory cannot: then the scan that says so is due now."""
        denied = self._unreadable or not await self._runtime.in_thread(lambda: may_read(self._root))
        if denied:
            self._due.scan_now.set()
        return denied

    async def scan_once(self, leave: Collection[str] = frozenset()) -> bool:
        """List once and hint at what was found, `leave` apart; True when there was more than one listing holds."""
        asked = self._asked
        more = await self._scan(leave)
        if not more:
            self.looked = max(self.looked, asked)
        return more

    async def _scan(self, leave: Collection[str]) -> bool:
        self.knows_all = False
        if len(self._due) > self._runtime.shared.found_at_once // 2:
            return True  # these first
        turns = max(1, int(FULL_PASS_S / max(self._source.rescan_s, 1.0)))
        first = self.last_scan_at is None
        older = self._clock.now() - self._source.ignore_older_s if self._source.ignore_older_s is not None else None
        part, restat, told = (0, 1) if first else (self._turn % turns, turns), self._index.restat, frozenset(self._told)
        inodes, log_paths = self._index.inodes, self._index.log_paths
        self._logs = KnownLogs(paths=log_paths)
        self._turn += 1
        self._refused = None
        try:
            listing = await self._runtime.in_thread(
                lambda: self._scanned(
                    lambda inside: scan(
                        inside, self._names, self._index.signatures, recursive=self._source.recursive, arm=self._arm,
                        restat=restat, part=part, by_inode=self._index.trusts_inodes, inodes=inodes, log_paths=log_paths,
                        older_than=older, skip=told, leave=leave, most=self._runtime.shared.found_at_once,
                    )
                )
            )  # fmt: skip
        except PermissionError:
            self._paused(IntakeReason.DENIED, f"{self._root} cannot be read: give this process read and search permission")
            return False
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                detail = f"{self._root} cannot be listed: no file descriptor is left; raise LimitNOFILE (ulimit -n)"
                self._paused(IntakeReason.DENIED, detail)
                return False
            gone = "is not there; it is read as soon as it is"
            detail = gone if isinstance(exc, FileNotFoundError) else f"cannot be listed ({exc.strerror or 'it is no directory'})"
            self._paused(IntakeReason.MISSING, f"{self._root} {detail}")
            return False
        if self._was_swapped(listing):
            detail = f"{self._root} is empty and no longer the same directory (unmounted?); nothing known of it is dropped"
            self._paused(IntakeReason.MISSING, detail)
            return False
        self._unreadable = False
        for reason in (IntakeReason.MISSING, IntakeReason.DENIED):
            self._pauses.end(reason, by="scan")
        self._identity = listing.root
        self.unlisted = {folder: why for folder, why in listing.unreadable.items() if why}
        self.last_scan_at = self._clock.now()
        self._no_watch = self._refused
        self._tell_degraded()
        if first:
            await self._runtime.in_thread(self._open_logs)
        await self._act_on(listing, first=first)
        self.knows_all = not listing.more
        return listing.more

    def _paused(self, reason: IntakeReason, detail: str) -> None:
        for other in {IntakeReason.MISSING, IntakeReason.DENIED} - {reason}:
            self._pauses.end(other, by="scan")
        self._pauses.begin(reason, detail, by="scan")
        self._unreadable = True

    def _scanned(self, work: Callable[[OpenTree], Listing]) -> Listing:
        with self._tree.opened() as inside:
            return work(inside)

    def _arm(self, directory: str, fd: int) -> None:
        """In the scan's thread. Without watches the scans still find everything."""
        if self._watcher is None:
            return
        try:
            self._watcher.arm(directory, self.tell, fd)
        except WatchLimit as exc:
            self._refused = str(exc)

    def _tell_degraded(self) -> None:
        if self._no_watch is not None and not self._degraded:
            self._degraded = True
            detail = f"{self._no_watch}; scans go on each {self._source.rescan_s:g} s"
            self._emit(WatchDegraded(source=self._source.name, detail=detail))

    def _was_swapped(self, listing: Listing) -> bool:
        """An empty directory in place of the one that held known files: the mount point under a lost mount."""
        if listing.files or not self._index.signatures:
            return False
        if self._identity is not None:
            return listing.root != self._identity
        return bool(self._index.devices) and listing.root[0] not in self._index.devices

    async def _act_on(self, listing: Listing, *, first: bool) -> None:
        async for relative in _yielding(listing.found):
            self._hint(relative, closed=False)
        async for relative, why in _yielding(listing.odd):
            self.odd(relative, why)
        async for relative, sign in _yielding(listing.old):
            self._index.leave_out(relative, sign, recent=False)
        if listing.old:
            why = f"{len(listing.old)} file(s) older than ignore_older are left out, such as {listing.old[0][0]}"
            self._emit(FileIgnored(source=self._source.name, path=self._root, why=why))
        for i in range(0, len(listing.vanished), AT_ONCE):
            gone = listing.vanished[i : i + AT_ONCE]
            try:
                paths = [self._index.absolute(relative) for relative in gone]
                await self._runtime.ledger.vanished(self._source.name, paths, self._clock.now())
            except LedgerUnavailable:
                return  # the next scan finds them gone again
            for relative in gone:
                self._index.vanished(relative)
            await asyncio.sleep(0)

    def _open_logs(self) -> None:
        """In a thread: the logs that were written to last, before anything happens to them."""
        marks = sorted(self._index.logs.values(), key=lambda mark: -mark.mtime_ns)[:MOST]
        self._followed.adopt(marks, self._open, self._clock.monotonic())

    def _open(self, path: str) -> int:
        with self._tree.opened() as inside:
            return inside.open(self._index.relative(path))

    async def poll_forever(self, stop: asyncio.Event) -> None:
        """Look at the logs that are open, between scans: their writers may keep them open and cause no events."""
        while not await self._clock.wait(stop, max(0.25, min(self._source.settle_s, _POLL_S))):
            await self.poll_once()

    async def poll_once(self) -> None:
        if not len(self._followed):
            return
        now = self._clock.monotonic()
        polled = await self._runtime.in_thread(lambda: self._followed.poll(now))
        for path in polled.grown:
            self._hint(self._index.relative(path), closed=False)
        for log in polled.moved:
            self.read_moved(log)
        for left in polled.left:
            self._emit(LogLeft(source=self._source.name, path=left.mark.path, offset=left.mark.offset, why=left.why))

    async def read_first(self, log: int) -> None:
        """Another file cannot be read before this log is read to its end."""
        now = self._clock.monotonic()
        await self._runtime.in_thread(lambda: self._followed.leave_home(log, now))
        self.read_moved(log)

    def read_moved(self, log: int) -> None:
        """Read a log by its descriptor, wherever it is."""
        followed = self._followed.of_number(log)
        if followed is None:
            return
        if followed.is_at_home:
            self._hint(self._index.relative(followed.mark.path), closed=False)
        else:
            self._due.add_moved(log, now=self._clock.monotonic(), wall=self._clock.now())


async def _yielding(names: Sequence[T]) -> AsyncIterator[T]:
    """The same, with a turn for the others after each AT_ONCE: a listing may have 100,000."""
    for i in range(0, len(names), AT_ONCE):
        if i:
            await asyncio.sleep(0)
        for name in names[i : i + AT_ONCE]:
            yield name
