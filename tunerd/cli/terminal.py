"""Everything that commands print: `say` writes one line, in which text from outside can only be visible characters, `style`
colours a part of a line, `say_json` writes JSON. Nothing else in cli/ writes to stdout or stderr.
"""

import json
import secrets
from typing import Any, Final

import click

from tunerd.ops.encoding import encoded
from tunerd.visible import visible, visible_json

_OURS: Final = f"\x1b{secrets.token_hex(8)}"
"""Stands for the ESC of our own colours until the line is written; text from outside cannot contain it."""


def say(line: str = "", *, err: bool = False) -> None:
    """One line; invisible characters are escaped."""
    click.echo("\x1b".join(visible(part) for part in line.split(_OURS)), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """A text of several lines."""
    for line in text.split("\n"):
        say(line, err=err)


def style(text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
    """The text in a colour, for `say`."""
    return click.style(visible(text), fg=fg, bold=bold).replace("\x1b", _OURS)


def say_json(value: object) -> None:
    """The JSON of an answer; file names need not be UTF-8."""
    click.echo(encoded(value, indent=True))


def say_plain_json(value: Any) -> None:
    """JSON of anything a document can contain: lone surrogates as escapes, and numbers of any size."""
    click.echo(visible_json(json.dumps(value, indent=2)))
