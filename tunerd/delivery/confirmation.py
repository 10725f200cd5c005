"""What a 2xx says about the call: taken, rejected, or neither. Pure; docs/delivery.md has the table.

A status alone confirms nothing: gateways, maintenance pages and captive portals answer 200, too.
"""

from typing import Final

import orjson

from tunerd.call import Json
from tunerd.outcome import Failed, FailReason, Sent, Unconfirmed

_ADVICE: Final = "the call may have arrived; check base_url and proxy (or set `delivery.accept: any`, if it does take calls)"


def parse_json(body: bytes) -> Json:
    """The JSON value of an answer that was read whole; None if it has none (or just null)."""
    try:
        parsed: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed


def judge_success(status: int, parsed: Json, *, accept_any: bool, unread: str = "") -> Sent | Failed | Unconfirmed:
    """What an answer with a 2xx status means. `unread` says why a body could not be read, if it could not.

    The order matters: a plain `success: false` is a rejection whatever stands beside it; then any doubt wins over any
    sign of success.
    """
    answer = parsed if isinstance(parsed, dict) else {}
    if answer.get("success", True) is False:
        return Failed(reason=FailReason.REJECTED, status=status, detail=f"Tuner answered {status} with success: false")
    doubt = unread or _doubt(parsed)
    if doubt and not accept_any:
        return Unconfirmed(status=status, detail=f"answered {status}, but {doubt}; {_ADVICE}")
    return Sent(status=status, tuner_call_id=tuner_call_id(parsed), already_there=False, offer=upload_offer(parsed))


def tuner_call_id(parsed: Json) -> str | None:
    """`tunerCallId` of send-calls, `id` of create-call."""
    if not isinstance(parsed, dict):
        return None
    given = parsed.get("tunerCallId", parsed.get("id"))
    return str(given)[:200] if _is_id(given) else None


def upload_offer(parsed: Json) -> bytes | None:
    """Where Tuner wants the call's audio, if the answer says so: JSON, and a secret."""
    offered = parsed.get("recording_upload") if isinstance(parsed, dict) else None
    return orjson.dumps(offered) if offered else None


def _doubt(parsed: Json) -> str:
    """Why this answer does not confirm that the call was taken, in words without any value of it; empty if it does."""
    if not isinstance(parsed, dict):
        return "its body is not a JSON object"
    if parsed.get("success", True) is not True:
        return f"`success` is {_kind(parsed['success'])} instead of true"
    if "error" in parsed:
        return "it has an `error`"
    if parsed.get("success") is True or _is_id(parsed.get("tunerCallId")):
        return ""
    has_mark = parsed.get("provider_call_id") is not None or isinstance(parsed.get("is_new"), bool)
    if _is_id(parsed.get("id")) and has_mark:
        return ""
    return "it has neither `success: true`, nor `tunerCallId`, nor `id` with `provider_call_id` or `is_new`"


def _is_id(value: Json) -> bool:
    """A number, or text that is not empty."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
