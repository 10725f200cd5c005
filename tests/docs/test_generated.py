"""The generated pages are up to date, and the configurations in them load."""

import re
import subprocess

import click
import pytest

from tests.docs.fences import DOCS, Fence, fences
from tests.docs.generate import HEADS, heads_of, made_pages, outdated
from tests.docs.manual import man_page
from tests.real_parts import needs_program
from tunerd.cli import main
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources, presets
from tunerd.mapping.functions import FUNCTIONS

_TUNER = "tuner: {workspace_id: 42, agent_remote_identifier: support-bot, api_key: secret}\n"
_SHOWN = [fence for page in sorted((DOCS / "presets").glob("*.md")) for fence in fences(page) if fence.info == "yaml sources"]


def test_the_generated_pages_are_up_to_date() -> None:
    """A change of a function or a preset needs a newly generated page."""
    assert outdated() == [], "say make docs"


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_says_where_from_what_and_what_not(name: str) -> None:
    """The comment block at the top of the preset's YAML has the three paragraphs of the preset's page."""
    heads = heads_of(presets.text(name))
    assert [head for head in HEADS if not heads.get(head)] == []


@pytest.mark.parametrize("shown", _SHOWN, ids=str)
def test_the_configuration_of_a_preset_loads(shown: Fence) -> None:
    """A reader can paste the configuration below `tuner:`."""
    config = load_text(_TUNER + shown.text, str(shown), {})
    assert set(compile_sources(config, {})) == {source.name for source in config.sources}


def test_every_preset_and_function_has_its_place() -> None:
    """Each preset has a page, and functions.md has a line for each function."""
    made = made_pages()
    assert {page.stem for page in made} >= set(presets.names())
    functions = made[DOCS / "functions.md"]
    assert not [one.name for one in FUNCTIONS.values() if f"| `{one.name}(" not in functions]


def test_the_man_page_has_every_command_and_option() -> None:
    """And it says what each of them does, in lines that no reader of man pages has to guess."""
    page = man_page().replace("\\-", "-")
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert f"\n.SS tunerd {name}" in page
        assert not [one for param in command.params for one in param.opts if one.startswith("-") and f"{one}" not in page]


def test_the_commands_page_has_every_option_and_example() -> None:
    """Each command has a section with all of its options, and the block with its examples."""
    page = (DOCS / "commands.md").read_text()
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        section = page.partition(f"\n## tunerd {name}\n")[2].partition("\n## ")[0]
        assert not [one for param in command.params for one in param.opts if one.startswith("--") and one not in section], name
        assert "Example" in section, name


@needs_program("groff", "it formats the man page (Debian: groff-base)")
def test_the_man_page_is_without_warnings() -> None:
    """groff knows every request, and the text of commands is printed as it is."""
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", DOCS / "tunerd.1"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert re.search(r"^ +tunerd run --once --wait 10m ", text, re.MULTILINE)
    assert "[env var: TUNERD_CONFIG;" in re.sub(r"\s+", " ", text)
