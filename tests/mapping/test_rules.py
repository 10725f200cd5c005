"""Every form of a rule: the language by example, what is told at load, what is told of a run."""

from typing import Any

import pytest

from tests.mapping.sources import CREATE, REST, SEND, call_of, compiled, document, fields_of, problems_of
from tunerd.call import Form, ManifestStrategy, UrlStrategy
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.mapping.functions import Context
from tunerd.mapping.rules import RuleCompiler
from tunerd.outcome import FailReason

TABLES = {
    "roles": {"bot": "agent", "assistant": "agent", "user": "user"},
    "reasons": {"hangup|ended": "user_hangup", "error": "error"},
}


def value_of(rule: str, doc: Any) -> Any:
    """What one rule of the mapping language gives."""
    compiler = RuleCompiler(Context())
    doc_slot = compiler.root("doc")
    for name, table in TABLES.items():
        compiler.root(name, table)
    code = compiler.rule(parse_yaml(rule, "rule.yaml"), "rule", compiler.roots.inner())
    assert not compiler.problems, compiler.problems[0]
    slots = [None] * compiler.size
    slots[doc_slot.index] = doc
    return code.run(slots)


@pytest.mark.parametrize(
    ("rule", "doc", "result"),
    [
        ("[doc.call.id, doc.id]", {"call": {"id": ""}, "id": 7}, 7),
        ("lookup(doc.role, roles)", {"role": "Bot"}, "agent"),
        ("\"if(doc.s >= 1, 'positive', if(doc.s <= -1, 'negative', if(doc.s != null, 'neutral')))\"", {"s": 0}, "neutral"),
        ("\"classify(doc.why, reasons, 'other')\"", {"why": "pipeline-error-openai"}, "error"),
        ("find(doc.people, 'id', doc.who).name", {"who": 2, "people": [{"id": 1}, {"id": 2, "name": "B"}]}, "B"),
        (
            "lookup(doc.parties[0] || doc.parties, doc.people).tel",
            {"parties": [1], "people": [{"tel": "a"}, {"tel": "b"}]},
            "b",
        ),
        (
            '"doc.words[].{word: w, start_ms: seconds_to_ms(s)}"',
            {"words": [{"w": "hi", "s": "1.25s"}]},
            [{"word": "hi", "start_ms": 1250}],
        ),
        ("concat('https://x/', url_quote(doc.id), '.wav')", {}, None),
        (
            '{for_each: {m: doc.items}, rows: [{role: "lookup(m.role, roles)", text: m.t}, {for_each: {c: m.calls},'
            " role: {const: agent_function}, tool: {name: c.n, params: c.args}}]}",
            {"items": [{"role": "bot", "t": "ok", "calls": [{"n": "f", "args": "{}"}]}, {"role": "system", "t": "x"}]},
            [{"role": "agent", "text": "ok"}, {"role": "agent_function", "tool": {"name": "f", "params": "{}"}}],
        ),
        (
            '{for_each: {m: doc.items}, let: {p: m.data}, when: "p.final && !p.hidden", role: {const: user}, text: p.t,'
            " start_at: m.ts}",
            {"items": [{"ts": "2026-07-01T10:00:00Z", "data": {"final": True, "t": "a"}}, {"data": {"final": False}}]},
            [{"role": "user", "text": "a", "start_at": "2026-07-01T10:00:00Z"}],
        ),
    ],
)
def test_the_language_by_example(rule: str, doc: Any, result: Any) -> None:
    """The ten examples that the language was decided on."""
    assert value_of(rule, doc) == result


