"""`tunerd explain`, run as a user runs it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.workbench.made import CONFIG, call, plant
from tunerd.cli import main


def explain(directory: Path, *arguments: object) -> Result:
    config = str(directory / "config.yaml")
    return CliRunner().invoke(main, ["explain", "-c", config, *map(str, arguments)], catch_exceptions=False)


def told(directory: Path, *arguments: object) -> Any:
    return json.loads(explain(directory, "--json", *arguments).stdout)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_each_field_with_its_rule_line_and_value_or_why_there_is_none(tmp_path: Path) -> None:
    """What a person needs to find the rule that is wrong."""
    plant(tmp_path, one=call())
    result = explain(tmp_path, tmp_path / "calls" / "one.json")
    assert result.exit_code == 0
    out = squeezed(result.stdout)
    assert 'call_id "c-1" config.yaml:10 first of 2: doc.id' in out
    assert "user_sentiment - gave nothing config.yaml:14 doc.mood" in out
    assert "call_cost 50.0 config.yaml:15 multiply(doc.cost, 100)" in out
    assert "1 of 3 items gave no row" in out
    assert 'not in the table of call.transcript_with_tool_calls.role (config.yaml:18): "ghost" x1' in out
    assert "end_from_next x1" in out
    assert "1. url: doc.audio absent: the rule gave nothing" in out
    assert "2. manifest: egress, key: doc.room waits up to 1800 s" in out
    assert "agent Hello, how can I help?" in out
    assert max(map(len, result.stdout.splitlines())) <= max(80, len(str(tmp_path)) + 30)


def test_a_refusal_is_told_in_words_with_the_rules_line(tmp_path: Path) -> None:
    """The exit code says that not all is well."""
    plant(tmp_path, one=call(began="soon"), two=call(test=True), three="{half")
    result = explain(tmp_path, tmp_path / "calls")
    assert result.exit_code == 1
    out = squeezed(result.stdout)
    assert "refused (unmappable): call.start_timestamp (line 12)" in out
    assert "refused (refused): call.refuse.test_call (line 9): the mapping refuses it: test call" in out
    assert "refused (unreadable)" in out


def test_what_the_rules_leave_out_is_no_failure_and_names_the_rule(tmp_path: Path) -> None:
    """`when:` with what it gave."""
    plant(tmp_path, one=call(draft=True))
    result = explain(tmp_path, tmp_path / "calls" / "one.json")
    assert result.exit_code == 0
    assert "call.when (config.yaml:8) gave false: !doc.draft" in squeezed(result.stdout)


def test_rules_shows_every_rule_and_what_functions_got_and_gave(tmp_path: Path) -> None:
    """Hit, missed, constant, with the calls inside, bounded."""
    plant(tmp_path, one=call(said=[*call()["said"] * 20]))
    out = squeezed(explain(tmp_path, "--rules", tmp_path / "calls" / "one.json").stdout)
    assert "call.call_id[0] (config.yaml:10): nothing doc.call.id" in out
    assert 'call.call_id[1] (config.yaml:10): "c-1" doc.id' in out
    assert "multiply(0.5, 100) -> 50" in out
    assert "call.transcript_with_tool_calls.role (config.yaml:18): 40 of 60" in out
    assert 'lookup("bot", {"bot": "agent", ...' in out or 'lookup("bot", {bot, caller, ghost}) -> "agent"' in out
    assert "60 calls in all, 20 gave null" in out


def test_body_is_the_request_with_a_hidden_key_and_a_marked_stand_in(tmp_path: Path) -> None:
    """The last line is the exact body."""
    plant(tmp_path, one=call())
    lines = explain(tmp_path, "--body", tmp_path / "calls" / "one.json").stdout.splitlines()
    assert lines[0].startswith("# recording_url is a stand-in: the real one comes from source `egress`, key")
    assert "POST https://api.usetuner.ai/api/v1/public/call?workspace_id=42&agent_remote_identifier=support-bot" in lines
    assert "Authorization: Bearer (hidden)" in lines
    body = json.loads(lines[-1])
    assert body["recording_url"] == "https://recording.invalid/stand-in.wav"
    assert body["transcript_with_tool_calls"][0] == {
        "role": "agent", "text": "Hello, how can I help?", "start_ms": 1000, "end_ms": 4000,
    }  # fmt: skip


def test_the_form_can_be_chosen(tmp_path: Path) -> None:
    """send-calls, whatever the configuration says; what it has no place for is named."""
    plant(tmp_path, one=call(audio="https://audio.example/a.wav"))
    file = tmp_path / "calls" / "one.json"
    lines = explain(tmp_path, "--form", "send-calls", "--body", file).stdout.splitlines()
    assert "X-API-Key: (hidden)" in lines
    assert json.loads(lines[-1])["transcript_with_tool_calls"][1] == {"role": "user", "content": "A table for two, please."}
    assert "send-calls has no place for: call_cost" in squeezed(explain(tmp_path, "--form", "send-calls", file).stdout)


def test_a_preset_is_tried_without_any_configuration(tmp_path: Path) -> None:
    """A voice engineer's first minute: no workspace, no agent, no key, no ledger."""
    (tmp_path / "call.json").write_text(json.dumps({
        "call_id": "t-1", "call_type": "web_call", "start_timestamp": 1782900000000, "end_timestamp": 1782900009000,
        "transcript_with_tool_calls": [{"role": "user", "text": "hi", "start_ms": 0, "end_ms": 400}],
        "recording_url": "https://audio.example/t.wav",
    }))  # fmt: skip
    result = CliRunner().invoke(main, ["explain", "--preset", "tuner", "--body", str(tmp_path / "call.json")])
    assert result.exit_code == 0, result.output
    assert "# workspace and agent are made up: there is no configuration" in result.stdout
    assert json.loads(result.stdout.splitlines()[-1])["call_id"] == "t-1"


