"""The project's first case: bare {role, content} messages, ten lines of rules, the send-calls request."""

import json
from pathlib import Path

from tests.e2e.harness import Daemon, put, sandbox
from tests.e2e.test_once_and_send import tunerd
from tunerd.sandbox.faults import Faults

KEY = "bb7f64d7-e57c-4c1b-9d57-000000000000"

_RULES = """
    call:
      call_id: doc.callId
      call_type: {const: phone_call}
      start_timestamp: doc.startedAt
      end_timestamp: doc.endedAt
      user_sentiment: doc.mood
      transcript_with_tool_calls: {for_each: {m: doc.messages}, role: m.role, text: m.content}
    recording: [{url: doc.recording}]
""".strip("\n")


async def test_a_bare_document_becomes_exactly_the_send_calls_request(tmp_path: Path) -> None:
    """The request has exactly the form's field names, header and query, and `status CALL_ID` shows Tuner's id."""
    assert len(_RULES.splitlines()) <= 10
    document = {
        "callId": "call_12345",
        "startedAt": "2026-01-16T08:00:00Z",
        "endedAt": "2026-01-16T08:04:10Z",
        "mood": "Positive",
        "recording": "https://audio.example/call_12345.mp3",
        "messages": [
            {"role": "assistant", "content": "Good morning, the bakery."},
            {"role": "user", "content": "Two loaves of rye for Saturday, please."},
            {"role": "tool", "content": "order 88 placed"},
            {"role": "assistant", "content": "They will be ready at nine."},
        ],
    }
    (tmp_path / "calls").mkdir()
    async with sandbox(tmp_path, Faults(require_key=KEY)) as tuner:
        config = tmp_path / "tunerd.yaml"
        config.write_text(
            f"tuner: {{workspace_id: 7, agent_remote_identifier: bakery, base_url: '{tuner.url}', api_key: {KEY}}}\n"
            f"sources:\n  - name: calls\n    path: {tmp_path}/calls\n{_RULES}\n"
            f"ledger: {{url: 'sqlite://{tmp_path}/ledger.db'}}\nhttp: {{listen: null}}\n"
        )
        daemon = await Daemon.run(config)
        try:
            put(tmp_path / "calls" / "call.json", document)
            await tuner.has("call_12345")
            body = (await tuner.bodies())["call_12345"]
            (arrival,) = await tuner.arrivals()
            code, story = await tunerd("status", "-c", str(config), "--json", "call_12345")
            assert await daemon.stop() == 0
        finally:
            await daemon.kill()
    assert body == {
        "call_id": "call_12345",
        "call_type": "phone_call",
        "transcript_with_tool_calls": document["messages"],
        "start_timestamp": 1768550400000,
        "end_timestamp": 1768550650000,
        "recording_url": "https://audio.example/call_12345.mp3",
        "userSentiment": "positive",
    }
    assert arrival["form"] == "send-calls"
    assert (str(arrival["workspace"]), arrival["agent"], arrival["status"]) == ("7", "bakery", 200)
    (told,) = json.loads(story)["stories"]
    assert code == 0
    assert told["call"]["state"] == "sent"
    assert told["call"]["tuner_call_id"].startswith("tc_")
