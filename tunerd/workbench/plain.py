"""One tried document as plain JSON values, for programs: the same as report.py's lines, nothing shortened."""

from typing import Any

import orjson

from tunerd.call import Refusal
from tunerd.mapping.explanation import RuleReport
from tunerd.mapping.values import kind
from tunerd.workbench.evaluation import Evaluation
from tunerd.workbench.report import merged, outcome_of
from tunerd.workbench.request import RequestPreview, form_used


def as_json(evaluation: Evaluation, *, rules: bool = False) -> dict[str, Any]:
    """The same for programs. Values stand as they are."""
    origin = evaluation.unit.unread.origin if evaluation.unit.unread else evaluation.unit.documents[0].origin
    made: dict[str, Any] = {"path": origin.path, "offset": origin.offset}
    if evaluation.explanation is None:
        refusal = None if evaluation.refusal is None else _refusal_json(evaluation.refusal)
        return {**made, "source": evaluation.compiled.source.name, "outcome": "refused", "refusal": refusal}
    explanation = evaluation.explanation
    call, recording = explanation.mapped.call, explanation.mapped.recording
    if evaluation.unit.fragments:
        made["gathered"] = {
            "key": evaluation.unit.fragments[0].key,
            "complete": evaluation.complete,
            "documents": [
                {"path": one.origin.path, "offset": one.origin.offset, "part": one.part} for one in evaluation.unit.fragments
            ],
        }
    made |= {
        "source": evaluation.compiled.source.name,
        "preset": evaluation.compiled.source.preset,
        "outcome": outcome_of(evaluation),
        "refusal": None if evaluation.refusal is None else _refusal_json(evaluation.refusal),
        "call": None if call is None else {
            "call_id": call.call_id,
            "agent": call.agent,
            "destination": call.destination,
            "form": form_used(call, evaluation.compiled).value,
            "payload": orjson.loads(call.payload),
        },
        "recording": None if recording is None else {
            "key": recording.key,
            "id": recording.id,
            "url": recording.url,
            "started_at": recording.started_at,
            "duration_s": recording.duration_s,
            "expires_at": recording.expires_at,
        },
        "fields": [
            {"name": field.name, "file": field.place.file, "line": field.place.line, "rule": field.rule, "value": field.value,
             "why_nothing": field.why}
            for field in explanation.fields
        ],
        "repairs": dict(explanation.repairs),
        "redacted": dict(explanation.mapped.notes.redacted),
        "left_out": list(explanation.mapped.notes.left_out),
        "strategies": [
            {"rule": one.rule, "answer": one.answer, "url": getattr(one.strategy, "url", None),
             "key": getattr(one.strategy, "key", None)}
            for one in explanation.strategies
        ],
        "unknown": {
            rule.path: dict(call.unknown) for rule in merged(explanation.rules) for call in rule.calls if call.unknown
        },
    }  # fmt: skip
    if rules:
        made["rules"] = [_rule_json(rule) for rule in merged(explanation.rules)]
    return made


def request_json(request: RequestPreview | Refusal) -> dict[str, Any]:
    if isinstance(request, Refusal):
        return {"refusal": _refusal_json(request)}
    return {
        "method": "POST",
        "url": request.url,
        "headers": dict(request.headers),
        "body": orjson.loads(request.body),
        "recording_url_is_stand_in": request.stand_in,
        "notes": list(request.notes),
    }


def _refusal_json(refusal: Refusal) -> dict[str, str]:
    return {"reason": refusal.reason.value, "where": refusal.where, "what": refusal.what}


def _rule_json(rule: RuleReport) -> dict[str, Any]:
    return {
        "path": rule.path,
        "file": rule.place.file,
        "line": rule.place.line,
        "rule": rule.rule,
        "runs": rule.runs,
        "missing": rule.missing,
        "first_value": rule.value,
        "kind": kind(rule.value),
        "error": rule.error,
        "items": rule.items,
        "rows": rule.rows,
        "functions": [
            {"function": call.function, "calls": call.calls, "nulls": call.nulls, "unknown": dict(call.unknown),
             "samples": [{"arguments": list(got), "gave": gave} for got, gave in call.samples]}
            for call in rule.calls
        ],
    }  # fmt: skip
