"""Every file of the platforms' samples, with the outcome that was listed by hand. Prints the table; the refused are counted.

The files are not part of this repository: where they are not at hand, this is skipped, or fails in CI.
"""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.mapping.presets2.samples import outcomes
from tests.real_parts import SAMPLES, needs_samples

pytestmark = [pytest.mark.samples, needs_samples]

# file(s) | source: a preset, or own/NAME.yaml | one outcome for each call or document
TABLE: Final = """
amazon_connect/contact_lens_voice.constructed.json | amazon-connect | call 2 rows
asterisk/ari_RecordingFinished.constructed.json | asterisk-recording | recording
asterisk/ari_recording_event.vcon_adapter_test.json | asterisk-recording | recording
bland/call_details.docs.json | bland | call 2 rows: spread 2
bland/post_call_webhook.constructed.json | bland | call 5 rows: end_from_call 1, end_from_next 2, node_from 1
custom/api_livekit_end_call_webhook.docs.json | own/api-livekit | call 3 rows: end_from_call 1, end_from_next 2
custom/opusagent_call_recordings/12345_20241201_143022/call_metadata.json + custom/opusagent_call_recordings/12345_20241201_143022/transcript.json | own/opusagent | call 4 rows
custom/retell_like_german_platform.docs.json | own/retell-like | call 4 rows: call_start_from_rows 1, end_from_call 1, end_from_next 1, name_from_call 1
daily/recording.raw_tracks.constructed.json | daily-recording | ignored
daily/recording.ready-to-download.docs.json | daily-recording | recording
deepgram/voice_agent_messages.constructed.ndjson | deepgram | call 5 rows: carried_start 2, spread 3
dograh/webhook_default_context.constructed.json | dograh | refused: call.refuse.no_transcript_in_this_webhook_put_the_logs_of_the_run_into_its_template
dograh/workflow_run.constructed.json | dograh | call 6 rows: node_from 1, wrapped 1
elevenlabs/post_call_audio.docs.json | elevenlabs-audio | refused: manifest.audio
elevenlabs/post_call_transcription.docs.json | elevenlabs | call 3 rows: end_from_call 1, end_from_next 2
elevenlabs/post_call_transcription_sip_2026.constructed.json | elevenlabs | call 7 rows: end_from_call 1, end_from_next 4, wrapped 1
livekit/EG_a1B2c3D4e5F6.json | livekit-egress | recording
livekit/EG_t7U8v9W0x1Y2.track.json | livekit-egress | ignored
livekit/session_report.js-1.9.0.constructed.json | livekit | call 10 rows: before_start 1, node_from 1
livekit/session_report.py-1.8.9.json | livekit | call 10 rows: before_start 1, node_from 1
livekit/webhook_egress_ended.json | livekit-egress | recording
openai_realtime/conversation_items.constructed.json | openai-realtime | call 5 rows: carried_start 2, name_from_call 1, spread 3
openai_realtime/server_events.constructed.ndjson | openai-realtime | call 5 rows: carried_start 2, name_from_call 1, spread 2
pipecat/context_dump.constructed.json | pipecat | call 7 rows: carried_start 3, name_from_call 1, spread 4
pipecat/transcript_lines.example_format.txt | pipecat | unreadable; unreadable
pipecat/turns_events.constructed.ndjson | pipecat | call 4 rows: end_from_call 1, end_from_next 3
retell/webhook_call_analyzed.constructed.json | retell | call 10 rows: carried_start 1, spread 1, wrapped 1
retell/webhook_call_ended_not_connected.constructed.json | retell | ignored
telnyx/call.conversation.ended.constructed.json | telnyx | call 5 rows: end_from_call 1, end_from_next 2, name_from_call 1
telnyx/call.hangup.constructed.json | telnyx | ignored
telnyx/call.recording.saved.constructed.json | telnyx-recording | recording
twilio/call_resource.oai_example.json | twilio-recording | ignored
twilio/conversationrelay_events.docs.ndjson | twilio-conversationrelay | call 3 rows: spread 3
twilio/intelligence_sentences.constructed.json | twilio-intelligence | refused: start_timestamp
twilio/intelligence_transcript.oai_example.json | twilio-intelligence | ignored
twilio/recording_absent.constructed.json | twilio-recording | recording: there is none
twilio/recording_resource.oai_example.json | twilio-recording | recording
twilio/recording_status_callback.constructed.form | twilio-recording | recording
twilio/recording_status_callback.constructed.json | twilio-recording | recording
ultravox/messages.constructed.json | ultravox | refused: call.refuse.messages_without_their_call_put_its_id_into_the_name_of_their_file
ultravox/webhook_call.ended.constructed.json | ultravox | refused: call.refuse.call_without_its_messages_save_them_too
vapi/end_of_call_report.constructed.json | vapi | call 9 rows: wrapped 1
vapi/fixture_min_end_of_call_report.ash.json | vapi | call 2 rows: spread 2
vcon/ab_call_ext_rec.ietf.json | vcon | refused: call.transcript_with_tool_calls
vcon/ab_call_ext_rec_analysis.ietf.json | vcon | call 4 rows
vcon/agent_session_trace.draft.json | vcon | call 15 rows: call_end_from_rows 1, call_start_from_rows 1, end_from_call 1, end_from_next 4, name_from_call 5, reordered 10, wrapped 5
vcon/fake_vcon_v0.0.1_no_turn_times.json | vcon | call 11 rows: spread 11
vcon/simple-vcon.ietf.json | vcon | refused: call.when
vcon/wtf_transcription.draft.json | vcon | call 2 rows
"""
REFUSED: Final = 9
"""Half calls (two of ultravox, dograh, sentences without their transcript), a recording that nobody transcribed, and two pieces
of a file that is no JSON (no source takes *.txt unless its `include` says so); and the audio of a sample, which is no base64."""


def _lines() -> list[tuple[list[str], str, str]]:
    cells = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
    return [(files.split(" + "), source, expected) for files, source, expected in cells]


LINES: Final = _lines()


@pytest.mark.parametrize(("files", "source", "expected"), LINES, ids=[" ".join(files) for files, _, _ in LINES])
def test_the_sample_has_the_outcome_that_was_listed(files: list[str], source: str, expected: str) -> None:
    """Accepted with so many rows and repairs, ignored, a recording, or refused at that place."""
    assert "; ".join(outcomes(source, files)) == expected


def test_no_sample_is_missing() -> None:
    """A sample that comes anew needs its line."""
    listed = sorted(file for files, _, _ in LINES for file in files)
    there = [str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*") if path.is_file() and path.name != "SOURCES.md"]
    assert listed == sorted(there)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """What becomes of all samples, printed; of them so many are refused."""
    table = [(Path(files[0]), source, "; ".join(outcomes(source, files))) for files, source, _ in LINES]
    with capsys.disabled():
        print()
        for file, source, outcome in table:
            print(f"{file!s:66.66} {source:25} {re.sub('refuse[.]', '', outcome)}")
        print(f"{sum(len(files) for files, _, _ in LINES)} samples, {REFUSED} refused")
    each = [one for _, _, outcome in table for one in outcome.split("; ")]
    assert sum(one.startswith(("refused", "unreadable")) for one in each) == REFUSED
