"""The lock file beside the ledger: only the process that holds it opens the ledger.

The kernel's lock (flock) decides, so a killed process never leaves a stale one. The text in the file only names the holder.
"""

import asyncio
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunerd.ledger import LedgerRefused

_POLL_S: Final = 0.1


_COMMITS_AT: Final = 1024
"""Offset of the number of commits in the lock file, behind the holder."""
_COMMITS_BYTES: Final = 20


class Lock:
    """A held lock. `release` leaves the file there: removing it would let two processes hold two locks."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.commits = _commits(fd)
        """How many commits the ledger had when its last process noted their number."""

    def note_commits(self, count: int) -> None:
        """Note how many commits the ledger has, in a second place. Not synced: after a power cut the number may be too small.
        Any thread may call it."""
        self.commits = count
        if self._fd >= 0:
            _write(self._fd, b"%0*d" % (_COMMITS_BYTES, count), _COMMITS_AT)

    def release(self) -> None:
        if self._fd >= 0:
            _name_holder(self._fd, b"")
            os.close(self._fd)
            self._fd = -1


def lock_path(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + ".lock")


async def hold(ledger: Path, now: float, wait_s: float = 0.0) -> Lock:
    """Take the lock of a ledger, waiting at most `wait_s`. Raises LedgerRefused that names the holder."""
    path = lock_path(ledger)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise LedgerRefused(f"the lock file {path} cannot be opened: {exc.strerror}; check the directory and its owner") from exc
    try:
        never = asyncio.Event()
        deadline = asyncio.get_running_loop().time() + wait_s
        while not _try(fd):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise LedgerRefused(
                    f"the ledger {ledger} is held by {holder(path)}; stop that process, or run with --wait-for-lock", locked=True
                )
            try:
                async with asyncio.timeout(min(_POLL_S, left)):
                    await never.wait()
            except TimeoutError:
                continue
        lock = Lock(fd)
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": now}
        _name_holder(fd, json.dumps(mine).encode() + b"\n")
    except BaseException:
        os.close(fd)
        raise
    return lock


def _commits(fd: int) -> int:
    noted = os.pread(fd, _COMMITS_BYTES, _COMMITS_AT)
    return int(noted) if len(noted) == _COMMITS_BYTES and noted.isdigit() else 0


def _name_holder(fd: int, text: bytes) -> None:
    """The file is not truncated for it: a process that is killed at that moment would leave a file without its number."""
    _write(fd, text.ljust(_COMMITS_AT, b"\0"), 0)


def _write(fd: int, text: bytes, at: int) -> None:
    """An error is ignored, because the ledger does not depend on the file's content."""
    try:
        os.pwrite(fd, text, at)
    except OSError:
        pass


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(path: Path) -> str:
    """Who wrote the lock file, in words; the writer may not have finished."""
    try:
        said = json.loads(path.read_bytes()[:_COMMITS_AT].rstrip(b"\0") or b"{}")
        since = datetime.fromtimestamp(said["since"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"pid {said['pid']} on {said['host']} since {since}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process"
