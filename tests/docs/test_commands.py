"""Every command that docs and messages name exists, and so do the options that they name."""

from collections.abc import Mapping, Sequence

import click
import pytest

from tests.docs.commands import Named, named_commands
from tunerd.cli import main

_NAMED = list(dict.fromkeys(named_commands()))
_COMMANDS = main.list_commands(click.Context(main))
_PROSE = frozenset({"runs", "is", "itself", "and", "never", "sees", "does", "can", "or", "answers", "from", "needs", "as"})


def _parsed(command: click.Command, words: Sequence[str]) -> Mapping[str, object]:
    """Options and arguments as click separates them. Types are not converted, because words may be placeholders."""
    context = click.Context(command, info_name=command.name)
    values, _, _ = command.make_parser(context).parse_args(list(words))
    return values


def test_the_commands_are_found() -> None:
    """The patterns find the commands; a command that they miss would not be checked."""
    assert len(_NAMED) > 80
    assert {
        "docs/troubleshooting.md",
        "README.md",
        "Dockerfile",
        "systemd/tunerd.service",
        "deb/postinst",
        "k8s/components/plain-sidecar/sidecar.yaml",
    } <= {one.where for one in _NAMED}


def test_every_named_command_exists() -> None:
    """The name is a command, the options are options of it, and a value of a choice is one of the allowed values."""
    for one in _NAMED:
        _check(one)


def _check(one: Named) -> None:
    name, *words = one.words
    if name.startswith("-") or name.rstrip(".,:;") in _PROSE:
        return
    assert name in _COMMANDS, one
    command = main.get_command(click.Context(main), name)
    assert command is not None
    try:
        values = _parsed(command, [word for word in words if word != "..."])
    except click.UsageError as error:
        if isinstance(error, click.BadOptionUsage) and error.option_name == words[-1]:
            return  # an option that is named without its value
        pytest.fail(f"{one}: {error.format_message()}")
    for option in command.params:
        given = values.get(option.name or "")
        for value in given if isinstance(given, list) else [given]:
            if isinstance(option.type, click.Choice) and isinstance(value, str) and not value.isupper() and "{" not in value:
                option.type.convert(value, option, None)
