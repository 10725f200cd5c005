"""Tuner's own SDK (tuner-core 0.1.3) as a second opinion: on the sandbox, and on what tunerd makes of every preset's documents.

Each difference between the two has a test that states it, and a test that finds it fails if there is another.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from tuner_core import BaseTunerHandler, CallPayload, ToolInfo, TranscriptSegment, TunerConfig, TunerSession, upload_recording
from tuner_core.client import _RETRY_STATUSES, submit_call
from tuner_core.models import TranscriptMetadata

from tests.mapping.presets import golden
from tests.mapping.presets2 import golden as golden2
from tests.mapping.sources import CREATE, compiled, document
from tunerd.call import Form
from tunerd.delivery.retry import HttpAnswer, judge
from tunerd.outcome import Retry
from tunerd.sandbox.faults import DeclineTarget, FixedAnswer
from tunerd.sandbox.server import Sandbox
from tunerd.tuner_fields import CREATE_CALL_FIELDS, NODE_FIELDS, ROW_FIELDS, ROWS, TOOL_FIELDS

AUDIO: Final = b"RIFF\x24\x00\x00\x00WAVE" + bytes(range(256)) * 400
FIXTURES: Final = Path(golden.__file__).parent.parent / "fixtures"
RULE_ONLY: Final = {"start_at", "end_at", "more"}
"""What a row's rules may give and no row has."""
REQUIRED_BY_THE_SDK: Final[dict[str, Any]] = {"duration_ms": 0, "general_meta_data_raw": {"ai_models": {}, "usage_token": {}}}
"""Its model demands these of a call; Tuner's API demands neither."""


def config(sandbox: Sandbox, **more: Any) -> TunerConfig:
    return TunerConfig(api_key="tr_api_1", workspace_id=42, agent_id="front-desk", base_url=sandbox.url, max_retries=0, **more)


class Turns(BaseTunerHandler):
    """Speech and a tool, recorded as the handlers of Tuner's SDKs record them."""

    def speak(self, *, duration_ms: int | None) -> None:
        self._record_agent_turn("Front desk, good morning.", 400, duration_ms=duration_ms, e2e_latency_ms=310)
        self._record_user_turn("Is room twelve free?", 2900, duration_ms=duration_ms, stt_latency_ms=90)

    def get_segments(self) -> list[dict[str, Any]]:
        tool = {"name": "room_status", "request_id": "t1"}
        return [
            {"role": "agent_function", "start_ms": 4000, "tool": {**tool, "params": {"room": 12}}},
            {"role": "agent_result", "start_ms": 4100, "tool": {**tool, "result": {"free": True}, "is_error": False}},
        ]


async def submitted(
    sandbox: Sandbox, call_id: str = "call-1", *, duration_ms: int | None = 1500, **more: Any
) -> dict[str, Any] | None:
    """A call of Tuner's SDK, sent by its own client."""
    session = TunerSession(config=config(sandbox, **more), call_id=call_id)
    session.attach(Turns()).speak(duration_ms=duration_ms)
    return await session.flush()


@pytest.fixture
async def sandbox() -> Any:
    async with Sandbox() as sandbox:
        yield sandbox


# --- its client and the sandbox ---------------------------------------------------------------------------------------


async def test_the_sandbox_takes_what_the_sdk_sends(sandbox: Sandbox) -> None:
    """A body that Tuner's own client makes is accepted in the create-call form, rows, tools and all."""
    answer = await submitted(sandbox, agent_version=3, sip_headers={"X-Correlation-Id": "0" * 32}, recipient="+4930555010")
    (arrival,) = sandbox.received
    assert (arrival.form, arrival.accepted, arrival.rows, arrival.problems) == (Form.CREATE_CALL, True, 4, ())
    assert answer == {"id": 1, "provider_call_id": "call-1", "is_new": True}


async def test_the_sandbox_takes_a_trace(sandbox: Sandbox) -> None:
    """`llm_trace` is in no published table, but Tuner's own model has it."""
    row = TranscriptSegment(role="user", text="Hello", start_ms=0, end_ms=900)
    payload = CallPayload(
        call_id="c", call_type="web_call", start_timestamp=1_782_900_000, end_timestamp=1_782_900_060, recording_url="pending",
        transcript_with_tool_calls=[row], llm_trace={"runs": []}, **REQUIRED_BY_THE_SDK,
    )  # fmt: skip
    assert await submit_call(payload, config(sandbox)) is not None


