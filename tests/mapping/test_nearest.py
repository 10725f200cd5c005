"""Strategies `nearest:` and `match:` of manifests: the values that a call and its recording have in common."""

from typing import Any

import pytest

from tests.mapping.sources import REST, call_of, compiled, document, problems_of
from tunerd.call import Choice, ManifestStrategy, Recording
from tunerd.config import Source
from tunerd.config.audio_settings import AudioSettings
from tunerd.config.strategy_rules import ManifestRule, NearestRule
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.location import LocationKind
from tunerd.mapping import SourceMapping, manifest_sources
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.yaml_location import Node

BOTH = ManifestFacts(match=frozenset({"caller", "line"}))
RULES = f"call:{REST}recording:\n  - {{nearest: egress, within: 60, same: {{line: doc.line, caller: doc.from}}}}\n"
MANIFEST = "manifest:\n  match: {caller: doc.who, line: doc.line}\n  url: doc.url\n  started_at: doc.at\n"
NEAREST = ManifestFacts(match=frozenset({"caller", "line"}), is_nearest=True)


def strategy(**values: Any) -> ManifestStrategy:
    (made,) = call_of(compiled(RULES, manifests={"egress": BOTH}), {"said": ["hi"], **values}).strategies
    assert isinstance(made, ManifestStrategy)
    return made


def manifest() -> SourceMapping:
    return compiled(MANIFEST, None, manifests={"agent": NEAREST})


def recording(**values: Any) -> Recording:
    found = manifest().map(document({"url": "https://a.example/1", "at": 1782900000, **values})).recording
    assert found is not None
    return found


def test_the_same_values_give_the_same_text_on_both_sides() -> None:
    """Trimmed, and whatever the order of the rules; a number is its text; and it is no key."""
    made, found = strategy(line=7, **{"from": " +491701 "}), recording(line="7", who="+491701")
    assert (made.source, made.choice, made.within_s, made.near_s) == ("egress", Choice.ONLY, 60.0, 0.0)
    assert made.key == found.match != ""
    assert found.key == ""
    assert (made.key or "").strip() != made.key


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_call_without_one_of_the_values_looks_for_nothing(missing: str | None) -> None:
    """A withheld caller is no value: the strategy answers "absent"."""
    assert strategy(line="7", **{"from": missing}).key is None


def test_a_manifest_without_one_of_the_values_is_refused_where_it_has_no_key() -> None:
    """Nothing could ever find it; the refusal names the rule."""
    refused = manifest().map(document({"url": "https://a.example/1", "at": 1782900000, "line": "7"})).refused
    assert refused is not None
    assert refused.refusal.where == "manifest.match (line 2)"


def test_values_cannot_be_written_so_that_they_look_like_others() -> None:
    """Signs of the text itself, inside a value, stay inside it."""
    assert strategy(line="7", **{"from": 'a","line":"8'}).key != strategy(line="8", **{"from": "a"}).key
    assert strategy(line="b", **{"from": "a\x1f"}).key == strategy(line="b", **{"from": "a"}).key  # trimmed, as keys are


def test_a_number_that_lost_digits_is_no_value() -> None:
    """On both sides, as it would be no key."""
    for mapping, value in ((compiled(RULES, manifests={"egress": BOTH}), {"said": ["x"], "line": 2.0**60, "from": "a"}),
                           (manifest(), {"url": "https://a.example/1", "at": 1782900000, "line": 2.0**60, "who": "a"})):  # fmt: skip
        refused = mapping.map(document(value)).refused
        assert refused is not None
        assert "lost" in refused.refusal.what or "digits" in refused.refusal.what


def test_a_key_is_needed_unless_a_strategy_finds_the_recordings_without() -> None:
    """Only `nearest` does, and it needs their start."""
    assert any("no rule for `key`" in line for line in problems_of(MANIFEST, destination=None))
    without_start = MANIFEST.replace("  started_at: doc.at\n", "")
    facts = ManifestFacts(has_start=False, is_nearest=True)
    assert any("no rule for `key`" in line for line in problems_of(without_start, destination=None, manifests={"agent": facts}))


@pytest.mark.parametrize("rule", ["doc.match", "[doc.a]", "{}", "{let: {a: doc.a}, caller: a}"])
def test_match_is_a_mapping_of_names(rule: str) -> None:
    """The names have to be known when the configuration is loaded: the other side needs the same."""
    wrong = problems_of(f"manifest: {{key: doc.room, url: doc.url, match: {rule}}}\n", destination=None)
    assert ["takes a mapping of names and rules" in line for line in wrong] == [True]


def _source(name: str, **members: Any) -> Source:
    return Source(name=name, path=f"/{name}", **members)


def _node(text: str) -> Node:
    return parse_yaml(text, "c")


def test_a_manifest_source_takes_the_locations_of_the_sources_that_look_into_it() -> None:
    """It has no `audio:` of its own: what one of them can bring to Tuner is no refusal."""
    rules = _node("{match: {caller: doc.from}, url: doc.url, started_at: doc.at, duration_ms: doc.ms}")
    looks = (NearestRule(nearest="egress", within_s=60.0, same=_node("{caller: doc.from}")),)
    audio = AudioSettings(publish="upload", files=("/var/rec",))
    sources = [
        _source("egress", manifest=rules),
        _source("agent", recording=looks, audio=audio),
        _source("other", recording=(ManifestRule(manifest="else", key=_node("doc.room")),)),
        _source("else", manifest=_node("{key: doc.room, url: doc.url}")),
    ]
    facts = manifest_sources(sources)
    assert (facts["egress"].match, facts["egress"].has_key, facts["egress"].is_nearest) == (frozenset({"caller"}), False, True)
    assert facts["egress"].places.parse("/var/rec/1.wav").kind is LocationKind.FILE
    assert (facts["else"].has_start, facts["else"].has_duration, facts["else"].is_nearest) == (False, False, False)
    assert facts["else"].places.kinds == {LocationKind.URL}


@pytest.mark.parametrize(("publish", "takes"), [("upload", "fo"), ("presign", "o"), ("url", "fo"), ("reject", "")])
def test_a_calls_own_location_reaches_tuner_as_audio_says(publish: str, takes: str) -> None:
    """A file and an object; what does not reach Tuner is refused with the place of its rule."""
    audio = AudioSettings(publish=publish, files=("/var/rec",))  # type: ignore[arg-type]
    mapping = compiled(f"call:{REST}recording:\n  - url: doc.url\n", audio=audio)
    for kind, text in (("f", "/var/rec/1.wav"), ("o", "s3://bucket/1.wav")):
        refused = mapping.map(document({"said": ["hi"], "url": text})).refused
        assert (refused is None) == (kind in takes)
        assert refused is None or refused.refusal.where.startswith("recording[0].url (line ")
    outside = mapping.map(document({"said": ["hi"], "url": "/etc/passwd"})).refused
    assert outside is not None
