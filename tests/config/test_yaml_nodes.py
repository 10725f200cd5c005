"""YAML text -> nodes: scalars by YAML 1.2, places, aliases within bounds, and never anything but ConfigError."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.real_parts import needs_libyaml
from tunerd.config import yaml_nodes
from tunerd.config.yaml_nodes import MAX_DEPTH, parse_yaml, resolve_scalar
from tunerd.yaml_location import ConfigError, Node, Problem, YamlLocation


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False), ("0", 0), ("-12", -12), ("+3", 3),
        ("0x1F", 31), ("0o17", 15), ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), ("2.", 2.0),
        # Text in YAML 1.2 (or, with a leading zero, by decision), whatever 1.1 made of it.
        ("no", "no"), ("on", "on"), ("Yes", "Yes"), ("off", "off"), ("y", "y"), ("0123", "0123"), ("007.5", "007.5"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("2026-07-01", "2026-07-01"), ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00Z"),
        (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"), ("9" * 30, "9" * 30), ("0b1", "0b1"), ("=", "="), ("+", "+"),
        ("٣", "٣"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    """A plain scalar is null, true or false, a number, or else the text as it stands."""
    got = resolve_scalar(text)
    assert got == value
    assert type(got) is type(value)


def test_quotes_make_text() -> None:
    """A quoted scalar is text, and not plain."""
    node = parse_yaml("a: '5'\nb: \"true\"\nc: |\n  7\nd: 5", "f").value
    assert isinstance(node, dict)
    assert [(child.value, child.plain) for child in node.values()] == [("5", False), ("true", False), ("7\n", False), (5, True)]


def test_nodes_know_their_places_and_style() -> None:
    """Line and column from 1, of values and of keys; flow lists and mappings are told apart."""
    root = parse_yaml("\ufeffa:\n  b: [1, {c: d}]\n", "f.yaml")
    assert root.location == YamlLocation("f.yaml", 1, 1)
    assert isinstance(root.value, dict)
    inner = root.value["a"]
    assert not inner.flow
    assert inner.keys == {"b": YamlLocation("f.yaml", 2, 3)}
    assert isinstance(inner.value, dict)
    items = inner.value["b"]
    assert items.flow
    assert items.location == YamlLocation("f.yaml", 2, 6)
    assert root.bare() == {"a": {"b": [1, {"c": "d"}]}}


def test_keys_are_text_as_written() -> None:
    """`1`, `true`, `no` and `null` name members; they are not resolved."""
    assert parse_yaml("{1: a, true: b, no: c, null: d, 0x1: e}", "f").bare() == {
        "1": "a",
        "true": "b",
        "no": "c",
        "null": "d",
        "0x1": "e",
    }


def test_aliases_and_merges_repeat_what_was_written() -> None:
    """An alias is the anchor's value; `<<` brings in a mapping's members, and own keys win wherever they stand."""
    text = "one: &x {a: 1, b: 2}\ntwo: *x\nthree:\n  b: 3\n  <<: *x\nfour: {<<: [*x, {c: 4}], '<<': 5}"
    bare = parse_yaml(text, "f").bare()
    assert bare == {
        "one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 2}, "three": {"a": 1, "b": 3}, "four": {"<<": 5, "a": 1, "b": 2, "c": 4},
    }  # fmt: skip


def test_every_duplicate_key_is_told_with_both_lines() -> None:
    """All duplicates of a file at once, not only the first."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml("a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n", "f")
    assert [str(problem) for problem in caught.value.problems] == [
        "f:3:1: `a` is given twice (first in line 1): keep one",
        "f:4:11: `d` is given twice (first in line 4): keep one",
    ]


