"""A source at work: manifests, presets under own rules, explanations, and that no document gets the better of it."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.mapping.sources import REST, call_of, compiled, document, fields_of, problems_of
from tunerd.call import Document, Mapped, Origin
from tunerd.config import Source, VerifySettings
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import manifest_sources
from tunerd.mapping.source import SourceMapping
from tunerd.outcome import FailReason

MANIFEST = """
manifest:
  key: doc.room
  url: doc.url
  started_at: doc.at
  duration_ms: seconds_to_ms(doc.length)
  expires_at: doc.expires
  absent_when: doc.status == 'failed'
"""


def test_a_manifest_gives_a_recording() -> None:
    """Key and URL are trimmed; times come in any form and go as Unix seconds."""
    doc = {
        "room": " r1 ",
        "url": " https://a.example/1.ogg ",
        "at": "2026-07-01T10:00:00.5Z",
        "length": "62s",
        "expires": 1782900600,
    }
    recording = compiled(MANIFEST, None).map(document(doc)).recording
    assert recording is not None
    assert (recording.source, recording.key, recording.location) == ("agent", "r1", "https://a.example/1.ogg")
    assert (recording.started_at, recording.duration_s, recording.expires_at) == (1_782_900_000.5, 62.0, 1_782_900_600.0)


@pytest.mark.parametrize(("sid", "known"), [(" RE1 ", "RE1"), (17, "17"), (None, ""), ("", "")])
def test_a_manifest_says_which_recording_it_is(sid: Any, known: str) -> None:
    """`id:` as trimmed text; empty where the document gives none."""
    mapping = compiled("manifest: {key: doc.room, id: doc.sid, url: doc.url}\n", None)
    recording = mapping.map(document({"room": "r", "url": "https://a.example/u", "sid": sid})).recording
    assert recording is not None
    assert recording.id == known


@pytest.mark.parametrize(
    ("doc", "where"),
    [
        ({"room": "  ", "url": "u"}, "manifest.key (line 3)"),
        ({"room": None, "url": "u"}, "manifest.key (line 3)"),
        ({"room": "r"}, "manifest.url (line 4)"),
        ({"room": "r", "url": {"a": 1}}, "manifest.url (line 4)"),
        ({"room": "r", "url": "u", "at": "soon"}, "manifest.started_at (line 5)"),
        ([], "manifest.key (line 3)"),
    ],
)
def test_a_manifest_without_key_or_url_is_refused(doc: Any, where: str) -> None:
    """A recording that no call could find, or that has no audio, is a visible failure."""
    refused = compiled(MANIFEST, None).map(document(doc)).refused
    assert refused is not None
    assert (refused.refusal.reason, refused.refusal.where) == (FailReason.UNMAPPABLE, where)


def test_there_will_never_be_one() -> None:
    """absent_when ends the wait: a recording without URL, whatever URL the document names."""
    recording = compiled(MANIFEST, None).map(document({"room": "r", "url": "https://a.example/u", "status": "failed"})).recording
    assert recording is not None
    assert recording.location is None


def test_an_odd_optional_field_of_a_manifest_is_left_out() -> None:
    """duration_ms and expires_at are optional."""
    mapped = compiled(MANIFEST, None).map(
        document({"room": "r", "url": "https://a.example/u", "length": [1], "expires": "never"})
    )
    assert mapped.recording is not None
    assert mapped.notes.left_out == ("duration_ms", "expires_at")


def test_call_and_manifest_stand_together() -> None:
    """One document can give a call, a recording, both or (on purpose) nothing."""
    mapping = compiled(f"call:{REST}  when: doc.said\nmanifest:\n  key: doc.room\n  url: doc.url\n")
    both = mapping.map(document({"said": ["x"], "room": "r", "url": "https://a.example/u"}))
    assert (both.call is not None, both.recording is not None) == (True, True)
    assert mapping.map(document({"said": ["x"]})).recording is None
    only = mapping.map(document({"room": "r", "url": "https://a.example/u"}))
    assert (only.call, only.recording is not None, only.ignored) == (None, True, None)
    assert mapping.map(document({})).ignored is not None


def test_manifest_sources() -> None:
    """Which sources bring recordings, and whether with their start; presets count."""
    with_start = parse_yaml("{key: doc.a, url: doc.b, started_at: doc.c}", "x")
    without = parse_yaml("{key: doc.a, url: doc.b, started_at: null}", "x")
    sources = [
        Source(name="a", path="/a", manifest=with_start),
        Source(name="b", path="/b", manifest=without),
        Source(name="c", path="/c", preset="livekit-egress"),
        Source(name="d", path="/d", preset="vapi"),
    ]
    assert {name: facts.has_start for name, facts in manifest_sources(sources).items()} == {"a": True, "b": False, "c": True}


# Presets underneath


VAPI = {
    "id": "v1",
    "startedAt": "2026-07-01T10:00:00Z",
    "endedAt": "2026-07-01T10:01:00Z",
    "messages": [{"role": "bot", "message": "Hi", "secondsFromStart": 1, "duration": 900}],
    "recordingUrl": "https://a.example/v1.wav",
    "team": "sales",
    "cost": 0.5,
}


def test_own_rules_go_over_a_preset_field_by_field() -> None:
    """An own field replaces the preset's, null switches one off, the rest stays."""
    mapping = compiled("call:\n  call_type: {const: sip_call}\n  call_cost: null\n  metadata: {team: doc.team}\n", preset="vapi")
    fields = fields_of(mapping, VAPI)
    assert (fields["call_id"], fields["call_type"], fields["metadata"]) == ("v1", "sip_call", {"team": "sales"})
    assert "call_cost" not in fields
    assert fields_of(compiled("", preset="vapi"), VAPI)["call_cost"] == 50


