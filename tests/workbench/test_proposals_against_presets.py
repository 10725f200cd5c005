"""What `init` makes of files that are nobody's, or almost a platform's: the better times win, and every guess is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.real_parts import SAMPLES, needs_samples
from tunerd.cli import main
from tunerd.config.yaml_nodes import parse_yaml

CASES = SAMPLES.parent / "cases"
START = "2026-07-01T10:00:00Z"


def proposed(directory: Path, document: Any) -> tuple[Result, dict[str, Any]]:
    """What init says of a document, and the one source that gives calls."""
    (directory / "in").mkdir(exist_ok=True)
    path = directory / "in" / "one.json"
    path.write_text(json.dumps(document) if not isinstance(document, str) else document)
    result = CliRunner(env={"TUNER_API_KEY": "k"}).invoke(main, ["init", "--from", str(path)], catch_exceptions=False)
    sources: Any = parse_yaml(result.stdout, "x").bare()
    return result, sources["sources"][0]


def said(*rows: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text, "at": f"2026-07-01T10:00:{at}Z"} for role, text, at in rows]


@pytest.mark.parametrize("word", ["system", "developer", "tool"])
@pytest.mark.parametrize("names", [("started", "ended"), ("call_start_date", "call_end_date"), ("startTime", "endTime")])
def test_a_system_message_makes_no_platform_of_a_call_with_its_own_times(
    tmp_path: Path, word: str, names: tuple[str, str]
) -> None:
    """Dozens of frameworks write such lists: the call's own times and its audio are worth more than the shape."""
    messages = [{"role": word, "content": "You are a bot"}, *said(("assistant", "Hello", "01"), ("user", "Hi", "09"))]
    document = {"id": "x", names[0]: START, names[1]: "2026-07-01T10:00:20Z", "audio": "https://a.example/1.wav"}
    result, source = proposed(tmp_path, {**document, "messages": messages})
    assert "preset" not in source
    assert source["call"]["start_timestamp"] == f"doc.{names[0]}"
    assert source["call"]["end_timestamp"] == f"doc.{names[1]}"
    assert source["recording"] == [{"url": "doc.audio"}]
    assert "looks like pipecat too" in result.stderr
    assert result.exit_code == 0


def test_a_pipecat_dump_stays_one(tmp_path: Path) -> None:
    """Where the preset leaves nothing out it is taken, and its estimated times are named as guesses."""
    _, source = proposed(tmp_path, {"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": "Hello"}]})
    assert source["preset"] == "pipecat"


def test_estimated_times_are_named_as_guesses(tmp_path: Path) -> None:
    """Whoever reads only the guesses learns that neither the call nor its rows told when they were."""
    document = {"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": "Hello there"}]}
    result, _ = proposed(tmp_path, document)
    guesses = result.stderr.partition("Guesses")[2]
    assert "the times of 1 row are estimated" in " ".join(guesses.split())
    assert "taken to have ended when the file was written" in " ".join(guesses.split())


@pytest.mark.parametrize(
    ("start", "end"), [("start_timestamp", "end_timestamp"), ("startedAt", "finishedAt"), ("speech_begin", "speech_stop")]
)
def test_the_better_pair_of_times_wins(tmp_path: Path, start: str, end: str) -> None:
    """A member that only says time is not the start where another says start; here it is when the row was written down."""
    rows = [
        {"role": role, "content": "some words", "timestamp": base + 4_000_000, start: base, end: base + 4_000_000}
        for role, base in (("assistant", 1_782_900_001_000_000), ("user", 1_782_900_007_000_000))
    ]
    rows.append({"role": "tool", "content": "{}", "timestamp": 1_782_900_012_000_000})
    result, source = proposed(tmp_path, {"call_id": "c", "call_start_date": 1_782_900_000_000_000, "log": rows})
    block = source["call"]["transcript_with_tool_calls"]["rows"][0]
    assert block["start_at"] == [f"m.{start}", "m.timestamp"]
    assert block["end_at"] == f"m.{end}"
    assert f"rows without {start} take timestamp for their start" in " ".join(result.stderr.split())


def test_a_time_that_is_the_end_is_taken_for_the_end(tmp_path: Path) -> None:
    """Beside an end of the same instant, `timestamp` is no start."""
    rows = [
        {"role": role, "content": "some words", "timestamp": f"2026-07-01T10:00:{at}Z", "ended": f"2026-07-01T10:00:{at}Z"}
        for role, at in (("assistant", "04"), ("user", "09"))
    ]
    _, source = proposed(tmp_path, {"call_id": "c", "started_at": START, "messages": rows})
    block = source["call"]["transcript_with_tool_calls"]
    assert (block.get("start_at"), block["end_at"]) == (None, "m.ended")


@pytest.mark.parametrize("role", ["system-log", "event_log", "debugInfo", "narration"])
def test_who_is_nobody_gets_no_voice(tmp_path: Path, role: str) -> None:
    """With agent and user known, a third role is left out, and named among the guesses."""
    messages = [*said(("assistant", "Hello", "01"), ("user", "Hi", "09")), {"role": role, "content": "step 2"}]
    result, source = proposed(tmp_path, {"call_id": "c", "started_at": START, "messages": messages})
    assert source["call"]["let"]["roles"]["const"].get(role, "null") in (None, "null")
    assert f"rows of {role} are left out" in " ".join(result.stderr.split())


@pytest.mark.samples
@needs_samples
@pytest.mark.parametrize(
    ("case", "pairs"),
    [
        ("signalwire/signalwire.json", {"start_timestamp": "doc.call_start_date", "end_timestamp": "doc.call_end_date"}),
        ("chat-with-times/chat-with-times.json", {"start_timestamp": "doc.started", "end_timestamp": "doc.ended"}),
        ("aws-call-analytics/tca.json", {"call_id": "doc.JobName", "end_timestamp": "file.mtime"}),
    ],
)
def test_the_files_that_went_wrong(tmp_path: Path, case: str, pairs: dict[str, str]) -> None:
    """Three public shapes that 0.1 took for another platform's, or with wrong times."""
    result, source = proposed(tmp_path, (CASES / case).read_text())
    assert "preset" not in source
    assert {name: source["call"][name] for name in pairs} == pairs
    assert "gives a call" in result.stderr
    assert result.exit_code == 0
