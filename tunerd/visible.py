"""Text that came from outside (documents, file names, answers) as it may be shown: on one line, and nothing in it moves a
cursor, starts an escape sequence, turns the direction of writing, or hides. The one place that decides that. Pure.
"""

import re
from typing import Final

_HIDDEN_IN_JSON: Final = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What a serializer writes raw although it is no visible character; below U+0020 it escapes everything itself."""


def visible(text: str) -> str:
    r"""Line ends, control characters (C0 and C1), marks of direction and other invisible ones, and lone surrogates as
    escapes (`\n`, `\x1b`, `\x9b`, `\u202e`); everything else as it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def visible_json(text: str) -> str:
    r"""JSON text with the same characters as `\u009b`: for a reader of JSON it says the same."""
    return text if text.isascii() and "\x7f" not in text else _HIDDEN_IN_JSON.sub(_json_escape, text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()


def _json_escape(found: "re.Match[str]") -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
