"""The generated functions against the closures: the same value for the same slots, or an error where they have one."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.mapping.test_compliance import _EXPRESSIONS, _VALUES
from tunerd.config import Source
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import presets
from tunerd.mapping.closures import Code
from tunerd.mapping.expressions import ExpressionError, compile_text
from tunerd.mapping.functions import Context
from tunerd.mapping.gathering import part_names
from tunerd.mapping.generated import generated, source_of
from tunerd.mapping.limits import ROWS
from tunerd.mapping.names import Names, Slot
from tunerd.mapping.rules import RuleCompiler
from tunerd.places import Node

ROLES = {"bot": "agent", "x": "user", "10": "agent"}
FIXTURES = [
    file
    for folder in ("presets", "presets2")
    for file in sorted((Path(__file__).parent / folder / "fixtures").glob("*/*.json"))
    if not file.name.endswith(".expected.json")
] + sorted((Path(__file__).parent / "fixtures").glob("*.json"))

_RAISED = "raised"


def outcome(run: Callable[[Any], Any], slots: Sequence[Any]) -> str:
    """What the rule gave, in a form that tells 1 from true; only that it raised, where it did."""
    try:
        return json.dumps(run(list(slots)))
    except Exception:
        return _RAISED


def both(code: Code, slots: Sequence[Any]) -> tuple[str, str]:
    (run,) = generated([code])
    assert run is not code.run
    return outcome(run, slots), outcome(code.run, slots)


# Random expressions


def _calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from(["seconds_to_ms", "epoch_ms", "strip", "from_json", "to_bool", "length", "lower"]), inner).map(
            lambda p: f"{p[0]}({p[1]})"
        ),
        inner.map(lambda e: f"lookup({e}, roles)"),
        pair.map(lambda p: f"lookup({p[0]}, roles, {p[1]})"),
        pair.map(lambda p: f"lookup({p[0]}, {p[1]})"),
        inner.map(lambda e: f"classify({e}, roles, 'other')"),
        inner.map(lambda e: f"regex({e}, '^(?P<a>.)')"),
        pair.map(lambda p: f"regex({p[0]}, {p[1]})"),
        pair.map(lambda p: f"find({p[0]}, 'id', {p[1]})"),
        pair.map(lambda p: f"strip({p[0]}, {p[1]})"),
        pair.map(lambda p: f"concat({p[0]}, {p[1]})"),
        pair.map(lambda p: f"epoch_ms({p[0]}, {p[1]})"),
        pair.map(lambda p: f"multiply({p[0]}, {p[1]})"),
        pair.map(lambda p: f"not_null({p[0]}, {p[1]})"),
        pair.map(lambda p: f"[{p[0]}, {p[1]}]"),
        pair.map(lambda p: f"{{a: {p[0]}, id: {p[1]}}}"),
        st.tuples(inner, inner, inner).map(lambda p: f"if({p[0]}, {p[1]}, {p[2]})"),
        st.tuples(inner, st.sampled_from(["==", "!=", "<", ">=", "&&", "||"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda e: f"!({e})"),
        st.tuples(inner, _EXPRESSIONS).map(lambda p: f"({p[0]} | {p[1]})"),
        st.tuples(
            inner, st.sampled_from([".a", ".id", "[0]", "[-1]", "[-2].b", "[].id", "[?id == 'x'].a", "[*].{a: id, b: @}"])
        ).map("".join),
    )


_ROOTED = st.recursive(
    st.sampled_from(
        [
            "doc",
            "doc.a",
            "doc.a.b",
            "item",
            "item.id",
            "doc.c",
            "'x'",
            "'1.5s'",
            "1",
            "2.5",
            "0",
            "null",
            "true",
            "false",
            "roles",
        ]
    ),
    _calls,
    max_leaves=7,
)


def _compiled(expression: str) -> Code | None:
    names = Names(slots={"doc": Slot(0), "item": Slot(1), "roles": Slot(2, ROLES)})
    try:
        return compile_text(expression, names, Context())
    except ExpressionError:  # constants that can't work are told at load
        return None


@settings(max_examples=600, deadline=None)
@example("find(doc, 'id', seconds_to_ms(item))", None, [])  # what comes after a null argument is not looked at
@given(_ROOTED, _VALUES, _VALUES)
def test_random_expressions_give_what_their_closures_give(expression: str, doc: Any, item: Any) -> None:
    """Names, paths, functions with and without short forms, conditions, projections: the same to the byte."""
    if (code := _compiled(expression)) is not None:
        ours, closure = both(code, [doc, item])
        assert ours == closure


# Random rules

_TEXT = _ROOTED
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
                        optional={"when": _TEXT, "role": _TEXT, "b": inner},
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


@settings(max_examples=400, deadline=None)
@given(_RULES, _VALUES, _VALUES)
def test_random_rules_give_what_their_closures_give(rule: Any, doc: Any, item: Any) -> None:
    """First-of lists, blocks, loops, lets, conditions and rows within each other."""
    compiler = RuleCompiler(Context())
    places = [compiler.root("doc").index, compiler.root("item").index]
    compiler.root("roles", ROLES)
    code = compiler.rule(parse_yaml(json.dumps(rule), "rule.yaml"), "rule", compiler.roots.inner())
    if not compiler.problems:
        slots: list[Any] = [None] * compiler.size
        slots[places[0]], slots[places[1]] = doc, item
        ours, closure = both(code, slots)
        assert ours == closure


# Presets


class _Preset:
    """The fields of a preset's calls or recordings, compiled both ways."""

    def __init__(self, name: str) -> None:
        rules = presets.effective(Source(name="calls", path="/calls", preset=name))
        self._compiler = RuleCompiler(Context())
        self._parts = part_names(rules.gather) if rules.gather is not None else ()
        self._roots = {root: self._compiler.root(root).index for root in ("doc", "docs", "file", *self._parts)}
        self._compiler.root("env", {})
        self._lets: list[tuple[int, Code]] = []
        self.fields: list[tuple[str, Code]] = []
        for path, node in (("call", rules.call), ("manifest", rules.manifest)):
            if node is not None:
                self._add(path, node)
        assert not self._compiler.problems
        codes = [code for _, code in self._lets] + [code for _, code in self.fields]
        self.runs = generated(codes)

    def _add(self, path: str, node: Node) -> None:
        names = self._compiler.roots.inner()
        members = self._compiler.members(node, path) or {}
        self._compiler.lets(members, names, path, self._lets)
        for name, rule in members.items():
            if name not in ("let", "refuse"):
                self.fields.append((name, self._compiler.rule(rule, f"{path}.{name}", names, rows=name == ROWS)))

    def differences(self, document: Any) -> list[str]:
        """The fields in which the two differ, over this document."""
        mine: list[Any] = [None] * self._compiler.size
        for root, index in self._roots.items():
            mine[index] = {"name": "a.json", "stem": "a"} if root == "file" else document
            if root == "docs" and not isinstance(document, list):
                mine[index] = [document]
        theirs = list(mine)
        differing = []
        for (index, code), run in zip(self._lets, self.runs, strict=False):
            ours, closure = outcome(run, mine), outcome(code.run, theirs)
            if ours != closure:
                differing.append(f"let {index}")
            for slots, one in ((mine, run), (theirs, code.run)):
                try:
                    slots[index] = one(slots)
                except Exception:
                    slots[index] = None
        for (name, code), run in zip(self.fields, self.runs[len(self._lets) :], strict=True):
            if outcome(run, mine) != outcome(code.run, theirs):
                differing.append(name)
        return differing


