"""What `explain` and `test` show is what `run` does: they refuse what it refuses, and leave out what it leaves out."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.workbench.made import CONFIG, call, plant
from tunerd.cli import main


def explain(directory: Path, *arguments: object) -> Result:
    return CliRunner().invoke(
        main, ["explain", "-c", str(directory / "config.yaml"), *map(str, arguments)], catch_exceptions=False
    )


def run_test(directory: Path, example: dict[str, Any], config: str = CONFIG) -> Result:
    plant(directory, config)
    (directory / "tests.yaml").write_text(json.dumps({"tests": [{"name": "it", **example}]}))
    arguments = ["test", "-c", str(directory / "config.yaml"), "--tests", str(directory / "tests.yaml")]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


LONG = f"https://audio.example/{'a' * 1100}.wav"
REFUSED = {
    "a URL that is too long for create-call": (call(audio=LONG), CONFIG, "invalid", "recording_url"),
    "a location that is no URL": (call(audio="s3://bucket/a.wav"), CONFIG, "invalid", "recording[0].url"),
    "no recording, and on_missing fail": (
        call(room=None), CONFIG.replace("    recording:\n", "    on_missing: fail\n    recording:\n", 1), "recording_missing", "recording",
    ),
    "a role that is none": (call(), CONFIG.replace("lookup(m.who, roles)", "m.who"), "invalid", "role"),
    "an id that is too long": (call(id="c" * 201), CONFIG, "invalid", "call_id"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_explain_refuses_what_run_refuses(tmp_path: Path, name: str) -> None:
    """In words, in JSON, in the summary, and by its exit code; without --body, too."""
    document, config, reason, at = REFUSED[name]
    plant(tmp_path, config, one=document)
    file = tmp_path / "calls" / "one.json"
    result = explain(tmp_path, file)
    assert result.exit_code == 1
    assert f"refused ({reason}): " in result.stdout
    assert at in result.stdout
    (made,) = json.loads(explain(tmp_path, "--json", file).stdout)["documents"]
    assert (made["outcome"], made["refusal"]["reason"]) == ("refused", reason)
    assert "1 refused" in explain(tmp_path, "--summary", file).stdout


@pytest.mark.parametrize("name", REFUSED)
def test_an_example_that_run_refuses_does_not_pass(tmp_path: Path, name: str) -> None:
    """Whatever it expects of the call; it passes as an example of that refusal."""
    document, config, reason, _ = REFUSED[name]
    result = run_test(tmp_path, {"input": document, "expect": {"call_type": "phone_call"}}, config)
    assert result.exit_code == 1
    assert f"refused ({reason})" in " ".join(result.stdout.split())
    if reason != "recording_missing":
        assert run_test(tmp_path, {"input": document, "expect_failed": reason}, config).exit_code == 0


def test_a_document_that_is_too_large_for_the_source(tmp_path: Path) -> None:
    """In a file and in `input:` alike."""
    config = CONFIG.replace("    path: calls\n", "    path: calls\n    max_document: 1KiB\n")
    plant(tmp_path, config, one=call(note="x" * 2000))
    assert "refused (too_large)" in explain(tmp_path, tmp_path / "calls" / "one.json").stdout
    result = run_test(tmp_path, {"input": call(note="x" * 2000), "expect": {"call_id": "c-1"}}, config)
    assert result.exit_code == 1
    assert "refused (too_large)" in result.stdout
    assert run_test(tmp_path, {"input": call(note="x" * 2000), "expect_failed": "too_large"}, config).exit_code == 0


def test_the_form_is_that_of_the_key(tmp_path: Path) -> None:
    """With `api: auto` an example is held to the form that `run` takes by the key; without a key to the lenient one."""
    config = CONFIG.replace("api: create-call, ", "").replace('"${A_KEY_THAT_IS_NOT_SET}"', "made-up")
    config = config.replace("lookup(m.who, roles)", "m.who")
    example = {"input": call(), "expect": {"call_id": "c-1"}}
    assert run_test(tmp_path, example, config).exit_code == 0
    result = run_test(tmp_path, example, config.replace("made-up", "tr_api_made-up"))
    assert result.exit_code == 1
    assert "refused (invalid)" in result.stdout


def test_fields_with_values_are_shown_when_another_raised(tmp_path: Path) -> None:
    """Those before the rule that failed, and those after it; only the failed one has none."""
    plant(tmp_path, one=call(began="soon", mood="calm"))
    (made,) = json.loads(explain(tmp_path, "--json", tmp_path / "calls" / "one.json").stdout)["documents"]
    fields = {field["name"]: field for field in made["fields"]}
    assert made["refusal"]["where"].startswith("call.start_timestamp")
    assert (fields["call_id"]["value"], fields["call_type"]["value"], fields["user_sentiment"]["value"]) == (
        "c-1",
        "phone_call",
        "calm",
    )
    assert fields["call_cost"]["value"] == 50.0
    assert len(fields["transcript_with_tool_calls"]["value"]) == 2
    assert [name for name, field in fields.items() if field["why_nothing"]] == ["start_timestamp"]
    assert "epoch_ms" in fields["start_timestamp"]["why_nothing"] or "soon" not in fields["start_timestamp"]["why_nothing"]


NOT_READ = {
    "excluded": ("calls/x-draft.json", "include, exclude or recursive of the source exclude it"),
    "not included": ("calls/one.txt", "include, exclude or recursive of the source exclude it"),
    "a dot": ("calls/.one.json", "include, exclude or recursive of the source exclude it"),
    "below": ("calls/sub/one.json", "include, exclude or recursive of the source exclude it"),
    "old": ("calls/old.json", "older than ignore_older (1d)"),
    "a link that leaves": ("calls/link.json", "leaves the directory"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_that_run_does_not_read(tmp_path: Path, name: str) -> None:
    """Named, it is tried, and said not to be read; in a directory it is left out, as `run` leaves it out."""
    config = CONFIG.replace("    path: calls\n", "    path: calls\n    exclude: ['*-draft.json']\n    ignore_older: 1d\n")
    plant(tmp_path, config, one=call())
    path, why = NOT_READ[name]
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    if name == "a link that leaves":
        (tmp_path / "elsewhere.json").write_text(json.dumps(call(id="c-2")))
        file.symlink_to(tmp_path / "elsewhere.json")
    else:
        file.write_text(json.dumps(call(id="c-2")))
    if name == "old":
        os.utime(file, (time.time() - 100_000, time.time() - 100_000))
    named = explain(tmp_path, file)
    assert f"`run` does not read {file}: " in named.stderr
    assert why in named.stderr
    assert "c-2" in named.stdout
    of_directory = explain(tmp_path, tmp_path / "calls")
    assert "c-1" in of_directory.stdout
    assert "c-2" not in of_directory.stdout


def test_a_directory_shows_what_run_reads(tmp_path: Path) -> None:
    """Rotated logs, which no pattern names, and directories below with `recursive`."""
    config = CONFIG.replace("    path: calls\n", "    path: calls\n    include: ['*.ndjson']\n    recursive: true\n")
    plant(tmp_path, config)
    (tmp_path / "calls" / "sub").mkdir()
    for number, name in enumerate(("a.ndjson", "a.ndjson.1", "sub/b.ndjson")):
        (tmp_path / "calls" / name).write_text(json.dumps(call(id=f"c-{number}")) + "\n")
    made = json.loads(explain(tmp_path, "--json", tmp_path / "calls").stdout)["documents"]
    assert sorted(one["call"]["call_id"] for one in made) == ["c-0", "c-1", "c-2"]


def test_an_example_of_a_file_that_run_does_not_read(tmp_path: Path) -> None:
    """`file:` is where the rules see it: what the source does not read there makes no call."""
    example = {"input": call(), "expect": {"call_id": "c-1"}}
    assert run_test(tmp_path, {**example, "file": "one.json"}).exit_code == 0
    for file in ("one.txt", "sub/one.json"):
        result = run_test(tmp_path, {**example, "file": file})
        assert result.exit_code == 1
        assert f"`run` does not read a file {file}" in " ".join(result.stdout.split())


def test_redaction_is_shown_as_it_is_done(tmp_path: Path) -> None:
    """The body of `explain --body` has been through `redact:`."""
    config = CONFIG + "redact: {patterns: {greeting: 'Hello'}}\n"
    plant(tmp_path, config, one=call())
    result = explain(tmp_path, "--body", tmp_path / "calls" / "one.json")
    assert result.exit_code == 0
    assert "Hello, how" not in result.stdout


def test_an_empty_list_of_strategies_is_none(tmp_path: Path) -> None:
    """With `on_missing: {send: ...}` a source may have none, written either way."""
    config = (
        CONFIG[: CONFIG.index("    recording:\n")]
        + "    recording: []\n    on_missing: {send: 'https://audio.example/none.wav'}\n"
    )
    plant(tmp_path, config, one=call())
    result = explain(tmp_path, "--body", tmp_path / "calls" / "one.json")
    assert result.exit_code == 0
    assert "https://audio.example/none.wav" in result.stdout


@pytest.mark.parametrize(("max_spool", "outcome"), [("1MiB", "recording"), ("64KiB", "refused")])
def test_audio_in_a_document_is_read_as_run_reads_it(tmp_path: Path, max_spool: str, outcome: str) -> None:
    """Base64 larger than max_document is taken out; audio that is larger than the whole spool refuses the document. Nothing is
    written anywhere."""
    audio = base64.b64encode(b"RIFF" + bytes(150_000)).decode()
    manifest = CONFIG.replace("  - name: egress\n", "    audio: upload\n  - name: egress\n    max_document: 100KiB\n")
    manifest = manifest.replace("url: doc.location", "audio: doc.audio")
    plant(tmp_path, f"{manifest}ledger: {{max_spool: {max_spool}}}\n")
    (tmp_path / "egress" / "one.json").write_text(json.dumps({"room": "room-7", "audio": audio, "began": "2026-07-01T10:00:00Z"}))
    before = sorted(tmp_path.rglob("*"))
    result = explain(tmp_path, "--json", tmp_path / "egress" / "one.json")
    (made,) = json.loads(result.stdout)["documents"]
    assert made["outcome"] == outcome, result.stdout
    assert sorted(tmp_path.rglob("*")) == before
