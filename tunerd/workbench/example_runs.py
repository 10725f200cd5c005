"""Runs examples: maps a document and compares the result with what the example expects. Pure.

Reading the input is the command's matter; it hands in documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tunerd.call import Call, Choice, Document, Form, ManifestStrategy, Origin, Recording, Refusal, RefusedDocument, UrlStrategy
from tunerd.config import Example, Source
from tunerd.mapping.explanation import Explanation
from tunerd.mapping.expressions import compile_item
from tunerd.mapping.forms import preview_body
from tunerd.mapping.values import RuleError
from tunerd.outcome import FailReason
from tunerd.workbench.compare import ABSENT, Change, changes, same
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.evaluation import Evaluation, evaluate, units
from tunerd.workbench.request import STAND_IN
from tunerd.workbench.shown import where
from tunerd.workbench.view import outcome_of

WRITTEN_AT_MS: Final = 1_782_900_060_000
"""`file.mtime` of every example: 2026-07-01 10:01:00 UTC, so that a fresh checkout changes nothing."""


@dataclass(slots=True)
class ExampleResult:
    """How one example went; it passed where there are neither problems nor differences."""

    example: Example
    problems: list[str] = field(default_factory=list)
    """What came out at all, where that was not what was expected."""
    differences: list[Change] = field(default_factory=list)
    """`old` is what was expected, `new` what there is; the path is the expression."""
    hints: list[str] = field(default_factory=list)
    """Why a field that was expected is not there."""

    @property
    def passed(self) -> bool:
        return not self.problems and not self.differences


def inline_documents(example: Example, source: Source) -> list[Document | RefusedDocument]:
    """The documents of `input:`; one that is longer than the source reads is refused, as in a file."""
    assert example.input is not None  # noqa: S101 - one of input and input_file it is
    given = example.input.value
    value: Any = orjson.loads(given) if isinstance(given, str) else example.input.bare()
    values: list[Any] = value if isinstance(value, list) else [value]
    found: list[Document | RefusedDocument] = []
    offset = 0
    for one in values:
        raw = orjson.dumps(one)
        origin = origin_of(example, source, offset, len(raw))
        if len(raw) > source.max_document_bytes:
            what = f"longer than max_document ({source.max_document_bytes:,} bytes)"
            found.append(RefusedDocument(origin=origin, refusal=Refusal(reason=FailReason.TOO_LARGE, where="input", what=what)))
        else:
            found.append(Document(origin=origin, raw=raw, value=one, settled_at=0.0))
        offset += len(raw) + 1
    return found


def origin_of(example: Example, source: Source, offset: int, length: int, name: str = "example.json") -> Origin:
    """Where the rules see the document: in the source's directory, whatever place it was read from."""
    path = f"{source.path.rstrip('/')}/{example.file or name}"
    return Origin(source=source.name, path=path, offset=offset, length=length, mtime_ns=WRITTEN_AT_MS * 1_000_000)


def run(example: Example, compiled: CompiledSource, reads: Sequence[Document | RefusedDocument]) -> ExampleResult:
    """Map what was read and hold it against what is expected."""
    result = ExampleResult(example)
    found = units(compiled, reads)
    what = "call" if compiled.mapping.gathers else "document"
    if example.document is not None:
        if example.document > len(found):
            result.problems.append(f"there is no {what} {example.document}: the input holds {len(found)}")
            return result
        found = [found[example.document - 1]]
    if len(found) != 1:
        holds = f"no {what}" if not found else f"{len(found)} {what}s: say which one with `document: 1`"
        result.problems.append(f"the input holds {holds}")
        return result
    _judge(result, evaluate(compiled, found[0]), compiled)
    return result


