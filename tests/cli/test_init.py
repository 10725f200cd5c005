"""`tunerd init`, run as a user runs it: what it writes is accepted by `check` and maps the very files."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from tests.mapping.presets.golden import FIXTURES
from tests.mapping.test_samples_table import LINES
from tests.real_parts import SAMPLES, needs_samples
from tests.workbench.made import call
from tests.workbench.test_recognise import OTHERS, OURS, SAMPLE_LINES
from tunerd.cli import main
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.workbench.catalogue import preset_info
from tunerd.workbench.include_patterns import patterns

ENVIRON: Final = {"TUNER_API_KEY": "made-up"}


def invoke(*arguments: object) -> Result:
    return CliRunner(env=ENVIRON).invoke(main, list(map(str, arguments)), catch_exceptions=False)


def written(directory: Path, *files: Path) -> tuple[Result, Any]:
    """What init says, and the sources that it wrote; `check` has to accept the file."""
    config = directory / "config.yaml"
    config.unlink(missing_ok=True)
    result = invoke("init", *(word for file in files for word in ("--from", file)), "-o", config)
    assert config.exists(), result.output
    checked = invoke("check", "-c", config)
    assert checked.exit_code == 0, checked.output
    members: Any = parse_yaml(config.read_text(), "config.yaml").bare()
    return result, {source["name"]: source for source in members["sources"]}


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (["EG_a1.json", "EG_b2.json"], ["call-1.json"], ["EG_*.json"]),
        (["EG_a1.json"], ["call-1.json"], ["EG_*.json"]),
        (["EG_a1.json", "EG_b2.json", "webhook_ended.json"], ["report.json"], ["EG_*.json", "webhook_ended.json"]),
        (["2026-07-01.call.json", "2026-07-02.call.json"], ["2026-07-01.rec.json"], ["*.call.json"]),
        (["rec-1.json.gz", "rec-2.json.gz", "x.json"], ["call-1.json.gz"], ["rec-*.json.gz", "x.json"]),
        (["a.json"], ["b.json"], ["a.json"]),
        (["call-1.json", "call-2.json"], ["call-3.rec.json"], ["call-1.json", "call-2.json"]),
        (["a.json", "b.json"], [], []),
    ],
)
def test_patterns_fit_the_files_to_come(mine: list[str], others: list[str], expected: list[str]) -> None:
    """Ids and times become a star, as long as no file of another source fits; a name itself is the last resort."""
    assert patterns("/calls", [f"/calls/{name}" for name in mine], [f"/calls/{name}" for name in others]) == expected


def test_a_name_in_include_is_told_as_a_guess(tmp_path: Path) -> None:
    """It would read this very file for ever, and no other."""
    manifest = {
        "egress_id": "EG_x",
        "room_name": "c-1",
        "file": {"location": "https://a.example/c-1.wav"},
        "started_at": "2026-07-01T10:00:00Z",
    }
    files = planted(tmp_path, conversation_json=call(), manifest_json=manifest)
    result, sources = written(tmp_path, *files)
    assert sorted(each["include"][0] for each in sources.values() if "include" in each) == ["conversation.json", "manifest.json"]
    told = " ".join(result.stderr.split())
    assert "`include:` has the name conversation.json itself: write a pattern that the files to come fit" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": "long", "subject": "a test"}', ("nothing in it looks like a call", "Its members: text, subject")),
        ("[2026-07-01T10:00:01.312+00:00] assistant: Hello.\n\n[2026-07-01T10:00:04Z] user: Hi.\n", ("transcript as lines",)),
        ("10:00:01 user: Hi.\n", ("a transcript as lines of text, and tunerd reads JSON", "role, content and timestamp")),
        ("oops", ("line 1 column 1: not JSON",)),
    ],
)
def test_what_no_source_can_be_made_of_says_why(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    """What was looked for, what is there instead, and what to do."""
    (tmp_path / "sample.txt").write_text(content)
    result = invoke("init", "--from", tmp_path / "sample.txt")
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert [word in told for word in (*words, "it is left out")] == [True] * (len(words) + 1), told


def planted(directory: Path, **files: Any) -> list[Path]:
    found = []
    for name, value in files.items():
        stem, _, ending = name.rpartition("_")
        path = directory / f"{stem}.{ending}"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        found.append(path)
    return found


def test_without_files_it_is_a_short_commented_start() -> None:
    """On the output, nothing else; `check` accepts it."""
    result = invoke("init")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "# " in result.stdout
    assert len(result.stdout.splitlines()) < 40
    assert max(map(len, result.stdout.splitlines())) <= 124


def test_the_start_is_accepted_and_maps_its_own_kind(tmp_path: Path) -> None:
    """What the comment says it reads, it reads."""
    _, sources = written(tmp_path)
    assert list(sources) == ["agent"]
    (file,) = planted(tmp_path, call_json={
        "call_id": "c-1", "started_at": "2026-07-01T10:00:00Z", "ended_at": 1782900060, "recording_url": "https://a.example/x.wav",
        "messages": [{"role": "assistant", "content": "Hello!", "timestamp": 1782900001}],
    })  # fmt: skip
    assert invoke("explain", "-c", tmp_path / "config.yaml", "--source", "agent", file).exit_code == 0


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """A configuration is easily lost."""
    (tmp_path / "config.yaml").write_text("mine")
    assert invoke("init", "-o", tmp_path / "config.yaml").exit_code == 2
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_workspace_and_agent_go_in() -> None:
    """Whatever characters are in the agent's name."""
    members: Any = parse_yaml(invoke("init", "--workspace", 42, "--agent", "a: b # c").stdout, "x").bare()
    assert (members["tuner"]["workspace_id"], members["tuner"]["agent_remote_identifier"]) == (42, "a: b # c")


