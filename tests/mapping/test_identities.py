"""Numbers that lost digits are no identity: no call id, no key, no part of a text that is one, whatever rule made it."""

from fractions import Fraction

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.mapping.sources import REST, compiled, document, fields_of, problems_of
from tunerd.call import Document, Mapped, Origin
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping import SourceMapping

ADVICE = "have it written as text, in quotes"
_REST = REST.replace("  call_id: {const: c-1}\n", "")
_GATHERED = _REST.replace("doc.said", '"docs[0].said"')


def _read(raw: str) -> Document:
    """The document as it is read from a file: the number as a writer wrote it."""
    text = raw.encode()
    return Document(
        origin=Origin(source="agent", path="/calls/1.json", length=len(text)), raw=text, value=orjson.loads(text), settled_at=1.0
    )


def _call_id(rule: str, let: str = "") -> SourceMapping:
    lets = f"  let: {let}\n" if let else ""
    return compiled(f"call:\n{lets}  call_id: {rule}\n{_REST}")


def _map(mapping: SourceMapping, number: str) -> Mapped:
    return mapping.map(_read(f'{{"said": ["hi"], "leg": {number}, "legs": [{number}], "name": "a"}}'))


LOST = ["28446744073709551617", "-28446744073709551617", "9007199254740993.0", "1e16", "1.5", "-0.25", "1782900000.123456789"]
KEPT = [("18446744073709551615", "18446744073709551615"), ("9007199254740993", "9007199254740993"), ("7.0", "7"), ("1e3", "1000")]
MAKERS = {
    "as it is": "doc.leg",
    "one of a list of rules": "[doc.nothing, doc.leg]",
    "concat": "\"concat('leg-', doc.leg)\"",
    "to_string": "to_string(doc.leg)",
    "to_string of what holds it": "to_string(doc.legs)",
    "join": "\"join('-', [doc.name, to_string(doc.leg)])\"",
    "nested": "\"upper(replace(concat('a', strip(doc.leg)), 'a', 'b'))\"",
    "regex": "\"regex(doc.leg, '[0-9]+').match\"",
    "split": "\"split(doc.leg, 'x')[0]\"",
    "split of to_string": "\"split(to_string(doc.leg), 'x')[0]\"",
    "url_quote": "url_quote(doc.leg)",
    "truncate": "truncate(doc.leg, 99)",
    "lines": "lines(doc.leg)[0]",
    "classify": '"classify(doc.leg, `{\\"[0-9]\\": \\"a\\"}`)"',
    "within a list": "\"doc.legs[].concat('a', @)[] | [0]\"",
    "a condition": "\"if(doc.name, concat('x', doc.leg), 'y')\"",
    "JSON text": "\"from_json(concat('[', doc.leg, ']'))[0]\"",
}


@pytest.mark.parametrize("rule", MAKERS.values(), ids=MAKERS)
def test_a_number_that_lost_digits_is_no_call_id_however_it_is_made(rule: str) -> None:
    """Refused at the rule's place, with the advice to write it as text."""
    for number in LOST:
        refused = _map(_call_id(rule), number).refused
        assert refused is not None, number
        assert refused.refusal.where.startswith("call.call_id (line 2)"), number
        assert ADVICE in refused.refusal.what, number


@pytest.mark.parametrize(("number", "digits"), KEPT)
def test_whole_numbers_that_kept_their_digits_are_identities(number: str, digits: str) -> None:
    """Up to 64 bits as they are; however a whole number was written, a text made of it says the same."""
    for rule, made in (("doc.leg", digits), ("\"concat('a', doc.leg)\"", f"a{digits}"), ("to_string(doc.leg)", digits)):
        call = _map(_call_id(rule), number).call
        assert call is not None
        assert call.call_id == made


@pytest.mark.parametrize("number", LOST)
def test_a_let_that_an_identity_reads_is_part_of_it(number: str) -> None:
    """Through two names; a `let` that only other fields read may still show a fraction."""
    refused = _map(_call_id("full", "{part: \"concat('leg-', doc.leg)\", full: part}"), number).refused
    assert refused is not None
    assert "call.let.part (line 2)" in refused.refusal.where
    shown = compiled(f"call:\n  let: {{note: \"concat('n ', doc.leg)\"}}\n  call_id: doc.name\n  metadata: {{n: note}}\n{_REST}")
    assert _map(shown, "1.5").call is not None


