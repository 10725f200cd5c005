"""The Makefile is the one entry point: it has every target that is named, and it sets every variable that switches a test on."""

import re
from pathlib import Path
from typing import Final

from tests.docs.fences import ROOT, pages

MAKEFILE: Final = (ROOT / "Makefile").read_text()
CI: Final = ROOT / ".ci" / "run"
OURS: Final = [file for folder in ("tests", "benchmarks") for file in sorted((ROOT / folder).rglob("*.py"))]


def _named(file: Path) -> set[str]:
    """The make targets in commands at the beginning of a line, and in backticks or brackets."""
    commands = re.findall(
        r"(?:^ *|[`(])make (?:--no-print-directory )?([a-z]+(?: [a-z]+)*)(?=[`)]|$| +#| [A-Z]+=)", file.read_text(), re.MULTILINE
    )
    return {target for command in commands for target in command.split()}


def test_every_target_that_is_named_is_there() -> None:
    """The pages, tests, benchmarks and CI name only targets that exist."""
    targets = {target for head in re.findall(r"^([a-z ]+):", MAKEFILE, re.MULTILINE) for target in head.split()}
    named = set[str]().union(*map(_named, [*pages(), *OURS, CI]))
    assert len(named) >= 12, "the pattern still matches"
    assert named <= targets


def test_every_switch_of_a_test_is_turned_by_somebody() -> None:
    """A test that runs only if a variable is set needs something that sets the variable; otherwise nobody runs it."""
    lines = [line for file in OURS for line in file.read_text().splitlines() if "os.environ" in line]
    switches = {name for line in lines for name in re.findall(r"TUNERD_[A-Z_]+", line)}
    assert "TUNERD_SLOW" in switches
    told = MAKEFILE + CI.read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    assert not [name for name in sorted(switches) if name not in told]
