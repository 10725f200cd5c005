"""docs/troubleshooting.md covers every reason, exit code, refusal and log line of tunerd."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from tests.docs.fences import DOCS, ROOT
from tunerd.cli.admin import FAILURE
from tunerd.cli.options import EXIT_BAD_CONFIG
from tunerd.ledger.exceptions import LOCKED, UNREACHABLE
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason

PAGE = (DOCS / "troubleshooting.md").read_text()


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _first_cells(section: str) -> list[str]:
    return re.findall(r"^\| ([^|]*?) \|", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "reasons"),
    [("Calls fail", FailReason), ("A destination is paused", PauseReason), ("A source is not read", IntakeReason)],
)
def test_every_reason_has_a_paragraph(title: str, reasons: type[StrEnum]) -> None:
    """Each reason has a heading with some text below it, and there is no heading for an unknown reason."""
    parts = re.split(r"^### ", _section(title), flags=re.MULTILINE)[1:]
    told = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}
    assert set(told) == {reason.value for reason in reasons}
    assert all(len(text) > 80 for text in told.values())


def test_every_reason_to_try_again_is_in_the_table() -> None:
    """The table has every reason for a retry, and no other."""
    cells = {cell.strip("`") for cell in _first_cells(_section("Calls are tried again"))} - {"reason"}
    assert cells - {"---"} == {reason.value for reason in RetryReason}


def test_every_exit_code_is_in_the_table() -> None:
    """The table has tunerd's own exit codes, and also 0 and click's 2."""
    cells = {cell for cell in _first_cells(_section("Exit codes")) if cell.isdigit()}
    assert cells == {str(code) for code in (0, FAILURE, 2, UNREACHABLE, LOCKED, EXIT_BAD_CONFIG)}


def test_every_refusal_of_the_ledger_is_in_the_table() -> None:
    """Every text of LedgerRefused in the code contains the words of a row."""
    rows = [cell.split("...")[0].split(":")[0].strip() for cell in _first_cells(_section("The ledger"))]
    known = [row for row in rows if row not in ("the line says", "---")]
    said = list(_messages("LedgerRefused"))
    assert len(said) > 7
    assert [text for text in said if not any(row in text for row in known)] == []


def test_every_line_of_the_log_is_in_the_table() -> None:
    """The table has every message that ops/event_logger.py makes of events, and that other code logs, above level debug."""
    said = set(re.findall(r"\bLine\(\"(?:info|warning|error)\", \"([^\"]+)\"", (ROOT / "tunerd/ops/event_logger.py").read_text()))
    for file in sorted((ROOT / "tunerd").rglob("*.py")):
        said |= set(re.findall(r"log\.(?:info|warning|error)\(\s*f?\"(?:\{\w+\} )?([^\"]+)\"", file.read_text()))
    said |= {"the last minute"}
    assert len(said) > 30
    told = _section("Lines of the log")
    assert sorted(line for line in said if f"`{line}`" not in told) == []


def _messages(name: str) -> Iterator[str]:
    """The texts of every `raise NAME(...)`, without the values in them."""
    for file in sorted(Path(ROOT / "tunerd").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name and node.args:
                constants = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
                yield "".join(text for text in constants if isinstance(text, str))