def test_a_few_lines_of_aliases_cannot_stand_for_billions() -> None:
    """Aliases count as often as they are used."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        parse_yaml("\n".join(lines), "f")


@pytest.mark.parametrize(
    "text", ["[" * (MAX_DEPTH + 1), "- " * (MAX_DEPTH + 1) + "x", "{a: " * 5000], ids=["flow", "block", "maps"]
)
def test_deep_nesting_is_refused(text: str) -> None:
    """Refused at a fixed depth, long before any stack is in danger."""
    with pytest.raises(ConfigError, match=r"nested deeper|not closed"):
        parse_yaml(text, "f")


def test_nesting_within_the_limit_is_read() -> None:
    """The limit itself is allowed."""
    node = parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f")
    for _ in range(MAX_DEPTH - 1):
        assert isinstance(node.value, tuple)
        node = node.value[0]
    assert node.value == ()


@pytest.mark.parametrize(
    ("text", "location"),
    [("a: \x00", "f:1:4"), ("a: b\r\nc: \x1b", "f:2:4"), ("a: \ud800", "f:1:4"), ('a: "\\0"', "f:1:4"), ('a: "\\uD800"', "f:1:")],
)
def test_characters_that_no_text_holds_are_refused_with_their_location(text: str, location: str) -> None:
    """Control characters and lone surrogates, raw or escaped."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value).startswith(location)


CORPUS = (
    "tuner: {workspace_id: 42, api: auto}\nsources:\n  - name: a\n    path: 'p'\n    call:\n      let: {x: &y [1, 2.5, null]}\n"
    '      call_id: "doc.id"\n      text: >-\n        folded\n        text\n    recording: [*y, {url: doc.u}]\n<<: {a: b}\n'
)
BITS = st.sampled_from(
    [
        *"\t\n\r :#-?[]{}&*!|>'\"%@`,.~<=\\$\0\x85\u2028\ufeff\ud800é",
        ": ",
        " #",
        "- ",
        "---\n",
        "...\n",
        "<<: ",
        "!!",
        "*y",
        "&y ",
    ]
)


@st.composite
def mutated(draw: st.DrawFn, corpus: str = CORPUS) -> str:
    """A configuration with a few characters put in, taken out or moved."""
    text = corpus
    for _ in range(draw(st.integers(1, 6))):
        at, until = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            text = text[:at] + draw(BITS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[min(until, at + 20) :]
        elif kind == 2:
            text = text[:until] + text[at : min(until, at + 200)] + text[until:]
        else:
            text = text[:at] + draw(st.text(max_size=5)) + text[at:]
    return text


def _walk(node: Node) -> None:
    if isinstance(node.value, dict):
        assert node.keys is not None
        assert node.keys.keys() == node.value.keys()
        for child in node.value.values():
            _walk(child)
    elif isinstance(node.value, tuple):
        for child in node.value:
            _walk(child)
    elif isinstance(node.value, str):
        node.value.encode()


@settings(max_examples=examples(100), deadline=None)
@given(mutated() | st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line_each(text: str) -> None:
    """No text raises anything but ConfigError, and each of its problems is one line with a place."""
    problems: tuple[Problem, ...] = ()
    try:
        _walk(parse_yaml(text, "f"))
    except ConfigError as exc:
        problems = exc.problems or (Problem(location=YamlLocation("f", 0, 0), path="", message="refused without a problem"),)
    for problem in problems:
        assert "\n" not in str(problem)
        assert problem.location.line >= 1
        assert problem.location.column >= 1


@needs_libyaml
@settings(max_examples=examples(60), deadline=None)
@given(mutated())
def test_both_scanners_read_the_same(text: str) -> None:
    """With libyaml and without it: what both accept is the same tree, and it is rarely only one that accepts."""
    assert yaml_nodes._LOADER is yaml.CBaseLoader
    try:
        fast = parse_yaml(text, "f").bare()
        builder = yaml_nodes._Builder("f")
        for event in yaml.parse(text.removeprefix("\ufeff"), Loader=yaml.BaseLoader):
            builder.take(event)
        slow = builder.finish().bare()
    except (ConfigError, yaml.YAMLError):
        return
    assert fast == slow