async def test_a_known_call_is_no_failure_for_either(sandbox: Sandbox) -> None:
    """409: the SDK logs it and gives nothing back, tunerd counts the call as sent; neither has a target for the audio then."""
    assert await submitted(sandbox, recording_file_extension="wav") is not None
    again = await submitted(sandbox, recording_file_extension="wav")
    assert (again, sandbox.received[-1].status) == (None, 409)
    assert await upload_recording(again, AUDIO, config(sandbox)) is False


@pytest.mark.parametrize("given", ["path", "bytes", "stream"])
async def test_its_upload_arrives_byte_for_byte(sandbox: Sandbox, tmp_path: Path, given: str) -> None:
    """The sandbox's target is one that Tuner's own uploader can use."""
    answer = await submitted(
        sandbox, recording_file_extension="wav", recording_s3_multi_channel=True, recording_s3_caller_channel=0
    )
    file = tmp_path / "call.wav"
    file.write_bytes(AUDIO)
    audio = {"path": file, "bytes": AUDIO, "stream": io.BytesIO(AUDIO)}[given]
    assert await upload_recording(answer, audio, config(sandbox)) is True
    (stored,) = sandbox.storage.stored["call-1"]
    assert (stored.sha256, stored.content_type) == (hashlib.sha256(AUDIO).hexdigest(), "audio/wav")


async def test_its_upload_reads_the_limits_of_the_target(sandbox: Sandbox) -> None:
    """No target, one that is expired, and a file that is larger than max_bytes: nothing is stored, as the SDK expects."""
    sandbox.plan(DeclineTarget(), call_id="declined")
    assert (
        await upload_recording(await submitted(sandbox, "declined", recording_file_extension="wav"), AUDIO, config(sandbox))
        is False
    )
    sandbox.faults.target_expires_s = 0
    assert (
        await upload_recording(await submitted(sandbox, "late", recording_file_extension="wav"), AUDIO, config(sandbox)) is False
    )
    assert [each.note for each in sandbox.storage.received] == ["AccessDenied"]
    sandbox.faults.max_upload_bytes = 1000
    assert (
        await upload_recording(await submitted(sandbox, "large", recording_file_extension="wav"), AUDIO, config(sandbox)) is False
    )
    assert (sandbox.storage.total, sandbox.storage.stored) == (1, {})


# --- its models and tunerd's bodies -----------------------------------------------------------------------------------


def golden_bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that the presets' fixtures become, as it was read and approved; of two presets their test has the body."""
    for preset in ("vapi", "elevenlabs"):
        rules = compiled("", CREATE, preset=preset, brings={"elevenlabs-audio": False})
        call = rules.map(document(orjson.loads((FIXTURES / f"{preset}.json").read_bytes()))).call
        assert call is not None
        yield preset, golden.body_of(call, Form.CREATE_CALL)
    expected = [case.expected for case in golden.cases()] + [golden2.expected_of(case) for case in golden2.cases()]
    for file in expected:
        outcomes = orjson.loads(file.read_bytes())
        for outcome in outcomes if isinstance(outcomes, list) else [outcomes]:
            if "body" in outcome:
                yield f"{file.parent.name}/{file.stem}", outcome["body"]


def test_its_row_model_takes_every_golden_row() -> None:
    """Each row validates strictly and comes back the same; only `words` is unknown to it, which Tuner's table has."""
    rows = 0
    for name, body in golden_bodies():
        for row in body[ROWS]:
            read = TranscriptSegment.model_validate(row, strict=True)
            assert read.model_dump(exclude_unset=True) == {key: value for key, value in row.items() if key != "words"}, name
            TranscriptMetadata.model_validate(row.get("metadata", {}), strict=True)
            rows += 1
    assert rows >= 354


def test_its_call_model_takes_every_golden_body() -> None:
    """Each body validates strictly, completed with the two fields that the SDK demands, and what it knows comes back the same."""
    bodies = list(golden_bodies())
    assert len(bodies) >= 77
    for name, body in bodies:
        general = {**REQUIRED_BY_THE_SDK["general_meta_data_raw"], **body.get("general_meta_data_raw", {})}
        whole = {**REQUIRED_BY_THE_SDK, **body, "general_meta_data_raw": general}
        known = {key: value for key, value in whole.items() if key in CallPayload.model_fields and key != ROWS}
        assert CallPayload.model_validate(whole, strict=True).model_dump(exclude_unset=True, exclude={ROWS}) == known, name


