"""Paths of `redact: fields:` into a mapped call: `call_analysis.summary`, `transcript_with_tool_calls[].tool.params.**.ssn`.

It reads and checks paths, and takes what they name out of a call. Pure; a problem raises ValueError.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from tunerd.mapping.scope import nearest
from tunerd.record import positional_record
from tunerd.tuner_fields import CREATE_CALL_FIELDS, ROWS

REDACTED: Final = "[redacted]"
ANY: Final = "*"
DEEP: Final = "**"
TEXTS: Final = ("transcript", "disconnection_reason", "call_status")
"""Fields of a call that hold what was said, or may."""
_REDACTABLE: Final = ("text", "words", "tool", "node", "metadata")
"""What may be taken out of a row: its role and times are what Tuner asks of it."""
_NEEDED: Final = frozenset({"call_id", "call_type", ROWS, "start_timestamp", "end_timestamp"})
_SEGMENT = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>\*\*|\*|[A-Za-z_][\w-]*))(?:\[\*?\])*(?:\.(?=.)|$)')


@positional_record
class FieldPath:
    text: str
    steps: tuple[str, ...]
    """Member names, ANY and DEEP. Lists are passed through, whatever is in them."""


def field_path(text: str) -> FieldPath:
    """Raises ValueError that says what to write instead."""
    steps: list[str] = []
    at = 0
    while at < len(text):
        found = _SEGMENT.match(text, at)
        if found is None:
            if re.search(r"\[-?\d+\]", text):
                raise ValueError("a place in a list can't be given by number; write [] for every element")
            raise ValueError('is no path: names with dots between them, [] for every element of a list, * and **; "quote" others')
        steps.append(found["quoted"] or found["plain"])
        at = found.end()
    name = steps[0] if steps else ""
    if name == "recording_url":
        raise ValueError("the recording's URL is not redacted: Tuner fetches the audio from it")
    if name not in CREATE_CALL_FIELDS:
        raise ValueError(f"`{name}` is no field of a call{nearest(name, CREATE_CALL_FIELDS)}")
    if len(steps) == 1 and name in _NEEDED:
        raise ValueError(f"`{name}` can't be left out: every call needs it")
    if name == ROWS and steps[1] not in _REDACTABLE:
        raise ValueError(f"of a row, {', '.join(_REDACTABLE)} can be redacted; not `{steps[1]}`")
    return FieldPath(text, tuple(steps))


def take_out(body: dict[str, Any], path: FieldPath) -> int:
    """What `fields:` names, out of the payload in place; how often."""
    name, *rest = path.steps
    if name not in body:
        return 0
    if not rest:
        if name in TEXTS:
            body[name] = REDACTED
        else:
            del body[name]
        return 1
    if name != ROWS or rest[0] not in ("text", "words"):
        return _erase(body[name], rest)
    count = 0
    for row in body[ROWS]:
        words = row.get("words") or ()
        for word in words:
            word["word"] = REDACTED
        if rest[0] == "text" and "text" in row:
            row["text"] = REDACTED
            count += 1
        elif words:
            count += 1
    return count


def _erase(value: Any, steps: Sequence[str]) -> int:
    """Take out what the path names below `value`, in place; returns how often. Text becomes REDACTED, all else goes."""
    if isinstance(value, list):
        return sum([_erase(item, steps) for item in value])
    if not isinstance(value, dict):
        return 0
    step, rest = steps[0], steps[1:]
    if step == DEEP:
        count = _erase(value, rest) if rest else 0
        return count + sum([_erase(item, steps) if rest else _erase(value, (name,)) for name, item in list(value.items())])
    names = list(value) if step == ANY else [step] if step in value else []
    return sum([_erase(value[name], rest) if rest else _erase_member(value, name) for name in names])


def _erase_member(holder: dict[str, Any], name: str) -> int:
    value = holder[name]
    if value is None or value == REDACTED:
        return 0
    if isinstance(value, str):
        holder[name] = REDACTED
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        holder[name] = [REDACTED] * len(value)
    else:
        del holder[name]
    return 1
