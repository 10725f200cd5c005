"""Files of this machine as a place of audio: whether a file may be uploaded now, its bytes, and what becomes of it afterwards."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioMissing, AudioUnreadable, NotDisposed, Settled, Unsettled
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.local import AudioDirectories, LocalAudio
from tunerd.call import AfterUpload, AudioPlan
from tunerd.file_identity import FileIdentity
from tunerd.location import stored_location
from tunerd.source_tree import SourceTree
from tunerd.writers import Writers

WHOLE_S: Final = 1.0
"""How long a file has to be unchanged that is whole by its own header."""
QUIET_S: Final = 15.0
"""...that has a format whose header does not say how long it is."""
DOUBTFUL_S: Final = 60.0
"""...that is empty, no audio, not finished by its own header, or open for writing: its writer may still be at work."""
_AHEAD_S: Final = 3600.0
"""How far a file's time may lie ahead, written by a clock that differs: one farther ahead says nothing about its writer."""
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links answer."""
_HAS_WRITER: Final = "a process has it open for writing, perhaps for the next call; let each call record to a file of its own"
_MOST_OF_A_NAME: Final = 1000


class LocalPlace:
    """See AudioPlace."""

    def __init__(self, threads: DirectoryThreads) -> None:
        self._threads = threads

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
        path = stored_location(location).path
        root = AudioDirectories(plan.files).root_of(path)
        return await self._threads.run(root, lambda: _look(path, plan, identity, now))

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        path = stored_location(location).path
        return LocalAudio(AudioDirectories(plan.files), path, FileIdentity.parse(identity), self._threads)

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> NotDisposed | None:
        if plan.after_upload is AfterUpload.KEEP:
            return None
        path, known = stored_location(location).path, FileIdentity.parse(identity)
        root = AudioDirectories(plan.files).root_of(path)
        return await self._threads.run(root, lambda: _dispose(path, plan, known))


def _look(path: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
    expected = FileIdentity.parse(identity) if identity else None
    with AudioDirectories(plan.files).opened(path, expected) as audio:
        unchanged_s = now - audio.identity.mtime_ns / 1e9
        try:
            header = audio.header()
        except AudioChanged:
            return Unsettled(again_in_s=WHOLE_S, why=f"{path} is being written")
        except AudioUnreadable:
            if -_AHEAD_S < unchanged_s < DOUBTFUL_S:
                return _later(path, DOUBTFUL_S - unchanged_s)
            raise
        needed_s = WHOLE_S if header.announced_bytes is not None else QUIET_S
        if header.is_unfinished(audio.identity.size) or Writers().has_writer(audio.fd, path):
            needed_s = DOUBTFUL_S
        if expected is None and -_AHEAD_S < unchanged_s < needed_s:
            return _later(path, needed_s - unchanged_s)
        return Settled(
            identity=str(audio.identity),
            extension=header.extension(os.path.basename(path)),
            size=audio.identity.size,
            channels=header.channels,
        )


def _later(path: str, left_s: float) -> Unsettled:
    return Unsettled(again_in_s=min(left_s, 5.0), why=f"{path} may still be written: it was changed a moment ago")


def _dispose(path: str, plan: AudioPlan, identity: FileIdentity) -> NotDisposed | None:
    """The file is first moved out of its writers' reach, and looked at again there: what is not the uploaded one is put back."""
    try:
        with _folder_of(path, plan) as (folder, name), _target_of(path, plan, folder) as target:
            aside = f".tunerd-uploaded-{identity.inode:x}-{identity.mtime_ns:x}"
            if not os.access(aside, os.F_OK, dir_fd=folder):  # else a process that was killed here has left it
                with AudioDirectories(plan.files).opened(path, identity) as audio:
                    if Writers().has_writer(audio.fd, path):
                        return NotDisposed(why=f"{path} stays: {_HAS_WRITER}")
                os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                _check_aside(folder, aside, path, identity)
            except (OSError, AudioChanged):
                _move(folder, aside, folder, name)
                raise
            try:
                if plan.after_upload is AfterUpload.DELETE:
                    os.unlink(aside, dir_fd=folder)
                else:
                    _move(folder, aside, target, name)
            except OSError:
                _rename_to_free(aside, name, folder, folder)
                raise
    except AudioMissing:
        return None
    except AudioChanged as exc:
        return NotDisposed(why=str(exc), is_final=True)
    except AudioUnreadable as exc:
        return NotDisposed(why=str(exc))
    except OSError as exc:
        return NotDisposed(why=f"{path} stays: {_advice(exc)}")
    return None


