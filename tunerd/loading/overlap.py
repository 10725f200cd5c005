"""Whether two sources may read the same file, judged by their directories and patterns alone. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which files a source reads."""

    directory: str
    """Absolute, links resolved."""
    include: Sequence[str]
    exclude: Sequence[str]
    recursive: bool


def may_share(one: Reach, other: Reach) -> bool:
    """Whether some file may be read by both. A pattern that the other excludes word by word is told apart."""
    if one.directory != other.directory and not (_holds(one, other) or _holds(other, one)):
        return False
    ours = [pattern for pattern in one.include if pattern not in other.exclude]
    theirs = [pattern for pattern in other.include if pattern not in one.exclude]
    return any(patterns_meet(a, b) for a in ours for b in theirs)


def _holds(outer: Reach, inner: Reach) -> bool:
    return outer.recursive and inner.directory.startswith(outer.directory.rstrip("/") + "/")


def patterns_meet(one: str, other: str) -> bool:
    """Whether some file name fits both patterns (a [class] counts as any one character, directories as equal)."""
    a, b = (re.sub(r"\[[^]]*\]", "?", pattern.rsplit("/", 1)[-1]) for pattern in (one, other))
    reached, todo = {(0, 0)}, [(0, 0)]
    while todo:
        i, j = todo.pop()
        if i == len(a) and j == len(b):
            return True
        steps: list[tuple[int, int]] = []
        if i < len(a) and a[i] == "*":
            steps += [(i + 1, j)] + ([(i, j + 1)] if j < len(b) else [])
        if j < len(b) and b[j] == "*":
            steps += [(i, j + 1)] + ([(i + 1, j)] if i < len(a) else [])
        if i < len(a) and j < len(b) and (a[i] == b[j] or a[i] == "?" or b[j] == "?"):
            steps.append((i + 1, j + 1))
        fresh = [step for step in steps if step not in reached]
        reached.update(fresh)
        todo += fresh
    return False
