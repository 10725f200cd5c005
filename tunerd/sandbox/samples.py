"""Made-up calls in several platforms' shapes, and a configuration that reads them: what `tunerd demo` plays with.

Pure: documents and text out, nothing written.
"""

import io
import json
import math
import struct
import wave
from collections.abc import Mapping
from typing import Any, Final

from tunerd.call import Json

STARTED_MS: Final = 1_767_607_200_000
"""5 January 2026, 10:00 UTC."""


_ROOMS: Final = """\
  - name: rooms                     # calls whose audio a manifest names later
    path: {directory}/rooms
    settle_timeout: 1s
    call:
      call_id: doc.call
      call_type: {{const: web_call}}
      start_timestamp: doc.began
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.said}}, role: m.who, text: m.text, start_ms: seconds_to_ms(m.at)}}
    recording:
      - {{manifest: egress, key: doc.room, within: 10m, wait: 30m}}
  - name: egress
    path: {directory}/egress
    preset: livekit-egress"""


def config(directory: str, base_url: str) -> str:
    """Four sources of calls and one of recordings, with everything below `directory`."""
    return f"""\
tuner:
  workspace_id: 42
  agent_remote_identifier: front-desk
  base_url: {base_url}
  api_key: tr_api_demo
sources:
  - name: vapi                      # a voice platform's webhook bodies: the preset knows them
    path: {directory}/vapi
    preset: vapi
  - name: log                       # a log of our own: one call a line, five lines of rules
    path: {directory}/log
    include: ["*.ndjson"]
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.began
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.said}}, role: m.who, text: m.text, start_ms: seconds_to_ms(m.at)}}
    recording: [{{url: doc.audio}}]
{_ROOMS.format(directory=directory)}
  - name: bot                       # calls whose audio is a file on this machine
    path: {directory}/bot
    call:
      call_id: doc.call
      call_type: {{const: phone_call}}
      start_timestamp: doc.began
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.said}}, role: m.who, text: m.text, start_ms: seconds_to_ms(m.at)}}
    recording: [{{url: doc.audio}}]
    audio: {{publish: upload, files: ["{directory}/audio"]}}
ledger: {{url: "sqlite://{directory}/ledger.db"}}
http: {{listen: "127.0.0.1:0"}}
log: {{format: json}}
"""


def fleet_config(directory: str, base_url: str, instance: str, ledger_url: str) -> str:
    """For one of several tunerds with one ledger: calls of rooms, and recordings, both below `directory`."""
    return f"""\
instance: {instance}
tuner:
  workspace_id: 42
  agent_remote_identifier: front-desk
  base_url: {base_url}
  api_key: tr_api_demo
sources:
{_ROOMS.format(directory=directory)}
ledger: {{url: {json.dumps(ledger_url)}, directory: "{directory}/local"}}
http: {{listen: null}}
log: {{format: json}}
"""


def vapi_report(call_id: str) -> dict[str, Any]:
    """An end-of-call report with speech, a tool call and its result."""
    return {
        "message": {
            "type": "end-of-call-report",
            "startedAt": "2026-01-05T10:00:00.000Z",
            "endedAt": "2026-01-05T10:00:31.000Z",
            "endedReason": "customer-ended-call",
            "cost": 0.0412,
            "call": {"id": call_id, "type": "inboundPhoneCall", "customer": {"number": "+4930555010"}},
            "artifact": {
                "recording": {"mono": {"combinedUrl": f"https://audio.example/vapi/{call_id}.wav"}},
                "messages": [
                    {"role": "system", "message": "Be brief.", "secondsFromStart": 0},
                    {"role": "bot", "message": "Front desk, good morning.", "secondsFromStart": 0.9, "duration": 1700},
                    {"role": "user", "message": "Is room twelve free tonight?", "secondsFromStart": 3.4, "duration": 1900},
                    {
                        "role": "tool_calls",
                        "secondsFromStart": 5.6,
                        "toolCalls": [{"id": "t1", "function": {"name": "room_status", "arguments": '{"room": 12}'}}],
                    },
                    {"role": "tool_call_result", "toolCallId": "t1", "name": "room_status", "result": '{"free": true}',
                     "secondsFromStart": 6.1},
                    {"role": "bot", "message": "It is. Shall I hold it for you?", "secondsFromStart": 6.8, "duration": 1800},
                ],
            },
        }
    }  # fmt: skip


def log_line(call_id: str) -> dict[str, Any]:
    """A line of a home-made log."""
    return _call(call_id, "id") | {"audio": f"https://audio.example/log/{call_id}.mp3"}


def room_call(call_id: str, room: str) -> dict[str, Any]:
    """A call of a room whose recording comes by manifest."""
    return _call(call_id, "call") | {"room": room}


def bot_call(call_id: str, audio: str) -> dict[str, Any]:
    """A call of a bot that wrote its audio to a local file."""
    return _call(call_id, "call") | {"audio": audio}


def tone(seconds: float = 1.0, hertz: float = 440.0) -> bytes:
    """A WAV file with a quiet tone: 16 kHz, 16 bits, mono."""
    rate = 16_000
    samples = (round(8000 * math.sin(2 * math.pi * hertz * at / rate)) for at in range(round(seconds * rate)))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()


def egress_manifest(room: str) -> dict[str, Json]:
    """What LiveKit Egress writes beside a recording (times in nanoseconds)."""
    began = STARTED_MS * 1_000_000
    audio: Mapping[str, Json] = {"filename": f"{room}.ogg", "location": f"https://audio.example/rooms/{room}.ogg"}
    ended = began + 31_000_000_000
    return {"egress_id": f"EG_{room}", "room_name": room, "started_at": began, "ended_at": ended, "files": [audio]}


def _call(call_id: str, id_field: str) -> dict[str, Any]:
    return {
        id_field: call_id,
        "began": STARTED_MS,
        "ended": STARTED_MS + 31_000,
        "said": [
            {"who": "agent", "text": "Front desk, good morning.", "at": 0.4},
            {"who": "user", "text": "I would like a late check-out.", "at": 2.9},
            {"who": "agent", "text": "Until one o'clock is no problem.", "at": 5.2},
        ],
    }
