"""What people write that come from other languages, and what to write instead: hints for an expression that is none. Pure.

A hint is a guess from the text around the place where the parser gave up; no hint is better than a wrong one.
"""

import re
from typing import Final

_ARITHMETIC: Final = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}
_WORDS: Final = {"and": "&&", "or": "||"}
_BEGINS: Final = re.compile(r"(?:^|[(,\[{!&|?:=<>])\s*$")
"""Before the first character of an expression."""
_PATH: Final = re.compile(r"(?:\w+\.)*\w+$")
_IN_BRACKETS: Final = re.compile(r"""(?P<quote>['"]?)(?P<name>[A-Za-z_][\w -]*)(?P=quote)\s*\]""")
_BRACED: Final = re.compile(r"\$?\{\{?\s*([\w.]+)\s*\}\}?")
_PLAIN: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def hint(text: str, at: int) -> str:
    """`: write ...` for the text at this offset; empty where there is no likely suggestion."""
    before, after = text[:at], text[at:]
    if (braced := _BRACED.fullmatch(text.strip())) is not None:
        return f": write it without the braces: `{braced[1]}`"
    word = re.match(r"\w+", after)
    if word is not None and word[0] in _WORDS and before.strip():
        return f": write `{_WORDS[word[0]]}`"
    if re.search(r"(?:^|[^\w.])not\s+$", before):
        return ": write `!` for not"
    if before.endswith("[") and (inside := _IN_BRACKETS.match(after)) is not None:
        return f": write `{_last_path(before[:-1])}.{_member(inside['name'])}`"
    if before.endswith(".") and (number := re.match(r"\d+", after)) is not None:
        return f": write `{_last_path(before[:-1])}[{number[0]}]`"
    match after[:1]:
        case "$" | "." if _BEGINS.search(before):
            return ": a path begins with a name: `doc.id`"
        case "?":
            return ": write `if(condition, a, b)`"
        case "-" if (dashed := re.match(r"(?:-\w+)+", after)) is not None and (path := _PATH.search(before)) is not None:
            holder, dot, name = path[0].rpartition(".")
            return f': a name with a dash stands in double quotes: `{holder}{dot}"{name}{dashed[0]}"`; `subtract(a, b)` is a - b'
        case "+" | "-" | "*" | "/" as sign if before.strip():
            return f": write `{_ARITHMETIC[sign]}(a, b)`"
    return ""


def _last_path(before: str) -> str:
    found = _PATH.search(before)
    return found[0] if found is not None else ""


def _member(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f'"{name}"'
