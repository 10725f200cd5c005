"""What `include:` of a source has to be, so that it reads its files and not those of another source. Pure."""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import takewhile
from typing import Final

from tunerd.config import Source
from tunerd.config.settings import keys_of

_DEFAULT_INCLUDE: Final = keys_of(Source)["include"].default
_WORD_END: Final = re.compile(r"(?<=[A-Za-z0-9])[_.-]")
_ENDING: Final = re.compile(r"\.[A-Za-z]+(?:\.gz)?$")


def common_directory(paths: Sequence[str]) -> str:
    directories = {os.path.dirname(path) for path in paths}
    return directories.pop() if len(directories) == 1 else os.path.commonpath(sorted(directories))


def patterns(root: str, mine: Sequence[str], others: Sequence[str]) -> list[str]:
    """What `include:` has to be so that the source reads its files and not those of others; empty: its default will do."""
    names = [os.path.basename(path) for path in mine]
    strangers = [os.path.basename(path) for path in others if path.startswith(root.rstrip("/") + "/")]

    def good(wanted: Sequence[str]) -> bool:
        def read(name: str) -> bool:
            return any(fnmatch(name, one) for one in wanted)

        return all(map(read, names)) and not any(map(read, strangers))

    if good(_DEFAULT_INCLUDE):
        return []
    endings = sorted({"*" + os.path.splitext(name)[1] for name in names})
    if good(endings):
        return endings
    start = "".join(chars[0] for chars in takewhile(lambda chars: len(set(chars)) == 1, zip(*names, strict=False)))
    narrowed = [f"{start}{ending}" for ending in endings]
    return narrowed if start and good(narrowed) else _globs(sorted(set(names)), strangers)


def _globs(names: Sequence[str], strangers: Sequence[str]) -> list[str]:
    """A pattern for each kind of name: words that differ, or have digits as ids and times do, are a star. Other names stay
    whole."""
    found: list[str] = []
    left = list(names)
    while left:
        name = left[0]
        covers: dict[str, int] = {}
        for pattern, rest in _abridged(name):
            count = sum(fnmatch(one, pattern) for one in left)
            if (count > 1 or re.search(r"\d", rest)) and not any(fnmatch(one, pattern) for one in strangers):
                covers[pattern] = count
        # Of those that cover most the longest: it fits the fewest names that were not seen.
        pattern = max(covers, key=lambda one: (covers[one], len(one)), default=name)
        found.append(pattern)
        left = [one for one in left if one != name and not fnmatch(one, pattern)]
    return found


def _abridged(name: str) -> Iterator[tuple[str, str]]:
    """The name with a star for its last words (the ending stays), or for its first ones; and the text that the star replaces."""
    ending = _ENDING.search(name)
    stem = name[: ending.start()] if ending else name
    for word in _WORD_END.finditer(stem):
        yield f"{stem[: word.end()]}*{name[len(stem) :]}", stem[word.end() :]
        yield f"*{name[word.start() :]}", stem[: word.start()]
