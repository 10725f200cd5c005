"""How commands draw: eighty columns, and colours only on a terminal (click removes them elsewhere). What is drawn is in
status_view.py and calls_view.py, the words in admin/phrases.py.
"""

import textwrap
from collections.abc import Iterable
from typing import Final

from tunerd.admin.phrases import in_shell
from tunerd.cli.terminal import say, style
from tunerd.visible import visible

WIDTH: Final = 80
STATE_COLOURS: Final = {"sent": "green", "failed": "red", "due": "yellow", "sending": "cyan", "waiting": "blue"}
_KEPT_BLANK: Final = "\u2800"
"""Stands for a blank at which a line must not be broken, until the line is printed."""


def say_wrapped(text: str, head: str, indent: str | None = None, fg: str | None = None) -> None:
    """Lines of at most eighty columns; a long path or URL stays whole, so that it can be copied."""
    lines: Iterable[str] = textwrap.wrap(
        visible(text), WIDTH, initial_indent=head, subsequent_indent=head if indent is None else indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    for line in lines:
        line = line.replace(_KEPT_BLANK, " ")
        say(style(line, fg=fg) if fg else line)


def unbroken(text: str) -> str:
    """One word of a command that can be copied (phrases.in_shell); lines are never broken at its blanks."""
    return in_shell(text).replace(" ", _KEPT_BLANK)
