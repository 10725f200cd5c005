"""What rules see of the place of a document: the root name `file`, and the groups of `path_groups`."""

import posixpath
from collections.abc import Mapping
from typing import Any

from tunerd.call import Origin
from tunerd.mapping.patterns import Pattern


def file_root(origin: Origin, root: str) -> dict[str, Any]:
    """The root name `file`.

    path (absolute), relative (to the source's `path`), dir (the directory part of `relative`: "" for a file in
    the source's directory itself, so that a key made of it is missing there), name, stem (the name without its ending, and
    without .gz), offset (bytes before the document), mtime (epoch ms).
    """
    relative = _relative(origin.path, root)
    name = posixpath.basename(relative)
    return {
        "path": origin.path,
        "relative": relative,
        "dir": posixpath.dirname(relative),
        "name": name,
        "stem": posixpath.splitext(name.removesuffix(".gz"))[0],
        "offset": origin.offset,
        "mtime": origin.mtime_ns // 1_000_000,
    }


def path_groups(pattern: Pattern | None, origin: Origin, root: str) -> Mapping[str, str | None]:
    """The named groups of the pattern, searched in the relative path; empty where it is not found."""
    return (pattern.groups(_relative(origin.path, root)) or {}) if pattern is not None else {}


def _relative(path: str, root: str) -> str:
    start = root.rstrip("/") + "/"
    return path[len(start) :] if path.startswith(start) else posixpath.basename(path)
