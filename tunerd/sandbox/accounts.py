"""What Tuner would answer to a request: keys, query, body, known ids; and the bytes of each answer. No sockets here."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, assert_never

import orjson

from tunerd.call import Form
from tunerd.record import positional_record, record
from tunerd.sandbox.arrivals import NOT_ANSWERED
from tunerd.sandbox.body_check import FieldProblem, Judged
from tunerd.sandbox.faults import (
    DeclineTarget,
    Faults,
    FixedAnswer,
    Garbage,
    Hang,
    HoldAnswer,
    LoseAnswer,
    LoseTarget,
    Ordinary,
    Planned,
    Redirect,
    Reset,
)

AccountKey: TypeAlias = tuple[str, str, str]
"""workspace, agent, call id: what Tuner keeps apart."""
Offer: TypeAlias = Callable[[AccountKey, str], Mapping[str, object] | None]
"""Gives the upload target (`recording_upload`) for a call's audio with this file extension; None: there is none."""


@positional_record
class Response:
    """How a request ends."""

    status: int
    note: str
    body: bytes = b""
    accepted: bool = False
    problems: tuple[FieldProblem, ...] = ()
    headers: Mapping[str, str] | None = None
    content_type: str = "application/json"
    upload_key: str | None = None
    """The object's key in the upload target that the answer carries."""


@record
class CallRequest:
    """What counts of a POST to the call endpoint."""

    form: Form | None
    """By the key's header; None: neither or both."""
    key: str
    workspace: str
    agent: str
    content_type: str


class Accounts:
    """What the stand-in has accepted so far, for each workspace and agent."""

    def __init__(self) -> None:
        self._accepted: Counter[AccountKey] = Counter()

    def answer(self, request: CallRequest, judged: Judged, faults: Faults, offer: Offer) -> Response:
        """What Tuner would answer; a good call is accepted by this."""
        if refusal := _refuse_key(request, faults):
            return refusal
        if request.agent in faults.forbid_agents:
            return Response(403, "forbidden", error("this key may not send calls of this agent"))
        if wrong := _query_problems(request.workspace, request.agent):
            return Response(400, "refused", error("the query is not complete", wrong), problems=wrong)
        if request.content_type != "application/json":
            return Response(415, "refused", error("Content-Type must be application/json"))
        if judged.problems:
            status = 400 if judged.not_json else faults.reject
            return Response(status, "refused", error("the body is not valid", judged.problems), problems=judged.problems)
        assert request.form is not None  # noqa: S101 - _refuse_key answers it
        return self._accept(request.form, (request.workspace, request.agent, judged.call_id or ""), judged.extension, offer)

    def _accept(self, form: Form, call: AccountKey, extension: str | None, offer: Offer) -> Response:
        known = self._accepted[call]
        if form is Form.CREATE_CALL and known:
            return Response(409, "known", error("this call_id exists already; nothing was updated"))
        self._accepted[call] = known + 1
        answer: dict[str, object]
        upload_key = None
        if form is Form.CREATE_CALL:
            answer = {"id": self._accepted.total(), "provider_call_id": call[2], "is_new": True}
            if extension is not None and (target := offer(call, extension)) is not None:
                answer["recording_upload"] = target
                upload_key = str(target["key"])
        else:
            seal = hashlib.sha256("\0".join((*call, str(known))).encode()).hexdigest()[:12]
            answer = {"success": True, "callId": call[2], "tunerCallId": f"tc_{seal}", "message": _RECEIVED}
        note = "accepted again" if known else "accepted"
        return Response(200, note, orjson.dumps(answer), accepted=True, upload_key=upload_key)


_RECEIVED: Final = "Call data received successfully."

_UNCHECKED: Final = {
    Form.SEND_CALLS: Response(
        200, "accepted", orjson.dumps({"success": True, "callId": "", "tunerCallId": "tc_unchecked", "message": _RECEIVED}), True
    ),
    Form.CREATE_CALL: Response(200, "accepted", orjson.dumps({"id": 1, "provider_call_id": "", "is_new": True}), True),
}


def unread_answer(request: CallRequest, faults: Faults) -> Response:
    """The answer to a request at which nobody looks but for its key."""
    return _refuse_key(request, faults) or _UNCHECKED[request.form or Form.SEND_CALLS]


def credentials(headers: Mapping[str, str]) -> tuple[Form | None, str]:
    """The form and the key that the headers name; (None, "") for neither or both."""
    own, authorization = headers.get("X-API-Key"), headers.get("Authorization")
    if own and authorization is None:
        return Form.SEND_CALLS, own
    if own is None and authorization is not None and authorization.startswith("Bearer ") and len(authorization) > 7:
        return Form.CREATE_CALL, authorization[7:]
    return None, ""


def _refuse_key(request: CallRequest, faults: Faults) -> Response | None:
    if request.form is None:
        return Response(401, "no key", error("send either X-API-Key or Authorization: Bearer"))
    if not faults.is_good(request.key):
        return Response(401, "wrong key", error("this key is not known"))
    return None


def _query_problems(workspace: str, agent: str) -> tuple[FieldProblem, ...]:
    problems = []
    if not (workspace.isascii() and workspace.isdecimal()):
        problems.append(FieldProblem(field="query.workspace_id", problem="a whole number is required"))
    if not agent:
        problems.append(FieldProblem(field="query.agent_remote_identifier", problem="is required"))
    return tuple(problems)


def error(what: str, problems: Sequence[FieldProblem] = ()) -> bytes:
    told: dict[str, object] = {"success": False, "error": what}
    if problems:
        told["errors"] = [{"field": each.field, "problem": each.problem} for each in problems]
    return orjson.dumps(told)


def _retry_after(own: int | str | None, faults: Faults, status: int) -> dict[str, str]:
    """The Retry-After header: the answer's own wish, else the standing one, which goes with 429 and 503."""
    wish = faults.retry_after if own is None and status in (429, 503) else own
    return {} if wish is None else {"Retry-After": str(wish)}


def throttled(faults: Faults) -> Response:
    return Response(429, "throttled", error("too many requests"), headers=_retry_after(None, faults, 429))


def planned_response(planned: Planned, faults: Faults) -> Response | None:
    """The end of a request that nobody looks at; None: it is dealt with in the ordinary way."""
    match planned:
        case FixedAnswer(status, wish, body, content_type, headers):
            told = {**headers, **_retry_after(wish, faults, status)}
            said = error("planned") if body is None else body
            return Response(status, "planned", said, headers=told, content_type=content_type)
        case Redirect(url, status):
            return Response(status, "redirected", error("elsewhere"), headers={"Location": url})
        case Garbage(body, content_type, status):
            return Response(status, "garbage", body, content_type=content_type)
        case Reset():
            return Response(NOT_ANSWERED, "reset")
        case Hang():
            return Response(NOT_ANSWERED, "hangs")
        case Ordinary() | LoseAnswer() | HoldAnswer() | LoseTarget() | DeclineTarget():
            return None
        case _:
            assert_never(planned)
