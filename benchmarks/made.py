"""Documents for measurements: a 20-row call of about 4 KB, and rules that map it."""

import json
from pathlib import Path
from typing import Any

from tunerd.call import Document, Form, Origin
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources
from tunerd.mapping.forms import freeze_body

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
http: {{listen: null, admin_listen: null}}
log: {{format: json, level: warning}}
"""


def bodies(directory: Path, url: str, calls: int, form: Form) -> Path:
    """A file with the bodies that tunerd would post of these calls, one a line."""
    mapping = compile_sources(load_text(config(str(directory), url), "bench", {}), {})["calls"]
    file = directory / "bodies"
    with file.open("wb") as out:
        for number in range(calls):
            value = document(number)
            origin = Origin(source="calls", path="/x")
            call = mapping.map(Document(origin=origin, raw=b"", value=value, settled_at=0)).call
            assert call is not None
            body = freeze_body(call.payload, value["audio"], call.checked_for, form)
            assert isinstance(body, bytes)
            out.write(body + b"\n")
    return file
