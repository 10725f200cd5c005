"""Looks on disk for the files that calls wait for: what is there, and whether it is finished. Blocking, for a thread.

Which names are looked for, and when, is recording_finder.py's business; who gets a file, the ledger's.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from tunerd.audio.audio_bytes import AudioChanged, AudioUnreadable
from tunerd.audio.local import AudioDirectories
from tunerd.file_identity import FileIdentity
from tunerd.file_pattern import FilePattern, NamePart, fits
from tunerd.record import positional_record
from tunerd.source_tree import OpenTree, SourceTree
from tunerd.writers import Writers

MOST_FILES: Final = 1000
"""The most files of one name that are looked at in one turn."""


@positional_record
class SeenFile:
    """A file that has a name which is looked for."""

    path: str
    identity: FileIdentity
    doubt: str = ""
    """Why it does not look like a finished recording, in words for a person; empty: it does."""


class FileSearch:
    """One turn of looking. Use it with `with`: directories stay open meanwhile."""

    def __init__(self, directories: AudioDirectories) -> None:
        self._directories = directories
        self._open: dict[str, OpenTree] = {}
        self._stack = ExitStack()
        self._writers = Writers()

    def __enter__(self) -> "FileSearch":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, pattern: FilePattern, times: tuple[float, float] | None) -> Sequence[SeenFile]:
        """At most MOST_FILES. `times`: only files that were last written between these. Raises AudioUnreadable where nobody can
        know (the directory cannot be read)."""
        tree, relative = self._directories.place(f"{pattern.directory}/.")
        relative = relative.rstrip(".").rstrip("/")
        inside = self._opened(tree)
        found: list[SeenFile] = []
        for name in _below(inside, relative, pattern.parts):
            path = os.path.join(tree.root, name)
            if (seen := self._look(inside, name, path, pattern, times)) is not None:
                found.append(seen)
            if len(found) == MOST_FILES:
                break
        return found

    def _opened(self, tree: SourceTree) -> OpenTree:
        if tree.root not in self._open:
            self._open[tree.root] = self._stack.enter_context(self._directories.opened_root(tree))
        return self._open[tree.root]

    def _look(
        self, inside: OpenTree, name: str, path: str, pattern: FilePattern, times: tuple[float, float] | None
    ) -> SeenFile | None:
        try:
            at = inside.stat(name, follow_links=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise AudioUnreadable(f"{path} cannot be looked at ({exc.strerror}); give tunerd the right to read it") from exc
        if not stat.S_ISREG(at.st_mode) and not pattern.is_literal:
            return None
        if times is not None and not times[0] <= at.st_mtime <= times[1]:
            return None
        identity = FileIdentity.of(at)
        return SeenFile(path, identity, self._doubt(path, identity))

    def _doubt(self, path: str, identity: FileIdentity) -> str:
        try:
            with self._directories.opened(path, identity) as audio:
                if self._writers.has_writer(audio.fd, path):
                    return f"{path} is open for writing in another program"
                if audio.header().is_unfinished(identity.size):
                    return f"{path} is still being written, by its header"
        except AudioChanged:
            return f"{path} is still being written"
        except AudioUnreadable as exc:
            return str(exc)
        return ""


def _below(inside: OpenTree, directory: str, parts: Sequence[NamePart]) -> Iterator[str]:
    """Names below an open directory, relative to it, that fit the parts one after the other. Links are not followed on the way;
    what cannot be listed raises AudioUnreadable."""
    part, *rest = parts
    if isinstance(part, str):
        names: Sequence[str] = (part,)
    else:
        try:
            with inside.listed(directory) as entries:
                names = sorted(entry.name for entry in entries if fits(part, entry.name))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            where = os.path.join(inside.root, directory)
            raise AudioUnreadable(f"{where} cannot be listed ({exc.strerror}); give tunerd the right to read it") from exc
    for name in names:
        relative = os.path.join(directory, name)
        if rest:
            yield from _below(inside, relative, rest)
        else:
            yield relative