@pytest.mark.parametrize(
    ("rule", "doc", "result"),
    [
        ("7", {}, 7),
        ("2.5", {}, 2.5),
        ("true", {}, True),
        ("null", {}, None),
        ("'7'", {}, 7),
        ("doc.a", {"a": 0}, 0),
        ("[doc.a, doc.b]", {"a": 0, "b": 1}, 0),
        ("[doc.a, doc.b]", {"a": False, "b": 1}, False),
        ("[doc.a, doc.b]", {"a": [], "b": {}}, None),
        ("[doc.a, doc.b, doc.c]", {"a": {}, "b": "", "c": 3}, 3),
        ("[doc.a, {const: x}, doc.b]", {"b": 1}, "x"),
        ("[doc.a, null, 5]", {}, 5),
        ('"[doc.a, doc.b]"', {"a": 1}, [1, None]),
        ("{const: [1, {a: null}]}", {}, [1, {"a": None}]),
        ("{const: doc.a}", {"a": 1}, "doc.a"),
        ("{a: doc.a, b: doc.b}", {"a": 0}, {"a": 0}),
        ("{a: doc.a, b: {c: doc.b}}", {}, None),
        ("{when: doc.w, a: 1}", {"w": 0}, {"a": 1}),
        ("{when: doc.w, a: 1}", {"w": ""}, None),
        ("{a: x, let: {x: y, y: 2}}", {}, "problem"),
        ("{a: y, let: {x: doc.v, y: 'add(x, 1)'}}", {"v": 1}, {"a": 2}),
        ("{for_each: {m: doc.a}, v: m}", {"a": [1, None, 2]}, [{"v": 1}, {"v": 2}]),
        ("{for_each: {m: doc.a}, v: m}", {}, None),
        ("{for_each: {m: doc.a}, v: m}", {"a": []}, None),
        ("{rows: [{v: doc.a}, {when: false, v: 2}, {v: 3}]}", {"a": 1}, [{"v": 1}, {"v": 3}]),
        ("{for_each: {m: doc.a}, when: m > 1, rows: [{v: m}, {rows: [{w: m}]}]}", {"a": [1, 2]}, [{"v": 2}, {"w": 2}]),
        (
            "{for_each: {m: doc.a}, rows: [{for_each: {n: m}, v: n}, {for_each: {n: m}, w: n}]}",
            {"a": [[1]]},
            [{"v": 1}, {"w": 1}],
        ),
        ("{for_each: {m: doc.a}, role: m.r, text: m.t}", {"a": [{"t": "x"}, {"r": "", "t": "y"}, {"r": "u"}]}, [{"role": "u"}]),
        ("[{for_each: {m: doc.a}, v: m}, {for_each: {m: doc.b}, w: m}]", {"a": [], "b": [1]}, [{"w": 1}]),
    ],
)
def test_rule_forms(rule: str, doc: Any, result: Any) -> None:
    """Literals, first-of lists, constants and blocks; 0 and false are values, null, "", [] and {} are missing."""
    if result == "problem":
        with pytest.raises(AssertionError, match="unknown name"):
            value_of(rule, doc)
        return
    got = value_of(rule, doc)
    assert got == result
    assert type(got) is type(result)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("call: {call_id: [lookup(doc.a, doc.b), doc.c]}", "1:17: sources.agent.call.call_id: YAML split this at a comma"),
        ("call: {call_id: lookup(doc.a, doc.b)}", "1:7: sources.agent.call: YAML split this at a comma"),
        ("call:\n  call_id: {when: if(doc.a, doc.b), x: 1}", "2:12: sources.agent.call.call_id: YAML split this at a comma"),
        ("call:\n  call_id: concat(doc.a, ' #x')", "YAML cuts a plain text at ` #`"),
        ("call:\n  call_id: []", "2:12: sources.agent.call.call_id: an empty list gives nothing"),
        ("call:\n  call_id: ''", "the expression is empty"),
        (
            "call:\n  call_type: phone_call",
            "2:14: sources.agent.call.call_type: unknown name `phone_call`: write {const: phone_call}",
        ),
        ("call:\n  call_id: dok.id", "2:12: sources.agent.call.call_id: unknown name `dok` (did you mean `doc`?)"),
        ("call:\n  call_id: doc.a || lookupp(doc.b)", "2:21: sources.agent.call.call_id: unknown function `lookupp`"),
        (
            'call:\n  call_id: "doc.a || lookup(doc.b)"',
            "2:22: sources.agent.call.call_id: `lookup(key, table[, default])` got one",
        ),
        (
            "call:\n  call_typ: {const: x}",
            "2:3: sources.agent.call.call_typ: unknown field `call_typ` (did you mean `call_type`?)",
        ),
        ("call:\n  recording_file_extension: doc.a", "unknown field `recording_file_extension`: tunerd sets it where `audio:`"),
        ("call:\n  recording_url: doc.url", "unknown field `recording_url`: the recording has its own place"),
        ("call:\n  call_type: {const: x}", "2:3: sources.agent.call: no rule for `call_id`"),
        ("call:\n  call_id: {const: 1, a: 2}", "`const` stands alone"),
        ("call:\n  let: {doc: doc.a}", "the name `doc` is taken already"),
        ("call:\n  let: {A: doc.a}", "`A` is no name"),
        ("call:\n  let: {a: doc.a}\n  metadata: {for_each: {a: doc.b}, v: a}", "the name `a` is taken already"),
        ("call:\n  let: {a: b, b: doc.a}", "unknown name `b`"),
        ("call:\n  let: [a]", "write a mapping here"),
        ("call:\n  refuse: doc.a", "write a mapping here"),
        ("call:\n  metadata: {for_each: doc.a, v: 1}", "write a mapping here"),
        ("call:\n  metadata: {for_each: {a: doc.a, b: doc.b}, v: 1}", "for_each takes one name and one rule"),
        ("call:\n  metadata: {rows: {v: 1}}", "rows takes a list of blocks"),
        ("call:\n  metadata: {rows: [doc.a]}", "rows takes a list of blocks"),
        ("call:\n  metadata: {rows: [{v: 1}], v: 2}", "a block has either `rows` or fields"),
        (
            "call:\n  transcript_with_tool_calls: {for_each: {m: doc.a}, role: m.r, content: m.c}",
            "a row has no `content` (did you mean `text`?)",
        ),
        ("call:\n  transcript_with_tool_calls: {for_each: {m: doc.a}, role: m.r, start: m.c}", "(did you mean `start_ms`?)"),
        ("call:\n  transcript_with_tool_calls: {for_each: {m: doc.a}, role: m.r, tool: {nam: m.c}}", "unknown member `nam`"),
        ("call:\n  start_timestamp: 12", "an offset? use seconds_to_ms"),
        ("call:\n  call_id: doc.words[?doc.x]", "`doc` is a name of the mapping, and names are not seen in here"),
        ("manifest:\n  key: doc.a", "no rule for `url`, which every recording needs"),
        ("manifest:\n  key: doc.a\n  url: doc.b\n  start: doc.c", "unknown field `start`"),
        ("", "gives neither `call:` nor `manifest:` rules"),
    ],
)
def test_wrong_rules_are_told_at_load(text: str, says: str) -> None:
    """Each wrong rule is told with file:line:column, its path and what to write instead."""
    assert any(says in problem for problem in problems_of(text)), problems_of(text)


