"""How commands draw: eighty columns, colours only on a terminal (click removes them elsewhere), names, times, and words that
can be copied into a shell. What is drawn is in status_view.py and calls_view.py.
"""

import os
import shlex
import textwrap
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from tunerd.admin.answer_types import CallRow
from tunerd.cli.terminal import say, style
from tunerd.outcome import PauseReason
from tunerd.statuses import PauseStatus
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


def in_shell(text: str) -> str:
    """One word of a command that can be copied, whatever a file or a call is called: quoted, and never broken at a blank."""
    if text.isprintable():
        return shlex.quote(text).replace(" ", _KEPT_BLANK)
    octets = "".join(chr(octet) if 32 < octet < 127 and octet not in b"'\\" else f"\\x{octet:02x}" for octet in os.fsencode(text))
    return f"$'{octets}'"


def name_of(call: CallRow) -> str:
    """The id of a call; its place, if the mapping gave it none."""
    return visible(call.call_id or place(call.path, call.offset))


def why(call: CallRow) -> str:
    return ": ".join(part for part in (call.where, call.detail) if part) or "no details are known"


def place(path: str, offset: int) -> str:
    return f"{path}@{offset}" if offset else path


def next_probe(pause: PauseStatus, now: float) -> str:
    if pause.reason is PauseReason.OPERATOR:
        return "; end it with: tunerd resume"
    return "" if pause.next_probe_at is None else f"; next probe in {span(pause.next_probe_at - now)}"


def count_of(count: int, one: str) -> str:
    """`1 call`, `1,234 calls`."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def span(seconds: float) -> str:
    """`12 s`, `4 min`, `3 h 12 min`, `2 d 5 h`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def ago(seconds: float) -> str:
    return f"{span(seconds)} ago"


def instant(at: float) -> str:
    """UTC to the second, as in the log."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
