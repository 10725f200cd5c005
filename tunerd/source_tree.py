"""A source's directory as descriptors, all of it here because links and kept directories are walked together: nothing below its
root is reached by a path that a link could turn elsewhere.

Each directory is opened from the descriptor of its parent, and the kernel follows no link. A link that stays inside is
read here and walked again from the root's descriptor; one that leaves raises LeavesSource. Synchronous, for worker
threads. Which names belong to a source is for scan.py, what is in a file for read.py.

Descriptors keep a file system mounted, so none outlives the work that needs it: directories stay open while somebody
uses the tree, at most KEPT_DIRECTORIES of them, and are compared with what stands at their name each time they are used.
"""

import errno
import os
import stat
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

KEPT_DIRECTORIES: Final = 32
MOST_LINKS: Final = 40
"""Links followed for one path, as many as Linux does."""

_LISTED: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PASSED: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

T = TypeVar("T")
Identity = tuple[int, int]
"""Device and inode."""


class LeavesSource(OSError):
    """A link that leads out of the source's directory stands in the way."""

    why: Final = "is a symbolic link that leaves the directory"

    def __init__(self, path: str) -> None:
        super().__init__(errno.EXDEV, self.why, path)


class SourceTree:
    """The directory of one source. Use: `with tree.opened() as inside: inside.open("a/b.json")`, from any thread."""

    def __init__(self, root: str, kept_directories: int = KEPT_DIRECTORIES) -> None:
        """The root may be a link, and what it leads to may change: each `opened` looks."""
        self.root = os.path.abspath(root)
        self._kept = kept_directories
        self._lock = threading.Lock()
        self._now: OpenTree | None = None

    @contextmanager
    def opened(self) -> Iterator["OpenTree"]:
        """The directory that stands at the root's path now; inside the `with` it stays the same one, whatever takes its
        place (`is_in_place`). Raises OSError where there is none."""
        at = os.stat(self.root)
        with self._lock:
            tree = self._now
            if tree is None or tree.identity != (at.st_dev, at.st_ino):
                tree = self._now = OpenTree(self.root, self._kept)
            tree.users += 1
        try:
            yield tree
        finally:
            with self._lock:
                tree.users -= 1
                if tree.users == 0:
                    tree.close()
                    if self._now is tree:
                        self._now = None