def test_all_problems_are_told_at_once() -> None:
    """Every problem of a source comes in one error, in the order of the file."""
    text = "call:\n  call_id: dok.id\n  call_type: lone\n  metadata: {a: nope(doc), b: '@'}\nrecording:\n  - url: dc.u\n"
    assert [problem.split(": ")[0] for problem in problems_of(text)] == [
        "config.yaml:2:3",  # no rule for transcript_with_tool_calls
        "config.yaml:2:12",
        "config.yaml:3:14",
        "config.yaml:4:17",
        "config.yaml:4:32",
        "config.yaml:6:10",
    ]


BASE = "call:" + REST


@pytest.mark.parametrize(
    ("more", "doc", "where", "what"),
    [
        ("  let: {n: seconds_to_ms(doc.x)}\n  metadata: {n: n}", {"x": []}, None, None),
        ("  call_cost: multiply(doc.x, 100)", {"x": {"secret": 1}}, None, None),
        (
            "  when: length(doc.x)",
            {"x": 5},
            "call.when (line 7)",
            "length: takes text, a list or an object, got a number",
        ),
        ("  refuse: {odd: length(doc.x)}", {"x": 5}, "call.refuse.odd (line 7)", "length: "),
        ("  refuse: {was_a_test: doc.x}", {"x": 1}, "call.refuse.was_a_test (line 7)", "the mapping refuses it: was a test"),
    ],
)
def test_errors_of_optional_and_of_decisive_rules(more: str, doc: dict[str, Any], where: str | None, what: str | None) -> None:
    """A failing optional field is left out and noted (through a let too); when and refuse fail the call."""
    mapped = compiled(BASE + more).map(document({"said": ["hello"], **doc}))
    if where is None:
        assert mapped.call is not None
        assert mapped.notes.left_out in (("metadata",), ("call_cost",))
        return
    assert mapped.refused is not None
    assert (mapped.refused.refusal.where, what in mapped.refused.refusal.what) == (where, True)  # type: ignore[operator]