def test_the_fields_that_only_one_of_the_two_knows() -> None:
    """Tuner's table has fields that no SDK sends, and the SDK one that is not in the table; names are never spelt differently."""
    assert CREATE_CALL_FIELDS - set(CallPayload.model_fields) == {
        "caller_phone_number", "user_sentiment", "call_successful", "in_voicemail", "recording_multi_channel_url", "transcript",
        "collected_dynamic_variables", "call_analysis", "metadata",
    }  # fmt: skip
    assert set(CallPayload.model_fields) - CREATE_CALL_FIELDS == {"llm_trace"}
    assert set(ROW_FIELDS) - RULE_ONLY - set(TranscriptSegment.model_fields) == {"words"}
    assert set(TranscriptSegment.model_fields) <= set(ROW_FIELDS)
    assert set(TOOL_FIELDS) == set(ToolInfo.model_fields)
    assert set(NODE_FIELDS) == {"from", "to", "reason"}  # the SDK takes any object


# --- where they differ, as the contract says --------------------------------------------------------------------------


def mapped_by_tunerd(*rows: str) -> dict[str, Any]:
    text = f"""
call:
  call_id: {{const: c-1}}
  call_type: {{const: web_call}}
  start_timestamp: 1782900000
  end_timestamp: 1782900060
  transcript_with_tool_calls: {{rows: [{", ".join(rows)}]}}
recording: [{{url: "'https://a.example/x.wav'"}}]
"""
    call = compiled(text, CREATE).map(document({})).call
    assert call is not None
    return golden.body_of(call, Form.CREATE_CALL)


async def test_speech_without_an_end_is_completed_by_tunerd_only(sandbox: Sandbox) -> None:
    """A turn whose length is not known goes out of the SDK with its start alone, which rejects the whole call; tunerd's has an end."""
    assert await submitted(sandbox, duration_ms=None) is None
    assert (sandbox.received[0].status, sandbox.received[0].problems[0].field) == (422, "transcript_with_tool_calls[0]")
    body = mapped_by_tunerd("{role: {const: user}, text: {const: Hello}, start_ms: 0}")
    assert body[ROWS][0]["end_ms"] > 0


async def test_times_of_a_call_are_seconds_there_and_milliseconds_here(sandbox: Sandbox) -> None:
    """Tuner takes both; the SDK's whole seconds lose what the rows' times are relative to."""
    await submitted(sandbox)
    theirs = orjson.loads(sandbox.received[0].body)
    ours = mapped_by_tunerd("{role: {const: user}, text: {const: Hello}, start_ms: 0}")
    for field in ("start_timestamp", "end_timestamp"):
        assert (theirs[field] < 1e11, ours[field] >= 1e11) == (True, True)


async def test_untimed_tool_rows_are_no_rows_for_the_sdk() -> None:
    """Its model demands start_ms of every row, Tuner's table of speech only; tunerd gives it wherever a time can be known."""
    with pytest.raises(ValueError, match="start_ms"):
        TranscriptSegment.model_validate({"role": "agent_function", "tool": {"name": "f"}})
    body = mapped_by_tunerd(
        "{role: {const: user}, text: {const: Hello}, start_ms: 0, end_ms: 900}",
        "{role: {const: agent_function}, tool: {name: {const: f}}}",
    )
    assert [row["start_ms"] for row in body[ROWS]] == [0, 900]


async def test_the_sdk_makes_calls_that_tuner_refuses() -> None:
    """Its model has no closed list of roles, takes an empty transcript, a node without `from` and no recording_url at all."""
    CallPayload(call_id="c", call_type="t", start_timestamp=1, end_timestamp=0, **REQUIRED_BY_THE_SDK)
    TranscriptSegment(role="bot", start_ms=0, node={"to": "end"})


def test_what_is_sent_again() -> None:
    """All that the SDK retries, tunerd does; beside it 408, 425 and every other 5xx."""
    again = {
        status
        for status in range(400, 600)
        if isinstance(judge(HttpAnswer(status=status, body=b"{}"), now=0.0, retry_after_max_s=60.0), Retry)
    }
    assert again - _RETRY_STATUSES == {408, 425, *range(500, 600)} - {500, 502, 503, 504}
    assert again >= _RETRY_STATUSES


async def test_the_sdk_uploads_once(sandbox: Sandbox) -> None:
    """A storage that is busy for a moment costs the SDK the recording."""
    answer = await submitted(sandbox, recording_file_extension="wav")
    sandbox.storage.plan(FixedAnswer(503))
    assert await upload_recording(answer, AUDIO, config(sandbox)) is False
    assert [each.status for each in sandbox.storage.received] == [503]
