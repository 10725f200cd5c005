"""Every example of docs/rules.md is executed, and the page covers every repair and field."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.docs.examples import Example, examples, is_equal, result, shown
from tests.docs.fences import DOCS, fences
from tunerd.cli import main
from tunerd.tuner_fields import RECORDING_FIELDS, ROW_FIELDS, RULE_FIELDS

RULES = DOCS / "rules.md"
EXAMPLES = list(examples(fences(RULES)))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_gives_what_it_shows(example: Example) -> None:
    """The result on the page is what the code returns."""
    got = result(example)
    assert is_equal(got, example.wanted), f"{example}: it gives {shown(got)}"


def test_the_page_is_full_of_examples() -> None:
    """The parser finds the examples; an example that it misses would not be checked."""
    assert len(EXAMPLES) > 100
    assert {example.wanted.info for example in EXAMPLES} >= {"json value", "json rows", "json send-calls", "text problem"}


def test_every_repair_of_the_timeline_is_in_the_table() -> None:
    """The table has every repair that is counted."""
    decided = (DOCS / "decisions" / "timeline.md").read_text()
    names = re.search(r"Repairs: (.*?)\.\n\n", decided, re.DOTALL)
    assert names is not None
    told = RULES.read_text().partition("## The timeline")[2]
    assert not [name for name in re.findall(r"`(\w+)`", names[1]) if f"`{name}`" not in told]


def test_every_field_has_its_place() -> None:
    """The tables mention every field of calls and manifests, and every member of rows."""
    text = RULES.read_text()
    hardly_used = {"recording_s3_multi_channel", "recording_s3_caller_channel"}
    assert not [
        name for name in (RULE_FIELDS | RECORDING_FIELDS.keys() | ROW_FIELDS.keys()) - hardly_used if f"`{name}`" not in text
    ]


def test_the_configuration_with_tests_passes_its_tests(tmp_path: Path) -> None:
    """`tunerd test` succeeds on the page's own example."""
    (shown,) = [fence for fence in fences(RULES) if fence.info == "yaml config" and "\ntests:" in fence.text]
    file = tmp_path / "config.yaml"
    file.write_text(shown.text)
    done = CliRunner().invoke(main, ["test", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert "3" in done.output