TRANSCRIPT = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: doc.at
  duration_ms: 60000
  transcript_with_tool_calls:
    for_each: {m: doc.items}
    let: {at: m.at}
    rows:
      - {role: {const: user}, text: m.text, start_ms: 0}
      - {when: m.more, role: {const: agent}, text: m.more, start_ms: 0}
      - role: {const: agent}
        text: m.text
        start_ms: seconds_to_ms(m.start)
        metadata: {latency: seconds_to_ms(m.latency)}
"""


@pytest.mark.parametrize(
    ("doc", "where", "what"),
    [
        (
            {"id": "a", "at": 1782900000, "items": [{"text": "x", "start": {"secret": 1}}]},
            "call.transcript_with_tool_calls.rows[2].start_ms (line 15)",
            "seconds_to_ms: takes a number or text, got an object",
        ),
        (
            {"id": "a", "at": "secret", "items": [{"text": "x"}]},
            "call.start_timestamp (line 5)",
            "epoch_ms: got text in no known time form",
        ),
        (
            {"id": "a", "at": 1782900000, "items": {"a": 1}},
            "call.transcript_with_tool_calls (line 8)",
            "for_each: takes a list, got an object",
        ),
        ({"id": "", "at": 1782900000, "items": [{"text": "x"}]}, "call.call_id (line 3)", "gave nothing"),
        ({"id": "a", "at": 1782900000, "items": []}, "call.transcript_with_tool_calls (line 8)", "gave nothing"),
        ("just text", "call.call_id (line 3)", "gave nothing"),
    ],
)
def test_run_errors_name_the_rule(doc: Any, where: str, what: str) -> None:
    """A refusal names the field's path, its line, the function and the kind of value, never the value."""
    mapped = compiled(TRANSCRIPT).map(document(doc))
    assert mapped.refused is not None
    refusal = mapped.refused.refusal
    assert refusal.reason is FailReason.UNMAPPABLE
    assert refusal.where == where
    assert what in refusal.what
    assert "secret" not in refusal.what


def test_an_odd_metadata_of_a_row_is_left_out() -> None:
    """metadata of a row is as optional as a field of the call: the call goes without it, and it is noted."""
    doc = {
        "id": "a",
        "at": 1782900000,
        "items": [{"text": "x", "start": 1, "latency": [1]}, {"text": "y", "start": 2, "latency": 1}],
    }
    mapped = compiled(TRANSCRIPT).map(document(doc))
    assert mapped.call is not None
    assert mapped.notes.left_out == ("transcript_with_tool_calls.rows[2].metadata.latency",)
    assert b'"metadata":{"latency":1000}' in mapped.call.payload


