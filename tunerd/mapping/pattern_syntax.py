"""How patterns are written: Python's syntax, in the words of RE2; and error messages for what RE2 does not know. Pure.

Patterns mean what they mean in Python: \\d, \\w and \\s know all scripts (RE2's own know ASCII), \\Z is the end, {,3} is a
repeat. docs/rules.md lists what differs all the same: `$` and \\b.
"""

import re
from typing import Final

_SPACES: Final = (
    r"\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
)  # fmt: skip
_NO_SPACES: Final = (
    r"\x00-\x08\x0e-\x1b\x21-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff}"
)
_WORD: Final = r"\p{L}\p{N}_"
_NO_WORD: Final = (
    r"\p{M}\p{S}\p{Z}\p{C}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\x{203f}\x{2040}\x{2054}\x{fe33}\x{fe34}\x{fe4d}-\x{fe4f}\x{ff3f}"
)
_ALONE: Final = {
    "d": r"\p{Nd}",
    "D": r"\P{Nd}",
    "w": f"[{_WORD}]",
    "W": f"[^{_WORD}]",
    "s": f"[{_SPACES}]",
    "S": f"[^{_SPACES}]",
    "Z": r"\z",
}
_IN_A_CLASS: Final = {
    "d": r"\p{Nd}",
    "D": r"\P{Nd}",
    "w": _WORD,
    "W": _NO_WORD,
    "s": _SPACES,
    "S": _NO_SPACES,
    "b": r"\x08",
}
_NUMBERED: Final = re.compile(r"u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(0[0-7]{0,2}|[1-3][0-7]{2})")
_OPEN_REPEAT: Final = re.compile(r"\{,([0-9]+)\}")

_AROUND: Final = "match what is around it, too; in rules, name the part that you want: (?P<name>...)"
_GROUPS: Final = (
    ("(?=", "a look-ahead", _AROUND),
    ("(?!", "a look-ahead", "say what may follow instead of what may not, like (?:[^0-9]|$)"),
    ("(?<=", "a look-behind", _AROUND),
    ("(?<!", "a look-behind", "say what may stand before instead of what may not, like (?:^|[^0-9])"),
    ("(?>", "an atomic group", "write (?:...), which is as fast here"),
    ("(?(", "a condition", "write both cases, with | between them"),
    ("(?P=", "a reference to a group", "write the alternatives out, with | between them"),
    ("(?P>", "a call of a group", "write the part again"),
    ("(?#", "a comment", "leave it out"),
)
_NAMED: Final = re.compile(r"\(\?P?<(?![=!])([^>]*)>")
_FLAGS: Final = re.compile(r"\(\?[A-Za-z]*([axuL])[A-Za-z]*(?:-[a-z]*)?[):]")
_OF_FLAGS: Final = {
    "a": r"write [0-9] for \d and [A-Za-z0-9_] for \w",
    "x": "write the pattern without blanks and comments",
    "u": "leave it out: patterns know all scripts",
    "L": "leave it out: patterns know all scripts",
}


class BadPattern(ValueError):
    """Says in a person's words what is wrong with a pattern."""


def translated(text: str) -> str:
    """The pattern as RE2 writes it. Raises BadPattern for what RE2 does not know."""
    made: list[str] = []
    names: set[str] = set()
    at, length = 0, len(text)
    while at < length:
        char = text[at]
        if char == "\\":
            part, at = _escape(text, at, _ALONE)
        elif char == "[":
            part, at = _class(text, at)
        else:
            if char == "(":
                _check_group(text, at, names)
            repeat = _OPEN_REPEAT.match(text, at) if char == "{" else None
            part, at = (f"{{0,{repeat[1]}}}", repeat.end()) if repeat is not None else (char, at + 1)
        made.append(part)
    return "".join(made)


def _escape(text: str, at: int, names: dict[str, str]) -> tuple[str, int]:
    """What the backslash here and its letter become, and where they end."""
    letter = text[at + 1 : at + 2]
    if letter in names:
        return names[letter], at + 2
    if numbered := _NUMBERED.match(text, at + 1):
        digits = numbered[1] or numbered[2]
        number = int(digits, 16) if digits else int(numbered[3], 8)
        return f"\\x{{{number:x}}}", numbered.end()
    if letter in "bB" and letter:
        _check_boundary(text, at)
    if letter.isdigit():
        raise _unknown(f"\\{letter}", "a reference to a group", "write the alternatives out, with | between them")
    return text[at : at + 2], at + 2


def _class(text: str, at: int) -> tuple[str, int]:
    """A whole [...], and where it ends."""
    made, start = ["["], at
    at += 1
    if text[at : at + 1] == "^":
        made.append("^")
        at += 1
    if text[at : at + 1] == "]":
        made.append("\\]")
        at += 1
    while at < len(text) and text[at] != "]":
        if text[at] == "\\":
            part, at = _escape(text, at, _IN_A_CLASS)
        elif text[at] == "[":
            part, at = "\\[", at + 1
        else:
            part, at = text[at], at + 1
        made.append(part)
    if at >= len(text):
        raise BadPattern(
            f"is not a regular expression: the class that begins with `{text[start : start + 8]}` is not closed by ]"
        )
    return "".join([*made, "]"]), at + 1


def _check_group(text: str, at: int, names: set[str]) -> None:
    for begins, name, advice in _GROUPS:
        if text.startswith(begins, at):
            raise _unknown(begins, name, advice)
    if named := _NAMED.match(text, at):
        if not named[1].isidentifier() or named[1] in names:
            why = "is there twice" if named[1] in names else "is no name"
            raise BadPattern(f"is not a regular expression: the group `{named[1]}` {why}")
        names.add(named[1])
    if flags := _FLAGS.match(text, at):
        raise _unknown(flags[0], f"the flag {flags[1]}", _OF_FLAGS[flags[1]])


def _check_boundary(text: str, at: int) -> None:
    """RE2's word boundaries know ASCII letters: beside another letter they would never be there, or always."""
    for beside in (text[at - 1 : at], text[at + 2 : at + 3]):
        if beside and not beside.isascii() and beside.isalnum():
            advice = r"say what may be around it, like (?:^|\P{L})"
            raise BadPattern(
                f"has `{text[at : at + 2]}` beside `{beside}`, and RE2 knows word boundaries of ASCII letters only: {advice}"
            )


def _unknown(part: str, name: str, advice: str) -> BadPattern:
    return BadPattern(f"has `{part}`, {name}, which RE2 does not know: {advice}")


_ADVICE: Final = {
    "bad repetition operator": "write one repeat only; where + makes it possessive, leave the + out",
    "invalid repetition size": "a repeat goes from the smaller number to the greater, and to 1000 at most",
    "pattern too large - compile failed": r"it needs too much memory: repeat less, or [A-Za-z0-9_] for \w",
}


def in_words(error: bytes | str) -> str:
    """RE2's own error, with a way around where there is one."""
    said = error.decode("utf-8", "replace") if isinstance(error, bytes) else error
    what, _, part = said.partition(": ")
    advice = f" ({_ADVICE[what]})" if what in _ADVICE else ""
    return f"is not a regular expression: {what}{f' at `{part}`' if part else ''}{advice}"
