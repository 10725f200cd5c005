"""Sources from a few lines of YAML, and documents from Python values, for the tests of the rule language."""

from collections.abc import Mapping
from typing import Any

import orjson

from tunerd.call import Call, Document, Hold, Origin
from tunerd.config import Destination, FileRule, ManifestRule, NearestRule, Source, StrategyRule, UrlRule
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping, compile_source
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.yaml_location import ConfigError, Node

CREATE = Destination(name="tuner", base_url="https://tuner.example", workspace_id=42, api="create-call")
SEND = Destination(name="tuner", base_url="https://tuner.example", workspace_id=42, api="send-calls")

REST = """
  call_id: {const: c-1}
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: doc.said}, role: {const: user}, text: m, start_ms: 0}
"""
"""What a call needs, for tests that look at one more field. Wants a document with `said: [text]`."""


def compiled(
    text: str,
    destination: Destination | None = CREATE,
    *,
    brings: Mapping[str, bool] | None = None,
    manifests: Mapping[str, ManifestFacts] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> SourceMapping:
    """`text`: the members call, manifest, recording, agent of a source. `brings`: sources of recordings, and whether these have a
    start. Raises ConfigError."""
    members: dict[str, Node] = {}
    if text.strip():
        value = parse_yaml(text, "config.yaml").value
        assert isinstance(value, dict)
        members = value
    listed = members["recording"].value if "recording" in members else None
    recording = None
    if isinstance(listed, tuple):
        recording = tuple(strategy(item) for item in listed)
    source = Source(
        name="agent",
        path="/calls",
        agent_remote_identifier=settings.pop("agent_remote_identifier", "support-bot"),
        call=members.get("call"),
        manifest=members.get("manifest"),
        agent=members.get("agent"),
        recording=recording,
        on_missing=Hold(hold_s=60.0),
        **settings,
    )
    facts = {name: ManifestFacts(has_start=has_start) for name, has_start in (brings or {}).items()}
    return compile_source(source, destination, manifests=facts | (manifests or {}), environ=environ or {})


def strategy(item: Node) -> StrategyRule:
    assert isinstance(item.value, dict)
    values = item.value
    if "url" in values:
        return UrlRule(url=values["url"], expires_at=values.get("expires_at"))
    if "file" in values:
        times = {f"{name}_s": float(str(values[name].value)) for name in ("within", "wait") if name in values}
        return FileRule(file=values["file"], directory=values["in"].bare() if "in" in values else None, **times)
    within = values["within"].value if "within" in values else None
    if "nearest" in values:
        return NearestRule(
            nearest=str(values["nearest"].value),
            same=values.get("same"),
            within_s=float(str(within)),
            one_at_a_time="one_at_a_time" in values,
        )
    return ManifestRule(
        manifest=str(values["manifest"].value),
        key=values["key"],
        within_s=float(within) if isinstance(within, int) else None,
        pick=values["pick"].bare() if "pick" in values else "nearest",
    )


def document(value: Any, path: str = "/calls/one.json", **origin: Any) -> Document:
    raw = orjson.dumps(value) if not isinstance(value, bytes) else value
    where = Origin(source="agent", path=path, length=len(raw), **origin)
    return Document(origin=where, raw=raw, value=orjson.loads(raw), settled_at=1.0)


def call_of(mapping: SourceMapping, value: Any, **origin: Any) -> Call:
    """The call that the document gives; fails with the refusal where there is none."""
    mapped = mapping.map(document(value, **origin))
    assert mapped.call is not None, mapped.refused
    return mapped.call


def fields_of(mapping: SourceMapping, value: Any, **origin: Any) -> dict[str, Any]:
    """The payload of the call that the document gives."""
    fields: dict[str, Any] = orjson.loads(call_of(mapping, value, **origin).payload)
    return fields


def problems_of(text: str, **settings: Any) -> list[str]:
    """Each load problem as one line: `file:line:column: path: message`."""
    try:
        compiled(text, **settings)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []
