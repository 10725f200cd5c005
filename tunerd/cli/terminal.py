"""Everything that commands print: `say` writes one line, in which text from outside can only be visible characters, `style`
colours a part of a line, `say_json` writes JSON, and `paint` fills a terminal with lines. Nothing else in cli/ writes to stdout
or stderr.
"""

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from tunerd.ops.encoding import encoded
from tunerd.visible import visible, visible_json

_OURS: Final = f"\x1b{secrets.token_hex(8)}"
"""Stands for the ESC of our own colours until the line is written; text from outside cannot contain it."""
_SCREEN_ON: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, no cursor, and long lines are cut at the right margin."""
_SCREEN_OFF: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

_collecting: list[list[str]] = []


def say(line: str = "", *, err: bool = False) -> None:
    """One line; invisible characters are escaped."""
    shown = "\x1b".join(visible(part) for part in line.split(_OURS))
    if _collecting and not err:
        _collecting[-1].append(shown)
    else:
        click.echo(shown, err=err)


@contextmanager
def collected() -> Iterator[list[str]]:
    """The lines that are said on stdout meanwhile, for `paint`; they are not printed."""
    lines: list[str] = []
    _collecting.append(lines)
    try:
        yield lines
    finally:
        _collecting.remove(lines)


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


def say_json_line(value: object) -> None:
    """The same on one line, for a stream of answers."""
    click.echo(encoded(value))


def say_plain_json(value: Any) -> None:
    """JSON of anything a document can contain: lone surrogates as escapes, and numbers of any size."""
    click.echo(visible_json(json.dumps(value, indent=2)))


def open_screen() -> None:
    """Leave what is on the terminal as it is, and show `paint`'s lines instead until `close_screen`."""
    _write(_SCREEN_ON)


def close_screen() -> None:
    _write(_SCREEN_OFF)


def paint(lines: Sequence[str]) -> None:
    """Show these collected lines, from the top of the screen."""
    context = click.get_current_context(silent=True)
    plain = context is not None and context.color is False  # NO_COLOR
    shown = [click.unstyle(line) if plain else line for line in lines]
    _write(_HOME + "\n".join(f"{line}{_CLEAR_LINE}" for line in shown) + _CLEAR_BELOW)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
