"""`--help` of every command: what it does, its options, and an example that can be typed as it stands."""

import re

import click
import pytest
from click.testing import CliRunner

from tunerd.cli import main

COMMANDS = main.list_commands(click.Context(main))  # type: ignore[attr-defined]


def shown(*words: str) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
    assert result.exit_code == 0
    return result.output


def examples(name: str, text: str) -> list[str]:
    """The lines below `Example` that call this command, up to the first blank one."""
    _, _, below = re.sub(r"(?m)^ +$", "", text).partition("Example")
    return re.findall(rf"(?m)^ +(tunerd {name}\b.*)$", below)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_with_an_example(name: str) -> None:
    """A line of its own that begins with the command itself."""
    text = shown(name)
    assert f"Usage: main {name}" in text
    assert re.search(r"(?m)^ +Examples?\b.*:", text)
    assert examples(name, text), text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_an_example_are_there(name: str) -> None:
    """An example that was forgotten when an option was renamed would be worse than none."""
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for line in examples(name, shown(name)):
        own = re.split(r" [|>&#]|  +", line)[0]
        assert {word.partition("=")[0] for word in own.split() if word.startswith("-")} <= known, line


def test_the_table_of_commands_is_the_one_that_is_shown() -> None:
    """`tunerd --help` names each with a line."""
    text = CliRunner().invoke(main, ["--help"]).output
    assert re.findall(r"(?m)^  ([a-z][a-z-]+)  +[A-Z]", text) == COMMANDS