def test_env_and_path_roots() -> None:
    """env, file and the groups of path_groups are names in every rule."""
    text = """
call:
  call_id: concat(room, '/', file.stem, '@', file.offset, env.SUFFIX)
  call_type: env.TYPE || 'phone_call'
  start_timestamp: file.mtime
  duration_ms: 1000
  metadata: {path: file.path, relative: file.relative, dir: file.dir, name: file.name}
  transcript_with_tool_calls: {for_each: {m: doc}, role: {const: user}, text: m, start_ms: 0}
"""
    mapping = compiled(text, environ={"SUFFIX": "!"}, path_groups=r"^(?P<room>[^/]+)/")
    fields = fields_of(mapping, ["hi"], path="/calls/r1/2026/a.json.gz", offset=7, mtime_ns=1_782_900_000_123_000_000)
    assert fields["call_id"] == "r1/a@7!"
    assert fields["call_type"] == "phone_call"
    assert fields["start_timestamp"] == 1_782_900_000_123
    assert fields["metadata"] == {
        "path": "/calls/r1/2026/a.json.gz",
        "relative": "r1/2026/a.json.gz",
        "dir": "r1/2026",
        "name": "a.json.gz",
    }


def test_the_directory_of_a_file_in_the_root_is_missing() -> None:
    """file.dir is empty for a file in the source's own directory, so that no key is made of it."""
    mapping = compiled("call:" + REST + "  sip_call_id: [file.dir, {const: none}]\n")
    assert fields_of(mapping, {"said": ["x"]})["sip_call_id"] == "none"


def test_the_seed_case_in_few_lines() -> None:
    """Bare {role, content} messages without times, mapped by nine lines of YAML, give send-calls' own form."""
    text = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: doc.started
  end_timestamp: doc.ended
  transcript_with_tool_calls: {for_each: {m: doc.messages}, role: m.role, text: m.content}
recording:
  - url: doc.audio
