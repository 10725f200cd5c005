"""The presets of this group on files in the wild, where they are at hand: rows, repairs, outcome, counted by hand."""

import pytest

from tests.mapping.presets.golden import map_file
from tests.real_parts import SAMPLES, needs_samples
from tunerd.call import Form

pytestmark = [pytest.mark.samples, needs_samples]

ROWS = {
    "retell/webhook_call_analyzed.constructed.json": (
        "retell",
        10,  # of 12: the injected note and the words that were never spoken are no rows
        {"spread": 1, "carried_start": 1, "wrapped": 1},  # the pressed key; the result without time_sec; "ok"
    ),
    "livekit/session_report.py-1.8.9.json": (
        "livekit",
        10,  # of 11: the settings of the agent are no row
        {"before_start": 1, "node_from": 1},  # the first hand-off: 140 ms before the audio, from nobody
    ),
    "livekit/session_report.js-1.9.0.constructed.json": ("livekit", 10, {"before_start": 1, "node_from": 1}),
    "pipecat/context_dump.constructed.json": (
        "pipecat",
        7,  # of 10: system, developer, and a result that was still running
        {"spread": 4, "carried_start": 3, "name_from_call": 1},  # no times at all: 4 of speech, 3 of tools
    ),
    "bland/call_details.docs.json": ("bland", 2, {"spread": 2}),  # plain lines only
    "bland/post_call_webhook.constructed.json": (
        "bland",
        5,  # 3 of speech, an action, a decision
        {"end_from_next": 2, "end_from_call": 1, "node_from": 1},
    ),
    "telnyx/call.conversation.ended.constructed.json": (
        "telnyx",
        5,
        {"end_from_next": 2, "end_from_call": 1, "name_from_call": 1},
    ),
    "dograh/workflow_run.constructed.json": (
        "dograh",
        6,  # of 8: a half transcription and a measurement are no rows
        {"wrapped": 1, "node_from": 1},  # the result is Python text
    ),
}
IGNORED = {
    "retell/webhook_call_ended_not_connected.constructed.json": ["retell"],
    "telnyx/call.hangup.constructed.json": ["telnyx", "telnyx-recording"],
    "telnyx/call.recording.saved.constructed.json": ["telnyx"],
    "telnyx/call.conversation.ended.constructed.json": ["telnyx-recording"],
    "daily/recording.raw_tracks.constructed.json": ["daily-recording"],
    "livekit/webhook_egress_ended.json": ["livekit"],
    "livekit/EG_a1B2c3D4e5F6.json": ["livekit"],
    "twilio/call_resource.oai_example.json": ["twilio-recording"],
}
REFUSED = {
    "ultravox/messages.constructed.json": ("ultravox", "messages_without_their_call"),
    "ultravox/webhook_call.ended.constructed.json": ("ultravox", "call_without_its_messages"),
    "dograh/webhook_default_context.constructed.json": ("dograh", "no_transcript_in_this_webhook"),
}
RECORDINGS = {
    # key, seconds long, whether there is a URL
    "telnyx/call.recording.saved.constructed.json": ("telnyx-recording", "b0e6224c-0000-11f0-afbb-02420aef93a0", 41.588, True),
    "twilio/recording_status_callback.constructed.json": ("twilio-recording", f"CA{'0' * 32}", 42.0, True),
    "twilio/recording_resource.oai_example.json": ("twilio-recording", f"CA{'a' * 32}", 4.0, True),
    "twilio/recording_absent.constructed.json": ("twilio-recording", f"CA{'0' * 31}1", None, False),
    "daily/recording.ready-to-download.docs.json": ("daily-recording", "Xcm97xRZ08b2dePKb78g", 9.0, True),
    "asterisk/ari_RecordingFinished.constructed.json": ("asterisk-recording", "1782900000.42", 42.0, True),
    "asterisk/ari_recording_event.vcon_adapter_test.json": ("asterisk-recording", "1705312170.123", 30.0, True),
}


@pytest.mark.parametrize("file", ROWS)
def test_a_call_gives_so_many_rows_with_so_many_repairs(file: str) -> None:
    """Every call of the samples maps; what is no row, and what was repaired, is known by name and number."""
    preset, rows, repairs = ROWS[file]
    mapped = map_file(preset, Form.CREATE_CALL, SAMPLES / file)
    assert mapped.call is not None, mapped.refused
    assert mapped.call.payload.count(b'"role":') == rows
    assert mapped.notes.repairs == repairs
    assert mapped.notes.left_out == ()


@pytest.mark.parametrize(("file", "preset"), [(file, preset) for file, presets in IGNORED.items() for preset in presets])
def test_what_is_no_call_is_ignored(file: str, preset: str) -> None:
    """Unanswered calls and other events are left out on purpose, not refused."""
    assert map_file(preset, Form.CREATE_CALL, SAMPLES / file).ignored is not None


@pytest.mark.parametrize("file", REFUSED)
def test_half_a_call_is_refused_with_what_to_do(file: str) -> None:
    """A document that lacks what makes a call of it is seen as failed."""
    preset, reason = REFUSED[file]
    refused = map_file(preset, Form.CREATE_CALL, SAMPLES / file).refused
    assert refused is not None
    assert reason in refused.refusal.where


@pytest.mark.parametrize("file", RECORDINGS)
def test_a_recording_has_its_key_and_length(file: str) -> None:
    """The other half of a join: the key that the call's rule gives, and a URL unless there will never be one."""
    preset, key, duration_s, has_url = RECORDINGS[file]
    recording = map_file(preset, Form.CREATE_CALL, SAMPLES / file).recording
    assert recording is not None
    assert (recording.key, recording.duration_s, recording.location is not None) == (key, duration_s, has_url)