class _Folder:
    """An open directory. It is closed when it is neither kept nor used."""

    __slots__ = ("fd", "identity", "is_kept", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            at = os.fstat(fd)
        except OSError:
            os.close(fd)
            raise
        self.identity: Identity = (at.st_dev, at.st_ino)
        self.is_kept, self.users = True, 1


class OpenTree:
    """What is below one root. Paths are relative to it, `""` is the root itself. Raises OSError, and LeavesSource."""

    def __init__(self, root: str, kept_directories: int) -> None:
        self.root = root
        self.users = 0
        self._root = _Folder(_open_directory(root))
        self._kept_directories = kept_directories
        self._lock = threading.Lock()
        self._folders: OrderedDict[str, _Folder] = OrderedDict()
        """Relative path -> directory, the one that was used last at the end."""

    @property
    def identity(self) -> Identity:
        return self._root.identity

    def is_in_place(self) -> bool:
        """Whether the root's path still leads to this directory (no mount came or went, nobody replaced it)."""
        try:
            at = os.stat(self.root)
        except OSError:
            return False
        return (at.st_dev, at.st_ino) == self.identity

    def close(self) -> None:
        """For SourceTree: nobody uses it."""
        for folder in (*self._folders.values(), self._root):
            os.close(folder.fd)
        self._folders.clear()

    def open(self, relative: str) -> int:
        """A descriptor for reading. It never blocks; whether it is a regular file is for the caller to see (fstat)."""

        def act(fd: int, name: str) -> int | None:
            try:
                return os.open(name, _FILE, dir_fd=fd)
            except OSError as exc:
                if exc.errno != errno.ELOOP:
                    raise
                return None

        return self._reach(relative, act)

    def stat(self, relative: str, *, follow_links: bool = False) -> os.stat_result:
        """Of the name itself, or with `follow_links` of what it leads to inside. Links above the name are followed
        either way."""

        def act(fd: int, name: str) -> os.stat_result | None:
            at = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return None if follow_links and stat.S_ISLNK(at.st_mode) else at

        return self._reach(relative, act)

    @contextmanager
    def folder(self, relative: str, *, make: bool = False) -> Iterator[int]:
        """The descriptor of a directory to list, rename and unlink in (as `dir_fd`; it gives no right to read). No link
        is followed at all: NotADirectoryError. With `make` directories that are missing are made."""
        opened: list[_Folder] = []
        try:
            folder, done = self._root, ""
            for name in _parts(relative):
                if name == "..":
                    raise LeavesSource(os.path.join(self.root, relative))
                done = f"{done}/{name}" if done else name
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=folder.fd)
                opened.append(folder := self._child(folder, done, name))
            yield folder.fd
        finally:
            self._let_go(opened)

    def listed(self, relative: str) -> "Listed":
        """The entries of a directory. No link is followed on the way."""
        with self.folder(relative) as folder:
            return Listed(os.open(".", _LISTED, dir_fd=folder))  # of its own: whoever shares one shares its place in the list

    def _reach(self, relative: str, act: Callable[[int, str], T | None]) -> T:
        """`act` on the last component, with the descriptor of its directory; None: it is a link, which is followed."""
        todo, done, folders, links = deque(_parts(relative) or ["."]), [""], [self._root], 0
        try:
            while True:
                name = todo.popleft()
                if name == "..":
                    if len(folders) > 1:
                        self._let_go([folders.pop()])
                        done.pop()
                    else:  # above the root; it may come back
                        todo = self._inside(os.path.join(os.path.realpath(self.root), "..", *todo), relative)
                    name = "."
                if not todo:
                    if (found := act(folders[-1].fd, name)) is not None:
                        return found
                elif name == ".":
                    continue
                else:
                    below = f"{done[-1]}/{name}" if done[-1] else name
                    try:
                        folders.append(self._child(folders[-1], below, name))
                        done.append(below)
                        continue
                    except NotADirectoryError:
                        pass  # a link, perhaps
                links += 1
                target = _target(name, folders[-1].fd, os.path.join(self.root, relative))
                if not target.startswith("/"):
                    todo.extendleft(reversed(_parts(target)))
                else:
                    todo.extendleft(reversed(self._inside(target, relative)))
                    self._let_go(folders[1:])
                    folders, done = folders[:1], done[:1]
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.path.join(self.root, relative))
                if not todo:
                    todo.append(".")
        finally:
            self._let_go(folders[1:])

    def _inside(self, path: str, relative: str) -> "deque[str]":
        """The components below the root of a path that begins elsewhere. Only a hint where to walk: by the time it is
        walked, from the root's descriptor, it may be wrong, and is nothing then but a name that is not there."""
        real_root, real = os.path.realpath(self.root).rstrip("/") + "/", os.path.realpath(path)
        if not (real + "/").startswith(real_root):
            raise LeavesSource(os.path.join(self.root, relative))
        return deque(_parts(real[len(real_root) :]) or ["."])

    # The open directories.

    def _child(self, parent: _Folder, path: str, name: str) -> _Folder:
        """Pinned: give it back with `_let_go`. Raises NotADirectoryError for whatever is no directory, links too."""
        with self._lock:
            kept = self._folders.get(path)
            if kept is not None:
                kept.users += 1
                self._folders.move_to_end(path)
        if kept is not None:
            try:
                at = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
                if (at.st_dev, at.st_ino) == kept.identity:
                    return kept
            except OSError:
                self._let_go([kept])
                raise
            self._let_go([kept])
        try:
            folder = _Folder(_open_directory(name, os.O_NOFOLLOW, dir_fd=parent.fd))
        except OSError as exc:
            if exc.errno != errno.ELOOP:  # what some systems say of a link instead
                raise
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.path.join(self.root, path)) from exc
        with self._lock:
            dropped = [old for old in [self._folders.pop(path, None)] if old is not None]
            self._folders[path] = folder
            while len(self._folders) > self._kept_directories:
                dropped.append(self._folders.popitem(last=False)[1])
            for old in dropped:
                old.is_kept = False
            unused = [old for old in dropped if old.users == 0]
        for old in unused:
            os.close(old.fd)
        return folder

    def _let_go(self, folders: "list[_Folder]") -> None:
        with self._lock:
            for folder in folders:
                folder.users -= 1
            unused = [folder for folder in folders if folder.users == 0 and not folder.is_kept]
        for folder in unused:
            os.close(folder.fd)


class Listed:
    """A directory while it is listed: its descriptor, and its entries as os.scandir gives them (their `path` is only their
    name, and what they are asked is asked by descriptor). Use it with `with`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self._entries = os.scandir(fd)
        except OSError:
            os.close(fd)
            raise

    def __enter__(self) -> "Listed":
        return self

    def __iter__(self) -> "Iterator[os.DirEntry[str]]":
        return self._entries

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()
        os.close(self.fd)


def _open_directory(name: str, flags: int = 0, dir_fd: int | None = None) -> int:
    """For reading, which also mounts what is mounted on demand; else, without the right to list it, to pass through it."""
    try:
        return os.open(name, _LISTED | flags, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, _PASSED | flags, dir_fd=dir_fd)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _target(name: str, fd: int, path: str) -> str:
    try:
        return os.readlink(name, dir_fd=fd)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from exc
