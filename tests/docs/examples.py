"""Runs the examples of docs/rules.md. The notation of the page:

- A block `yaml source` is a source or a part of one; what every call needs and the example leaves out is filled in. A block
  `json document` after it (with `path=...`, its path) is mapped. The block after that shows the result: `json call` (the fields of
  the payload that are shown), `json rows`, `json repairs`, `json create-call` and `json send-calls` (the exact body),
  `json recording`, `json strategies`, `json left-out`, `text refused`, `text ignored`, or, without a document, `text problem`.
  A block `json documents` holds several documents, one per line: each after the name of its file, or all in one log.
- A block `rule` holds one or more fields of a call, and lines `document => value of the last field`. The name `value`
  is a field that accepts everything.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from tests.docs.fences import Fence
from tunerd.call import Call, Document, Form, Fragment, Mapped, Origin, UrlStrategy
from tunerd.carried_key import keyed
from tunerd.loading.config_file import load_text
from tunerd.mapping import SourceMapping, compile_sources
from tunerd.mapping.forms import freeze_body
from tunerd.yaml_location import ConfigError, YamlLocation

ENVIRON: Final = {"CALL_TYPE": "web_call"}
_INDENT: Final = 4
_HEAD: Final = """\
tuner: {workspace_id: 42, agent_remote_identifier: support-bot, api_key: secret, api: FORM}
sources:
  - name: agent
    path: /calls
"""
_TAIL: Final = """\
  - name: egress
    path: /egress
    preset: livekit-egress