@pytest.mark.parametrize(
    "rule",
    [
        "find(doc.people, 'id', doc.who).name",
        "doc.people[?id == `28446744073709551617.0`].name | [0]",
        "lookup(doc.who, doc.table)",
        "lookup(doc.who, from_pairs(doc.people, 'id', 'name'))",
        "round(doc.who)",
        "floor(doc.who)",
        "ceil(doc.who)",
        "abs(doc.who)",
        "add(doc.who, 0)",
        "subtract(doc.who, 28446744073709551600)",
        "divide(doc.who, 1000000)",
        "seconds_to_ms(doc.who)",
        "sum([doc.who, doc.who])",
        "max(doc.people[].id)",
        "from_json(doc.text).id",
    ],
)
def test_what_is_found_or_computed_by_such_a_number_is_none_either(rule: str) -> None:
    """Joins within the document, tables, arithmetic that makes a whole number of it, JSON in a text."""
    big, other = "28446744073709551617", "28446744073709551618"
    raw = (
        f'{{"said": ["hi"], "who": {big}, "people": [{{"id": {other}, "name": "b"}}, {{"id": {big}, "name": "a"}}],'
        f' "table": {{"28446744073709551616": "c"}}, "text": "{{\\"id\\": {big}}}"}}'
    )
    mapped = _call_id(f'"{rule}"').map(_read(raw))
    assert mapped.call is None
    assert mapped.refused is not None


@pytest.mark.parametrize("number", LOST)
@pytest.mark.parametrize("rule", ["doc.leg", "concat('k', doc.leg)", "k"])
def test_no_key_on_either_side_is_made_of_it(rule: str, number: str) -> None:
    """The call asks for no other's recording, the manifest brings none: both are refused at their rule."""
    let = "  let: {k: \"concat('k', doc.leg)\"}\n"
    call = compiled(
        f"call:\n  call_id: doc.name\n{let}{REST.replace('  call_id: {const: c-1}', '')}"
        f'recording: [{{manifest: audio, key: "{rule}", within: any}}]',
        brings={"audio": True},
    )
    refused = _map(call, number).refused
    assert refused is not None
    assert refused.refusal.where.startswith("call.let.k" if rule == "k" else "recording[0].key")
    assert ADVICE in refused.refusal.what
    manifest = compiled(f'manifest:\n{let}  key: "{rule}"\n  url: {{const: "https://x.example/a.wav"}}\n')
    mapped = _map(manifest, number)
    assert mapped.recording is None
    assert mapped.refused is not None
    assert ADVICE in mapped.refused.refusal.what


@pytest.mark.parametrize("number", LOST)
def test_no_url_agent_or_field_that_names_someone_is_made_of_it(number: str) -> None:
    """A URL with wrong digits is another's audio, an agent with wrong digits another's agent: refused. An optional field that
    names someone is left out."""
    url = "\"concat('https://x.example/', doc.leg, '.wav')\""
    for more in (f"recording: [{{url: {url}}}]", "agent: doc.leg", "agent: \"concat('a', doc.leg)\""):
        refused = _map(compiled(f"call:\n  call_id: doc.name\n{_REST}{more}\n"), number).refused
        assert refused is not None, more
        assert ADVICE in refused.refusal.what
    manifest = _map(compiled(f"manifest:\n  key: doc.name\n  url: {url}\n"), number)
    assert manifest.recording is None
    assert manifest.refused is not None
    mapped = _map(compiled(f"call:\n  call_id: doc.name\n  sip_call_id: doc.leg\n  recipient: doc.leg\n{_REST}"), number)
    assert mapped.call is not None
    assert set(mapped.notes.left_out) == {"sip_call_id", "recipient"}