def test_own_let_names_go_over_a_preset_name_by_name() -> None:
    """A let of the preset can be replaced alone, with help of own names that run just before it."""
    mapping = compiled(
        "call:\n  let:\n    mine: report.lines\n    said: mine\n    after: said[0].message\n  metadata: {first: after}\n",
        preset="vapi",
    )
    doc = {**VAPI, "lines": [{"role": "user", "message": "Own", "secondsFromStart": 2, "duration": 500}]}
    fields = fields_of(mapping, doc)
    assert [row["text"] for row in fields["transcript_with_tool_calls"]] == ["Own"]
    assert fields["metadata"] == {"first": "Own"}


def test_strategies_of_a_preset_and_own_ones() -> None:
    """Without an own `recording:` the preset's strategies stand; an own one replaces them as a whole."""
    assert call_of(compiled("", preset="vapi"), VAPI).strategies[0].location == "https://a.example/v1.wav"  # type: ignore[union-attr]
    own = compiled("recording:\n  - url: doc.other\n", preset="vapi")
    assert [strategy.location for strategy in call_of(own, VAPI).strategies] == [None]  # type: ignore[union-attr]


def test_untimed_comes_from_the_source_then_the_preset() -> None:
    """vapi spreads untimed lines; the source can say otherwise."""
    doc = {**VAPI, "messages": [], "transcript": "AI: Hello there\nUser: Hi\n"}
    assert compiled("", preset="vapi").map(document(doc)).notes.repairs["spread"] == 2
    assert compiled("", preset="vapi", untimed="reject").map(document(doc)).refused is not None


def test_errors_in_a_presets_rules_say_so() -> None:
    """The place of a preset's rule names the preset; a preset that is not there is told with those that are."""
    refused = compiled("", preset="vapi").map(document({**VAPI, "startedAt": {"a": 1}})).refused
    assert refused is not None
    assert refused.refusal.where.startswith("call.start_timestamp (preset vapi, line ")
    assert "there is no such preset; there are: " in problems_of("", preset="vapo")[0]


# Explanations

EXPLAINED = f"""
call:{REST}  let: {{roles: {{const: {{bot: agent}}}}}}
  call_cost: [doc.cost, doc.price]
  caller_phone_number: doc.phone
  metadata: {{length: length(doc.n)}}
  collected_dynamic_variables: {{who: "lookup(doc.who, roles)"}}
recording:
  - url: doc.url
  - {{manifest: egress, key: doc.room, within: 60}}
"""


def test_explain_tells_each_field_its_rule_and_why_it_is_empty() -> None:
    """Value and kind of each field, why the empty ones are empty, what lookups did not know, what strategies answer."""
    mapping = compiled(EXPLAINED, brings={"egress": True})
    doc = {"said": ["x"], "phone": "+15550100", "n": 5, "who": "robot", "room": "r1"}
    told = mapping.explain(document(doc))
    fields = {field.name: field for field in told.fields}
    assert (fields["caller_phone_number"].value, fields["caller_phone_number"].kind) == ("+15550100", "text")
    assert (fields["caller_phone_number"].rule, fields["caller_phone_number"].why) == ("doc.phone", None)
    assert fields["call_cost"].why == "doc.cost: nothing; doc.price: nothing"
    assert fields["metadata"].why == "left out: length: takes text, a list or an object, got a number"
    assert fields["collected_dynamic_variables"].why == "gave nothing (not in the table: robot x1)"
    assert fields["transcript_with_tool_calls"].location.line == 7
    assert [strategy.answer for strategy in told.strategies] == [
        "absent: the rule gave nothing",
        "waits up to 1800 s for a recording of `egress` with this key, within 60 s of the call's start",
    ]
    lookups = [call for rule in told.rules if rule.path.endswith(".who") for call in rule.calls.values()]
    assert (lookups[0].function, lookups[0].calls, lookups[0].nulls) == ("lookup", 1, 1)
    assert lookups[0].samples == [(["robot", {"bot": "agent"}], None)]
    assert told.refusal is None
    assert told.repairs == {"end_from_call": 1}


