"""The two request forms: the exact bytes that are posted, made from a stored payload when its first attempt starts.

Nothing of the mapping is done again here, so this is quick enough for the ledger's transaction.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from tunerd.call import Call, Form, Publish, Refusal
from tunerd.location import MAX_URL_CHARS, BadLocation, LocationKind, stored_location, url_location
from tunerd.mapping.limits import check_create_call
from tunerd.mapping.published import published_url
from tunerd.outcome import FailReason
from tunerd.tuner_fields import ONLY_CREATE_CALL, ROWS

SIGNED_STAND_IN: Final = "https://bucket.example/signed-when-it-is-sent"
_AGAIN: Final = "map it again with `tunerd remap`"


def fields_not_carried(form: Form) -> frozenset[str]:
    """Fields of the mapping (current names) that the form has no place for; `check` lists those that are mapped."""
    return frozenset() if form is Form.CREATE_CALL else ONLY_CREATE_CALL


def freeze_body(
    payload: bytes,
    recording_url: str,
    checked_for: Form | None,
    form: Form,
    *,
    url_rule: str = "",
    uploads: tuple[str, int] | None = None,
    is_placeholder: bool = False,
) -> bytes | Refusal:
    """The body to post, or why the form does not take it. With `url_rule`, `recording_url` is another location, and the rule
    gives its URL.

    `payload` is Payload.body_json and `checked_for` what came with it. create-call: the payload and recording_url; it is
    checked only where it was not yet. send-calls: exactly the fields of that form. Pure; the same arguments give the same bytes.
    `uploads`: extension and channels of the audio for which the body asks Tuner for a target; `is_placeholder`: `recording_url`
    need not be a URL.
    """
    if url_rule:
        published = published_url(url_rule, recording_url)
        if isinstance(published, Refusal):
            return published
        recording_url = published
    wrong = None if is_placeholder else _url_problem(recording_url, form)
    if wrong is not None:
        return wrong
    if form is Form.CREATE_CALL and checked_for is Form.CREATE_CALL and uploads is None:
        return b"".join((payload[:-1], b',"recording_url":', orjson.dumps(recording_url), b"}"))
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return _refusal("payload", f"the stored payload is no JSON; {_AGAIN}")
    if form is Form.SEND_CALLS:
        return orjson.dumps(_send_calls(fields, recording_url))
    fields["recording_url"] = recording_url
    if uploads is not None:
        _ask_for_target(fields, *uploads)
    wrong = check_create_call(fields)
    if wrong is not None:
        return _refusal(
            wrong.where, f"{wrong.what}. It was mapped before the form was create-call: correct the rule, then {_AGAIN}"
        )
    return orjson.dumps(fields)


def _ask_for_target(fields: dict[str, Any], extension: str, channels: int) -> None:
    """Two channels are two speakers. Which one is the caller's, only a rule can tell (`recording_s3_caller_channel`)."""
    fields["recording_file_extension"] = extension
    if channels == 2:
        fields.setdefault("recording_s3_multi_channel", True)


def preview_body(call: Call, location: str, form: Form) -> bytes | Refusal:
    """As `freeze_body`, for showing: what only the running daemon knows (a signed URL, a target for the audio) is left out."""
    plan = call.audio
    if plan is None or stored_location(location).kind is LocationKind.URL:
        return freeze_body(call.payload, location, call.checked_for, form)
    match plan.publish:
        case Publish.UPLOAD:
            return freeze_body(call.payload, plan.placeholder, call.checked_for, form, is_placeholder=True)
        case Publish.PRESIGN:
            return freeze_body(call.payload, SIGNED_STAND_IN, call.checked_for, form)
        case Publish.URL:
            return freeze_body(call.payload, location, call.checked_for, form, url_rule=plan.url_rule)


def _refusal(where: str, what: str) -> Refusal:
    return Refusal(reason=FailReason.INVALID, where=where, what=what)


def _url_problem(url: str, form: Form) -> Refusal | None:
    try:
        url_location(url)
    except BadLocation as bad:
        return _refusal("recording_url", str(bad))
    if form is Form.CREATE_CALL and len(url) > MAX_URL_CHARS:
        return _refusal("recording_url", f"is longer than {MAX_URL_CHARS} characters, and a URL is never cut: give a shorter one")
    return None


def _send_calls(fields: Mapping[str, Any], recording_url: str) -> dict[str, Any]:
    body = {
        "call_id": fields["call_id"],
        "call_type": fields["call_type"],
        ROWS: [{"role": row["role"], "content": content_of(row)} for row in fields[ROWS]],
        "start_timestamp": fields["start_timestamp"],
        "end_timestamp": fields["end_timestamp"],
        "recording_url": recording_url,
    }
    if fields.get("user_sentiment") is not None:
        body["userSentiment"] = fields["user_sentiment"]
    return body


def content_of(row: Mapping[str, Any]) -> str:
    """What a row says in one text: speech as it is, a tool row as its name and JSON, a node row as a step from one to the
    next. Text that such a row has besides comes first."""
    tool, node = row.get("tool"), row.get("node")
    if not tool and not node:
        return row.get("text") or ""
    parts = [row["text"]] if row.get("text") else []
    if tool:
        parts.append(_tool_content(tool))
    if node:
        reason = f" ({node['reason']})" if node.get("reason") else ""
        parts.append(f"{node.get('from', 'start')} -> {node['to']}{reason}")
    return "\n".join(parts)


def _tool_content(tool: Mapping[str, Any]) -> str:
    parts = [tool["name"]] if tool.get("name") else []
    parts.extend(_json(tool[name]) for name in ("params", "result") if tool.get(name) is not None)
    if tool.get("error"):
        parts.append(f"error: {tool['error']}")
    return " ".join(parts)


def _json(value: Mapping[str, Any]) -> str:
    """Without the wrapping that only create-call asks for: a text result is the text itself."""
    plain: Any = value["value"] if value.keys() == {"value"} else value
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()