"""
    doc = {
        "id": "call-7",
        "started": "2026-07-01T10:00:00Z",
        "ended": "2026-07-01T10:01:00Z",
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
        "audio": " https://audio.example/7.wav ",
    }
    call = call_of(compiled(text, SEND), doc)
    assert call.checked_for is Form.SEND_CALLS
    assert call.strategies == (UrlStrategy(location="https://audio.example/7.wav"),)
    assert (call.call_id, call.started_at_ms, call.agent, call.workspace) == (
        "call-7",
        1_782_900_000_000,
        "support-bot",
        "https://tuner.example/42",
    )


@pytest.mark.parametrize(
    ("doc", "strategies"),
    [
        (
            {"u": "https://a.example/x", "exp": 1782900000, "room": " r1 "},
            (
                UrlStrategy(location="https://a.example/x", expires_at=1_782_900_000.0),
                ManifestStrategy(source="egress", key="r1", within_s=600.0, wait_s=1800.0),
            ),
        ),
        (
            {"u": "", "room": 7},
            (UrlStrategy(location=None), ManifestStrategy(source="egress", key="7", within_s=600.0, wait_s=1800.0)),
        ),
        (
            {"u": {"secret": 1}, "room": "  "},
            (UrlStrategy(location=None), ManifestStrategy(source="egress", key=None, within_s=600.0, wait_s=1800.0)),
        ),
        (
            {"u": "https://a.example/y", "exp": "secret"},
            (
                UrlStrategy(location="https://a.example/y", expires_at=None),
                ManifestStrategy(source="egress", key=None, within_s=600.0, wait_s=1800.0),
            ),
        ),
    ],
)
def test_strategies_are_decided_with_the_call(doc: dict[str, Any], strategies: Any) -> None:
    """URLs and keys are trimmed, an empty one is absent, an odd one is absent and noted; let names are seen."""
    recording = "  - {url: u, expires_at: doc.exp}\n  - {manifest: egress, key: doc.room, within: 600}\n"
    text = f"call:{REST}  let: {{u: doc.u}}\nrecording:\n{recording}"
    mapping = compiled(text, brings={"egress": True})
    mapped = mapping.map(document({"said": ["x"], **doc}))
    assert mapped.call is not None
    assert mapped.call.strategies == strategies
    odd = doc.get("exp") == "secret" or isinstance(doc["u"], dict)
    assert mapped.notes.left_out == (("recording[0]",) if odd else ())


def test_manifest_strategies_are_checked_at_load() -> None:
    """The source must be there, and nearness needs its started_at."""
    text = f"call:{REST}recording:\n  - {{manifest: egres, key: doc.room, within: 600}}\n"
    assert "no source `egres` that brings recordings (did you mean `egress`?)" in problems_of(text, brings={"egress": True})[0]
    assert "write `within: any`" in problems_of(text, brings={"egres": False})[0]
    assert problems_of(text.replace(", within: 600", ""), brings={"egres": False}) == []


def test_the_agent_can_be_a_rule() -> None:
    """`agent:` names the agent by document, and falls back to the configured one."""
    mapping = compiled(f"call:{REST}agent: doc.agent\n")
    assert call_of(mapping, {"said": ["x"], "agent": " sales "}).agent == "sales"
    assert call_of(mapping, {"said": ["x"]}).agent == "support-bot"
    without = compiled(f"call:{REST}agent: doc.agent\n", agent_remote_identifier=None)
    refused = without.map(document({"said": ["x"]})).refused
    assert refused is not None
    assert refused.refusal.where == "agent"
    assert "no agent_remote_identifier" in problems_of(f"call:{REST}", agent_remote_identifier=None)[0]


def test_when_false_is_ignored_and_refuse_comes_first() -> None:
    """let, refuse, when, fields: in this order, whatever the order in the file."""
    mapping = compiled(f"call:{REST}  when: doc.kind == 'end'\n  refuse: {{broken: bad}}\n  let: {{bad: doc.bad}}\n")
    assert mapping.map(document({"kind": "start"})).ignored is not None
    assert mapping.map(document({"kind": "end", "said": ["x"]})).call is not None
    refused = mapping.map(document({"kind": "start", "bad": 0})).refused
    assert refused is not None  # 0 is true
    assert refused.refusal.reason is FailReason.REFUSED


def test_notes_tell_what_is_missing_and_repaired() -> None:
    """Fields that gave nothing are noted by name; a rule that is switched off is no rule."""
    mapping = compiled(f"call:{REST}  call_cost: doc.cost\n  metadata: {{a: doc.b}}\n  transcript: null\n")
    mapped = mapping.map(document({"said": ["hello"]}))
    assert mapped.notes.missing == ("call_cost", "metadata")
    assert mapped.notes.repairs == {"end_from_call": 1}
    assert "call_cost" in mapping.fields_with_rules
    assert "transcript" not in mapping.fields_with_rules


def test_times_are_read_without_saying_so() -> None:
    """start_at, end_at, start_timestamp and end_timestamp take any time form, in the source's zone."""
    text = """
call:
  call_id: {const: a}
  call_type: {const: phone_call}
  start_timestamp: [doc.nope, doc.start]
  end_timestamp: doc.end
  transcript_with_tool_calls: {for_each: {m: doc.items}, role: {const: user}, text: m.t, start_at: m.a, end_at: m.b}
"""
    doc = {
        "start": "2026-07-01T12:00:00",
        "end": "1782900060",
        "items": [{"t": "x", "a": "2026-07-01 12:00:01.5", "b": 1782900003}],
    }
    fields = fields_of(compiled(text, timezone="Europe/Berlin"), doc)
    assert (fields["start_timestamp"], fields["end_timestamp"]) == (1_782_900_000_000, 1_782_900_060_000)
    assert fields["transcript_with_tool_calls"][0] == {"role": "user", "text": "x", "start_ms": 1500, "end_ms": 3000}
    assert CREATE.form is Form.CREATE_CALL
