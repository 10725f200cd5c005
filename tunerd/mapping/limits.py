"""The strict checks of a whole body: what Tuner's two request forms take, by the tables of tuner_fields.py.

payload.py fits values to the same tables; forms.py and the tests check bodies here. Nothing is repaired. A check names the first
place that is wrong and never quotes its value.
"""

from collections.abc import Mapping
from typing import Any

from tunerd.call import Refusal
from tunerd.outcome import FailReason
from tunerd.tuner_fields import (
    CALL_FIELDS,
    CREATE_CALL_FIELDS,
    NODE_FIELDS,
    OPTIONAL_FIELDS,
    ROW_FIELDS,
    ROWS,
    SEND_CALLS_FIELDS,
    SENTIMENTS,
    TOOL_FIELDS,
    WORD_FIELDS,
    TunerField,
)


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
        _check_required(body, limits=True)
        _check_fields(body, OPTIONAL_FIELDS)
        for number, row in enumerate(body[ROWS]):
            _check_row(row_at(number), row)
        _check_names(body, CREATE_CALL_FIELDS)
    except RefusalError as refused:
        return refused.refusal
    return None


def check_send_calls(body: Mapping[str, Any]) -> Refusal | None:
    """The first reason why send-calls would not take this whole body (exactly the fields of its table), or None."""
    try:
        _check_required(body, limits=False)
        sentiment = body.get("userSentiment")
        if sentiment is not None and sentiment not in SENTIMENTS:
            raise RefusalError("userSentiment", f"has to be one of {', '.join(SENTIMENTS)}")
        for number, row in enumerate(body[ROWS]):
            _check_message(number, row)
        _check_names(body, SEND_CALLS_FIELDS)
    except RefusalError as refused:
        return refused.refusal
    return None


def _check_required(body: Mapping[str, Any], *, limits: bool) -> None:
    """What both forms demand. send-calls states no limits beyond the types."""
    for name in ("call_id", "call_type"):
        _check_text(name, body.get(name), limits=limits)
    rows = body.get(ROWS)
    if not isinstance(rows, list) or not rows:
        raise RefusalError(ROWS, "has to be a list with at least one row")
    for name in ("start_timestamp", "end_timestamp"):
        if fault := CALL_FIELDS[name].fault(body.get(name)):
            raise RefusalError(name, fault)
    if limits and body["end_timestamp"] < body["start_timestamp"]:
        raise RefusalError("end_timestamp", "is before start_timestamp")
    _check_text("recording_url", body.get("recording_url"), limits=limits)


def _check_text(name: str, value: object, *, limits: bool) -> None:
    fault = "is required, as text" if type(value) is not str or not value else CALL_FIELDS[name].fault(value) if limits else None
    if fault:
        raise RefusalError(name, fault)


def _check_fields(holder: Mapping[str, Any], fields: Mapping[str, TunerField], at: str = "") -> None:
    """Each field by its kind and limit; one that is not required may be null or left out."""
    for name, field in fields.items():
        value = holder.get(name)
        if (value is not None or field.required) and (fault := field.fault(value)):
            raise RefusalError(f"{at}{name}", fault)


def _check_names(body: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in body:
        if name not in known:
            raise RefusalError(name, "is no field of this request form")


def _check_message(number: int, row: Any) -> None:
    if not isinstance(row, Mapping):
        raise RefusalError(row_at(number), "a message has to be an object of role and content")
    if not (isinstance(row.get("role"), str) and row["role"]):
        raise RefusalError(row_at(number, "role"), "has to be text and not empty")
    if not isinstance(row.get("content"), str):
        raise RefusalError(row_at(number, "content"), "has to be text")
    for name in row:
        if name not in ("role", "content"):
            raise RefusalError(row_at(number, name), "send-calls messages are role and content, nothing else")


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