# Platforms


@pytest.mark.parametrize("preset", sorted({preset for preset, _ in OURS}))
def test_our_own_documents_of_each_platform_make_one_source(tmp_path: Path, preset: str) -> None:
    """All shapes of a platform together, with those that its preset leaves out or refuses."""
    files = {path.name: path for name, path in OURS if name == preset and f"{name}/{path.stem}" not in OTHERS}
    (tmp_path / "in").mkdir()
    for name, path in files.items():
        shutil.copy(path, tmp_path / "in" / name)
    result, sources = written(tmp_path, tmp_path / "in")
    assert sources[preset]["preset"] == preset
    assert set(sources) - {preset} <= {"recordings", *preset_info(preset).looks_in}
    told = " ".join(result.stderr.split())
    for name, path in files.items():
        expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
        for outcome in ("body", "recording"):
            if outcome in expected and not preset_info(preset).gathers:
                assert f"{name}: gives a {'call' if outcome == 'body' else outcome} (source {preset})" in told


@pytest.mark.samples
@needs_samples
def test_all_samples_at_once_make_one_configuration(tmp_path: Path) -> None:
    """A source for each platform, none reading the files of another."""
    files = [SAMPLES / file for files, _, _ in LINES for file in files if not file.endswith(".txt")]
    for file in files:
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "out").mkdir()
    _, sources = written(tmp_path / "out", tmp_path)
    assert {preset for _, preset in SAMPLE_LINES} <= set(sources)


def test_files_of_two_platforms_in_one_directory_are_told_apart(tmp_path: Path) -> None:
    """By patterns of their names; calls find the recordings that were looked at."""
    source = FIXTURES.parents[1] / "fixtures" / "vapi.json"
    egress = FIXTURES.parents[1] / "fixtures" / "livekit-egress-manifest.json"
    for at in (1, 2):
        shutil.copy(source, tmp_path / f"call-{at}.json")
        shutil.copy(egress, tmp_path / f"EG_{at}.json")
    _, sources = written(tmp_path, tmp_path)
    assert sources["vapi"]["include"] == ["call-*.json"]
    assert sources["livekit-egress"]["include"] == ["EG_*.json"]


# Shapes that no preset knows

SAID_ISO = [{"speaker": "bot", "text": "Hello there.", "timestamp": "2026-07-01T10:00:01Z"},
            {"speaker": "caller", "text": "Hi, a table please.", "timestamp": "2026-07-01T10:00:04Z"}]  # fmt: skip
SAID_SECONDS = [
    {"who": "agent", "utterance": "Hello.", "start": 0.4, "end": 1.2},
    {"who": "customer", "utterance": "Hi.", "start": 2.5, "end": 3},
]
SAID_MS = [{"role": "assistant", "content": "Hello.", "offset_ms": 400}, {"role": "user", "content": "Hi.", "offset_ms": 2500}]
TIMES = {"started_at": "2026-07-01T10:00:00Z", "ended_at": "2026-07-01T10:00:30Z"}
TOOLS = [*SAID_MS, {"role": "tool_call", "name": "book", "arguments": '{"n": 2}', "tool_call_id": "t1", "offset_ms": 3000},
         {"role": "tool_result", "tool_call_id": "t1", "content": "done", "offset_ms": 3500}, {"role": "system", "content": "x"}]  # fmt: skip