_PRESETS: dict[str, _Preset] = {}


def _preset(name: str) -> _Preset:
    if name not in _PRESETS:
        _PRESETS[name] = _Preset(name)
    return _PRESETS[name]


def _preset_of(file: Path) -> str:
    name = file.parent.name if file.parent.name != "fixtures" else file.stem
    return "livekit-egress" if name.startswith("livekit-egress") else name


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_fixture_maps_alike(file: Path) -> None:
    """Each field of each preset over each golden document."""
    assert _preset(_preset_of(file)).differences(orjson.loads(file.read_bytes())) == []


def _odd(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The document with some of its values replaced or taken out."""
    if draw(st.integers(0, 14)) == 0:
        return draw(st.sampled_from([None, "", "x", 0, 1.5, True, False, [], {}, [None], {"a": 1}, "2026-07-01T10:00:00Z", -1]))
    if isinstance(value, Mapping):
        return {name: _odd(item, draw) for name, item in value.items()}
    if isinstance(value, list):
        return [_odd(item, draw) for item in value[:6]]
    return value


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_damaged_fixtures_map_alike(data: st.DataObject) -> None:
    """Whatever stands in the place of a value that a preset reads."""
    file = data.draw(st.sampled_from(FIXTURES))
    document = _odd(orjson.loads(file.read_bytes()), data.draw)
    assert _preset(_preset_of(file)).differences(document) == []


# Limits


def test_what_python_cannot_nest_runs_as_closures() -> None:
    """Twenty loops within each other are more than Python's compiler takes: that rule still works, the others are written."""
    rule: Any = "m24"
    for depth in range(24, 0, -1):
        rule = {"for_each": {f"m{depth}": f"m{depth - 1}"}, "x": rule}
    compiler = RuleCompiler(Context())
    place = compiler.root("m0").index
    code = compiler.rule(parse_yaml(json.dumps(rule), "rule.yaml"), "rule", compiler.roots.inner())
    assert not compiler.problems
    flat = compiler.rule(parse_yaml("m0", "rule.yaml"), "flat", compiler.roots.inner())
    run, beside = generated([code, flat])
    assert run is code.run
    assert beside is not flat.run
    value: Any = "deep"
    for _ in range(24):
        value = [value]
    slots: list[Any] = [None] * compiler.size
    slots[place] = value
    assert "deep" in json.dumps(run(slots))


def test_what_has_no_template_is_called_with_its_names() -> None:
    """A closure within generated loops finds the loop's item and the let names in their slots."""
    rule = {"for_each": {"m": "doc.items"}, "let": {"p": "m.data"}, "x": "p.*", "y": "m.*"}
    compiler = RuleCompiler(Context())
    place = compiler.root("doc").index
    code = compiler.rule(parse_yaml(json.dumps(rule), "rule.yaml"), "rule", compiler.roots.inner())
    slots: list[Any] = [None] * compiler.size
    slots[place] = {"items": [{"data": {"a": 1}}, {"data": {"a": 2}, "b": 3}]}
    (run,) = generated([code])
    assert run is not code.run
    assert run(slots) == [{"x": [1], "y": [{"a": 1}]}, {"x": [2], "y": [{"a": 2}, 3]}]


def test_no_text_of_a_rule_is_in_the_generated_text() -> None:
    """Names, literals and tables come in as constants: nothing that a user wrote can become code."""
    rule = {
        "for_each": {"planted": "doc.planted"},
        "role": "lookup(planted.planted, {planted: 'planted'})",
        "x_planted": "'planted'",
    }
    compiler = RuleCompiler(Context())
    compiler.root("doc")
    code = compiler.rule(parse_yaml(json.dumps(rule), "rule.yaml"), "rule", compiler.roots.inner())
    assert not compiler.problems
    text, constants = source_of([code])
    assert "planted" not in text
    assert "planted" in constants
