"""`tunerd test`, run as a user runs it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.workbench.made import CALL, CONFIG, call, plant
from tunerd.cli import main


def check(directory: Path, examples: str, *arguments: object) -> Result:
    plant(directory, CONFIG + examples)
    config = str(directory / "config.yaml")
    return CliRunner().invoke(main, ["test", "-c", config, *map(str, arguments)], catch_exceptions=False)


def example(expects: str, document: object = CALL, name: str = "one", more: str = "") -> str:
    return f"  - name: {name}\n    input: {json.dumps(document)}\n{more}    {expects}\n"


PASSING = [
    (CALL, "", "expect: {call_id: c-1, length(transcript_with_tool_calls): 2, start_timestamp: 1782900000000, call_cost: 50}"),
    (CALL, "", "expect: {user_sentiment: null, recording_url: null, \"transcript_with_tool_calls[].role\": [agent, user]}"),
    (call(audio="https://a.example/x.wav"), "", "expect: {recording_url: https://a.example/x.wav}"),
    (CALL, "", "expect_keys: {egress: room-7}"),
    (call(room=None), "", "expect_keys: {egress: null}"),
    (call(draft=True), "", "expect_ignored: true"),
    (call(began="soon"), "", "expect_failed: unmappable"),
    (call(ended="2026-07-01T09:00:00Z"), "", "expect_failed: invalid"),
    (call(test=True), "", "expect_failed: refused"),
    (CALL, "    form: send-calls\n", 'expect: {"transcript_with_tool_calls[0]": {role: agent, content: "Hello, how can I help?"}}'),
    (CALL, "    form: send-calls\n", "expect: {call_cost: null}"),
    ([call(draft=True), CALL], "    document: 2\n", "expect: {call_id: c-1}"),
    (json.dumps(CALL), "", "expect: {call_id: c-1}"),
    ({"room": "r", "location": "https://a.example/x", "began": 1782900000}, "    source: egress\n",
     "expect_recording: {key: r, url: https://a.example/x, started_at: 1782900000000, expires_at: null}"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "more", "expects"), PASSING)
def test_an_example_that_holds_passes(tmp_path: Path, document: object, more: str, expects: str) -> None:
    """Every form of input and expectation."""
    result = check(tmp_path, "tests:\n" + example(expects, document, more=more))
    assert (result.exit_code, result.stdout) == (0, "ok    one\n1 example passes\n")


FAILING = [
    (CALL, "", "expect: {call_id: c-2}", ['call_id\n            expected  "c-2"\n            got       "c-1"']),
    (CALL, "", "expect: {user_sentiment: positive}", ["got       (nothing)", "user_sentiment (config.yaml:14): gave nothing"]),
    (CALL, "", 'expect: {"transcript_with_tool_calls[0]": {role: user, text: "Hello, how can I help?", start_ms: 1000}}',
     ["transcript_with_tool_calls[0].role", "transcript_with_tool_calls[0].end_ms\n            expected  (nothing)"]),
    (CALL, "", "expect_keys: {egress: room-8}", ["key in egress"]),
    (CALL, "", "expect_ignored: true", ["expected to be left out, but it gave a call"]),
    (CALL, "", "expect_failed: invalid", ["expected to be refused (invalid), but it gave a call"]),
    (call(began="x"), "", "expect_failed: invalid", ["but it was refused (unmappable): call.start_timestamp (line 12)"]),
    (call(draft=True), "", "expect: {call_id: c-1}", ["expected a call, but it was left out by the rules"]),
    (CALL, "", "expect_recording: {key: r}", ["one"]),
    ([CALL, CALL], "", "expect: {call_id: c-1}", ["the input holds 2 documents: say which one"]),
    ([CALL, CALL], "    document: 3\n", "expect: {call_id: c-1}", ["there is no document 3: the input holds 2"]),
    (CALL, "", "expect: {\"abs(call_id)\": 1}", ["abs(call_id): abs: "]),
]  # fmt: skip


@pytest.mark.parametrize(("document", "more", "expects", "told"), FAILING)
def test_one_that_does_not_hold_says_what_was_expected_and_what_there_is(
    tmp_path: Path, document: object, more: str, expects: str, told: list[str]
) -> None:
    """With the line of the example; the exit code is 1."""
    more = more or ("    source: agent\n" if "expect_recording" in expects else "")
    result = check(tmp_path, "tests:\n" + example(expects, document, more=more))
    assert result.exit_code == 1
    assert "FAIL  one  (config.yaml:29)" in result.stdout
    assert "0 examples pass, 1 failed" in result.stdout
    flat = " ".join(result.stdout.split())
    for part in told:
        assert part in result.stdout or part in flat
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_file_is_read_as_the_source_reads_it(tmp_path: Path) -> None:
    """Relative to the configuration; `file:` is what the rules see; a missing one fails its example alone."""
    config = CONFIG.replace("call_id: [doc.call.id, doc.id]", "call_id: concat(file.dir, '/', file.stem, ' ', doc.id)")
    config = config.replace("    path: calls\n", "    path: calls\n    recursive: true\n")
    plant(tmp_path, config)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "many.json").write_text(json.dumps(CALL) + "\n" + json.dumps(call(id="c-2")) + "\n")
    (tmp_path / "config.yaml").write_text(
        config
        + """\