def _judge(result: ExampleResult, evaluation: Evaluation, compiled: CompiledSource) -> None:
    example, outcome = result.example, outcome_of(evaluation)
    refusal = evaluation.refusal
    came = _came(outcome, refusal)
    if example.expect_failed is not None:
        if refusal is None or refusal.reason is not example.expect_failed:
            result.problems.append(f"expected to be refused ({example.expect_failed.value}), but it {came}")
        return
    if example.expect_ignored:
        if outcome != "ignored":
            result.problems.append(f"expected to be left out, but it {came}")
        return
    mapped = evaluation.explanation.mapped if evaluation.explanation and evaluation.refusal is None else None
    call, recording = (mapped.call, mapped.recording) if mapped else (None, None)
    if (example.expect or example.expect_keys) and (call is None or mapped is None):
        result.problems.append(f"expected a call, but it {came}")
    elif call is not None and mapped is not None and evaluation.explanation is not None:
        _compare_call(result, call, evaluation.explanation, compiled)
    if example.expect_recording:
        if recording is None:
            result.problems.append(f"expected a recording, but it {came}")
        else:
            made = recording_fields(recording)
            _compare(result, {text: node.bare() for text, node in example.expect_recording.items()}, made, evaluation.explanation)


def _compare_call(result: ExampleResult, call: Call, explanation: Explanation, compiled: CompiledSource) -> None:
    example = result.example
    if example.expect:
        seen = seen_by(call, Form(example.form) if example.form else None)
        if isinstance(seen, Refusal):
            result.problems.append(f"the form {example.form} does not take the call: {seen.where}: {seen.what}")
        else:
            _compare(result, {text: node.bare() for text, node in example.expect.items()}, seen, explanation)
    keys = {one.source: one.key for one in call.strategies if isinstance(one, ManifestStrategy) and one.choice is not Choice.ONLY}
    for source, node in example.expect_keys.items():
        wanted, got = node.bare(), keys.get(source)
        if not same(wanted, got):
            result.differences.append(Change(f"key in {source}", wanted, ABSENT if got is None else got))


def seen_by(call: Call, form: Form | None) -> dict[str, Any] | Refusal:
    """What `expect` looks at: the body of the form; without one the payload in Tuner's current names, with recording_url
    where the document itself names it."""
    url = next((one.location for one in call.strategies if isinstance(one, UrlStrategy) and one.location), None)
    if form is not None:
        body = preview_body(call, url or STAND_IN, form)
        return body if isinstance(body, Refusal) else _object(body)
    payload = _object(call.payload)
    return {**payload, "recording_url": url} if url else payload


def _object(text: bytes) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(text)
    return value


def recording_fields(recording: Recording) -> dict[str, Any]:
    """A recording in the names of `manifest:`, times in ms; what it does not have is left out."""
    fields = {
        "key": recording.key,
        "id": recording.id or None,
        "url": recording.location,
        "started_at": None if recording.started_at is None else round(recording.started_at * 1000),
        "duration_ms": None if recording.duration_s is None else recording.duration_s * 1000,
        "expires_at": None if recording.expires_at is None else round(recording.expires_at * 1000),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _compare(result: ExampleResult, expected: dict[str, Any], seen: dict[str, Any], explanation: Explanation | None) -> None:
    whys = {report.name: report for report in (explanation.fields if explanation else ()) if report.why}
    for text, wanted in expected.items():
        try:
            got = compile_item(text).run(seen)
        except RuleError as error:
            result.problems.append(f"{text}: {error}")
            continue
        found = list(changes(wanted, got))
        result.differences += [Change(_under(text, change.path), change.old, _nothing(change.new)) for change in found]
        name = text.split(".")[0].split("[")[0]
        if found and name in whys and name not in seen:
            report = whys[name]
            result.hints.append(f"{name} ({where(report.location)}): {report.why}")


def _under(text: str, path: str) -> str:
    return text if not path else f"{text}{path}" if path.startswith("[") else f"{text}.{path}"


def _nothing(value: Any) -> Any:
    return ABSENT if value is None else value


def _came(outcome: str, refusal: Refusal | None) -> str:
    if refusal is not None:
        return f"was refused ({refusal.reason.value}): {refusal.where}: {refusal.what}"
    return "was left out by the rules (`when:`)" if outcome == "ignored" else f"gave a {outcome}"
