"""The fenced blocks of the documentation: the kind of each block, and its place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
DOCS: Final = ROOT / "docs"

_FENCE: Final = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fence:
    page: str
    """Path of the page, relative to the repository."""
    line: int
    """Line number of the first line of content."""
    info: str
    """The text after the backticks, such as `yaml source`."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README, CONTRIBUTING and every page under docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def fences(page: Path) -> Iterator[Fence]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        content = "\n".join(row.removeprefix(found[1]) for row in found[3].splitlines())
        yield Fence(str(page.relative_to(ROOT)), line, found[2].strip(), content + "\n" if content else "")