def test_explain_says_that_the_host_of_a_url_is_asked_first() -> None:
    """`verify: get` holds the call back; without it the URL answers at once."""
    text = f"call:{REST}recording:\n  - url: doc.url\n"
    doc = document({"said": ["x"], "url": "https://cdn.example/c-1.ogg"})
    answers = [
        compiled(text, verify=VerifySettings(request=request)).explain(doc).strategies[0].answer for request in ("get", "none")
    ]
    assert answers == [
        "answers once its host gives the first byte (`verify: get`) with the URL of the document",
        "answers at once with the URL of the document",
    ]


def test_explain_counts_items_that_gave_no_row() -> None:
    """A block tells its items and rows, so that roles nobody knew are seen."""
    text = f"call:{REST}  let: {{roles: {{const: {{bot: agent}}}}}}\n".replace(
        "role: {const: user}, text: m", "role: 'lookup(m, roles)', text: m"
    )
    told = compiled(text).explain(document({"said": ["bot", "system", "system", "tool"]}))
    block = next(rule for rule in told.rules if rule.path == "call.transcript_with_tool_calls")
    assert (block.items, block.rows) == (4, 1)
    role = next(rule for rule in told.rules if rule.path.endswith(".role"))
    assert role.calls[0].unknown == {"system": 2, "tool": 1}


def test_explain_and_map_agree() -> None:
    """Explaining changes nothing: the same call, the same notes; a refusal with the same words."""
    mapping = compiled(EXPLAINED, brings={"egress": True})
    for doc in ({"said": ["x"], "n": 5}, {"said": ["x"], "n": "abc"}, {"said": []}, {"said": 1}, 5):
        assert mapping.explain(document(doc)).mapped == mapping.map(document(doc))


# Whatever a document holds


_MEMBERS = (
    *("message", "call", "id", "type", "artifact", "messages", "role", "secondsFromStart", "duration", "metadata", "toolCalls"),
    *("function", "startedAt", "endedAt", "cost", "analysis", "data", "conversation_id", "transcript", "tool_calls"),
    *("time_in_call_secs", "egressInfo", "status", "url", "call_id", "call_type", "start_timestamp", "end_timestamp"),
    *("transcript_with_tool_calls", "text", "words", "tool", "node"),
)
_ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["\ud800", "2026-07-01T10:00:00Z", "9" * 5000, "1e999", "call", "user"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(_MEMBERS),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=25,
)
_PRESETS = {
    name: compiled("", preset=name, brings={"elevenlabs-audio": False})
    for name in ("tuner", "vapi", "elevenlabs", "livekit-egress")
}


def _given(value: Any) -> Document:
    return Document(origin=Origin(source="agent", path="/calls/a.json"), raw=b"{}", value=value, settled_at=0.0)


def _ends(mapping: SourceMapping, value: Any) -> Mapped:
    mapped = mapping.map(_given(value))
    assert [mapped.call, mapped.recording, mapped.refused, mapped.ignored].count(None) == 3
    if mapped.call is not None:
        assert isinstance(orjson.loads(mapped.call.payload), dict)
    return mapped


@settings(max_examples=examples(80), deadline=None)
@given(st.sampled_from(sorted(_PRESETS)), _ODD)
def test_every_json_value_ends_somehow(preset: str, value: Any) -> None:
    """map never raises: whatever stands in a document, it is a call, a recording, refused or ignored."""
    _ends(_PRESETS[preset], value)


def _nested(depth: int, last: Any) -> Any:
    value = last
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        _nested(100_000, 1),
        {"call_id": _nested(5000, 1)},
        {"call_id": "a", "call_type": "b", "transcript_with_tool_calls": [{"role": "user", "text": _nested(50_000, "x")}]},
        {"call_id": 10**5000, "call_type": "b"},
        {"call_id": "a", "start_timestamp": math.nan},
        {"call_id": "a", "start_timestamp": math.inf, "call_cost": -math.inf},
        {
            "call_id": "\ud800",
            "call_type": "\udfff",
            "transcript_with_tool_calls": [{"role": "user", "text": "\ud800", "start_ms": 1}],
        },
        {"call_id": "a", "call_type": "b", "metadata": {"x": _nested(2000, 1)}},
    ],
    ids=["deep", "deep-id", "deep-text", "huge-id", "nan", "inf", "surrogates", "deep-metadata"],
)
def test_extreme_values_end_too(value: Any) -> None:
    """Nesting beyond the stack, numbers beyond 64 bits, half surrogates: refused or repaired, never raised."""
    for mapping in _PRESETS.values():
        _ends(mapping, value)


def test_functions_over_deep_values_are_refused_in_words() -> None:
    """A function that would recurse into a deep value is a refusal with its place."""
    mapping = compiled(f"call:{REST}".replace("call_id: {const: c-1}", "call_id: to_string(doc.id)"))
    refused = mapping.map(_given({"id": _nested(100_000, 1), "said": ["x"]})).refused
    assert refused is not None
    assert refused.refusal.where == "call.call_id (line 2)"
    assert "nested too deep" in refused.refusal.what
