"""The payload: mapped fields and placed rows become one JSON object in Tuner's current field names, within its limits.

What is required and does not fit refuses the call; what is optional and does not fit is left out and named. The
recording's URL is not in it: it is known later, and goes in when the body is frozen (forms.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final

import orjson

from tunerd.call import Form, Json, Refusal
from tunerd.mapping.functions.times import half_up
from tunerd.mapping.limits import RefusalError
from tunerd.mapping.row_values import bool_of, number_of, object_of, text_of
from tunerd.mapping.timeline import Placed
from tunerd.mapping.values import lost_digits, missing
from tunerd.outcome import FailReason
from tunerd.record import record
from tunerd.tuner_fields import CALL_FIELDS, OPTIONAL_FIELDS, ROWS, SENTIMENTS, FieldKind

_LIMITS: Final = {name: field.limit for name, field in CALL_FIELDS.items() if field.limit is not None}
MAX_DEPTH: Final = 200
"""Nesting that a payload may have; orjson writes 254 levels, and the row around it takes some."""


@record
class Payload:
    """A call that some form takes."""

    call_id: str
    started_at_ms: int
    body_json: bytes
    """The JSON object, UTF-8, without recording_url; the same bytes for the same fields and rows."""
    checked_for: Form | None
    """CREATE_CALL: meets both forms. SEND_CALLS: meets that one. None: the form is not known and only send-calls' demands
    are met; forms.freeze_body checks again."""
    left_out: tuple[str, ...] = ()
    """Optional fields that had a value which does not meet their limit."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """Name of the repair -> how often: surrogates, big_numbers, cut."""


def build(fields: Mapping[str, Json], placed: Placed, *, form: Form | None) -> Payload | Refusal:
    """Put the payload together. `fields` are not changed; rows come from `placed`."""
    try:
        return _build(fields, placed, form)
    except RefusalError as refused:
        return refused.refusal


def _build(fields: Mapping[str, Any], placed: Placed, form: Form | None) -> Payload:
    strict = form is Form.CREATE_CALL
    call_id, call_type = (_required(fields, name, strict=strict) for name in ("call_id", "call_type"))
    body: dict[str, Any] = {
        "call_id": call_id,
        "call_type": call_type,
        "start_timestamp": placed.start_ms,
        "end_timestamp": placed.end_ms,
    }
    left_out: list[str] = []
    repairs: dict[str, int] = {}
    for name, fit in _OPTIONAL:
        value = fields.get(name)
        if value is None or missing(value):
            continue
        fitting = fit(value)
        if fitting is None:
            left_out.append(name)
        else:
            body[name] = fitting
    if len(body.get("disconnection_reason", "")) > _LIMITS["disconnection_reason"]:
        body["disconnection_reason"] = body["disconnection_reason"][: _LIMITS["disconnection_reason"]]
        repairs["cut"] = 1
    body[ROWS] = placed.rows
    try:
        body_json = orjson.dumps(body)
    except TypeError:  # lone surrogates, numbers beyond 64 bits, too deep
        body_json = orjson.dumps(_writable(body, left_out, repairs))
        call_id = orjson.loads(body_json)["call_id"]
    fits = placed.fits_create_call and len(call_id) <= _LIMITS["call_id"] and len(call_type) <= _LIMITS["call_type"]
    return Payload(
        call_id=call_id,
        started_at_ms=placed.start_ms,
        body_json=body_json,
        checked_for=Form.CREATE_CALL if fits else form,
        left_out=tuple(left_out),
        repairs=repairs,
    )


def _required(fields: Mapping[str, Any], name: str, *, strict: bool) -> str:
    value = fields.get(name)
    if missing(value):
        raise RefusalError(name, "gave nothing, and every call needs it", FailReason.UNMAPPABLE)
    if lost_digits(value):
        # JSON numbers beyond 64 bits arrive rounded: two ids would become one.
        raise RefusalError(name, "is a number that cannot be kept digit by digit: have it written as text")
    text = text_of(value)
    if text is None:
        raise RefusalError(name, "has to be text")
    if not text.strip():
        raise RefusalError(name, "is blank, and every call needs it", FailReason.UNMAPPABLE)
    if strict and len(text) > _LIMITS[name]:
        raise RefusalError(name, f"is longer than the {_LIMITS[name]} characters that create-call takes; shorten it by a rule")
    return text


# How an optional value is fitted: what Tuner takes, or None where it can't be that.


def _text(limit: int | None) -> Callable[[Any], str | None]:
    def fit(value: Any) -> str | None:
        text = text_of(value)
        return None if text is None or (limit is not None and len(text) > limit) else text

    return fit


def _sentiment(value: Any) -> str | None:
    word = value.strip().casefold() if isinstance(value, str) else None
    return word if word in SENTIMENTS else None


def _phone(value: Any) -> str | None:
    """E.164 where it is one, but for the blanks and brackets that people put in; other names of a caller as they stand."""
    text = (text_of(value) or "").strip()
    digits = text.translate(_PHONE_MARKS)
    number = digits if digits.lstrip("+").isdecimal() else text
    return number if 0 < len(number) <= _LIMITS["caller_phone_number"] else None


_PHONE_MARKS = str.maketrans("", "", " -.()/\u00a0")


def _duration(value: Any) -> int | None:
    number = number_of(value)
    return None if number is None or number < 0 else half_up(number)


def _count(value: Any) -> int | float | None:
    number = number_of(value)
    return None if number is None or number < 0 else number


def _plain(value: Any) -> bool | int | float | str | None:
    return value if isinstance(value, bool | int | float | str) else None


_FIT: Final[Mapping[FieldKind | str, Callable[[Any], Any]]] = {
    "disconnection_reason": _text(None),
    "caller_phone_number": _phone,
    "duration_ms": _duration,
    FieldKind.SENTIMENT: _sentiment,
    FieldKind.COUNT: _count,
    FieldKind.NUMBER: number_of,
    FieldKind.BOOLEAN: bool_of,
    FieldKind.OBJECT: object_of,
    FieldKind.PLAIN: _plain,
}
"""By name where a field has a way of its own, else by kind."""
_OPTIONAL: Final = tuple(
    (name, _FIT.get(name) or _FIT.get(field.kind) or _text(field.limit)) for name, field in OPTIONAL_FIELDS.items()
)


# What JSON can't hold. Rare, so looked for only after writing failed.


def _writable(body: Mapping[str, Any], left_out: list[str], repairs: dict[str, int]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in body.items():
        try:
            made[name] = _writable_value(value, MAX_DEPTH, repairs)
        except _TooDeep:
            if name == ROWS:
                raise RefusalError(
                    ROWS, f"a row is nested deeper than {MAX_DEPTH} levels; take only a part of it by a rule"
                ) from None
            left_out.append(name)
    return made


class _TooDeep(Exception):
    """Nested deeper than MAX_DEPTH."""


def _writable_value(value: Any, depth: int, repairs: dict[str, int]) -> Any:
    if depth == 0:
        raise _TooDeep
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            repairs["surrogates"] = repairs.get("surrogates", 0) + 1
            # Surrogates that stand in pairs are one character; what is left alone becomes U+FFFD.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 64:
            return value
        repairs["big_numbers"] = repairs.get("big_numbers", 0) + 1
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, Mapping):
        return {
            _writable_value(str(name), depth, repairs): _writable_value(item, depth - 1, repairs) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_writable_value(item, depth - 1, repairs) for item in value]
    return value if isinstance(value, float) else None
