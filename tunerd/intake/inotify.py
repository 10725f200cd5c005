"""File events as hints: which path was just closed after writing, moved in or created. Nothing is read here.

watchdog's bindings to inotify are used without its observer: its grouping queue holds back every event behind a move
out of the directory for 500 ms, its queue has no bound, an overflow is only logged, and a removed root stays unwatched.
Here the event loop itself reads one inotify descriptor, so that no thread has to meet it at all, and only what
matters is asked of the kernel; our own reading and moving away cause no events. Where there is no inotify, scans
find the files.
"""

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, TypeAlias

try:
    from watchdog.observers.inotify_c import InotifyConstants as _In
    from watchdog.observers.inotify_c import inotify_add_watch, inotify_init, inotify_rm_watch

    HAS_INOTIFY = True
except (ImportError, OSError, AttributeError):  # not Linux, a C library without inotify, or watchdog moved them
    HAS_INOTIFY = False

# watchdog names them NewTypes in some versions and plain int in others: at run time they are int.
_Mask: Any = int
_Wd: Any = int

_HEAD: Final = struct.Struct("iIII")
_READ_BYTES: Final = 8 * 1024
"""One turn of the event loop takes no more: 256 events about short names, 1 to 2 ms. The rest is read in the next turns."""


class WatchLimit(Exception):
    """The kernel gives no (more) watches; the message says which limit to raise."""


class Hint(Enum):
    CLOSED = auto()
    """Closed after writing or moved here: nobody writes any more."""
    CREATED = auto()
    """A name appeared: being written, or a hard link."""
    DIRECTORY = auto()
    """A directory appeared."""
    LOST = auto()
    """Events were lost, or the directory is no longer where it was: scan now."""


Tell: TypeAlias = Callable[[Hint, str], None]
"""Called in the event loop with the absolute path (the directory's for LOST)."""


class Watcher:
    """One inotify descriptor for all sources. `arm` may be called from any thread, everything else in the loop."""

    def __init__(self) -> None:
        self._fd = -1
        self.is_refused = False
        """The system gave no inotify instance."""
        self._lock = threading.Lock()
        self._watches: dict[int, dict[Tell, str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start to listen. Raises WatchLimit where the user has no inotify instance left or the system has none."""
        self.is_refused = True
        if not HAS_INOTIFY:
            raise WatchLimit(
                "inotify cannot be used (no Linux, or a package watchdog of a version that tunerd does not know: install tunerd "
                "again with the versions that it asks for); until then files are found by scans"
            )
        fd = inotify_init()
        if fd < 0:
            raise WatchLimit("no inotify instance is left: raise the sysctl fs.inotify.max_user_instances")
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._fd, self.is_refused = fd, False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Stop listening; all watches end with the descriptor."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._watches.clear()
        if fd >= 0:
            if self._loop is not None:
                self._loop.remove_reader(fd)
            os.close(fd)

    def arm(self, directory: str, tell: Tell, fd: int = -1) -> None:
        """Watch a directory, again if it is watched already (a scan does so each time: a directory that was removed
        and made anew has lost its watch); with `fd` the one that is open there, whatever the path leads to by now. Raises
        WatchLimit; OSError where the directory is not there."""
        if self._fd < 0:
            return
        mask = _In.IN_CLOSE_WRITE | _In.IN_MOVED_TO | _In.IN_CREATE | _In.IN_MOVE_SELF | _In.IN_ONLYDIR
        # Without the lock: on a dead network mount this call hangs, and the loop must not hang with it. An event that
        # is read before the next lines know its watch is about a file that the listing after them sees.
        wd = inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, _Mask(mask)) if fd >= 0 else -1
        if wd < 0:  # or there is no /proc
            wd = inotify_add_watch(self._fd, os.fsencode(directory), _Mask(mask))
        if wd < 0:
            code = ctypes.get_errno()
            if code in (errno.ENOSPC, errno.ENOMEM):
                raise WatchLimit("the kernel's watch limit is reached: raise the sysctl fs.inotify.max_user_watches")
            raise OSError(code, os.strerror(code), directory)
        with self._lock:
            self._watches.setdefault(wd, {})[tell] = directory

    def disarm(self, tell: Tell) -> None:
        """Forget a source: its directories are no longer watched, unless another source watches them too."""
        with self._lock:
            for wd, tells in list(self._watches.items()):
                if tells.pop(tell, None) is not None and not tells:
                    del self._watches[wd]
                    inotify_rm_watch(self._fd, _Wd(wd))

    def watched(self, tell: Tell) -> int:
        """How many directories are watched for a source."""
        with self._lock:
            return sum(tell in tells for tells in self._watches.values())

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            return  # nothing there after all, or closed meanwhile
        self._dispatch(data)

    def _dispatch(self, data: bytes) -> None:
        i = 0
        while i + _HEAD.size <= len(data):
            wd, mask, _, length = _HEAD.unpack_from(data, i)
            name = data[i + _HEAD.size : i + _HEAD.size + length].rstrip(b"\0")
            i += _HEAD.size + length
            if mask & _In.IN_Q_OVERFLOW:
                self._tell_all_lost()
                continue
            with self._lock:
                tells = list(self._watches.get(wd, {}).items())
                if mask & (_In.IN_IGNORED | _In.IN_MOVE_SELF | _In.IN_UNMOUNT):
                    # Gone, or under another name: the path it stood for is watched anew by the scan that this asks for.
                    self._watches.pop(wd, None)
                    if mask & _In.IN_MOVE_SELF:
                        inotify_rm_watch(self._fd, _Wd(wd))
            for tell, directory in tells:
                if mask & (_In.IN_IGNORED | _In.IN_MOVE_SELF | _In.IN_UNMOUNT):
                    tell(Hint.LOST, directory)
                elif mask & _In.IN_ISDIR:
                    tell(Hint.DIRECTORY, os.path.join(directory, os.fsdecode(name)))
                elif mask & (_In.IN_CLOSE_WRITE | _In.IN_MOVED_TO):
                    tell(Hint.CLOSED, os.path.join(directory, os.fsdecode(name)))
                elif mask & _In.IN_CREATE:
                    tell(Hint.CREATED, os.path.join(directory, os.fsdecode(name)))

    def _tell_all_lost(self) -> None:
        with self._lock:
            everyone = {tell: directory for tells in self._watches.values() for tell, directory in tells.items()}
        for tell, directory in everyone.items():
            tell(Hint.LOST, directory)
