"""Names of recording files as calls look for them: absolute, and `*`, `?` and `[...]` stand for other characters. Pure.

The name is the key under which the ledger keeps what a call looks for. Text that came from a document is escaped before it
becomes part of a name, so that nothing in it stands for other characters.
"""

import fnmatch
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from tunerd.record import positional_record

FILES: Final = "file:"
"""Source of such wants and of the recordings that are found for them, in the ledger. No configured source has this name."""


def files_source(owner: int) -> str:
    """The same for files that one instance of a fleet alone can open; 0: any can."""
    return f"{FILES}{owner}" if owner else FILES


def is_files_source(source: str) -> bool:
    return source.startswith(FILES)


def held_name(source: str, key: str) -> tuple[str, ...]:
    """What a transaction of a fleet holds while it looks at a key. A file may fit several names, so all names of files are held
    as one."""
    return ("key", source) if is_files_source(source) else ("key", source, key)


NamePart: TypeAlias = "str | re.Pattern[str]"
"""A directory or file: its name, or what its name matches."""

_SPECIAL: Final = re.compile(r"[*?[]")
_ESCAPED: Final = re.compile(r"\[([*?[])\]")


def escaped(text: str) -> str:
    """The pattern that this text alone matches."""
    return _SPECIAL.sub(r"[\g<0>]", text)


def stem(name: str) -> str:
    """The text before the first character that stands for others; empty for the name of one file."""
    special = _SPECIAL.search(_ESCAPED.sub("\0\0\0", name))
    return "" if special is None else name[: special.start()]


def stems_of(path: str) -> Sequence[str]:
    """Every stem that a name may have which this path fits."""
    text = escaped(path)
    return [text[:end] for end in range(1, len(text) + 1)]


@positional_record
class FilePattern:
    """Which files a call looks for."""

    directory: str
    """The deepest directory that every such file is in."""
    parts: tuple[NamePart, ...]
    """The directories below it, and the file."""

    @classmethod
    def parse(cls, name: str) -> "FilePattern":
        *above, last = [_part(text) for text in name.split("/") if text]
        base: list[str] = []
        while above and isinstance(above[0], str):
            base.append(above.pop(0))  # type: ignore[arg-type]
        return cls("/" + "/".join(base), (*above, last))

    @property
    def is_literal(self) -> bool:
        """It names one file."""
        return isinstance(self.parts[0], str) and len(self.parts) == 1

    def matches(self, path: str) -> bool:
        """Whether an absolute path is such a file."""
        below = path.removeprefix(self.directory.rstrip("/") + "/")
        names = below.split("/")
        return below != path and len(names) == len(self.parts) and all(map(fits, self.parts, names))


def fits(part: NamePart, name: str) -> bool:
    """Hidden names are what tools call files that they have not finished: only a pattern that begins with a dot fits them."""
    if isinstance(part, str):
        return part == name
    return part.match(name) is not None and (not name.startswith(".") or part.pattern.startswith(r"(?s:\."))


def _part(text: str) -> NamePart:
    if _SPECIAL.search(_ESCAPED.sub("", text)) is None:
        return _ESCAPED.sub(r"\1", text)
    return re.compile(fnmatch.translate(text))
