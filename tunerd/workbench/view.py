"""What became of one document, as plain JSON values: `--json` prints them, report.py draws the same as lines.

Values are those of the document, unshortened.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from tunerd.call import Publish, Refusal
from tunerd.mapping.neighbours import FASTEST_PER_S, TIMES_APART
from tunerd.mapping.trace import RuleRef, RuleTrace
from tunerd.mapping.values import kind
from tunerd.workbench.evaluation import Evaluation
from tunerd.workbench.request import RequestPreview, form_used
from tunerd.workbench.shown import count, where
from tunerd.yaml_location import YamlLocation

View: TypeAlias = dict[str, Any]


def view_of(evaluation: Evaluation) -> View:
    """Everything to report about a document, or about the documents of a gathered call."""
    origin = evaluation.unit.unread.origin if evaluation.unit.unread else evaluation.unit.documents[0].origin
    made: dict[str, Any] = {"path": origin.path, "offset": origin.offset}
    if evaluation.explanation is None:
        refusal = None if evaluation.refusal is None else _refusal_json(evaluation.refusal)
        return {**made, "source": evaluation.compiled.source.name, "outcome": "refused", "refusal": refusal}
    explanation = evaluation.explanation
    rules = merged(explanation.rules)
    call, recording = explanation.mapped.call, explanation.mapped.recording
    if evaluation.unit.fragments:
        made["gathered"] = {
            "key": evaluation.unit.fragments[0].key,
            "complete": evaluation.complete,
            "wait_s": evaluation.unit.fragments[-1].wait_s,
            "documents": [
                {"path": one.origin.path, "offset": one.origin.offset, "part": one.part} for one in evaluation.unit.fragments
            ],
        }
    made |= {
        "source": evaluation.compiled.source.name,
        "preset": evaluation.compiled.source.preset,
        "configured": not evaluation.compiled.made_up,
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
            "url": recording.location,
            "started_at": recording.started_at,
            "duration_s": recording.duration_s,
            "expires_at": recording.expires_at,
        },
        "fields": [
            {"name": field.name, "file": field.location.file, "line": field.location.line, "rule": field.rule,
             "value": field.value, "why_nothing": field.why}
            for field in explanation.fields
        ],
        "repairs": dict(explanation.repairs),
        "redacted": dict(explanation.mapped.notes.redacted),
        "left_out": list(explanation.mapped.notes.left_out),
        "strategies": [
            {"rule": one.rule, "answer": one.answer, "url": getattr(one.strategy, "location", None),
             "key": (getattr(one.strategy, "key", None) or "").strip() or None}
            for one in explanation.strategies
        ],
        "audio": None if call is None or call.audio is None else _WAYS[call.audio.publish],
        "unknown": {
            rule.path: dict(call.unknown) for rule in rules for call in rule.calls.values() if call.unknown
        },
        "rules": [_rule_json(rule) for rule in rules],
    }  # fmt: skip
    return made


_WAYS: Final[Mapping[Publish, str]] = {
    Publish.UPLOAD: "a URL is sent as it is; a file or an object is uploaded to Tuner's storage (audio: upload)",
    Publish.PRESIGN: "a URL is sent as it is; of an object in a bucket a signed URL is sent (audio: presign)",
    Publish.URL: "a URL is sent as it is; of everything else the URL that the rule of audio.publish makes is sent",
}
"""How the audio of a call reaches Tuner."""


def origin_of(document: View) -> str:
    """`calls.ndjson@120`, of a view or of one of its gathered documents."""
    path: str = document["path"]
    return path if document["offset"] == 0 else f"{path}@{document['offset']}"


def where_is(item: View) -> str:
    """The place of a field or of a rule, as people read it."""
    return where(YamlLocation(item["file"], item["line"], 1))


def outcome_of(evaluation: Evaluation) -> str:
    """`call`, `recording`, `call and recording`, `ignored`, `refused`."""
    if evaluation.explanation is None or evaluation.refusal is not None:
        return "refused"
    mapped = evaluation.explanation.mapped
    if mapped.ignored is not None:
        return "ignored"
    return " and ".join(name for name, it in (("call", mapped.call), ("recording", mapped.recording)) if it is not None)


def estimated(evaluation: Evaluation) -> list[str]:
    """Which times of a mapped call the document did not tell: each is a guess, and said to be one."""
    call = evaluation.explanation.mapped.call if evaluation.explanation is not None else None
    if call is None or evaluation.explanation is None:
        return []
    found = []
    repairs = evaluation.explanation.repairs
    if rows := repairs.get("spread"):
        found.append(f"the times of {count(rows, 'row')} are estimated: nothing in it says when they were spoken")
    if orjson.loads(call.payload)["end_timestamp"] == call.origin.mtime_ns // 1_000_000:
        found.append("the call is taken to have ended when the file was written: nothing in it says when")
    found += [f"{name}: {REPAIRS[name]}" for name in DOUBTS if name in repairs]
    return found


REPAIRS: Final[Mapping[str, str]] = {
    "call_start_from_rows": "the call's start is that of its first row",
    "call_end_from_rows": "the call's end is that of its last row",
    "text_from_words": "rows without text take that of their words",
    "start_from_end": "rows that only have an end start a reading pace before it",
    "before_start": "rows that begin before the call begin with it",
    "after_end": "rows end after the call; they stay",
    "end_before_start": "rows end before they start; they end where they start",
    "spread": "speech without times is spread between its neighbours (an estimate)",
    "carried_start": "tool and node rows without a time take the end of the row before",
    "reordered": "rows are sorted by their start",
    "end_from_next": "speech without an end ends with the next speech",
    "end_from_call": "speech without an end ends with the call",
    "spoken_too_fast": f"DOUBTFUL: over {FASTEST_PER_S} characters are said in a second; are the rows' times in milliseconds?",
    "much_shorter_than_call": f"DOUBTFUL: the transcript is over {TIMES_APART} times shorter than the call; check the units",
    "much_longer_than_call": f"DOUBTFUL: the transcript is over {TIMES_APART} times longer than the call; check the units",
    "words_out_of_row": "words more than 1 s outside their row are dropped: unit?",
    "name_from_call": "tool results take the name of their call",
    "result_without_call": "tool results whose call is not there",
    "node_from": "nodes come from the node before",
    "wrapped": "tool values that are no objects become {value: ...}",
    "surrogates": "half characters (lone surrogates) are replaced",
    "big_numbers": "numbers beyond 64 bits lose precision",
    "cut": "texts are cut to their limit",
}
"""What each repair of the timeline and the payload means."""
DOUBTS: Final = ("spoken_too_fast", "much_shorter_than_call", "much_longer_than_call")


def merged(rules: Sequence[RuleTrace]) -> list[RuleTrace]:
    """Times are compiled as two steps of one path (the rule, and its reading as a time): shown as one."""
    found: dict[RuleRef, RuleTrace] = {}
    for rule in rules:
        if rule.ref not in found or (rule.error and not found[rule.ref].error):
            found[rule.ref] = rule
    return list(found.values())


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


def _rule_json(rule: RuleTrace) -> dict[str, Any]:
    return {
        "path": rule.path,
        "file": rule.ref.location.file,
        "line": rule.ref.location.line,
        "rule": rule.ref.text,
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
            for call in rule.calls.values()
        ],
    }  # fmt: skip
