"""The presets on documents of our own in the platforms' shapes, and on the samples beside the repository where present."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.mapping.sources import CREATE, SEND, compiled, document, fields_of
from tests.real_parts import SAMPLES, needs_samples
from tunerd.call import Form, ManifestStrategy, Mapped, UrlStrategy
from tunerd.config import Destination
from tunerd.mapping import presets
from tunerd.tuner_fields import CREATE_CALL_FIELDS

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> Any:
    return orjson.loads((FIXTURES / f"{name}.json").read_bytes())


def mapped(preset: str, value: Any, destination: Destination = CREATE) -> Mapped:
    return compiled("", destination, preset=preset, brings={"elevenlabs-audio": False}).map(document(value))


def test_vapi() -> None:
    """An end-of-call report: speech with words, tool calls and results as rows of their own, cents, both recordings."""
    result = mapped("vapi", fixture("vapi"))
    assert result.call is not None
    assert result.call.checked_for is Form.CREATE_CALL
    assert result.call.strategies == (
        UrlStrategy(location="https://audio.example/mono.wav"),
        UrlStrategy(location="https://audio.example/mono.wav?token=1", expires_at=1_782_903_600.0),
    )
    assert orjson.loads(result.call.payload) == {
        "call_id": "call-vapi-1",
        "call_type": "phone_call",
        "start_timestamp": 1_782_900_000_000,
        "end_timestamp": 1_782_900_020_500,
        "disconnection_reason": "assistant-ended-call",
        "call_cost": 12.34,
        "call_successful": True,
        "caller_phone_number": "+15550100101",
        "recording_multi_channel_url": "https://audio.example/stereo.wav",
        "collected_dynamic_variables": {"branch": "north"},
        "call_analysis": {"summary": "A book was reserved.", "successEvaluation": "True"},
        "transcript_with_tool_calls": [
            {"role": "agent", "text": "Library, good morning.", "start_ms": 800, "end_ms": 2500},
            {
                "role": "user",
                "text": "Please keep a book for me.",
                "start_ms": 3100,
                "end_ms": 4500,
                "words": [
                    {"word": "Please", "start_ms": 3100, "end_ms": 3400, "confidence": 0.9},
                    {"word": "keep", "start_ms": 3400, "end_ms": 3600},
                ],
            },
            {
                "role": "agent_function",
                "start_ms": 5000,
                "tool": {"name": "find_book", "request_id": "t1", "params": {"title": "Emma"}, "start_ms": 5000},
            },
            {"role": "agent_function", "start_ms": 5000, "tool": {"name": "opening", "request_id": "t2", "start_ms": 5000}},
            {
                "role": "agent_result",
                "start_ms": 5500,
                "tool": {"name": "find_book", "request_id": "t1", "result": {"shelf": 4}, "start_ms": 5500},
            },
            {
                "role": "agent_result",
                "start_ms": 5750,
                "tool": {"name": "opening", "request_id": "t2", "result": {"value": "closed"}, "start_ms": 5750},
            },
            {"role": "agent", "text": "It is on shelf four.", "start_ms": 6250, "end_ms": 7450},
        ],
    }
    assert result.notes.repairs == {"name_from_call": 1, "wrapped": 1}


@pytest.mark.parametrize(
    "doc",
    [
        {"message": {"type": "status-update", "artifact": {"messages": [{"role": "bot", "message": "x"}]}}},
        {"message": {"type": "end-of-call-report", "artifact": {}, "call": {"id": "sip-stub"}}},
        {"message": {"type": "end-of-call-report", "artifact": {"messages": []}}},
    ],
)
def test_vapi_leaves_out_other_events_and_stubs(doc: Any) -> None:
    """Other server messages and reports of calls in which nothing was said are ignored."""
    assert mapped("vapi", doc).ignored is not None


def test_vapi_bare_calls_and_odd_costs() -> None:
    """A call as the API gives it has no envelope; a cost that became an object is still read."""
    call = fixture("vapi")["message"]
    bare = {**call, **call["call"], "type": "webCall", "cost": {"total": 0.5}}
    del bare["call"]
    fields = fields_of(compiled("", preset="vapi"), bare)
    assert (fields["call_id"], fields["call_type"], fields["call_cost"]) == ("call-vapi-1", "web_call", 50)


def test_elevenlabs() -> None:
    """A conversation: whole seconds and a duration, one turn as several rows, interrupted speech with what was meant."""
    result = mapped("elevenlabs", fixture("elevenlabs"))
    assert result.call is not None
    assert [one.source for one in result.call.strategies if isinstance(one, ManifestStrategy)] == ["elevenlabs-audio"]
    fields = orjson.loads(result.call.payload)
    rows = fields.pop("transcript_with_tool_calls")
    assert fields == {
        "call_id": "conv-1",
        "call_type": "phone_call",
        "start_timestamp": 1_782_900_000_000,
        "end_timestamp": 1_782_900_011_000,
        "duration_ms": 11_000,
        "call_cost": 5,
        "call_successful": True,
        "user_sentiment": "positive",
        "disconnection_reason": "caller hung up",
        "caller_phone_number": "+15550102",
        "sip_call_id": "abc@sip.example",
        "collected_dynamic_variables": {"branch": "south"},
        "call_analysis": fixture("elevenlabs")["data"]["analysis"],
    }
    assert [(row["role"], row["start_ms"]) for row in rows] == [
        ("agent", 0),
        ("user", 3000),
        ("agent_function", 6000),
        ("agent_result", 6000),
        ("agent", 8000),
    ]
    assert rows[3]["tool"]["result"] == {"value": "none"}
    assert (rows[3]["tool"]["is_error"], rows[3]["tool"]["error"]) == (True, "503")
    assert rows[4]["metadata"] == {"interrupted": True, "intended": "I am not sure."}


def test_elevenlabs_leaves_out_audio_events() -> None:
    """The audio event of the same webhook is no call."""
    assert mapped("elevenlabs", {"type": "post_call_audio", "data": {"conversation_id": "a"}}).ignored is not None


@pytest.mark.parametrize(
    ("name", "key", "url", "started_at", "duration_s"),
    [
        ("livekit-egress-manifest", "desk-1", "https://bucket.example/desk-1.ogg", 1_782_900_001.25, None),
        ("livekit-egress-webhook", "desk-2", "https://bucket.example/desk-2.ogg", 1_782_900_001.5, 30.25),
    ],
)
def test_livekit_egress(name: str, key: str, url: str, started_at: float, duration_s: float | None) -> None:
    """Manifest and webhook give the room's recording with its start, from nanoseconds."""
    recording = mapped("livekit-egress", fixture(name)).recording
    assert recording is not None
    assert (recording.key, recording.location, recording.started_at, recording.duration_s) == (key, url, started_at, duration_s)


