"""The case large-numbers: ids above 2^64 as manifest key, in a text and as gather key. No call gets the audio or words of
another call."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.e2e.harness import command, sandbox
from tests.e2e.test_once_and_send import tunerd
from tests.real_parts import CASES, needs_cases

pytestmark = needs_cases

_CALL = """
      call_type: {const: phone_call}
      transcript_with_tool_calls: {for_each: {m: SAID}, role: m.role, text: m.text, start_at: m.at}
"""


def _config(url: str, directory: Path, *, call_key: str) -> str:
    rows = _CALL.replace("SAID", "doc.messages")
    return f"""
tuner: {{base_url: "{url}", workspace_id: 42, api_key: tr_api_case-key, agent_remote_identifier: a, api: create-call}}
ledger: {{url: "sqlite://{directory}/ledger.db", keep_sent: 30d}}
http: {{listen: "127.0.0.1:0"}}
sources:
  - name: calls
    path: {directory}/calls
    call:
      call_id: doc.id
      start_timestamp: doc.started
      end_timestamp: doc.ended{rows}
    recording: [{{manifest: audio, key: "{call_key}", within: any, wait: 1s}}]
    on_missing: {{send: "https://audio.example/none.wav"}}
  - name: audio
    path: {directory}/rec
    manifest: {{key: "{call_key}", url: doc.url, started_at: doc.at}}
  - name: texts
    path: {directory}/c
    call:
      call_id: "concat('leg-', doc.leg)"
      start_timestamp: doc.started
      end_timestamp: doc.ended{rows}
    on_missing: {{send: "https://audio.example/none.wav"}}
  - name: gathered
    path: {directory}/g
    gather: {{key: doc.leg, parts: {{head: doc.kind == 'head', talk: doc.kind == 'talk'}}, complete: "head && talk", wait: 1s}}
    call:
      call_id: head.id
      start_timestamp: head.started
      end_timestamp: head.ended{_CALL.replace("SAID", "talk.messages")}
    on_missing: {{send: "https://audio.example/none.wav"}}
"""


async def _run(directory: Path, *, call_key: str) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """The bodies that reached Tuner, and the calls that failed."""
    async with sandbox(directory) as tuner:
        config = directory / "tunerd.yaml"
        config.write_text(_config(tuner.url, directory, call_key=call_key))
        code, said = await tunerd("run", "-c", str(config), "--once")
        assert "Traceback" not in said, said
        assert code == 1, said
        _, failed = await command(config, "failed", "--json")
        return await tuner.bodies(), json.loads(failed)["calls"]


async def test_no_call_gets_the_audio_of_another_and_none_are_merged(tmp_path: Path) -> None:
    """Every document with such an id as key, in a text or as gather key is refused, with the advice to write the number as
    text."""
    for part in ("calls", "rec", "c", "g"):
        shutil.copytree(CASES / "large-numbers" / part, tmp_path / part)
    for key in ("doc.leg", "concat('k', doc.leg)"):
        place = tmp_path / key[:3]
        place.mkdir()
        for part in ("calls", "rec", "c", "g"):
            shutil.copytree(tmp_path / part, place / part)
        bodies, failed = await _run(place, call_key=key)
        assert bodies == {}
        assert len(failed) == 2 + 1 + 2 + 4
        assert all("have it written as text" in json.dumps(one) for one in failed)


async def test_written_as_text_each_gets_its_own(tmp_path: Path) -> None:
    """With ids as text, as the advice says, A gets its audio, B waits for its own, and no calls are merged."""
    for part in ("calls", "rec", "c", "g"):
        (tmp_path / part).mkdir()
        for file in (CASES / "large-numbers" / part).iterdir():
            value = json.loads(file.read_bytes())
            (tmp_path / part / file.name).write_text(json.dumps({**value, "leg": str(value["leg"])}))
    async with sandbox(tmp_path) as tuner:
        config = tmp_path / "tunerd.yaml"
        config.write_text(_config(tuner.url, tmp_path, call_key="doc.leg"))
        code, said = await tunerd("run", "-c", str(config), "--once")
        assert (code, "5 sent, 0 failed, 1 waiting for a recording" in said) == (1, True), said  # B waits for its own
        bodies = await tuner.bodies()
    urls = {call_id: body["recording_url"] for call_id, body in bodies.items()}
    assert urls["A"] == "https://audio.example/of-A.wav"
    assert bodies.keys() == {"A", "leg-48446744073709551617", "leg-48446744073709551618", "G1", "G2"}
    for name in ("G1", "G2"):
        (row,) = bodies[name]["transcript_with_tool_calls"]
        assert row["text"] == f"words of {name}"