NESTED = [{"role": "assistant", "content": "One moment.", "offset_ms": 400,
           "tool_calls": [{"id": "t1", "function": {"name": "book", "arguments": "{}"}}]}, SAID_MS[1]]  # fmt: skip

UNKNOWN: Final[dict[str, Any]] = {
    "absolute times": {
        "call_id": "c-1",
        **TIMES,
        "conversation": SAID_ISO,
        "audio": {"recording_url": "https://a.example/x.wav"},
    },
    "seconds": {"id": 17, **TIMES, "utterances": SAID_SECONDS, "recording": "https://a.example/x.mp3"},
    "milliseconds": {"callId": "c-1", "startTime": 1782900000, "endTime": 1782900030, "dialog": SAID_MS, "from": "+15550100"},
    "an envelope": {"event": "done", "data": {"session": {"id": "s-1"}, "call": {**TIMES, "transcript": SAID_ISO}}},
    "a length in minutes": {
        "call_id": "c-1",
        "started_at": TIMES["started_at"],
        "duration_minutes": 0.5,
        "entries": SAID_SECONDS,
    },
    "no times at all": {
        "call_id": "c-1",
        **TIMES,
        "messages": [{"role": "agent", "text": "Hello."}, {"role": "user", "text": "Hi."}],
    },
    "plain text": {"call_id": "c-1", **TIMES, "transcript": "Bot: Hello.\nCaller: Hi.\nBot: Bye."},
    "tools": {"call_id": "c-1", **TIMES, "turns": TOOLS},
    "nested tools": {"call_id": "c-1", **TIMES, "log": NESTED},
    "no id": {**TIMES, "turns": SAID_ISO},
    "strange names": {"Call-ID": "c-1", "Start Time": TIMES["started_at"], "end": 1782900030, "the turns": SAID_SECONDS},
    "no start of the call": {"call_id": "c-1", "duration": 30, "turns": SAID_ISO},
    "words": {"call_id": "c-1", **TIMES, "turns": SAID_ISO, "call_sentiment": "Positive", "cost": 0.2, "hangup_cause": "bye"},
}


@pytest.mark.parametrize("shape", UNKNOWN)
def test_an_unknown_shape_gets_rules_that_map_it(tmp_path: Path, shape: str) -> None:
    """Accepted by check, and the very file gives a call that create-call takes."""
    document = UNKNOWN[shape]
    (file,) = planted(tmp_path, call_json=document)
    result, sources = written(tmp_path, file)
    assert result.exit_code == 0, result.stderr
    assert "call.json: gives a call (source agent)" in result.stderr
    assert "Guesses, to be checked" in result.stderr
    assert "call" in sources["agent"]
    shown = invoke(
        "explain", "-c", tmp_path / "config.yaml", "--form", "create-call", "--json", "--body", "--source", "agent", file
    )
    (made,) = json.loads(shown.stdout)["documents"]
    rows = made["request"]["body"]["transcript_with_tool_calls"]
    assert {"agent", "user"} <= {row["role"] for row in rows}
    assert made["left_out"] == []
    speech = [row for row in rows if row["role"] in ("agent", "user")]
    assert all(row["end_ms"] - row["start_ms"] <= 10_000 and row["start_ms"] < 30_000 for row in speech)
    if shape not in ("no times at all", "plain text"):
        assert "estimated" not in json.dumps(speech)
    if "tools" in shape:
        tool = next(row for row in rows if row["role"] == "agent_function")
        assert (tool["tool"]["name"], tool["tool"]["request_id"]) == ("book", "t1")
    if shape == "tools":
        result_row = next(row for row in rows if row["role"] == "agent_result")
        assert result_row["tool"]["result"] == {"value": "done"}
    if "audio" in document or "recording" in document:
        assert made["request"]["recording_url_is_stand_in"] is False