tests:
  - {name: second, input_file: cases/many.json, document: 2, file: room/x.json, expect: {call_id: "room/x c-2"}}
  - {name: gone, input_file: cases/none.json, expect: {call_id: x}}
  - {name: inline, input: {id: 1}, file: a/b.json, expect_failed: unmappable}
"""
    )
    result = CliRunner().invoke(main, ["test", "-c", str(tmp_path / "config.yaml")])
    assert result.exit_code == 1
    assert "ok    second" in result.stdout
    assert "there is no such file" in result.stdout
    assert "2 examples pass, 1 failed" in result.stdout


def test_examples_of_a_file_of_their_own(tmp_path: Path) -> None:
    """A list, or `tests:`; its problems have its name, and files in it start at its directory."""
    plant(tmp_path)
    own = tmp_path / "own" / "examples.yaml"
    own.parent.mkdir()
    (own.parent / "call.json").write_text(json.dumps(CALL))
    for text in ("- {name: a, input_file: call.json, expect: {call_id: c-1}}\n",
                 "tests: [{name: a, input_file: call.json, expect: {call_id: c-1}}]\n"):  # fmt: skip
        own.write_text(text)
        result = check(tmp_path, "", "--tests", own)
        assert (result.exit_code, result.stdout) == (0, "ok    a\n1 example passes\n")
    own.write_text("- {name: a, inptu: {}, expect: {call_id: c-1}}\n")
    result = check(tmp_path, "", "--tests", own)
    assert result.exit_code == 78
    assert f"{own}:1:13: tests[0].inptu: unknown key `inptu`; did you mean `input`?" in result.stderr
    result = check(tmp_path, "", "--tests", tmp_path / "none.yaml")
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr


def test_names_choose_and_no_example_is_a_failure(tmp_path: Path) -> None:
    """A build that tests nothing should not be green."""
    examples = (
        "tests:\n" + example("expect_ignored: true", call(draft=True), "a draft") + example("expect: {call_id: x}", name="b")
    )
    assert check(tmp_path, examples, "DRAFT").exit_code == 0
    assert "no example has this name" in check(tmp_path, examples, "zzz").stderr
    assert check(tmp_path, "").exit_code == 1


def test_a_list_of_documents_makes_one_gathered_call(tmp_path: Path) -> None:
    """`input:` holds the parts, in the order in which they came."""
    gathers = """\
tuner: {workspace_id: 42, agent_remote_identifier: support-bot, api: create-call}
sources:
  - name: agent
    path: calls
    gather: {key: doc.id, wait: 5s}
    call:
      let: {first: "docs[0]"}
      when: "!docs[1].draft"
      call_id: first.id
      call_type: {const: phone_call}
      start_timestamp: first.began
      transcript_with_tool_calls: {for_each: {m: first.said}, role: {const: user}, text: m.text, start_at: m.at}
    on_missing: {send: https://a.example/x}
"""
    text = gathers + "tests:\n" + example("expect: {call_id: c-1}", [CALL, {"id": "c-1"}])
    text += example("expect_ignored: true", [CALL, {"id": "c-1", "draft": True}], "draft")
    text += example("expect: {call_id: c-1}", [CALL, {"id": "c-2"}], "two")
    plant(tmp_path, text)
    result = CliRunner().invoke(main, ["test", "-c", str(tmp_path / "config.yaml")])
    assert "ok    one" in result.stdout, result.output
    assert "ok    draft" in result.stdout
    assert "the input holds 2 calls: say which one" in result.stdout
