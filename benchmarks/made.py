"""Documents for measurements: a 20-row call of about 4 KB, and rules that map it."""

import json
from typing import Any

WORDS = "thank you for calling the town library we are open until seven this evening and the reading room until nine".split()


def document(number: int, rows: int = 20) -> dict[str, Any]:
    """A home-made call; the same number gives the same call."""
    messages = []
    for row in range(rows):
        text = " ".join(WORDS[(number + row * 3 + word) % len(WORDS)] for word in range(22))
        messages.append({"role": "agent" if row % 2 == 0 else "user", "text": text, "at": row * 3.2, "for": 2.9})
    started = 1_767_225_600_000 + number * 1000
    return {
        "id": f"call-{number:07d}",
        "started": started,
        "ended": started + int(rows * 3200) + 1000,
        "room": f"room-{number}",
        "audio": f"https://audio.example/calls/{number:07d}.wav",
        "messages": messages,
    }


def line(number: int, rows: int = 20) -> bytes:
    return json.dumps(document(number, rows), separators=(",", ":")).encode() + b"\n"


def config(directory: str, url: str, *, concurrency: int = 32, recording: str = "[{url: doc.audio}]", more: str = "") -> str:
    return f"""
tuner: {{workspace_id: 42, agent_remote_identifier: bench, base_url: "{url}", api_key: tr_api_bench}}
sources:
  - name: calls
    path: {directory}/calls
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls:
        for_each: {{m: doc.messages}}
        role: m.role
        text: m.text
        start_ms: seconds_to_ms(m.at)
        duration_ms: seconds_to_ms(m.for)
    recording: {recording}
{more}
delivery: {{concurrency: {concurrency}}}
ledger: {{url: "sqlite://{directory}/ledger.db"}}
http: {{listen: null}}
log: {{format: json, level: warning}}
"""