def test_livekit_egress_that_failed_or_is_no_call() -> None:
    """A failed egress says that there will never be one; running ones, other events and single tracks are left out."""
    webhook = fixture("livekit-egress-webhook")
    failed = {**webhook, "egressInfo": {"roomName": "desk-2", "status": "EGRESS_FAILED"}}
    recording = mapped("livekit-egress", failed).recording
    assert recording is not None
    assert (recording.key, recording.location) == ("desk-2", None)
    assert mapped("livekit-egress", {**webhook, "event": "egress_started"}).ignored is not None
    running = {**webhook, "egressInfo": {**webhook["egressInfo"], "status": "EGRESS_ACTIVE"}}
    assert mapped("livekit-egress", running).ignored is not None
    assert mapped("livekit-egress", {**fixture("livekit-egress-manifest"), "track_id": "TR_1"}).ignored is not None


BODY = {
    "call_id": "t-1",
    "call_type": "web_call",
    "start_timestamp": 1_782_900_000,
    "end_timestamp": 1_782_900_060_000,
    "recording_url": "https://audio.example/t.wav",
    "user_sentiment": "neutral",
    "call_successful": False,
    "transcript_with_tool_calls": [
        {"role": "user", "text": "Hello", "start_ms": 100, "end_ms": 900, "metadata": {"e2e_latency": 12}},
        {"role": "agent_function", "tool": {"name": "f", "params": {"a": 1}}, "start_ms": 950},
        {"role": "node_transition", "node": {"from": "a", "to": "b"}, "start_ms": 960},
    ],
}


