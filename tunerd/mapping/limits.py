"""The strict check of a whole body: what Tuner's create-call takes, by the tables of tuner_fields.py.

payload.py fits values to the same tables; forms.py checks bodies here. Nothing is repaired. A check names the first place that
is wrong and never quotes its value.
"""

from collections.abc import Mapping
from typing import Any

from tunerd.call import Refusal
from tunerd.outcome import FailReason
from tunerd.tuner_fields import CALL_FIELDS, NODE_FIELDS, ROW_FIELDS, ROWS, TOOL_FIELDS, WORD_FIELDS, TunerField


class RefusalError(Exception):
    """A Refusal on its way up to the public function that returns it; never leaves the package."""

    def __init__(self, where: str, what: str, reason: FailReason = FailReason.INVALID) -> None:
        super().__init__(where)
        self.refusal = Refusal(reason=reason, where=where, what=what)


def row_at(number: int, field: str = "") -> str:
    """How a row, or a field of it, is named in refusals."""
    return f"{ROWS}[{number}].{field}" if field else f"{ROWS}[{number}]"


def check_create_call(body: Mapping[str, Any]) -> Refusal | None:
    """The first reason why create-call would not take this whole body, or None. Strict: nothing is coerced."""
    try:
        _check_fields(body, CALL_FIELDS)
        for name in ("call_id", "call_type", "recording_url"):
            if not body[name]:
                raise RefusalError(name, "is required, as text")
        if body["end_timestamp"] < body["start_timestamp"]:
            raise RefusalError("end_timestamp", "is before start_timestamp")
        rows = body.get(ROWS)
        if not isinstance(rows, list) or not rows:
            raise RefusalError(ROWS, "has to be a list with at least one row")
        for number, row in enumerate(rows):
            _check_row(row_at(number), row)
        for name in body:
            if name not in CALL_FIELDS:
                raise RefusalError(name, "is no field of this request form")
    except RefusalError as refused:
        return refused.refusal
    return None


def _check_fields(holder: Mapping[str, Any], fields: Mapping[str, TunerField], at: str = "") -> None:
    """Each field by its kind and limit; one that is not required may be null or left out."""
    for name, field in fields.items():
        value = holder.get(name)
        if (value is not None or field.required) and (fault := field.fault(value)):
            raise RefusalError(f"{at}{name}", fault)


def _check_row(at: str, row: Any) -> None:
    if not isinstance(row, Mapping):
        raise RefusalError(at, "a row has to be an object")
    _check_fields(row, ROW_FIELDS, f"{at}.")
    words, tool, node = row.get("words"), row.get("tool"), row.get("node")
    if words is not None and not isinstance(words, list):
        raise RefusalError(f"{at}.words", "has to be a list")
    for position, word in enumerate(words or ()):
        if not isinstance(word, Mapping):
            raise RefusalError(f"{at}.words[{position}]", "a word has to be an object")
        _check_fields(word, WORD_FIELDS, f"{at}.words[{position}].")
    timed = bool(words) or (
        row.get("start_ms") is not None and (row.get("end_ms") is not None or row.get("duration_ms") is not None)
    )
    if not timed and row["role"] in ("user", "agent"):
        raise RefusalError(at, "speech needs words, start_ms and end_ms, or start_ms and duration_ms")
    for name, value, fields in (("tool", tool, TOOL_FIELDS), ("node", node, NODE_FIELDS)):
        if value is not None and not isinstance(value, Mapping):
            raise RefusalError(f"{at}.{name}", "has to be an object")
        if value is not None:
            _check_fields(value, fields, f"{at}.{name}.")
