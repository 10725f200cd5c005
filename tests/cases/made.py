"""Maps documents with a preset or with custom rules, for the tests in this directory."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson

from tests.mapping.presets.golden import FIXTURES, WRITTEN_AT_MS, mapping_of
from tests.mapping.presets2.gathering import mapping_of as gathering_of
from tunerd.call import Call, Document, Form, Mapped, Origin
from tunerd.mapping import SourceMapping, presets


@cache
def mapping(preset: str) -> SourceMapping:
    if "gather" in presets.load(preset):
        return gathering_of(preset, Form.CREATE_CALL)
    return mapping_of(preset, Form.CREATE_CALL)


def document(value: Any, name: str = "one.json", offset: int = 0) -> Document:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    where = Origin(source="calls", path=f"/calls/{name}", offset=offset, length=len(raw), mtime_ns=WRITTEN_AT_MS * 1_000_000)
    return Document(origin=where, raw=raw, value=orjson.loads(raw), settled_at=1.0)


def map_on(preset: str, *values: Any) -> Mapped:
    """Map the documents of one file. The result is one call, one refusal, or nothing."""
    rules = mapping(preset)
    made = [rules.map(document(value, offset=at)) for at, value in enumerate(values)]
    fragments = [one.fragment for one in made if one.fragment is not None]
    return (rules.gather(None, fragments) or Mapped()) if fragments else made[-1]


def payload(mapped: Mapped) -> dict[str, Any]:
    call = mapped.call
    assert isinstance(call, Call), mapped.refused
    read: dict[str, Any] = orjson.loads(call.payload)
    return read


def rows(mapped: Mapped) -> list[tuple[str, str]]:
    """Role and text of each row that has text."""
    listed = payload(mapped)["transcript_with_tool_calls"]
    return [(row["role"], row["text"]) for row in listed if "text" in row]


def fixture(preset: str, variant: str) -> Any:
    return orjson.loads((FIXTURES / preset / f"{variant}.json").read_bytes())


def outcome(mapped: Mapped) -> str:
    """`call`, `recording`, `ignored`, or the reason of the refusal."""
    if mapped.refused is not None:
        return mapped.refused.refusal.reason.value
    return "call" if mapped.call else "recording" if mapped.recording else "ignored" if mapped.ignored else "nothing"


def accepted(preset: str) -> Sequence[Any]:
    """Documents of which the preset makes a call or a recording."""
    return _ACCEPTED[preset]


_ACCEPTED: dict[str, Sequence[Any]] = {}


def _fill() -> None:
    from tests.mapping.presets2 import golden as second

    for preset in presets.names():
        for path in sorted((FIXTURES / preset).glob("*.expected.json")):
            expected = orjson.loads(path.read_bytes())
            if preset not in _ACCEPTED and ("body" in expected or expected.get("recording", {}).get("url")):
                _ACCEPTED[preset] = [orjson.loads(path.with_name(path.name.replace(".expected", "")).read_bytes())]
        for path in sorted((second.FIXTURES / preset).glob("*.expected.json")):
            expected = orjson.loads(path.read_bytes())
            if preset not in _ACCEPTED and isinstance(expected, dict) and "body" in expected:
                value = orjson.loads(path.with_name(path.name.replace(".expected", "")).read_bytes())
                _ACCEPTED[preset] = value if isinstance(value, list) else [value]
    _ACCEPTED["tuner"] = [
        {
            "call_id": "t-1",
            "call_type": "phone_call",
            "start_timestamp": 1_782_900_000,
            "end_timestamp": 1_782_900_060,
            "transcript_with_tool_calls": [{"role": "user", "text": "Hi", "start_ms": 0, "end_ms": 400}],
        }
    ]
    _ACCEPTED["elevenlabs"] = [
        {
            "conversation_id": "c-1",
            "metadata": {"start_time_unix_secs": 1_782_900_000, "call_duration_secs": 60},
            "transcript": [{"role": "user", "message": "Hi", "time_in_call_secs": 2}],
        }
    ]
    _ACCEPTED["elevenlabs-audio"] = [
        {"type": "post_call_audio", "data": {"conversation_id": "c-1", "full_audio": "SUQzBAAAAAAAAA=="}}
    ]
    _ACCEPTED["livekit-egress"] = [
        {
            "egress_id": "EG_1", "room_name": "desk", "started_at": 1782900000612345678, "ended_at": 1782900029412345678,
            "files": [{"filename": "a.ogg", "location": "https://bucket.example/a.ogg"}],
        }
    ]  # fmt: skip
    _ACCEPTED["vapi"] = [
        {
            "message": {
                "type": "end-of-call-report",
                "startedAt": "2026-07-01T10:00:00Z",
                "endedAt": "2026-07-01T10:01:00Z",
                "call": {"id": "v-9", "type": "webCall"},
                "artifact": {"transcript": "AI: Hello\nUser: Hi\n", "recordingUrl": "https://a.example/v.wav"},
            }
        }
    ]


_fill()
