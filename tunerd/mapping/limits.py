"""What Tuner's two request forms take, field by field, and the strict checks of a whole body.

The tables are the contract: payload.py fits values to them, forms.py and the tests check bodies against them. Nothing
is repaired here. A check names the first place that is wrong and never quotes what stands there.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from tunerd.call import Refusal
from tunerd.location import MAX_URL_CHARS
from tunerd.outcome import FailReason

ROWS: Final = "transcript_with_tool_calls"

MAX_CALL_ID: Final = 200
MAX_CALL_TYPE: Final = 100
MAX_REASON: Final = 100
SENTIMENTS: Final = ("positive", "neutral", "negative", "unknown")
ROLES: Final = frozenset({"user", "agent", "agent_function", "agent_result", "node_transition"})

TEXTS: Final[Mapping[str, int | None]] = {
    "user_sentiment": None,
    "call_status": 100,
    "disconnection_reason": MAX_REASON,
    "caller_phone_number": 50,
    "recording_multi_channel_url": MAX_URL_CHARS,
    "transcript": None,
    "sip_call_id": None,
    "recipient": None,
    "recording_file_extension": None,
}
"""Optional text fields of create-call and how many characters they take (None: no limit is stated)."""
NUMBERS: Final = ("duration_ms", "agent_version", "call_cost")
BOOLEANS: Final = ("call_successful", "in_voicemail")
OBJECTS: Final = ("collected_dynamic_variables", "call_analysis", "metadata", "general_meta_data_raw", "sip_headers")
UPLOAD_ASKS: Final = ("recording_s3_multi_channel", "recording_s3_caller_channel")
"""Fields whose type is not stated: any plain value."""

REQUIRED: Final = ("call_id", "call_type", ROWS, "start_timestamp", "end_timestamp", "recording_url")
CREATE_CALL_FIELDS: Final = frozenset({*REQUIRED, *TEXTS, *NUMBERS, *BOOLEANS, *OBJECTS, *UPLOAD_ASKS})
SEND_CALLS_FIELDS: Final = frozenset({*REQUIRED, "userSentiment"})

_TOOL_TEXTS: Final = ("name", "request_id", "error")
_ROW_TIMES: Final = ("start_ms", "end_ms", "duration_ms")


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
        _create_call(body)
    except RefusalError as refused:
        return refused.refusal
    return None


def check_send_calls(body: Mapping[str, Any]) -> Refusal | None:
    """The first reason why send-calls would not take this whole body (exactly the fields of its table), or None."""
    try:
        _required(body, limits=False)
        mood = body.get("userSentiment")
        if mood is not None and mood not in SENTIMENTS:
            raise RefusalError("userSentiment", f"has to be one of {', '.join(SENTIMENTS)}")
        for number, row in enumerate(body[ROWS]):
            if not isinstance(row, Mapping):
                raise RefusalError(row_at(number), "a message has to be an object of role and content")
            if not (isinstance(row.get("role"), str) and row["role"]):
                raise RefusalError(row_at(number, "role"), "has to be text and not empty")
            if not isinstance(row.get("content"), str):
                raise RefusalError(row_at(number, "content"), "has to be text")
            for name in row:
                if name not in ("role", "content"):
                    raise RefusalError(row_at(number, name), "send-calls messages are role and content, nothing else")
        _known(body, SEND_CALLS_FIELDS)
    except RefusalError as refused:
        return refused.refusal
    return None


def _create_call(body: Mapping[str, Any]) -> None:
    _required(body, limits=True)
    for name, limit in TEXTS.items():
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not str:
            raise RefusalError(name, "has to be text")
        if limit is not None and len(value) > limit:
            raise RefusalError(name, f"is longer than {limit} characters")
        if name == "user_sentiment" and value not in SENTIMENTS:
            raise RefusalError(name, f"has to be one of {', '.join(SENTIMENTS)}, in lower case")
    for name in NUMBERS:
        value = body.get(name)
        if value is not None and not _is_number(value):
            raise RefusalError(name, "has to be a number")
        if name == "agent_version" and value is not None and value < 0:
            raise RefusalError(name, "has to be 0 or more")
    for name in BOOLEANS:
        if body.get(name) is not None and type(body[name]) is not bool:
            raise RefusalError(name, "has to be true or false")
    for name in OBJECTS:
        if body.get(name) is not None and not isinstance(body[name], Mapping):
            raise RefusalError(name, "has to be an object")
    for name in UPLOAD_ASKS:
        if isinstance(body.get(name), list | Mapping):
            raise RefusalError(name, "has to be a plain value")
    for number, row in enumerate(body[ROWS]):
        _check_row(number, row)
    _known(body, CREATE_CALL_FIELDS)


def _known(body: Mapping[str, Any], names: frozenset[str]) -> None:
    for name in body:
        if name not in names:
            raise RefusalError(name, "is no field of this request form")


def _required(body: Mapping[str, Any], *, limits: bool) -> None:
    for name, limit in (("call_id", MAX_CALL_ID), ("call_type", MAX_CALL_TYPE)):
        _check_text(name, body.get(name), limit if limits else None)
    rows = body.get(ROWS)
    if not isinstance(rows, list) or not rows:
        raise RefusalError(ROWS, "has to be a list with at least one row")
    for name in ("start_timestamp", "end_timestamp"):
        if type(body.get(name)) is not int:
            raise RefusalError(name, "has to be a whole number: epoch milliseconds")
    if limits and body["end_timestamp"] < body["start_timestamp"]:
        raise RefusalError("end_timestamp", "is before start_timestamp")
    _check_text("recording_url", body.get("recording_url"), MAX_URL_CHARS if limits else None)


def _check_text(name: str, value: object, limit: int | None) -> None:
    if type(value) is not str or not value:
        raise RefusalError(name, "is required, as text")
    if limit is not None and len(value) > limit:
        raise RefusalError(name, f"is longer than {limit} characters")


def _check_row(number: int, row: Any) -> None:
    if not isinstance(row, Mapping):
        raise RefusalError(row_at(number), "a row has to be an object")
    role = row.get("role")
    if type(role) is not str or role not in ROLES:
        raise RefusalError(row_at(number, "role"), f"has to be one of {', '.join(sorted(ROLES))}")
    if row.get("text") is not None and type(row["text"]) is not str:
        raise RefusalError(row_at(number, "text"), "has to be text")
    for name in _ROW_TIMES:
        if row.get(name) is not None and type(row[name]) is not int:
            raise RefusalError(row_at(number, name), "has to be a whole number of milliseconds")
    words = row.get("words")
    if words is not None:
        _check_words(number, words)
    timed = bool(words) or (
        row.get("start_ms") is not None and (row.get("end_ms") is not None or row.get("duration_ms") is not None)
    )
    if not timed and role in ("user", "agent"):
        raise RefusalError(row_at(number), "speech needs words, start_ms and end_ms, or start_ms and duration_ms")
    if row.get("tool") is not None:
        _check_tool(number, row["tool"])
    if row.get("node") is not None:
        _check_node(number, row["node"])
    if row.get("metadata") is not None and not isinstance(row["metadata"], Mapping):
        raise RefusalError(row_at(number, "metadata"), "has to be an object")


def _check_words(number: int, words: Any) -> None:
    if not isinstance(words, list):
        raise RefusalError(row_at(number, "words"), "has to be a list")
    for position, word in enumerate(words):
        at = f"words[{position}]"
        if not isinstance(word, Mapping):
            raise RefusalError(row_at(number, at), "a word has to be an object")
        if type(word.get("word")) is not str:
            raise RefusalError(row_at(number, f"{at}.word"), "is required, as text")
        for name in ("start_ms", "end_ms"):
            if type(word.get(name)) is not int:
                raise RefusalError(row_at(number, f"{at}.{name}"), "has to be a whole number of milliseconds")
        if word.get("confidence") is not None and not _is_number(word["confidence"]):
            raise RefusalError(row_at(number, f"{at}.confidence"), "has to be a number")


def _check_tool(number: int, tool: Any) -> None:
    if not isinstance(tool, Mapping):
        raise RefusalError(row_at(number, "tool"), "has to be an object")
    for name in _TOOL_TEXTS:
        if tool.get(name) is not None and type(tool[name]) is not str:
            raise RefusalError(row_at(number, f"tool.{name}"), "has to be text")
    for name in ("params", "result"):
        if tool.get(name) is not None and not isinstance(tool[name], Mapping):
            raise RefusalError(row_at(number, f"tool.{name}"), 'has to be an object (wrap other values: {"value": ...})')
    if tool.get("is_error") is not None and type(tool["is_error"]) is not bool:
        raise RefusalError(row_at(number, "tool.is_error"), "has to be true or false")
    if tool.get("start_ms") is not None and type(tool["start_ms"]) is not int:
        raise RefusalError(row_at(number, "tool.start_ms"), "has to be a whole number of milliseconds")


def _check_node(number: int, node: Any) -> None:
    if not isinstance(node, Mapping):
        raise RefusalError(row_at(number, "node"), "has to be an object")
    for name in ("from", "to"):
        if type(node.get(name)) is not str:
            raise RefusalError(row_at(number, f"node.{name}"), "is required, as text")
    if node.get("reason") is not None and type(node["reason"]) is not str:
        raise RefusalError(row_at(number, "node.reason"), "has to be text")


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))