def test_tuner_takes_a_body_of_create_call() -> None:
    """A document that is a create-call body goes as it is, seconds as milliseconds."""
    result = mapped("tuner", BODY)
    assert result.call is not None
    assert result.call.strategies == (UrlStrategy(location="https://audio.example/t.wav"),)
    wanted = {name: value for name, value in BODY.items() if name != "recording_url"}
    got = orjson.loads(result.call.payload)
    got["transcript_with_tool_calls"][1]["tool"].pop("start_ms", None)
    assert got == {**wanted, "start_timestamp": 1_782_900_000_000}


def test_tuner_takes_a_body_of_send_calls() -> None:
    """{role, content} rows without times and userSentiment, the older form."""
    rows = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    body = {**BODY, "transcript_with_tool_calls": rows, "userSentiment": "positive"}
    del body["user_sentiment"]
    result = mapped("tuner", body, SEND)
    assert result.call is not None
    fields = orjson.loads(result.call.payload)
    assert fields["transcript_with_tool_calls"] == [{"role": "user", "text": "Hello"}, {"role": "assistant", "text": "Hi"}]
    assert fields["user_sentiment"] == "positive"


def test_tuner_refuses_a_row_without_role() -> None:
    """A row that lost its role is refused and seen, not dropped."""
    refused = mapped("tuner", {**BODY, "transcript_with_tool_calls": [{"text": "x", "start_ms": 0}]}).refused
    assert refused is not None
    assert "role" in refused.refusal.where


@pytest.mark.parametrize("name", presets.names())
def test_presets_compile_and_are_documented(name: str) -> None:
    """Every preset that ships compiles, and opens with a comment that says what it reads."""
    assert compiled("", preset=name, brings=dict.fromkeys(presets.names(), True)) is not None
    assert presets.text(name).startswith("# ")


OUTCOMES = {
    ("vapi", "vapi/end_of_call_report.constructed.json"): "call 9 rows",
    ("vapi", "vapi/fixture_min_end_of_call_report.ash.json"): "call 2 rows",
    ("elevenlabs", "elevenlabs/post_call_transcription.docs.json"): "call 3 rows",
    ("elevenlabs", "elevenlabs/post_call_transcription_sip_2026.constructed.json"): "call 7 rows",
    ("elevenlabs", "elevenlabs/post_call_audio.docs.json"): "ignored",
    ("livekit-egress", "livekit/EG_a1B2c3D4e5F6.json"): "recording",
    ("livekit-egress", "livekit/webhook_egress_ended.json"): "recording",
    ("livekit-egress", "livekit/EG_t7U8v9W0x1Y2.track.json"): "ignored",
}


def test_the_preset_tuner_names_the_fields_that_it_leaves_out() -> None:
    """Its first lines promise every field of create-call but some, which are named there: no more and no fewer."""
    text = (Path(presets.__file__).parent / "tuner.yaml").read_text()
    left_out = text.partition("# lacks:")[0].partition(", except\n")[2]
    fields = presets.load("tuner")["call"].value
    assert isinstance(fields, dict)
    assert {name for name in CREATE_CALL_FIELDS if name in left_out} == CREATE_CALL_FIELDS - fields.keys() - {"recording_url"}


@pytest.mark.samples
@needs_samples
@pytest.mark.parametrize(("preset", "file"), OUTCOMES)
def test_samples(preset: str, file: str) -> None:
    """Each platform sample of this part's presets has the outcome that was listed by hand."""
    result = mapped(preset, orjson.loads((SAMPLES / file).read_bytes()))
    if result.call is not None:
        assert result.call.checked_for is Form.CREATE_CALL
        assert result.notes.left_out == ()
        outcome = f"call {len(orjson.loads(result.call.payload)['transcript_with_tool_calls'])} rows"
    else:
        outcome = "recording" if result.recording else "ignored" if result.ignored else "refused"
    assert outcome == OUTCOMES[preset, file]
