"""Every page, heading and file that the documentation links to or names exists, and every page is linked."""

import re
from fnmatch import filter as filter_names
from pathlib import Path

from tests.docs.fences import DOCS, ROOT, pages

_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:tunerd|tests|docs|benchmarks|systemd|deb|\.ci)/[\w./*-]*|[\w/-]+\.py)(?=`|: )")
"""`tests/bad_configs/`, `ops/logs.py`, `commands/send.py: claim`, `tests/ledger/test_contract_*.py`."""


def _links(page: Path) -> list[tuple[Path, str]]:
    """Relative links: the page that each leads to, and its heading ("" for none)."""
    found = [target.partition("#") for target in _LINK.findall(_CODE.sub("", page.read_text())) if "://" not in target]
    return [((page.parent / path).resolve() if path else page, heading) for path, _, heading in found]


def _headings(page: Path) -> set[str]:
    """The anchors that a Markdown renderer gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def _files() -> list[str]:
    """The files of the repository, with paths from its root."""
    folders = ("tunerd", "tests", "docs", "benchmarks", "systemd", "deb", ".ci")
    found = [*ROOT.glob("*.*"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    return [f"/{file.relative_to(ROOT)}" for file in found if "__pycache__" not in file.parts]


def test_every_file_that_is_named_is_there() -> None:
    """A file name in backticks is a path from the root, or the end of a module's path (`intake/source_reader.py`, `app.py`)."""
    files, named = _files(), []
    for page in pages():
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        named += [(page.name, found) for found in _FILE.findall(text)]
    assert len(named) > 20, "the pattern still matches"
    assert not [(page, name) for page, name in named if not filter_names(files, f"*/{name.rstrip('/')}")]


def test_every_heading_that_is_linked_to_is_there() -> None:
    """A link to a missing heading would silently lead to the top of the page."""
    dead = [
        (page.name, f"{target.name}#{heading}")
        for page in pages()
        for target, heading in _links(page)
        if heading and target.exists() and heading not in _headings(target)
    ]
    assert not dead


def test_every_page_is_linked_to() -> None:
    """No page is unreachable; nobody would read it."""
    linked = {target for page in pages() for target, _ in _links(page) if target != page}
    reached = {target / "README.md" if target.is_dir() else target for target in linked}
    assert not [str(page.relative_to(ROOT)) for page in sorted(DOCS.rglob("*.md")) if page.resolve() not in reached]
