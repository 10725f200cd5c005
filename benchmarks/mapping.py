"""How long the rules take for a call of about 125 rows (rules, timeline, payload), beside a mapper written by hand for it.

Both are run in turns, a few calls each, many times over, and their processor time is taken: the machine has other work.
"""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks import by_hand, made, platform_calls
from benchmarks.bars import at_most
from tunerd.call import Document, Origin, UrlStrategy
from tunerd.config import Destination, Source, UrlRule
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping, compile_source, presets
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.yaml_location import Node, YamlLocation

ROUNDS = 60
CALLS = 8
"""Of each, before the other has its turn."""
_DESTINATION = Destination(name="tuner", base_url="https://tuner.example", workspace_id=42, api="create-call")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    limit: float
    """Times by hand that it may take."""
    mapping: SourceMapping
    by_hand: Callable[[Any], by_hand.Call | None]
    value: dict[str, Any]


def cases() -> list[Case]:
    return [
        Case("a home-made call", 4.0, _home_made(), by_hand.home_made, made.document(1, rows=120)),
        Case("preset vapi", 3.0, _preset("vapi"), by_hand.vapi, platform_calls.vapi()),
        Case("preset retell", 3.0, _preset("retell"), by_hand.retell, platform_calls.retell()),
        Case("preset elevenlabs", 3.0, _preset("elevenlabs"), by_hand.elevenlabs, platform_calls.elevenlabs()),
    ]


def document(value: dict[str, Any]) -> Document:
    raw = orjson.dumps(value)
    return Document(
        origin=Origin(source="calls", path="/calls/1.json", length=len(raw)), raw=raw, value=orjson.loads(raw), settled_at=1.0
    )


def measure() -> list[str]:
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # as `tunerd run` does
    lines = []
    for case in cases():
        rows = check(case)
        rules, hand = _times(case)
        ratios = [a / b for a, b in zip(rules, hand, strict=True)]
        lines.append(
            f"| mapping of {case.name}, {rows} rows | {statistics.median(ratios):.2f} times by hand "
            f"({_decile(ratios, 1):.2f}-{_decile(ratios, 9):.2f} in four of five rounds): {statistics.median(rules):.3f} ms and "
            f"{statistics.median(hand):.3f} ms; {at_most(statistics.median(ratios), case.limit)} |"
        )
    return lines


def check(case: Case) -> int:
    """Both give the same call and recording; how many rows it has. Raises AssertionError."""
    mapped = case.mapping.map(document(case.value))
    call, own = mapped.call, case.by_hand(document(case.value).value)
    assert call is not None, mapped.refused
    assert own is not None
    payload: dict[str, Any] = orjson.loads(call.payload)
    assert payload == orjson.loads(own.payload)
    assert (call.call_id, call.started_at_ms) == (own.call_id, own.started_at_ms)
    answers = [(one.location, one.expires_at) for one in call.strategies if isinstance(one, UrlStrategy) and one.location]
    assert own.recording_url is None or answers[0][0] == own.recording_url
    return len(payload["transcript_with_tool_calls"])


def _times(case: Case) -> tuple[list[float], list[float]]:
    """Of each round the milliseconds a call takes: by the rules, and by hand."""
    read = document(case.value)
    by_rules, own = case.mapping.map, case.by_hand
    rules: list[float] = []
    hand: list[float] = []
    for number in range(ROUNDS + 2):
        began = time.thread_time_ns()
        for _ in range(CALLS):
            by_rules(read)
        between = time.thread_time_ns()
        for _ in range(CALLS):
            own(read.value)
        ended = time.thread_time_ns()
        if number >= 2:
            rules.append((between - began) / CALLS / 1e6)
            hand.append((ended - between) / CALLS / 1e6)
    return rules, hand


def _decile(values: list[float], which: int) -> float:
    return statistics.quantiles(values, n=10)[which - 1]


def _preset(name: str) -> SourceMapping:
    """With `gather: null`: what is measured is the mapping of a document that is there."""
    alone = Node(None, YamlLocation("", 1, 1)) if "gather" in presets.load(name) else None
    return _compiled(Source(name="calls", path="/calls", preset=name, agent_remote_identifier="bench", gather=alone))


def _home_made() -> SourceMapping:
    settings = parse_yaml(made.config("/bench", "https://tuner.example"), "bench.yaml").value
    assert isinstance(settings, dict)
    listed = settings["sources"].value
    assert isinstance(listed, tuple)
    members = listed[0].value
    assert isinstance(members, dict)
    url = parse_yaml("doc.audio", "bench.yaml")
    source = Source(
        name="calls", path="/calls", call=members["call"], recording=(UrlRule(url=url),), agent_remote_identifier="bench"
    )
    return _compiled(source)


def _compiled(source: Source) -> SourceMapping:
    return compile_source(source, _DESTINATION, manifests={"elevenlabs-audio": ManifestFacts(has_start=False)}, environ={})
