"""The traced run of the rules against the plain one: the same call, recording or refusal, whatever the document holds.

`explain` shows the traced run and the daemon takes the plain one, so a difference would be a lie.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.mapping.sources import document
from tests.mapping.test_compliance import _EXPRESSIONS, _VALUES
from tunerd.config import ManifestRule, Source
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping, compile_source, presets
from tunerd.mapping.functions import Context
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.trace import TRACE_SLOT, Trace
from tunerd.yaml_location import Node, YamlLocation

_FOLDERS = [Path(__file__).parent / name for name in ("presets/fixtures", "presets2/fixtures", "fixtures")]
FIXTURES = sorted(
    file for folder in _FOLDERS for file in folder.rglob("*.json") if not file.name.endswith(".expected.json")
)  # fmt: skip


@cache
def _mapping(preset: str) -> SourceMapping:
    """Each document as a whole call, whether the preset gathers or not."""
    alone = Node(None, YamlLocation("", 1, 1)) if "gather" in presets.load(preset) else None
    source = Source(name="calls", path="/calls", preset=preset, agent_remote_identifier="a", gather=alone)
    brings = {rule.manifest: ManifestFacts() for rule in presets.effective(source).recording if isinstance(rule, ManifestRule)}
    return compile_source(source, None, manifests=brings, environ={})


def _preset_of(file: Path) -> str:
    name = file.parent.name if file.parent.name != "fixtures" else file.stem
    return "livekit-egress" if name.startswith("livekit-egress") else name


def _documents(file: Path) -> list[Any]:
    value = orjson.loads(file.read_bytes())
    return value if isinstance(value, list) else [value]


def _check(preset: str, value: Any) -> None:
    read = document(value)
    assert _mapping(preset).map(read) == _mapping(preset).explain(read).mapped


def test_every_fixture_maps_alike() -> None:
    """Each preset over each golden document: what `explain` shows is what the daemon does."""
    for file in FIXTURES:
        for value in _documents(file):
            _check(_preset_of(file), value)


def test_an_argument_that_a_call_did_not_ask_for_does_not_fail_the_rule() -> None:
    """`concat(null, url_quote(a list))` is null: the second argument is never evaluated, and `explain` says the same."""
    _check("asterisk-recording", {"recording_name": "support-7", "name": [None], "Uniqueid": "1782900000.10"})


def _damaged(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The document with some of its values replaced."""
    if draw(st.integers(0, 14)) == 0:
        return draw(st.sampled_from([None, "", "x", 0, 1.5, True, False, [], {}, [None], {"a": 1}, "2026-07-01T10:00:00Z", -1]))
    if isinstance(value, Mapping):
        return {name: _damaged(item, draw) for name, item in value.items()}
    if isinstance(value, list):
        return [_damaged(item, draw) for item in value[:6]]
    return value


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_damaged_fixtures_map_alike(data: st.DataObject) -> None:
    """Whatever takes the place of a value that a preset reads, both runs give the same."""
    file = data.draw(st.sampled_from(FIXTURES))
    _check(_preset_of(file), _damaged(data.draw(st.sampled_from(_documents(file))), data.draw))


_TEXT = st.one_of(
    st.sampled_from(
        ["doc", "doc.a", "doc.a.b", "doc.c[0].a", "doc[-1]", "item", "item.id", "'x'", "2.5", "0", "null", "true", "roles"]
    ),
    st.sampled_from(
        [
            "find(doc.c, 'id', item)",
            "find(doc, 'a', item.a)",
            "lookup(item, doc)",
            "lookup(doc.a, roles, item)",
            "doc.a == 'x'",
            "doc.a != item.a",
            "item.id == null",
            "doc.a == true",
            "doc[].{a: id, b: seconds_to_ms(a), c: a.b}",
            "seconds_to_ms(doc.a)",
            "epoch_ms(item)",
            "strip(doc.a)",
            "if(doc.a, item, doc.c)",
            "concat(doc.a, item.id)",
        ]
    ),
    _EXPRESSIONS.map(lambda tail: f"doc | {tail}"),
)
_RULES = st.recursive(
    st.one_of(_TEXT, st.none(), st.booleans(), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.fixed_dictionaries({"a": inner}, optional={"id": inner, "role": _TEXT, "when": _TEXT}),
        st.fixed_dictionaries({"a": inner, "let": st.fixed_dictionaries({"name": _TEXT}), "b": st.just("name.a")}),
        st.fixed_dictionaries({"for_each": st.fixed_dictionaries({"one": _TEXT}), "a": st.just("one.a"), "id": inner}),
        st.fixed_dictionaries(
            {
                "for_each": st.fixed_dictionaries({"one": _TEXT}),
                "rows": st.lists(
                    st.fixed_dictionaries(
                        {"a": st.sampled_from(["one", "one.id", "one.a.b", "other.a", "one.*", "other.*.a"])},
                        optional={"when": st.one_of(_TEXT, st.just("one.a == 'x'")), "role": _TEXT, "b": inner},
                    ),
                    min_size=1,
                    max_size=3,
                ),
                "let": st.fixed_dictionaries({"other": _TEXT}),
            },
            optional={"when": _TEXT},
        ),
    ),
    max_leaves=5,
)


def _outcome(rule: Any, doc: Any, item: Any, *, with_places: bool) -> str | None:
    """What the rule gives, in a form that tells 1 from true; only that it raised, where it did. None: it does not compile."""
    compiler = RuleCompiler(Context(), with_places=with_places)
    places = [compiler.root("doc").index, compiler.root("item").index]
    compiler.root("roles", {"bot": "agent", "x": "user", "10": "agent"})
    code = compiler.rule(parse_yaml(json.dumps(rule), "rule.yaml"), "rule", compiler.roots.inner())
    if compiler.problems:
        return None
    slots: list[Any] = [None] * compiler.size
    slots[TRACE_SLOT], slots[places[0]], slots[places[1]] = Trace(compiler.steps), doc, item
    try:
        return json.dumps(code.run(slots))
    except Exception:
        return "raised"


@settings(max_examples=examples(100), deadline=None)
@given(_RULES, _VALUES, _VALUES)
def test_random_rules_give_the_same_traced(rule: Any, doc: Any, item: Any) -> None:
    """First-of lists, blocks, loops, lets, conditions and rows within each other: the quick forms of the plain run, which
    the traced one has not, change nothing."""
    assert _outcome(rule, doc, item, with_places=False) == _outcome(rule, doc, item, with_places=True)