def test_a_log_of_turns_is_gathered(tmp_path: Path) -> None:
    """Each line a part of a call; the id stands in the first one only."""
    lines = [
        {"event": "started", "call_sid": "CA1", "ts": "2026-07-01T10:00:00Z"},
        {"event": "turn", "role": "assistant", "content": "Hello.", "timestamp": "2026-07-01T10:00:01Z"},
        {"event": "turn", "role": "user", "content": "Hi.", "timestamp": "2026-07-01T10:00:03Z"},
        {"event": "ended", "call_sid": "CA1", "reason": "bye", "ts": "2026-07-01T10:00:09Z"},
    ]
    (file,) = planted(tmp_path, call_ndjson="".join(json.dumps(line) + "\n" for line in lines))
    result, sources = written(tmp_path, file)
    assert result.exit_code == 0, result.stderr
    assert sources["agent"]["gather"]["key"] == "doc.call_sid"
    assert "call.ndjson and 3 documents more: gives a call" in " ".join(result.stderr.split())


def test_a_folder_with_speech_in_one_file_and_tools_in_another_is_a_call(tmp_path: Path) -> None:
    """Gathered by the folder; tool calls stand among what was said."""
    for at in (1, 2):
        folder = tmp_path / "spool" / f"call-{at}"
        folder.mkdir(parents=True)
        (folder / "transcript.json").write_text(json.dumps({"conversation_id": f"c-{at}", **TIMES, "entries": SAID_ISO}))
        tools = [
            {
                "timestamp": "2026-07-01T10:00:02Z",
                "function_name": "book",
                "arguments": {"n": 2},
                "result": {"ok": True},
                "call_id": "t",
            }
        ]
        (folder / "call-metadata.json").write_text(json.dumps({"conversation_id": f"c-{at}", "function_calls": tools}))
    result, sources = written(tmp_path, tmp_path / "spool")
    assert result.exit_code == 0, result.stderr
    agent = sources["agent"]
    assert (agent["path"], agent["recursive"], agent["gather"]["key"]) == (str(tmp_path / "spool"), True, "file.dir")
    shown = invoke("explain", "-c", tmp_path / "config.yaml", "--source", "agent", "--json", tmp_path / "spool")
    first, second = json.loads(shown.stdout)["documents"]
    assert (first["call"]["call_id"], second["call"]["call_id"]) == ("c-1", "c-2")
    rows = first["call"]["payload"]["transcript_with_tool_calls"]
    assert [row["role"] for row in rows] == ["agent", "agent_function", "agent_result", "user"]
    assert rows[1]["tool"] == {"name": "book", "request_id": "t", "params": {"n": 2}, "start_ms": 2000}


def test_recordings_among_the_files_are_joined_by_the_key_that_both_have(tmp_path: Path) -> None:
    """Home-made manifests beside home-made calls."""
    files = planted(
        tmp_path,
        call_json=call(),
        rec_json={"room_name": "room-7", "file_url": "https://a.example/room-7.ogg", "started_at": "2026-07-01T10:00:00Z"},
    )
    result, sources = written(tmp_path, *files)
    assert result.exit_code == 0, result.stderr
    assert sources["recordings"]["manifest"] == {"key": "doc.room_name", "url": "doc.file_url", "started_at": "doc.started_at"}
    assert sources["agent"]["recording"] == [{"manifest": "recordings", "key": "doc.room"}]


def test_audio_that_tuner_cannot_fetch_gets_a_way(tmp_path: Path) -> None:
    """Recordings of a PBX are files: the source of the calls uploads them from their directory."""
    event = json.loads((FIXTURES / "asterisk-recording/finished.json").read_bytes())
    result, sources = written(tmp_path, *planted(tmp_path, call_json={**call(), "uniqueid": "1782900000.7"}, event_json=event))
    assert result.exit_code == 0, result.stderr
    assert sources["agent"]["recording"] == [{"manifest": "asterisk-recording", "key": "doc.uniqueid"}]
    assert sources["agent"]["audio"] == {"publish": "upload", "files": ["/var/spool/asterisk/recording"]}
    assert "manifest" not in sources["asterisk-recording"]
    assert "/var/spool/asterisk/recording" in result.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"a": 1}', "not json", "[[1], [2]]", '{"text": [1, null, {}]}', '{"a": "\\ud800"}']
)
def test_what_is_no_call_is_said_and_nothing_is_written(tmp_path: Path, text: str) -> None:
    """No traceback, exit code 1."""
    (tmp_path / "x.json").write_text(text)
    result = invoke("init", "--from", tmp_path / "x.json", "-o", tmp_path / "out.yaml")
    assert result.exit_code == 1
    assert "tunerd: " in result.stderr
    assert not (tmp_path / "out.yaml").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One line; a usage error where FILE stands without --from."""
    assert "there is no such file" in invoke("init", "--from", tmp_path / "none.json").stderr
    assert invoke("init", tmp_path / "none.json").exit_code == 2
