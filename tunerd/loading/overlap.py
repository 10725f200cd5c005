"""Whether two sources may read the same file, judged by their directories and patterns alone. Pure."""

import re

from tunerd.config import Source


def may_share(one: Source, other: Source) -> bool:
    """Whether both may read some file. Links in paths are resolved. A pattern that the other excludes does not count."""
    if one.path != other.path and not (_holds(one, other) or _holds(other, one)):
        return False
    ours = [pattern for pattern in one.include if pattern not in other.exclude]
    theirs = [pattern for pattern in other.include if pattern not in one.exclude]
    return any(patterns_meet(a, b) for a in ours for b in theirs)


def _holds(outer: Source, inner: Source) -> bool:
    return outer.recursive and inner.path.startswith(outer.path.rstrip("/") + "/")


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