def test_an_unknown_preset_names_those_that_are_there() -> None:
    """A usage error, not a traceback."""
    result = CliRunner().invoke(main, ["explain", "--preset", "vappi", "x.json"])
    assert result.exit_code == 2
    assert "vapi" in result.stderr


def test_equal_call_ids_over_several_files_are_reported(tmp_path: Path) -> None:
    """One start: a duplicate. Different starts: a call_id rule that would make calls vanish, and exit code 1."""
    plant(tmp_path, one=call(), two=call())
    calls = tmp_path / "calls"
    result = explain(tmp_path, calls / "one.json", calls / "two.json")
    assert result.exit_code == 0
    assert "c-1: the same start: sent once" in result.stdout
    (calls / "two.json").write_text(json.dumps(call(began="2026-07-01T09:59:50Z")))
    result = explain(tmp_path, calls / "one.json", calls / "two.json")
    assert result.exit_code == 1
    assert "DIFFERENT starts" in result.stdout


def test_the_summary_counts_over_a_directory(tmp_path: Path) -> None:
    """Shares filled, unknown roles, refusals with an example, in text and as JSON."""
    many: dict[str, Any] = {f"n{at}": call(id=f"c-{at}", mood="positive" if at < 2 else None) for at in range(8)}
    plant(tmp_path, **many, bad=call(id="c-x", began=None, said=[]), draft=call(draft=True))
    result = explain(tmp_path, "--summary", tmp_path / "calls")
    assert result.exit_code == 1
    out = squeezed(result.stdout)
    assert "10 documents: 8 mapped to calls, 1 refused, 1 left out on purpose" in out
    assert "Fields of source agent: in how many documents their rule gives a value (not counted: 1 left out)" in out
    (tmp_path / "calls" / "half.json").write_text('{"id": ')
    out = squeezed(explain(tmp_path, "--summary", tmp_path / "calls").stdout)
    assert "(not counted: 1 left out, 1 not readable)" in out
    assert "1 unreadable: the JSON ends before it is complete" in out
    (tmp_path / "calls" / "half.json").unlink()
    assert "1 document: 1 mapped to a call " in squeezed(explain(tmp_path, "--summary", tmp_path / "calls" / "n1.json").stdout)
    assert "user_sentiment 22 % 2 of 9 config.yaml:14" in out
    assert '"ghost" x8' in out
    assert "1 unmappable: call.transcript_with_tool_calls (line 17)" in out
    summary = told(tmp_path, "--summary", tmp_path / "calls")
    assert summary["outcomes"] == {"call": 8, "ignored": 1, "refused": 1}
    assert summary["refused"][0]["example"].endswith("bad.json")
    assert {field["name"]: field["filled"] for field in summary["fields"]}["user_sentiment"] == 2


def test_json_holds_the_same(tmp_path: Path) -> None:
    """For programs: fields with their lines, the refusal, the request."""
    plant(tmp_path, one=call(mood="positive"))
    (document,) = told(tmp_path, "--body", "--rules", tmp_path / "calls" / "one.json")["documents"]
    fields = {field["name"]: field for field in document["fields"]}
    assert (fields["user_sentiment"]["value"], fields["user_sentiment"]["line"]) == ("positive", 14)
    assert document["outcome"] == "call"
    assert document["request"]["body"]["user_sentiment"] == "positive"
    assert document["request"]["recording_url_is_stand_in"] is True
    assert any(rule["path"] == "call.when" for rule in document["rules"])


