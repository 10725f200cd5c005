"""Nothing in README is written by hand: its output is the demo's, its configuration loads, its links lead somewhere."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_DEMO = re.compile(r"(<!-- demo:.*?-->\n```\n)(.*?)(```\n<!-- /demo -->)", re.DOTALL)
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_TIMES = re.compile(r"\b\d+ ms\b")


async def _demo() -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", "demo", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_the_output_shown_is_what_the_demo_prints() -> None:
    """The block in README is the demo's own output, except for the milliseconds."""
    printed = await _demo()
    found = _DEMO.search(README.read_text())
    assert found is not None
    if os.environ.get("TUNERD_WRITE_README"):
        README.write_text(_DEMO.sub(lambda match: match[1] + printed + match[3], README.read_text()))
        return
    assert _TIMES.sub("N ms", found[2]) == _TIMES.sub("N ms", printed), "say make readme"


def test_the_configuration_shown_loads() -> None:
    """A reader can paste the configuration: it loads, and its rules compile."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        config = load_text(block, "README.md", {})
        assert set(compile_sources(config, {})) == {source.name for source in config.sources}


def test_every_link_leads_somewhere() -> None:
    """Each relative link in README, CONTRIBUTING and docs/ names a file that exists."""
    pages = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", _CODE.sub("", page.read_text()))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not dead
