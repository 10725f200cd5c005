"""Tuner's fields of a call and the names that rules may give a value to, each declared once: kind, limits, meaning. Pure.

mapping/ fits and checks values by these tables, config/ makes the JSON Schema of the rules from them, and delivery/ repeats no
other name of an answer. The sandbox keeps lists of its own on purpose: it is the second opinion.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from tunerd.location import MAX_URL_CHARS
from tunerd.record import positional_record

ROWS: Final = "transcript_with_tool_calls"
SENTIMENTS: Final = ("positive", "neutral", "negative", "unknown")
ROLES: Final = frozenset({"user", "agent", "agent_function", "agent_result", "node_transition"})


class FieldKind(StrEnum):
    """What Tuner takes for a field."""

    TEXT = "text"
    SENTIMENT = f"one of {', '.join(SENTIMENTS)}, in lower case"
    NUMBER = "a number"
    COUNT = "a number, 0 or more"
    EPOCH_MS = "a whole number: epoch milliseconds"
    MILLISECONDS = "a whole number of milliseconds"
    BOOLEAN = "true or false"
    OBJECT = "an object"
    WRAPPED = 'an object (wrap other values: {"value": ...})'
    PLAIN = "a plain value"
    """The type is not stated."""
    ROLE = f"one of {', '.join(sorted(ROLES))}"
    NESTED = "a list or an object with fields of its own"
    RULE_ONLY = "no field of Tuner's"
    """Rules may give it; tunerd makes other fields of it."""


@positional_record
class TunerField:
    kind: FieldKind
    about: str
    """For the JSON Schema of the rules: an editor shows it."""
    limit: int | None = None
    """Characters, at most; None: no limit is stated."""
    required: bool = False
    """Tuner refuses a body without it."""
    send_calls: str | None = None
    """Its name in a send-calls body; None: only create-call carries it."""

    def fault(self, value: object) -> str | None:
        """Why create-call would not take this value; None: it would. Strict: nothing is coerced."""
        if self.kind is FieldKind.TEXT and self.required and type(value) is not str:
            return "is required, as text"
        if not _TAKES[self.kind](value):
            return f"has to be {self.kind}"
        if self.limit is not None and isinstance(value, str) and len(value) > self.limit:
            return f"is longer than {self.limit} characters"
        return None


def is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


_TAKES: Final[Mapping[FieldKind, Callable[[Any], bool]]] = {
    FieldKind.TEXT: lambda value: type(value) is str,
    FieldKind.SENTIMENT: lambda value: value in SENTIMENTS,
    FieldKind.NUMBER: is_number,
    FieldKind.COUNT: lambda value: is_number(value) and value >= 0,
    FieldKind.EPOCH_MS: lambda value: type(value) is int,
    FieldKind.MILLISECONDS: lambda value: type(value) is int,
    FieldKind.BOOLEAN: lambda value: type(value) is bool,
    FieldKind.OBJECT: lambda value: isinstance(value, Mapping),
    FieldKind.WRAPPED: lambda value: isinstance(value, Mapping),
    FieldKind.PLAIN: lambda value: not isinstance(value, list | Mapping),
    FieldKind.ROLE: lambda value: type(value) is str and value in ROLES,
    FieldKind.NESTED: lambda value: True,
    FieldKind.RULE_ONLY: lambda value: True,
}

_K = FieldKind
_UPLOAD = "Tuner's own name for it, passed on."

# fmt: off
CALL_FIELDS: Final[Mapping[str, TunerField]] = {
    "call_id": TunerField(_K.TEXT, "The call's id, 1 to 200 characters. Required.", 200, True, "call_id"),
    "call_type": TunerField(_K.TEXT, "What kind of call: phone_call, web_call, sip_call, ... Required.", 100, True, "call_type"),
    "start_timestamp": TunerField(_K.EPOCH_MS, "When the call began, in any time form.", None, True, "start_timestamp"),
    "end_timestamp": TunerField(_K.EPOCH_MS, "When the call ended, in any time form.", None, True, "end_timestamp"),
    "recording_url": TunerField(_K.TEXT, "Where the audio is: `recording:` gives it.", MAX_URL_CHARS, True, "recording_url"),
    ROWS: TunerField(_K.NESTED, "What was said and done: blocks that give rows. Required.", None, True, ROWS),
    "duration_ms": TunerField(_K.NUMBER, "Length in milliseconds."),
    "agent_version": TunerField(_K.COUNT, "A number."),
    "call_cost": TunerField(_K.NUMBER, "Cents."),
    "call_successful": TunerField(_K.BOOLEAN, "True or false."),
    "in_voicemail": TunerField(_K.BOOLEAN, "True or false."),
    "user_sentiment": TunerField(_K.SENTIMENT, "positive, neutral, negative or unknown.", send_calls="userSentiment"),
    "call_status": TunerField(_K.TEXT, "The state of the call, as text.", 100),
    "disconnection_reason": TunerField(_K.TEXT, "Why the call ended, at most 100 characters.", 100),
    "caller_phone_number": TunerField(_K.TEXT, "The caller's number.", 50),
    "recording_multi_channel_url": TunerField(_K.TEXT, "Where a recording with a channel for each speaker is.", MAX_URL_CHARS),
    "transcript": TunerField(_K.TEXT, "The whole transcript as one text."),
    "sip_call_id": TunerField(_K.TEXT, "The id of the SIP dialog."),
    "recipient": TunerField(_K.TEXT, "Who was called."),
    "recording_file_extension": TunerField(_K.TEXT, "Asks for a target to upload the audio to: `audio:` sets it."),
    "collected_dynamic_variables": TunerField(_K.OBJECT, "An object."),
    "call_analysis": TunerField(_K.OBJECT, "An object."),
    "metadata": TunerField(_K.OBJECT, "An object of your own."),
    "general_meta_data_raw": TunerField(_K.OBJECT, "An object."),
    "sip_headers": TunerField(_K.OBJECT, "An object of header names and values."),
    "recording_s3_multi_channel": TunerField(_K.PLAIN, _UPLOAD),
    "recording_s3_caller_channel": TunerField(_K.PLAIN, _UPLOAD),
}
"""Of a call, in the order of a body."""
ROW_FIELDS: Final[Mapping[str, TunerField]] = {
    "role": TunerField(
        _K.ROLE, "agent, user, agent_function, agent_result or node_transition; without one it is no row.", required=True),
    "text": TunerField(_K.TEXT, "What was said; a list of texts is joined."),
    "start_at": TunerField(_K.RULE_ONLY, "When it began, in any time form."),
    "end_at": TunerField(_K.RULE_ONLY, "When it ended, in any time form."),
    "start_ms": TunerField(_K.MILLISECONDS, "When it began, in milliseconds from the start of the call."),
    "end_ms": TunerField(_K.MILLISECONDS, "When it ended, in milliseconds from the start of the call."),
    "duration_ms": TunerField(_K.MILLISECONDS, "Length in milliseconds."),
    "words": TunerField(_K.NESTED, "A list of {word, start_ms, end_ms, confidence}."),
    "tool": TunerField(_K.NESTED, "A tool that was called, or what it answered."),
    "node": TunerField(_K.NESTED, "A step of a flow."),
    "more": TunerField(_K.RULE_ONLY, "True: the text continues in the next row of this role."),
    "metadata": TunerField(_K.OBJECT, "An object of your own."),
}
WORD_FIELDS: Final[Mapping[str, TunerField]] = {
    "word": TunerField(_K.TEXT, "The word.", required=True),
    "start_ms": TunerField(_K.MILLISECONDS, "When it began, in milliseconds from the start of the call.", required=True),
    "end_ms": TunerField(_K.MILLISECONDS, "When it ended, in milliseconds from the start of the call.", required=True),
    "confidence": TunerField(_K.NUMBER, "How certain the recogniser is."),
}
TOOL_FIELDS: Final[Mapping[str, TunerField]] = {
    "name": TunerField(_K.TEXT, "The tool's name."),
    "request_id": TunerField(_K.TEXT, "What joins a call of a tool with its answer."),
    "params": TunerField(_K.WRAPPED, "Its arguments: an object, or JSON text of one."),
    "result": TunerField(_K.WRAPPED, "What it answered."),
    "is_error": TunerField(_K.BOOLEAN, "True: it failed."),
    "error": TunerField(_K.TEXT, "Why it failed, as text."),
    "start_ms": TunerField(_K.MILLISECONDS, "When, in milliseconds from the start of the call."),
}
NODE_FIELDS: Final[Mapping[str, TunerField]] = {
    "from": TunerField(_K.TEXT, "The step before.", required=True),
    "to": TunerField(_K.TEXT, "The step that begins.", required=True),
    "reason": TunerField(_K.TEXT, "Why."),
}
RECORDING_FIELDS: Final[Mapping[str, TunerField]] = {
    "key": TunerField(_K.RULE_ONLY, "What calls look for. Required, unless only strategies `nearest` look for these recordings."),
    "id": TunerField(
        _K.RULE_ONLY, "Which recording it is: the same id again means the same recording, and the newer document wins."),
    "match": TunerField(
        _K.RULE_ONLY, "{name: rule}: values that the call has, too, for strategies `nearest` of calls without a common key."),
    "url": TunerField(_K.RULE_ONLY, "Where the audio is. Required, unless `audio` or absent_when is there."),
    "audio": TunerField(_K.RULE_ONLY, "The audio itself, as base64."),
    "started_at": TunerField(_K.RULE_ONLY, "When the recording began, in any time form."),
    "duration_ms": TunerField(_K.RULE_ONLY, "Length in milliseconds."),
    "expires_at": TunerField(_K.RULE_ONLY, "From when on the URL does not work, in any time form."),
    "absent_when": TunerField(_K.RULE_ONLY, "True: there will never be a recording."),
}
"""What the rules of a `manifest:` give. Nothing of it is sent: the URL goes into the body of the call that is matched."""
# fmt: on

CREATE_CALL_FIELDS: Final = frozenset(CALL_FIELDS)
SEND_CALLS_FIELDS: Final = frozenset(field.send_calls for field in CALL_FIELDS.values() if field.send_calls)
ONLY_CREATE_CALL: Final = frozenset(name for name, field in CALL_FIELDS.items() if not field.send_calls)
"""Fields of a call that a send-calls body has no place for."""
RULE_FIELDS: Final = CREATE_CALL_FIELDS - {"recording_url", "recording_file_extension"}
"""What the rules of a `call:` may give. The others follow from `recording:` and `audio:`."""
OPTIONAL_FIELDS: Final = {name: field for name, field in CALL_FIELDS.items() if not field.required}
KNOWN_NAMES: Final = frozenset(
    {*CALL_FIELDS, *SEND_CALLS_FIELDS, *ROW_FIELDS, *WORD_FIELDS, *TOOL_FIELDS, *NODE_FIELDS}
    | {"body", "query", "content", "workspace_id", "agent_remote_identifier"}
)
"""Every name in a request to Tuner. What else an answer names can be content of a call."""