def test_a_file_that_is_not_there_does_not_hide_the_others(tmp_path: Path) -> None:
    """It is told on stderr, and the exit code is 1."""
    plant(tmp_path, one=call())
    os.mkfifo(tmp_path / "calls" / "pipe.json")
    calls = tmp_path / "calls"
    result = explain(tmp_path, "--source", "agent", calls / "none.json", calls / "pipe.json", calls / "one.json")
    assert result.exit_code == 1
    assert "none.json cannot be read: there is no such file" in result.stderr
    assert "pipe.json cannot be read" in result.stderr
    assert "call c-1" in result.stdout


@pytest.mark.parametrize(
    "value",
    [
        "[]", "null", "3", '"x"', "{}", '{"said": 3}', '{"said": [3, null, {"who": {}}]}', "[" * 5000, '{"id": "\\ud800"}',
        json.dumps(call(id={"a": 1})), json.dumps(call(id="\u001b[31mred\n")), json.dumps(call(cost=10**400)),
        json.dumps(call(cost="x" * 5000)), json.dumps(call(mood=["deep"] * 3000)),
        json.dumps(call(said=[{"who": "bot", "text": "\ud800\u202e", "at": 1782900001}])),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [[], ["--rules", "--all"], ["--body"], ["--json", "--rules", "--body"], ["--summary"]])
def test_no_content_brings_it_down(tmp_path: Path, value: str, options: list[str]) -> None:
    """Whatever stands in a file, it is explained or refused, and nothing of it can act on the terminal."""
    plant(tmp_path, one=value)
    result = explain(tmp_path, *options, tmp_path / "calls" / "one.json")
    assert result.exit_code in (0, 1)
    assert "\u001b" not in result.output
    if "--json" in options:
        json.loads(result.stdout)


GATHERED = """
  - name: events
    path: events
    gather:
      key: doc.call
      parts: {begun: "doc.event == 'begun'", over: "doc.event == 'over'"}
      complete: begun && over
      wait: 30s
    call:
      call_id: begun.call
      call_type: {const: phone_call}
      start_timestamp: begun.at
      end_timestamp: over.at
      transcript_with_tool_calls: {for_each: {m: over.said}, role: m.role, text: m.text, start_ms: m.ms}
    recording: [{url: over.audio}]
"""


def test_a_gathered_call_is_explained_with_the_documents_that_make_it(tmp_path: Path) -> None:
    """Whatever files they stand in; one that is not complete says so, and what never came."""
    plant(tmp_path, CONFIG + GATHERED)
    events = tmp_path / "events"
    events.mkdir()
    said = [{"role": "user", "text": "hi", "ms": 0}]
    (events / "a.ndjson").write_text(
        json.dumps({"call": "g-1", "event": "begun", "at": 1782900000}) + "\n"
        + json.dumps({"call": "g-2", "event": "begun", "at": 1782900100}) + "\n"
    )  # fmt: skip
    (events / "b.json").write_text(json.dumps({"call": "g-1", "event": "over", "at": 1782900020, "said": said}))
    result = explain(tmp_path, events)
    out = squeezed(result.stdout)
    assert result.exit_code == 1
    assert 'gathered from 2 documents, key "g-1": begun, over call g-1' in out
    assert 'gathered from 1 document, key "g-2": begun not complete: mapped with what is there, 30 s after' in out
    assert "its part `over` never came" in out
    one, _ = told(tmp_path, events)["documents"]
    assert [piece["part"] for piece in one["gathered"]["documents"]] == ["begun", "over"]
    summary = told(tmp_path, "--summary", events)
    assert (summary["outcomes"], summary["gathered"]) == ({"call": 1, "refused": 1}, {"documents": 3, "calls": 2})
    out = squeezed(explain(tmp_path, "--summary", events).stdout)
    assert "3 documents, gathered into 2 calls: 1 mapped to a call, 1 refused" in out
    assert "in how many calls their rule gives a value" in out
    (events / "c.json").write_text("{half")
    out = squeezed(explain(tmp_path, "--summary", events).stdout)
    assert "4 documents, 3 of them gathered into 2 calls: 2 refused, 1 mapped to a call" in out
