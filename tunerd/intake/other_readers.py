"""Whether another tunerd, with a ledger of its own, reads the same directory: each call would be sent twice. It is only
reported: nothing is written into the directory, no reader is excluded, and a killed process leaves nothing behind.

Two marks. A Unix socket without a file (abstract), whose name holds the directory's device and inode, the process and the
ledger: seen at once by whoever shares the network namespace. And, for other containers with the same volume, a read lock
on a byte far beyond the end of the directory: such locks exclude nobody, and whoever asks sees that there is one. Its
descriptor would keep a file system mounted, so it is held for a second at each full half minute, by every tunerd at the
same time.
"""

import asyncio
import fcntl
import os
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunerd.clock import Clock
from tunerd.daemon_threads import DaemonThreads
from tunerd.events import Emit, ReadByAnother

LOCK_EVERY_S: Final = 30.0
LOCK_FOR_S: Final = 1.0
LOOK_EVERY_S: Final = 10.0
_CLOSES_S: Final = 0.5

_PREFIX: Final = "tunerd-reads"
_MAX_NAME: Final = 107
_FIRST_BYTE: Final = 0x74756E65_00000000
_IDS: Final = 2**31
_FLOCK: Final = "hhqqi4x"
_ELSEWHERE: Final = "another tunerd, in another container with the same volume"

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(slots=True)
class OtherReaders:
    """This process's marks on the directories that it reads, and what it sees of others'. Blocking; call it from a thread."""

    ledger: str
    own: int = field(default_factory=lambda: secrets.randbelow(_IDS))
    """Tells this process's marks from others': process numbers repeat in containers."""
    _sockets: dict[Identity, socket.socket] = field(default_factory=dict)
    _locked: dict[str, int] = field(default_factory=dict)

    def look(self, roots: Mapping[str, str]) -> dict[str, str]:
        """Mark these directories (source -> path) and no others; source -> who else has marked its directory."""
        at = _identities(roots)
        for gone in set(self._sockets) - set(at.values()):
            self._sockets.pop(gone).close()
        for identity in set(at.values()) - set(self._sockets):
            self._mark(identity)
        others = self._others()
        return {source: others[identity] for source, identity in at.items() if identity in others}

    def lock(self, roots: Mapping[str, str]) -> None:
        """Lock the byte of each directory; what cannot be locked (some network file systems) is left out."""
        self.unlock()
        for source, root in roots.items():
            try:
                fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _byte(fcntl.F_RDLCK, self.own, 1))
            except (OSError, AttributeError):
                os.close(fd)
                continue
            self._locked[source] = fd

    def locked_by_others(self) -> set[str]:
        """Sources whose directory another process has locked now. Only while `lock` holds."""
        return {source for source, fd in self._locked.items() if self._has_other(fd)}

    def unlock(self) -> None:
        """Each is forgotten before it is closed: that may hang with its file system, and `close` must not close the number again,
        which is soon somebody else's."""
        while self._locked:
            _, fd = self._locked.popitem()
            os.close(fd)

    def close(self) -> None:
        self.unlock()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def _mark(self, identity: Identity) -> None:
        begin = f"\0{_PREFIX}:{identity[0]:x}:{identity[1]:x}:{self.own:x}:{os.getpid()}:".encode()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.bind(begin + os.fsencode(self.ledger)[-(_MAX_NAME - len(begin)) :])
        except OSError:
            sock.close()
            return
        self._sockets[identity] = sock

    def _others(self) -> dict[Identity, str]:
        found: dict[Identity, str] = {}
        with suppress(OSError):
            for line in Path("/proc/net/unix").read_text("utf-8", "surrogateescape").splitlines():
                _, at, name = line.partition(f" @{_PREFIX}:")
                fields = name.split(":", 4)
                if not at or len(fields) < 5:
                    continue
                with suppress(ValueError):
                    device, inode, own = (int(text, 16) for text in fields[:3])
                    if own != self.own:
                        ledger = fields[4] if fields[4].startswith("/") else f"...{fields[4]}"  # the name was too short for it
                        found[device, inode] = f"another tunerd (process {int(fields[3])}, ledger {ledger})"
        return found

    def _has_other(self, fd: int) -> bool:
        for first, count in ((0, self.own), (self.own + 1, _IDS - self.own - 1)):
            if count <= 0:
                continue
            try:
                answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _byte(fcntl.F_WRLCK, first, count))
            except OSError:
                return False
            if struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK:
                return True
        return False


async def tell_other_readers(
    readers: OtherReaders,
    roots: Callable[[], Mapping[str, str]],
    seen: Callable[[Mapping[str, str]], None],
    clock: Clock,
    emit: Emit,
    stop: asyncio.Event,
) -> None:
    """Look for others until `stop`, or until cancelled: a look may hang with its file system. A source is reported once for
    each time that another reader comes. `seen` gets source -> who after each look."""
    reported: dict[str, str] = {}
    by_lock: set[str] = set()
    threads = DaemonThreads(1, "tunerd-other-readers")
    try:
        while True:
            found = dict.fromkeys(by_lock, _ELSEWHERE) | await threads.run(lambda: readers.look(roots()))
            for source, who in found.items():
                if reported.get(source) != who:
                    emit(ReadByAnother(source=source, who=who, path=roots().get(source, "")))
            reported = found
            seen(found)
            until_lock_s = LOCK_EVERY_S - clock.now() % LOCK_EVERY_S
            if await clock.wait(stop, min(LOOK_EVERY_S, until_lock_s)):
                return
            if until_lock_s <= LOOK_EVERY_S:
                await threads.run(lambda: readers.lock(roots()))
                await clock.wait(stop, LOCK_FOR_S / 2)
                by_lock = await threads.run(readers.locked_by_others)
                await clock.wait(stop, LOCK_FOR_S / 2)
                await threads.run(readers.unlock)
    finally:  # in the same thread, behind what it does: to close a lock may hang, too, and the end of the process closes all
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSES_S):
                await threads.run(readers.close)


def _identities(roots: Mapping[str, str]) -> dict[str, Identity]:
    found: dict[str, Identity] = {}
    for source, root in roots.items():
        with suppress(OSError):
            at = os.stat(root)
            found[source] = (at.st_dev, at.st_ino)
    return found


def _byte(kind: int, first: int, count: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, _FIRST_BYTE + first, count, 0)
