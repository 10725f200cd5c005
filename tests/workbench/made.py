"""A home-made format, its rules, and documents in it, for the tests of the commands that work with rules."""

import copy
import json
from pathlib import Path
from typing import Any

CONFIG = """\
tuner: {workspace_id: 42, agent_remote_identifier: support-bot, api: create-call, api_key: "${A_KEY_THAT_IS_NOT_SET}"}
sources:
  - name: agent
    path: calls
    call:
      let:
        roles: {const: {bot: agent, caller: user, ghost: null}}
      when: "!doc.draft"
      refuse: {test_call: doc.test}
      call_id: [doc.call.id, doc.id]
      call_type: {const: phone_call}
      start_timestamp: doc.began
      end_timestamp: doc.ended
      user_sentiment: doc.mood
      call_cost: multiply(doc.cost, 100)
      transcript_with_tool_calls:
        for_each: {m: doc.said}
        role: lookup(m.who, roles)
        text: m.text
        start_at: m.at
    recording:
      - url: doc.audio
      - manifest: egress
        key: doc.room
  - name: egress
    path: egress
    manifest: {key: doc.room, url: doc.location, started_at: doc.began}
"""

CALL: dict[str, Any] = {
    "id": "c-1",
    "room": "room-7",
    "began": "2026-07-01T10:00:00Z",
    "ended": "2026-07-01T10:00:30Z",
    "cost": 0.5,
    "said": [
        {"who": "bot", "text": "Hello, how can I help?", "at": "2026-07-01T10:00:01Z"},
        {"who": "caller", "text": "A table for two, please.", "at": "2026-07-01T10:00:04Z"},
        {"who": "ghost", "text": "boo", "at": "2026-07-01T10:00:05Z"},
    ],
}


def call(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(CALL)
    made.update(changes)
    return {name: value for name, value in made.items() if value is not None}


def plant(directory: Path, config: str = CONFIG, **files: Any) -> Path:
    """A configuration with its directories, and call documents by file stem; gives the configuration's path."""
    for name in ("calls", "egress"):
        (directory / name).mkdir(exist_ok=True)
    for stem, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (directory / "calls" / f"{stem}.json").write_text(text)
    (directory / "config.yaml").write_text(config)
    return directory / "config.yaml"
