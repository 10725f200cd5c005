"""Two JSON values held against each other, field by field: what changed, came, or went, and where.

Lists of different lengths are aligned first, so that one new row is one change, not a change of every row behind it.
"""

import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Final

from tunerd.record import positional_record
from tunerd.visible import visible
from tunerd.workbench.shown import WIDTH, short

_ALIGNED: Final = 400
"""Longer lists are compared item by item: aligning them takes too long."""


class _Absent:
    """The type of ABSENT."""


ABSENT: Final = _Absent()
"""Stands for a member that is not there."""


@positional_record
class Change:
    path: str
    """`transcript_with_tool_calls[3].text`; empty for the whole."""
    old: Any
    """ABSENT: it was not there."""
    new: Any


def same(left: Any, right: Any) -> bool:
    """JSON's equality: 1 is 1.0, but true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def changes(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Every difference, in the order of the old value's members."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in (*old, *(name for name in new if name not in old)):
            below = f"{path}.{name}" if path else str(name)
            yield from changes(old.get(name, ABSENT), new.get(name, ABSENT), below)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _in_list(old, new, path)
    elif old is ABSENT or new is ABSENT:
        if old is not new:
            yield Change(path, old, new)
    elif not same(old, new):
        yield Change(path, old, new)


def _in_list(old: list[Any], new: list[Any], path: str) -> Iterator[Change]:
    if len(old) == len(new) or max(len(old), len(new)) > _ALIGNED:
        for at in range(max(len(old), len(new))):
            one, other = (items[at] if at < len(items) else ABSENT for items in (old, new))
            yield from changes(one, other, f"{path}[{at}]")
        return
    before, after = ([json.dumps(item, sort_keys=True) for item in items] for items in (old, new))
    for what, low, high, new_low, new_high in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        for step in range(max(high - low, new_high - new_low)):
            at, new_at = low + step, new_low + step
            if at < high and new_at < new_high:
                yield from changes(old[at], new[new_at], f"{path}[{new_at}]")
            elif at < high:
                yield Change(f"{path}[{at}]", old[at], ABSENT)
            else:
                yield Change(f"{path}[{new_at}]", ABSENT, new[new_at])


def field_of(change: Change) -> str:
    """The path without the numbers of rows: what many calls' changes are counted by."""
    out, depth = [], 0
    for char in change.path:
        depth += char == "["
        if depth == 0 or char == "[":
            out.append(char)
        if char == "]":
            depth -= 1
            out.append(char)
    return "".join(out)


def lines(change: Change, old: str, new: str, indent: str) -> Iterator[str]:
    """The path, and both values under it with the names `old` and `new`; long ones are shortened around their difference."""
    yield f"{indent}{visible(change.path) or '(the whole)'}"
    wide = max(len(old), len(new))
    room = WIDTH - len(indent) - wide - 6
    one, other = _apart(change.old, change.new, room)
    yield f"{indent}    {old:<{wide}}  {one}"
    yield f"{indent}    {new:<{wide}}  {other}"


def _apart(old: Any, new: Any, room: int) -> tuple[str, str]:
    if isinstance(old, str) and isinstance(new, str) and (len(old) > room - 2 or len(new) > room - 2):
        common = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        start = max(0, common - room // 3)
        return _part(old, start, room), _part(new, start, room)
    return _told(old, room), _told(new, room)


def _part(text: str, start: int, room: int) -> str:
    shown = visible(text[start : start + room - 8])
    return ("..." if start else "") + json.dumps(shown, ensure_ascii=False) + ("..." if start + room - 8 < len(text) else "")


def _told(value: Any, room: int) -> str:
    return "(nothing)" if value is ABSENT else short(value, room)