@pytest.mark.parametrize("number", LOST)
def test_no_gather_key_is_made_of_it(number: str) -> None:
    """The document is refused, so it goes to no call, and cuts what was carried before it."""
    gather = "{key: \"concat('g', doc.leg)\", wait: 1s}"
    source = compiled(f"call:\n  call_id: docs[0].name\n{_GATHERED}", gather=parse_yaml(gather, "config.yaml"))
    mapped = _map(source, number)
    assert mapped.fragment is None
    assert mapped.refused is not None
    assert mapped.refused.refusal.where.startswith("gather.key")
    assert ADVICE in mapped.refused.refusal.what


def test_tool_ids_and_nodes_that_lost_digits_are_refused() -> None:
    """A result would get another call's name."""
    rows = '[{"role": "agent_result", "tool": {"result": {"a": 1}, "request_id": 28446744073709551617}}]'
    mapping = compiled(
        "call:\n  call_id: {const: c}\n  call_type: {const: phone_call}\n  start_timestamp: 1782900000000\n"
        "  end_timestamp: 1782900060000\n  transcript_with_tool_calls: doc.rows\n"
    )
    refused = mapping.map(_read(f'{{"rows": {rows}}}')).refused
    assert refused is not None
    assert refused.refusal.where == "transcript_with_tool_calls[0].tool.request_id"
    node = '[{"role": "node_transition", "node": {"to": 28446744073709551617}}]'
    assert mapping.map(_read(f'{{"rows": {node}}}')).refused is not None


def test_fractions_elsewhere_are_values_as_ever() -> None:
    """Text of a row, metadata, costs, times, and what is rounded: no identity is made of them."""
    mapping = compiled(
        "call:\n  call_id: \"concat('c', round(multiply(doc.at, 10)))\"\n  call_cost: doc.cost\n"
        f"  metadata: {{note: \"concat('paid ', doc.cost)\", big: doc.big}}\n{_REST}"
    )
    fields = fields_of(mapping, {"said": ["hi"], "at": 0.5, "cost": 1.25, "big": 2.5e20})
    assert (fields["call_id"], fields["call_cost"]) == ("c5", 1.25)
    assert fields["metadata"] == {"note": "paid 1.25", "big": 2.5e20}


def test_a_constant_fraction_as_identity_is_told_at_load() -> None:
    """With its place."""
    (problem,) = problems_of(f"call:\n  call_id: 1.5\n{_REST}")
    assert "call.call_id" in problem
    assert "fraction" in problem


_NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.integers(2**53 - 3, 2**53 + 3).map(str),
    st.integers(2**64 - 3, 2**64 + 3).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**25), max_value=10**25).map(str),
    st.tuples(st.integers(-(10**20), 10**20), st.integers(0, 20)).map(lambda p: f"{p[0]}e{p[1]}"),
)
_TEXTS = ["doc.leg", "concat('a-', doc.leg)", "to_string(doc.leg)", "replace(doc.leg, '-', 'm')", "from_json(to_string(doc.leg))"]


@settings(max_examples=examples(80), deadline=None)
@example("28446744073709551617", "28446744073709551618", "doc.leg")
@example("1782900000.123456789", "1782900000.123456788", "concat('a-', doc.leg)")
@given(_NUMBERS, _NUMBERS, st.sampled_from(_TEXTS))
def test_two_different_numbers_never_make_one_identity(one: str, other: str, rule: str) -> None:
    """Whatever was written: either the ids differ as the numbers do, or the document is refused. (A fraction with so many
    digits that a float is whole, like 7.00000000000000000001, is not seen to be one.)"""
    assume(all(Fraction(one).denominator == 1 for one in (one, other) if float(one).is_integer()))
    mapping = _mapping(rule)
    made = [call.call_id for number in (one, other) if (call := _map(mapping, number).call) is not None]
    if len(made) == 2 and Fraction(one) != Fraction(other):
        assert made[0] != made[1]


_COMPILED: dict[str, SourceMapping] = {}


def _mapping(rule: str) -> SourceMapping:
    if rule not in _COMPILED:
        _COMPILED[rule] = _call_id(f'"{rule}"')
    return _COMPILED[rule]


def test_explain_shows_the_same_refusal() -> None:
    """The traced run guards as the plain one does."""
    mapping = _call_id("\"concat('a', doc.leg)\"")
    read = document({"said": ["hi"], "leg": 1.5, "name": "a"})
    assert mapping.explain(read).mapped == mapping.map(read)