def _check_aside(folder: int, aside: str, path: str, identity: FileIdentity) -> None:
    """Whether it is the uploaded file (to rename it changed only its ctime), and nobody can write to it any more. Raises
    AudioChanged and OSError."""
    fd = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
    try:
        if Writers().has_writer(fd, path):
            raise AudioChanged(f"{path} stays: {_HAS_WRITER}")
        at = FileIdentity.of(os.fstat(fd))
        if replace(at, ctime_ns=identity.ctime_ns) != identity:
            raise AudioChanged(f"{path} stays: it was overwritten, or another file took its place")
    finally:
        os.close(fd)


def _advice(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return "`move_to` is on another file system; choose a directory beside it"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        what = "where `move_to` wants a directory there is something else, or a symbolic link"
        return f"{what}; choose another directory, or move that away"
    return f"{os.strerror(error.errno or errno.EIO)}; give tunerd the right to write in its directory, and in that of `move_to`"


@contextmanager
def _folder_of(path: str, plan: AudioPlan) -> Iterator[tuple[int, str]]:
    """The descriptor of the file's directory, and its name there. Raises AudioUnreadable and OSError."""
    directories = AudioDirectories(plan.files)
    tree, relative = directories.place(path)
    directory, name = os.path.split(relative)
    with ExitStack() as stack:
        inside = stack.enter_context(directories.opened_root(tree))
        try:
            folder = stack.enter_context(inside.folder(directory))
        except FileNotFoundError:
            raise AudioMissing(f"there is no directory of {path}") from None
        yield folder, name


@contextmanager
def _target_of(path: str, plan: AudioPlan, folder: int) -> Iterator[int]:
    """The descriptor of the directory that the file is moved to, or of its own. What is wrong with it is found before the file is
    touched: one that was put back has another time of change, and would not be known again. Raises OSError."""
    if plan.after_upload is AfterUpload.DELETE:
        yield folder
        return
    directory = os.path.normpath(os.path.join(os.path.dirname(path), plan.move_to))
    with _made(directory, AudioDirectories(plan.files)) as target:
        if os.fstat(target).st_dev != os.fstat(folder).st_dev:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), directory)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=target):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
        yield target


@contextmanager
def _made(directory: str, directories: AudioDirectories) -> Iterator[int]:
    """The descriptor of a directory, made if it is missing. Below a directory of recordings no link is followed, as others may
    write there; elsewhere the configuration chose the whole path. Raises OSError."""
    try:
        tree, below = directories.place(f"{directory}/")
    except AudioUnreadable:
        os.makedirs(directory, exist_ok=True)
        tree, below = SourceTree(directory), ""
    with tree.opened() as inside, inside.folder(below, make=True) as target:
        yield target


def _move(folder: int, aside: str, target: int, name: str) -> None:
    """Never over another file."""
    for number in range(_MOST_OF_A_NAME):
        place = name if number == 0 else f"{number}-{name}"
        try:
            _rename_to_free(aside, place, folder, target)
        except FileExistsError:
            continue
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _rename_to_free(name: str, new: str, folder: int, target: int) -> None:
    """Rename, never over another file. Raises OSError."""
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.access(new, os.F_OK, dir_fd=target, follow_symlinks=False):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=target)
    else:
        os.unlink(name, dir_fd=folder)
