"""What the rules are measured against: for each platform a mapper written by hand, for it alone.

Each does what a careful engineer would write: every value is looked at before it is used, times become whole milliseconds
from the start of the call, rows are brought into order and given ends, tool JSON is parsed or wrapped, limits are kept, and
what is required is demanded. Nothing is slow on purpose, and no check is left out that tunerd makes on these documents.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from math import floor, isfinite
from typing import Any

import orjson

LONGEST_MS = 1 << 53
LONGEST_S = 1e12
OUTSIDE_MS = 60_000
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_PHONE_MARKS = str.maketrans("", "", " -.()/\u00a0")
_SENTIMENTS = ("positive", "neutral", "negative", "unknown")


class Unfit(Exception):
    """The document does not make a call."""


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str
    started_at_ms: int
    payload: bytes
    recording_url: str | None
    expires_at: float | None = None


# Values


def _ms(seconds: Any) -> int | None:
    """Seconds, as a number or as text of one, in milliseconds."""
    if seconds.__class__ is float:
        if not -LONGEST_MS < seconds < LONGEST_MS:
            raise Unfit("a time that is none")
        return floor(seconds * 1000 + 0.5)
    if seconds is None or seconds.__class__ is int:
        return None if seconds is None else seconds * 1000
    if seconds.__class__ is str:
        try:
            return floor(float(seconds) * 1000 + 0.5) if seconds.strip() else None
        except (ValueError, OverflowError):
            raise Unfit("a time that is none") from None
    raise Unfit("a time that is none")


def _epoch_ms(value: Any) -> int | None:
    """ISO 8601, epoch seconds or epoch milliseconds."""
    if value.__class__ is str and value:
        if not _ISO.fullmatch(value):
            raise Unfit("a time in no known form")
        try:
            away = datetime.fromisoformat(value) - datetime(1970, 1, 1, tzinfo=UTC)
        except ValueError:
            raise Unfit("a time that is none") from None
        return (away.days * 86_400 + away.seconds) * 1000 + (away.microseconds + 500) // 1000
    if value.__class__ is int or value.__class__ is float:
        if value == 0:
            return None
        if not 1e8 <= value < 1e14:
            raise Unfit("a time that is none")
        return floor(value * 1000 + 0.5) if value < 1e11 else floor(value + 0.5)
    if not value:
        return None
    raise Unfit("a time that is none")


def _object(value: Any) -> dict[str, Any]:
    return value if value.__class__ is dict else {}


def _text(value: Any, limit: int | None = None) -> str | None:
    if value.__class__ is int:
        value = str(value)
    return value if value.__class__ is str and value and (limit is None or len(value) <= limit) else None


def _number(value: Any) -> int | float | None:
    if value.__class__ is int:
        return value
    return value if value.__class__ is float and isfinite(value) else None


def _bool(value: Any) -> bool | None:
    if value is None or value.__class__ is bool:
        return value
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).strip().lower())


def _cents(dollars: Any) -> float | None:
    number = _number(dollars)
    return None if number is None else float(Decimal(repr(number * 100)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def _phone(value: Any) -> str | None:
    text = (_text(value) or "").strip()
    digits = text.translate(_PHONE_MARKS)
    number = digits if digits.lstrip("+").isdecimal() else text
    return number if 0 < len(number) <= 50 else None


def _sentiment(value: Any) -> str | None:
    word = value.strip().lower() if value.__class__ is str else None
    return word if word in _SENTIMENTS else None


def _json_object(value: Any) -> dict[str, Any]:
    """What a tool got or gave, as the object that Tuner wants."""
    if value.__class__ is dict:
        return value
    if value.__class__ is str and value[:1] == "{":
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {"value": value}
        if parsed.__class__ is dict:
            return parsed
    return {"value": value}


def _first(*values: Any) -> Any:
    for value in values:
        if value is not None and value != "" and value != [] and value != {}:
            return value
    return None


def _required(value: Any, name: str, limit: int) -> str:
    text = _text(value)
    if text is None or not text.strip() or len(text) > limit:
        raise Unfit(name)
    return text


# What all rows go through at the end


def _finished(rows: list[dict[str, Any]], start: int, end: int | None) -> int:
    """Order, places within the call, ends of speech, names of results, checks. Gives the end of the call."""
    if not rows:
        raise Unfit("no row")
    if end is None:
        end = start + max(row.get("end_ms", row["start_ms"]) for row in rows)
    if not 0 <= start <= end <= LONGEST_MS:
        raise Unfit("the times of the call")
    length = end - start
    last = 0
    ordered = True
    for row in rows:
        at = row["start_ms"]
        if at < 0:
            if at < -OUTSIDE_MS:
                raise Unfit("a row outside the call")
            at = row["start_ms"] = 0
        if at < last:
            ordered = False
        last = at
        until = row.get("end_ms", at)
        if at > length + OUTSIDE_MS or until > length + OUTSIDE_MS:
            raise Unfit("a row outside the call")
        if until < at:
            row["end_ms"] = at
    if not ordered:
        rows.sort(key=lambda row: row["start_ms"])
    later: int | None = None
    nearest: int | None = None
    names: dict[str, str] = {}
    for row in reversed(rows):
        role = row["role"]
        if role != "user" and role != "agent":
            continue
        at = row["start_ms"]
        if at != nearest:
            later, nearest = nearest, at
        if "end_ms" not in row:
            bound = max(length, at) if later is None else later
            row["end_ms"] = min(bound, at + 1000 + 120 * len(row.get("text", "")))
        words = row.get("words")
        if words:
            low, high = at - 1000, row["end_ms"] + 1000
            if low < 0:
                low = 0
            for word in words:
                if not low <= word["start_ms"] <= word["end_ms"] <= high:
                    _drop_words(row, low, high)
                    break
    for row in rows:
        tool = row.get("tool")
        if tool is None:
            continue
        tool["start_ms"] = row["start_ms"]
        identity = tool.get("request_id")
        if identity is None:
            continue
        if row["role"] == "agent_function":
            if "name" in tool:
                names[identity] = tool["name"]
        elif "name" not in tool and identity in names:
            tool["name"] = names[identity]
    return end


def _drop_words(row: dict[str, Any], low: int, high: int) -> None:
    row["words"] = [word for word in row["words"] if low <= word["start_ms"] <= word["end_ms"] <= high]
    if not row["words"]:
        del row["words"]


def _body(required: dict[str, Any], optional: Mapping[str, Any], rows: list[dict[str, Any]]) -> bytes:
    body = required
    for name, value in optional.items():
        if value is not None and value != "" and value != {}:
            body[name] = value
    body["transcript_with_tool_calls"] = rows
    return orjson.dumps(body)


# A home-made call, as made.py makes it


def home_made(document: Any) -> Call:
    if document.__class__ is not dict:
        raise Unfit("no object")
    call_id = _required(document.get("id"), "call_id", 200)
    start, end = _epoch_ms(document.get("started")), _epoch_ms(document.get("ended"))
    if start is None:
        raise Unfit("start")
    messages = document.get("messages")
    if messages.__class__ is not list:
        raise Unfit("messages")
    rows: list[dict[str, Any]] = []
    for message in messages:
        if message.__class__ is not dict:
            raise Unfit("a message that is no object")
        role, text = message.get("role"), message.get("text")
        if role is None:
            continue
        if role != "agent" and role != "user":
            raise Unfit("a role")
        if text.__class__ is not str:
            if text is not None:
                raise Unfit("a text")
            continue
        text = text.strip()
        if not text:
            continue
        at, length = _ms(message.get("at")), _ms(message.get("for"))
        if at is None:
            raise Unfit("a row without a time")
        row = {"role": role, "text": text, "start_ms": at}
        if length is not None:
            row["end_ms"] = at + length
        rows.append(row)
    end = _finished(rows, start, end)
    required = {"call_id": call_id, "call_type": "phone_call", "start_timestamp": start, "end_timestamp": end}
    return Call(call_id, start, _body(required, {}, rows), _text(document.get("audio")))


# Vapi

_VAPI_ROLES = {"bot": "agent", "assistant": "agent", "ai": "agent", "user": "user", "customer": "user"}
_VAPI_TYPES = {"inboundPhoneCall": "phone_call", "outboundPhoneCall": "phone_call", "webCall": "web_call"}


def _vapi_words(message: dict[str, Any]) -> list[dict[str, Any]] | None:
    listed = _object(message.get("metadata")).get("wordLevelConfidence")
    if listed.__class__ is not list:
        return None
    words: list[dict[str, Any]] = []
    for word in listed:
        if word.__class__ is not dict:
            continue
        said = word.get("punctuated_word") or word.get("word")
        start, end = word.get("start"), word.get("end")
        start = floor(start * 1000 + 0.5) if start.__class__ is float and 0 <= start < LONGEST_S else _ms(start)
        end = floor(end * 1000 + 0.5) if end.__class__ is float and 0 <= end < LONGEST_S else _ms(end)
        if said.__class__ is not str or not said or start is None or end is None or said.isspace():
            continue
        kept = {"word": said, "start_ms": start, "end_ms": end}
        confidence = word.get("confidence")
        if confidence is not None and (confidence := _number(confidence)) is not None:
            kept["confidence"] = confidence
        words.append(kept)
    return words


def vapi(document: Any) -> Call | None:
    if document.__class__ is not dict:
        raise Unfit("no object")
    report = _object(_first(document.get("message"), document))
    if "message" in document and report.get("type") != "end-of-call-report":
        return None
    call = _object(_first(report.get("call"), report))
    kept = _object(_first(report.get("artifact"), report))
    messages = _first(kept.get("messages"), report.get("messages"))
    if messages is None:
        return None
    if messages.__class__ is not list:
        raise Unfit("messages")
    call_id = _required(_first(call.get("id"), report.get("vapiId")), "call_id", 200)
    kind = call.get("type")
    call_type = _required(_VAPI_TYPES.get(kind, kind) if kind.__class__ is str and kind else "phone_call", "call_type", 100)
    start = _epoch_ms(_first(report.get("startedAt"), call.get("startedAt")))
    end = _epoch_ms(_first(report.get("endedAt"), call.get("endedAt")))
    if start is None:
        raise Unfit("start")
    rows: list[dict[str, Any]] = []
    for message in messages:
        if message.__class__ is not dict:
            raise Unfit("a message that is no object")
        role = message.get("role")
        at = _ms(message.get("secondsFromStart"))
        speaker = _VAPI_ROLES.get(role) if role.__class__ is str else None
        if speaker is not None:
            text = message.get("message")
            if text is not None and text.__class__ is not str:
                raise Unfit("a text")
            text = text.strip() if text else ""
            words = _vapi_words(message)
            if text or words:
                if at is None:
                    if not words:
                        raise Unfit("a row without a time")
                    at = words[0]["start_ms"]
                row = {"role": speaker, "text": text or " ".join([word["word"].strip() for word in words or ()]), "start_ms": at}
                length = message.get("duration")
                if length.__class__ is int:
                    row["end_ms"] = at + length
                elif (lasted := _number(length)) is not None:
                    row["end_ms"] = at + floor(lasted + 0.5)
                elif words:
                    row["end_ms"] = words[-1]["end_ms"]
                if words:
                    row["words"] = words
                rows.append(row)
        calls = message.get("toolCalls")
        if calls.__class__ is list:
            for one in calls:
                if one.__class__ is not dict:
                    continue
                function = _object(one.get("function"))
                name, arguments, identity = _text(function.get("name")), function.get("arguments"), _text(one.get("id"))
                if not name and not arguments:
                    continue
                if at is None:
                    raise Unfit("a row without a time")
                tool: dict[str, Any] = {}
                if name:
                    tool["name"] = name
                if identity:
                    tool["request_id"] = identity
                if arguments is not None and arguments != "":
                    tool["params"] = _json_object(arguments)
                rows.append({"role": "agent_function", "tool": tool, "start_ms": at})
        if role == "tool_call_result":
            name, result, identity = _text(message.get("name")), message.get("result"), _text(message.get("toolCallId"))
            if name or result:
                if at is None:
                    raise Unfit("a row without a time")
                tool = {}
                if name:
                    tool["name"] = name
                if identity:
                    tool["request_id"] = identity
                if result is not None and result != "":
                    tool["result"] = _json_object(result)
                rows.append({"role": "agent_result", "tool": tool, "start_ms": at})
    end = _finished(rows, start, end)
    cost, analysis = report.get("cost"), _object(report.get("analysis"))
    recording = _object(kept.get("recording"))
    optional = {
        "call_cost": _cents(_object(cost).get("total") or cost),
        "call_successful": _bool(analysis.get("successEvaluation")),
        "disconnection_reason": (_text(_first(report.get("endedReason"), call.get("endedReason"))) or "")[:100],
        "caller_phone_number": _phone(
            _first(
                _object(report.get("customer")).get("number"),
                _object(call.get("customer")).get("number"),
                report.get("customerNumber"),
            )
        ),
        "recording_multi_channel_url": _text(
            _first(recording.get("stereoUrl"), kept.get("stereoRecordingUrl"), report.get("stereoRecordingUrl")), 1024
        ),
        "collected_dynamic_variables": _object(kept.get("variableValues")),
        "call_analysis": analysis,
    }
    required = {"call_id": call_id, "call_type": call_type, "start_timestamp": start, "end_timestamp": end}
    presigned = _text(kept.get("presignedMonoUrl"))
    expires = _epoch_ms(kept.get("presignedUrlsExpiresAt"))
    url = _text(
        _first(
            _object(recording.get("mono")).get("combinedUrl"),
            kept.get("recordingUrl"),
            report.get("recordingUrl"),
            _object(report.get("recordings")).get("mono"),
            recording.get("url"),
        )
    )
    return Call(call_id, start, _body(required, optional, rows), url or presigned, None if expires is None else expires / 1000)


# Retell

_RETELL_ROLES = {"agent": "agent", "user": "user", "transfer_target": "agent"}
_EXPIRES = re.compile(r"[?&]Expires=([0-9]{10})")


def _retell_words(listed: list[Any]) -> list[dict[str, Any]]:
    words: list[dict[str, Any]] = []
    for word in listed:
        if word.__class__ is not dict:
            continue
        said, start, end = word.get("word"), word.get("start"), word.get("end")
        start = floor(start * 1000 + 0.5) if start.__class__ is float and 0 <= start < LONGEST_S else _ms(start)
        end = floor(end * 1000 + 0.5) if end.__class__ is float and 0 <= end < LONGEST_S else _ms(end)
        if said.__class__ is not str or start is None or end is None:
            continue
        said = said.strip()
        if said:
            words.append({"word": said, "start_ms": start, "end_ms": end})
    return words


def _retell_failed(entry: dict[str, Any], answer: dict[str, Any]) -> bool | None:
    """Whether a tool failed: by its flag, or by what it answered."""
    successful = entry.get("successful")
    if successful is False or answer.get("success") is False or _object(answer.get("data")).get("success") is False:
        return True
    return False if successful else None


def retell(document: Any) -> Call | None:
    if document.__class__ is not dict:
        raise Unfit("no object")
    if document.get("event") not in (None, "", "call_ended", "call_analyzed"):
        return None
    call = _object(_first(document.get("call"), document))
    said = _first(
        call.get("scrubbed_transcript_with_tool_calls"), call.get("transcript_with_tool_calls"), call.get("transcript_object")
    )
    if said is None:
        return None
    if said.__class__ is not list:
        raise Unfit("transcript")
    call_id = _required(call.get("call_id"), "call_id", 200)
    call_type = _required(_first(call.get("call_type"), "phone_call"), "call_type", 100)
    start, end, duration = (
        _epoch_ms(call.get("start_timestamp")),
        _epoch_ms(call.get("end_timestamp")),
        _number(call.get("duration_ms")),
    )
    if start is None:
        raise Unfit("start")
    if end is None and duration is not None:
        end = start + floor(duration + 0.5)
    rows: list[dict[str, Any]] = []
    for entry in said:
        if entry.__class__ is not dict:
            raise Unfit("an entry that is no object")
        role = entry.get("role")
        at = _ms(entry.get("time_sec"))
        speaker = _RETELL_ROLES.get(role) if role.__class__ is str else None
        if speaker is not None:
            text, listed = entry.get("content"), entry.get("words")
            if text is not None and text.__class__ is not str:
                raise Unfit("a text")
            text = text.strip() if text else ""
            words: list[dict[str, Any]] = []
            if listed and listed.__class__ is list:
                if _object(listed[-1]).get("end") == _object(listed[0]).get("start"):
                    continue  # never spoken
                words = _retell_words(listed)
                if words:
                    at = words[0]["start_ms"]
            if not text and not words:
                continue
            if at is None:
                raise Unfit("a row without a time")
            row: dict[str, Any] = {"role": speaker, "text": text or " ".join([word["word"] for word in words]), "start_ms": at}
            if words:
                row["end_ms"] = words[-1]["end_ms"]
                row["words"] = words
            if role == "transfer_target":
                row["metadata"] = {"speaker": "transfer_target"}
            rows.append(row)
        elif role == "tool_call_invocation":
            name, identity, arguments = _text(entry.get("name")), _text(entry.get("tool_call_id")), entry.get("arguments")
            if not name and not arguments:
                continue
            if at is None:
                raise Unfit("a row without a time")
            tool: dict[str, Any] = {}
            if name:
                tool["name"] = name
            if identity:
                tool["request_id"] = identity
            if arguments is not None and arguments != "":
                tool["params"] = _json_object(arguments)
            rows.append({"role": "agent_function", "tool": tool, "start_ms": at})
        elif role == "tool_call_result":
            identity, result = _text(entry.get("tool_call_id")), entry.get("content")
            if at is None:
                raise Unfit("a row without a time")
            tool = {}
            if identity:
                tool["request_id"] = identity
            answer: dict[str, Any] = {}
            if result is not None and result != "":
                answer = tool["result"] = _json_object(result)
            failed = _retell_failed(entry, answer)
            if failed is not None:
                tool["is_error"] = failed
            rows.append({"role": "agent_result", "tool": tool, "start_ms": at})
        elif role == "node_transition":
            former = _text(_first(entry.get("former_node_name"), entry.get("former_node_id")))
            new = _text(_first(entry.get("new_node_name"), entry.get("new_node_id")))
            if not new:
                continue
            if at is None:
                raise Unfit("a row without a time")
            node = {"from": former or "start", "to": new}
            reason = _text(entry.get("transition_type"))
            if reason:
                node["reason"] = reason
            rows.append({"role": "node_transition", "node": node, "start_ms": at})
    end = _finished(rows, start, end)
    analysis = _object(call.get("call_analysis"))
    status = call.get("call_status")
    general = {
        "agent_id": call.get("agent_id"),
        "agent_name": call.get("agent_name"),
        "direction": call.get("direction"),
        "latency": call.get("latency"),
        "telephony": call.get("telephony_identifier"),
        "variables": call.get("retell_llm_dynamic_variables"),
    }
    version = _number(call.get("agent_version"))
    optional = {
        "duration_ms": None if duration is None or duration < 0 else floor(duration + 0.5),
        "agent_version": None if version is None or version < 0 else version,
        "call_cost": _number(_object(call.get("call_cost")).get("combined_cost")),
        "call_successful": _bool(analysis.get("call_successful")),
        "in_voicemail": _bool(analysis.get("in_voicemail")),
        "user_sentiment": _sentiment(analysis.get("user_sentiment")),
        "call_status": _text("call_ended" if status == "ended" else status, 100),
        "disconnection_reason": (_text(call.get("disconnection_reason")) or "")[:100],
        "caller_phone_number": _phone(call.get("to_number") if call.get("direction") == "outbound" else call.get("from_number")),
        "recording_multi_channel_url": _text(
            _first(call.get("scrubbed_recording_multi_channel_url"), call.get("recording_multi_channel_url")), 1024
        ),
        "collected_dynamic_variables": _object(call.get("collected_dynamic_variables")),
        "call_analysis": analysis,
        "metadata": _object(call.get("metadata")),
        "general_meta_data_raw": {name: value for name, value in general.items() if value is not None},
        "sip_headers": _object(call.get("custom_sip_headers")),
    }
    required = {"call_id": call_id, "call_type": call_type, "start_timestamp": start, "end_timestamp": end}
    url = _text(_first(call.get("scrubbed_recording_url"), call.get("recording_url")))
    signed = _EXPIRES.search(url) if url else None
    return Call(call_id, start, _body(required, optional, rows), url, float(signed[1]) if signed else None)


# ElevenLabs


def elevenlabs(document: Any) -> Call | None:
    if document.__class__ is not dict:
        raise Unfit("no object")
    if document.get("type") not in (None, "", "post_call_transcription"):
        return None
    conversation = _object(_first(document.get("data"), document))
    transcript = conversation.get("transcript")
    if not transcript:
        return None
    if transcript.__class__ is not list:
        raise Unfit("transcript")
    meta = _object(conversation.get("metadata"))
    phone = _object(meta.get("phone_call"))
    call_id = _required(conversation.get("conversation_id"), "call_id", 200)
    start, duration = _epoch_ms(meta.get("start_time_unix_secs")), _ms(meta.get("call_duration_secs"))
    if start is None:
        raise Unfit("start")
    end = None if duration is None else start + duration
    rows: list[dict[str, Any]] = []
    for turn in transcript:
        if turn.__class__ is not dict:
            raise Unfit("a turn that is no object")
        role, text = turn.get("role"), turn.get("message")
        at = _epoch_ms(turn.get("created_at_unix_ms"))
        since = _ms(turn.get("time_in_call_secs")) if at is None else at - start
        if role is not None:
            if role != "agent" and role != "user":
                raise Unfit("a role")
            if text is not None and text.__class__ is not str:
                raise Unfit("a text")
            text = text.strip() if text else ""
            if text:
                if since is None:
                    raise Unfit("a row without a time")
                row: dict[str, Any] = {"role": role, "text": text, "start_ms": since}
                interrupted, meant = turn.get("interrupted"), turn.get("original_message")
                if interrupted is not None or meant is not None:
                    metadata = row["metadata"] = {}
                    if interrupted is not None:
                        metadata["interrupted"] = interrupted
                    if meant is not None:
                        metadata["intended"] = meant
                rows.append(row)
        calls, results = turn.get("tool_calls"), turn.get("tool_results")
        if calls:
            if calls.__class__ is not list:
                raise Unfit("tool calls")
            for one in calls:
                if one.__class__ is not dict:
                    continue
                name, arguments, identity = _text(one.get("tool_name")), one.get("params_as_json"), _text(one.get("request_id"))
                if not name and not arguments:
                    continue
                if since is None:
                    raise Unfit("a row without a time")
                tool: dict[str, Any] = {}
                if name:
                    tool["name"] = name
                if identity:
                    tool["request_id"] = identity
                if arguments is not None and arguments != "":
                    tool["params"] = _json_object(arguments)
                rows.append({"role": "agent_function", "tool": tool, "start_ms": since})
        if results:
            if results.__class__ is not list:
                raise Unfit("tool results")
            for one in results:
                if one.__class__ is not dict:
                    continue
                name, result, identity = _text(one.get("tool_name")), one.get("result_value"), _text(one.get("request_id"))
                error = _text(one.get("raw_error_message"))
                if not name and not result and not error:
                    continue
                if since is None:
                    raise Unfit("a row without a time")
                tool = {}
                if name:
                    tool["name"] = name
                if identity:
                    tool["request_id"] = identity
                if result is not None and result != "":
                    tool["result"] = _json_object(result)
                failed = _bool(one.get("is_error"))
                if failed is not None:
                    tool["is_error"] = failed
                if error:
                    tool["error"] = error
                rows.append({"role": "agent_result", "tool": tool, "start_ms": since})
    end = _finished(rows, start, end)
    analysis = _object(conversation.get("analysis"))
    collected = _object(_object(analysis.get("data_collection_results")).get("sentiment"))
    optional = {
        "duration_ms": duration,
        "call_cost": _cents(meta.get("cost_fiat")),
        "call_successful": {"success": True, "failure": False}.get(str(analysis.get("call_successful")).lower()),
        "user_sentiment": _sentiment(collected.get("value")),
        "disconnection_reason": (_text(meta.get("termination_reason")) or "")[:100],
        "caller_phone_number": _phone(phone.get("external_number")),
        "sip_call_id": _text(phone.get("call_id")) if phone.get("type") == "sip_trunking" else None,
        "collected_dynamic_variables": _object(
            _object(conversation.get("conversation_initiation_client_data")).get("dynamic_variables")
        ),
        "call_analysis": analysis,
    }
    call_type = "phone_call" if phone else "web_call"
    required = {"call_id": call_id, "call_type": call_type, "start_timestamp": start, "end_timestamp": end}
    return Call(call_id, start, _body(required, optional, rows), None)
