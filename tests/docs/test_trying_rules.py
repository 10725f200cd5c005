"""The output in docs/trying-rules.md is what the commands print. If TUNERD_WRITE_DOCS is set, the test rewrites the page."""

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.docs.fences import DOCS, fences
from tunerd import __version__
from tunerd.cli import main
from tunerd.config import Example
from tunerd.config.settings import keys_of

PAGE = DOCS / "trying-rules.md"
_CONSOLE = re.compile(r"```console\n\$ tunerd ([^\n]*)\n(.*?)```", re.DOTALL)


def _printed(arguments: str, directory: Path) -> str:
    result = CliRunner().invoke(main, shlex.split(arguments), catch_exceptions=False)
    told = result.output.replace(f"{directory}/", "").replace(str(directory), ".")
    return told.replace(f"tunerd/{__version__}", "tunerd/VERSION")


def test_the_page_shows_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page prints what the page shows, in a directory with the files of the page."""
    monkeypatch.chdir(tmp_path)
    for name in ("calls", "egress"):
        (tmp_path / name).mkdir()
    for fence in fences(PAGE):
        if " file " in fence.info:
            (tmp_path / fence.info.rpartition(" ")[2]).write_text(fence.text)
    text = PAGE.read_text()
    made = _CONSOLE.sub(lambda found: f"```console\n$ tunerd {found[1]}\n{_printed(found[1], tmp_path)}```", text)
    if os.environ.get("TUNERD_WRITE_DOCS"):
        PAGE.write_text(made)
    assert len(_CONSOLE.findall(text)) == 5
    assert made == text


def test_every_key_of_an_example_is_in_the_table() -> None:
    """The table has every key of an example, and no other."""
    assert re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE) == list(keys_of(Example))