"""
_NEEDED: Final = {
    "call_id": "{const: call-1}",
    "call_type": "{const: phone_call}",
    "start_timestamp": "1782900000000",
    "end_timestamp": "1782900060000",
    "transcript_with_tool_calls": "{rows: [{role: {const: user}, text: {const: Hello}, start_ms: 0, end_ms: 500}]}",
}
_IN_A_FILE: Final = re.compile(r"^([\w./-]+\.json) +(\{.*\})$")
_CASE: Final = re.compile(r"^(\{.*\}) +=> (.*)$")
_RESULTS: Final = frozenset(
    {
        *("json call", "json rows", "json repairs", "json create-call", "json send-calls", "json recording", "json left-out"),
        *("json strategies", "text refused", "text ignored", "text problem"),
    }
)


@dataclass(frozen=True, slots=True)
class Example:
    source: Fence
    """A block `yaml source` or `rule`."""
    document: Fence | None
    wanted: Fence
    field: str = ""
    """The field that is shown, if the source is a `rule` block."""

    def __str__(self) -> str:
        return str(self.wanted)


def examples(blocks: Iterator[Fence]) -> Iterator[Example]:
    """Yield every example of a page. Raises ValueError for a block that would be shown but not executed."""
    source: Fence | None = None
    document: Fence | None = None
    for fence in blocks:
        if fence.info == "yaml source":
            source, document = fence, None
        elif fence.info.startswith("json document"):
            document = fence
        elif fence.info == "rule":
            yield from _cases(fence)
        elif fence.info in _RESULTS:
            if source is None or (document is None and fence.info != "text problem"):
                raise ValueError(f"{fence}: a result without its source and document")
            yield Example(source, document, fence)
        elif fence.info.split(" ")[0] in ("json", "yaml", "rule") and fence.info not in ("yaml config", "yaml shown"):
            raise ValueError(f"{fence}: `{fence.info}` is no kind of example")


def _cases(fence: Fence) -> Iterator[Example]:
    rules: list[str] = []
    count = 0
    for number, row in enumerate(fence.text.splitlines()):
        found = _CASE.match(row)
        if found is None:
            rules.append(row)
            continue
        count += 1
        text = "\n".join(rules)
        names = re.findall(r"^(\w+):", text, re.MULTILINE)
        if names[-1] == "value":
            text = re.sub(r"^value:", "metadata:\n  value:", text, flags=re.MULTILINE)
        source = replace(fence, text="call:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
        at = fence.line + number
        document = replace(fence, line=at, info="json document", text=found[1])
        yield Example(source, document, replace(fence, line=at, info="json value", text=found[2]), names[-1])
    if not count:
        raise ValueError(f"{fence}: a `rule` block without a line `document => value`")


def result(example: Example) -> Any:
    """The result of the example, in the form in which the example shows it."""
    kind = example.wanted.info
    try:
        mapping = compiled(example.source.text, Form.SEND_CALLS if kind == "json send-calls" else Form.CREATE_CALL)
    except ConfigError as error:
        if kind != "text problem":
            raise
        return "".join(f"{problem}\n" for problem in _moved(error, example.source.text))
    if kind == "text problem":
        raise AssertionError("the example loads")
    assert example.document is not None
    if example.document.info == "json documents":
        mapped = _gathered(mapping, example.document)
    else:
        mapped = mapping.map(document_of(example.document))
    if kind == "json value":
        return _value(mapped, example.field)
    return _outcome(mapped, kind, example.wanted)


def compiled(text: str, form: Form, others: str = _TAIL) -> SourceMapping:
    """Compile the mapping of a `yaml source`, beside other sources. Raises ConfigError."""
    config = load_text(_whole(text, form, others), "config.yaml", ENVIRON)
    return compile_sources(config, ENVIRON)["agent"]


def document_of(fence: Fence) -> Document:
    raw = fence.text.encode()
    path = fence.info.partition("path=")[2] or "call.json"
    origin = Origin(source="agent", path=f"/calls/{path}", length=len(raw), mtime_ns=1_782_900_100_000_000_000)
    return Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=1_782_900_100.0)


def _gathered(mapping: SourceMapping, fence: Fence) -> Mapped:
    """The call that the documents make; if they make several, the first."""
    fragments: list[Fragment] = []
    for number, line in enumerate(fence.text.splitlines()):
        found = _IN_A_FILE.match(line)
        path, text = (found[1], found[2]) if found else ("log.ndjson", line)
        origin = Origin(source="agent", path=f"/calls/{path}", offset=0 if found else number * 1000, mtime_ns=number + 1)
        raw = text.encode()
        fragment = mapping.map(Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=float(number))).fragment
        assert fragment is not None, line
        fragments.append(fragment)
    mapped = mapping.gather(None, next(iter(keyed(fragments).calls.values())))
    assert mapped is not None
    return mapped


def _whole(text: str, form: Form, others: str = _TAIL) -> str:
    """Put the source into a configuration, and fill in what the example leaves out."""
    lines = text.splitlines()
    members = re.findall(r"^(\w+):", text, re.MULTILINE)
    if "call" in members and "preset" not in members:
        at = lines.index("call:") if "call:" in lines else None
        given = set(re.findall(r"^  (\w+):", text, re.MULTILINE))
        if at is not None:
            end = next((n for n in range(at + 1, len(lines)) if re.match(r"\w", lines[n])), len(lines))
            lines[end:end] = [f"  {name}: {rule}" for name, rule in _NEEDED.items() if name not in given]
    if ("call" in members or "preset" in members) and not {"recording", "on_missing"} & set(members):
        lines.append('on_missing: {send: "https://audio.example/none.wav"}')
    return _HEAD.replace("FORM", form.value) + "".join(" " * _INDENT + line + "\n" for line in lines) + others


def _moved(error: ConfigError, text: str) -> list[str]:
    """The problems of the error, with line and column as in the example."""
    shift, last = _HEAD.count("\n"), len(text.splitlines())
    return [
        str(
            replace(
                problem,
                location=YamlLocation("config.yaml", min(problem.location.line - shift, last), problem.location.column - _INDENT),
            )
        )
        for problem in error.problems
    ]


def _value(mapped: Mapped, field: str) -> Any:
    if mapped.refused is not None:
        return f"refused: {mapped.refused.refusal.what}"
    if mapped.call is None:
        return "ignored"
    left_out = [name for name in mapped.notes.left_out if name in (field, "metadata")]
    if left_out:
        return "left out"
    fields = orjson.loads(mapped.call.payload)
    return fields.get("metadata", {}).get("value") if field == "value" else fields.get(field)


def _outcome(mapped: Mapped, kind: str, wanted: Fence) -> Any:
    if kind == "text ignored":
        assert mapped.ignored is not None, mapped
        return wanted.text
    if kind == "text refused":
        assert mapped.refused is not None, mapped
        refusal = mapped.refused.refusal
        return f"{refusal.reason.value}: {_here(refusal.where)}: {refusal.what}\n"
    if kind == "json recording":
        assert mapped.recording is not None, mapped.refused
        recording = mapped.recording
        shown = {name: getattr(recording, name) for name in ("key", "id", "started_at", "duration_s", "expires_at")}
        shown["url"] = recording.location
        return {name: value for name, value in shown.items() if value not in (None, "")}
    call = mapped.call
    assert call is not None, mapped.refused
    if kind == "json left-out":
        return list(mapped.notes.left_out)
    if kind == "json repairs":
        return dict(mapped.notes.repairs)
    if kind == "json strategies":
        return [_strategy(one) for one in call.strategies]
    fields = orjson.loads(call.payload)
    if kind == "json rows":
        return fields["transcript_with_tool_calls"]
    if kind == "json call":
        return {name: fields.get(name) for name in json.loads(wanted.text)}
    return body_of(call, Form(kind.removeprefix("json ")))


def body_of(call: Call, form: Form) -> Any:
    url = next(
        (one.location for one in call.strategies if isinstance(one, UrlStrategy) and one.location),
        "https://audio.example/none.wav",
    )
    body = freeze_body(call.payload, url, call.checked_for, form)
    assert isinstance(body, bytes), body
    return orjson.loads(body)


def _strategy(strategy: Any) -> dict[str, Any]:
    if isinstance(strategy, UrlStrategy):
        shown = {"url": strategy.location, "expires_at": strategy.expires_at}
    else:
        shown = {"source": strategy.source, "key": strategy.key}
    return {name: value for name, value in shown.items() if value is not None}


def _here(where: str) -> str:
    """`call.call_id (line 4)` with the line number of the example."""
    shift = _HEAD.count("\n")
    return re.sub(r"config\.yaml:(\d+)|line (\d+)", lambda m: m[0].replace(m[1] or m[2], str(int(m[1] or m[2]) - shift)), where)


def is_equal(got: Any, wanted: Fence) -> bool:
    if wanted.info == "json value":
        text = wanted.text
        return bool(got == (text if text.startswith(("refused: ", "left out", "ignored")) else json.loads(text)))
    if wanted.info.startswith("json"):
        return bool(got == json.loads(wanted.text))
    return bool(got == wanted.text)


def shown(got: Any) -> str:
    return got if isinstance(got, str) else json.dumps(got, ensure_ascii=False)
