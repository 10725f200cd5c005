"""A document is ignored only if it is known to be no call. A document that a preset does not recognise is refused, visibly."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.cases.made import accepted, map_on, outcome, payload
from tests.mapping.sources import compiled, document, problems_of
from tests.real_parts import CASES, needs_cases
from tunerd.mapping import presets

ENVELOPES: dict[str, Callable[[Any], Any]] = {
    "n8n": lambda one: [{"headers": {"host": "h"}, "params": {}, "query": {}, "body": one, "webhookUrl": "https://n8n.example"}],
    "n8n item": lambda one: [{"json": {"headers": {}, "params": {}, "query": {}, "body": one}, "pairedItem": {"item": 0}}],
    "pipedream": lambda one: {"event": {"method": "POST", "path": "/", "headers": {}, "body": one}},
    "lambda": lambda one: {"version": "2.0", "headers": {}, "body": orjson.dumps(one).decode(), "isBase64Encoded": False},
    "eventbridge": lambda one: {"version": "0", "detail-type": "call", "source": "own", "detail": one},
    "cloudevents": lambda one: {"specversion": "1.0", "type": "com.example.call", "data": one},
    "outbox": lambda one: {"id": 7, "topic": "calls", "payload": one},
    "sns": lambda one: {"Type": "Notification", "Message": orjson.dumps(one).decode()},
    "list of one": lambda one: [one],
}


@pytest.mark.parametrize("preset", presets.names())
def test_an_envelope_around_a_document_changes_nothing(preset: str) -> None:
    """A document in an envelope gives the same call or recording as alone, whatever tool added the envelope."""
    alone = map_on(preset, *accepted(preset))
    assert outcome(alone) in ("call", "recording")
    for name, envelope in ENVELOPES.items():
        wrapped = map_on(preset, *[envelope(one) for one in accepted(preset)])
        assert outcome(wrapped) == outcome(alone), (name, wrapped.refused)
        if alone.call is not None:
            assert payload(wrapped) == payload(alone), name
        if alone.recording is not None and wrapped.recording is not None:
            assert (wrapped.recording.key, wrapped.recording.location) == (alone.recording.key, alone.recording.location), name


STRANGE: dict[str, Any] = {
    "other fields": {"hello": 1, "when": "2026-07-01T10:00:00Z"},
    "an event nobody knows": {"event": "call_summarised_v9", "type": "brand.new", "id": 7},
    "an envelope around nothing": {"headers": {}, "body": {"ok": True}},
    "an order": {"id": "o-1", "items": [{"sku": "a", "price": 3}], "status": "shipped"},
    "a page of calls": {"page": 1, "conversations": [{"id": "a"}, {"id": "b"}]},
    "a list": [{"id": "a"}, {"id": "b"}],
}


@pytest.mark.parametrize("preset", presets.names())
def test_what_a_preset_does_not_know_is_refused(preset: str) -> None:
    """A document that is not known to be no call becomes a failed row that says what to do, never a silent exit 0."""
    for name, strange in STRANGE.items():
        mapped = map_on(preset, strange)
        if mapped.fragment is None:
            assert mapped.refused is not None, name
            assert "2026-07-01" not in mapped.refused.refusal.what


def test_the_refusal_says_what_to_do() -> None:
    """The refusal names the members and the list that `documents:` could name; it quotes no value."""
    refused = map_on("vapi", {"page": 1, "secret text": "x", "calls": [{"id": "private"}]}).refused
    assert refused is not None
    assert "`documents: doc.calls`" in refused.refusal.what
    assert "page, calls" in refused.refusal.what
    assert "not_call" in refused.refusal.what
    assert "private" not in refused.refusal.what
    assert "secret text" not in refused.refusal.what


KNOWN_TO_BE_NO_CALL = {
    "vapi": [{"message": {"type": "speech-update", "status": "started"}}, {"id": "v", "orgId": "o", "status": "in-progress"}],
    "retell": [{"event": "transcript_updated", "call": {"call_id": "r"}}, {"event": "chat_ended", "chat": {"chat_id": "c"}}],
    "elevenlabs": [
        {"type": "call_initiation_failure", "data": {"conversation_id": "c"}},
        {"conversation_id": "c", "status": "in-progress", "transcript": []},
    ],
    "ultravox": [{"event": "call.started", "call": {"callId": "u"}}],
    "telnyx": [{"data": {"event_type": "call.answered", "payload": {"call_leg_id": "l"}}}],
    "telnyx-recording": [{"data": {"event_type": "call.initiated", "payload": {"call_leg_id": "l"}}}],
    "bland": [{"call_id": "b", "completed": False, "queue_status": "started"}, {"call_id": "b", "status": "busy"}],
    "dograh": [{"id": 3, "workflow_id": 9, "is_completed": False}],
    "daily-recording": [{"type": "participant.joined", "payload": {"room": "r"}}],
    "asterisk-recording": [{"type": "StasisStart", "application": "bot", "channel": {"id": "1"}}],
    "freeswitch-cdr": [{"variables": {"uuid": "u", "RECORD_STEREO": "true"}}],
    "twilio-recording": [{"CallSid": "CA1", "CallStatus": "ringing"}, {"RecordingSid": "RE1", "RecordingStatus": "processing"}],
    "livekit": [{"event": "room_finished", "room": {"name": "r"}}, {"job_id": "j", "history": {"items": []}}],
    "livekit-egress": [{"event": "participant_left"}, {"egressId": "EG", "roomName": "r", "status": 1}],
    "pipecat": [{"call_id": "p", "messages": []}],
    "openai-realtime": [{"call_id": "o", "items": []}],
    "amazon-connect": [{"ContactId": "c", "Channel": "TASK", "DisconnectTimestamp": "2026-07-01T10:00:00Z"}],
    "twilio-intelligence": [{"sid": "GT1", "service_sid": "GA1", "status": "queued"}],
    "twilio-conversationrelay": [{"type": "setup", "callSid": "CA1", "sessionId": "VX1"}],
    "deepgram": [{"type": "Welcome", "request_id": "r"}],
    "vcon": [{"vcon": "0.3.0", "uuid": "u", "dialog": [{"type": "incomplete"}]}],
}


@pytest.mark.parametrize("preset", KNOWN_TO_BE_NO_CALL)
def test_what_is_known_to_be_no_call_is_left_out(preset: str) -> None:
    """Other events, unanswered calls and calls in progress are ignored as known, alone and in an envelope."""
    for value in KNOWN_TO_BE_NO_CALL[preset]:
        for given in (value, ENVELOPES["n8n"](value)):
            ignored = map_on(preset, given).ignored
            assert ignored is not None, given
            assert ignored.known, given


SILENT_ONLY_BY_NAME = {
    "livekit": {"job_id": "j", "history": {"items": [{"type": "utterance", "speaker": "a", "text": "Hi"}]}},
    "dograh": {
        "id": 3,
        "workflow_id": 9,
        "logs": {"realtime_feedback_events": [{"type": "rtf-said", "payload": {"text": "Hi"}}]},
    },
    "freeswitch-cdr": {"variables": {"uuid": "u", "my_record_path": "/var/a.wav"}},
    "openai-realtime": {"call_id": "o", "items": [{"type": "message", "role": "user", "content": [{"type": "input_audio"}]}]},
    "pipecat": {"call_id": "p", "messages": [{"role": "human", "content": "Hi"}]},
    "twilio-intelligence": {"sid": "GT1", "service_sid": "GA1", "status": "completed"},
    "elevenlabs": {"conversation_id": "c", "status": "done", "message_count": 9},
}


@pytest.mark.parametrize("preset", SILENT_ONLY_BY_NAME)
def test_a_call_whose_words_are_not_found_is_no_silent_call(preset: str) -> None:
    """A document with speech or a recording in a form that the preset does not know is refused."""
    assert outcome(map_on(preset, SILENT_ONLY_BY_NAME[preset])) in ("unmappable", "invalid", "refused")


def _egress(**changes: Any) -> dict[str, Any]:
    return {
        "egressId": "EG_x", "roomId": "RM_1", "roomName": "shop-4", "status": 3,
        "startedAt": "1783660518186023947", "endedAt": "1783660618186023947",
        "request": {"case": "roomComposite", "value": {"roomName": "shop-4"}},
        "result": {"case": "file", "value": {"startedAt": "1783660518186023947", "duration": "100000000000",
                                             "location": "https://rec.example/shop-4.ogg"}},
        "fileResults": [], "streamResults": [], **changes,
    }  # fmt: skip


AUDIO = {"location": "https://rec.example/shop-4.ogg", "startedAt": {"$numberLong": "1783660518186023947"}}


@pytest.mark.parametrize(
    ("changes", "becomes"),
    [
        ({}, "https://rec.example/shop-4.ogg"),
        ({"status": "EGRESS_LIMIT_REACHED"}, "https://rec.example/shop-4.ogg"),
        ({"status": 6}, "https://rec.example/shop-4.ogg"),
        ({"status": "6"}, "https://rec.example/shop-4.ogg"),
        ({"status": "egress_complete"}, "https://rec.example/shop-4.ogg"),
        ({"result": {"oneofKind": "file", "file": AUDIO}}, "https://rec.example/shop-4.ogg"),
        ({"result": {"case": "file", "value": AUDIO}}, "https://rec.example/shop-4.ogg"),
        ({"fileResults": [AUDIO], "result": {}}, "https://rec.example/shop-4.ogg"),
        ({"status": 4}, None),
        ({"status": 5, "result": {"case": "file", "value": {"location": "", "startedAt": "0"}}}, None),
        ({"status": "EGRESS_ABORTED"}, None),
        ({"status": 0}, "ignored"),
        ({"status": 2}, "ignored"),
        ({"request": {"case": "track", "value": {"trackId": "TR"}}}, "ignored"),
        ({"status": 7}, "unmappable"),
        ({"status": "EGRESS_PAUSED"}, "unmappable"),
        ({"result": {"case": "stream", "value": {}}}, "unmappable"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"event": "egress_ended", "egressInfo": one}])
def test_an_egress_object_as_sdks_give_it(wrap: Callable[[Any], Any], changes: dict[str, Any], becomes: str | None) -> None:
    """States 3 and 6 give a recording, 4 and 5 mean that there is none, unfinished ones are ignored, and an unknown state is
    refused."""
    mapped = map_on("livekit-egress", wrap(_egress(**changes)))
    if mapped.recording is None:
        assert outcome(mapped) == becomes
        return
    recording = mapped.recording
    assert (recording.key, recording.location) == ("shop-4", becomes)
    assert recording.started_at == pytest.approx(1_783_660_518.186)


@pytest.mark.parametrize(
    "long", [{"$numberLong": "1783660518186023947"}, {"low": 1735713291, "high": 415293022, "unsigned": False}]
)
def test_a_64_bit_integer_that_an_exporter_wrapped(long: Any) -> None:
    """The number formats of MongoDB and protobuf.js are read as the number that they contain."""
    value = {**AUDIO, "startedAt": long, "duration": {"$numberLong": "2000000000"}}
    recording = map_on("livekit-egress", _egress(result={"case": "file", "value": value}, startedAt=long)).recording
    assert recording is not None
    assert recording.started_at is not None
    assert recording.duration_s == 2


@needs_cases
@pytest.mark.parametrize(("file", "url"), [("2-js", "https://rec.example.com/js.ogg"), ("6-aborted-js", None)])
def test_the_shared_egress_objects(file: str, url: str | None) -> None:
    """The case egress-sdk-object gives the expected result."""
    recording = map_on("livekit-egress", orjson.loads((CASES / f"egress-sdk-object/{file}.json").read_bytes())).recording
    assert recording is not None
    assert (recording.key, recording.location) == ("3d0e0a0b-aa63-49b2-8724-8ecefc0d3b5c", url)


@needs_cases
def test_the_shared_workflow_envelopes() -> None:
    """The case workflow-envelope: Vapi's report is found in the envelope; Dograh's, which has no transcript, is refused with
    the cause."""
    vapi = orjson.loads((CASES / "workflow-envelope/env-vapi.json").read_bytes())[0]
    assert payload(map_on("vapi", vapi))["transcript_with_tool_calls"]
    dograh = orjson.loads((CASES / "workflow-envelope/n8n.json").read_bytes())[0]
    refused = map_on("dograh", dograh).refused
    assert refused is not None
    assert "put the logs of the run into its template" in refused.refusal.what


# Custom rules of a source


HOME_MADE = """
call:
  when: doc.kind == 'call'
  {more}
  call_id: doc.id
  call_type: {{const: phone_call}}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {{for_each: {{m: doc.said}}, role: {{const: user}}, text: m, start_ms: 0}}
"""


def test_a_when_of_ones_own_is_enough_to_leave_a_document_out() -> None:
    """Without `not_call:` a false `when:` ignores the document, and does not count it as known (as documented)."""
    ignored = compiled(HOME_MADE.format(more="")).map(document({"kind": "test"})).ignored
    assert ignored is not None
    assert not ignored.known


def test_with_not_call_the_rest_is_refused() -> None:
    """If the rules say with `not_call:` what is no call, every other document that `when:` rejects is refused."""
    rules = compiled(HOME_MADE.format(more="not_call: [doc.kind == 'test', doc.kind == 'ping']"))
    known = rules.map(document({"kind": "ping"})).ignored
    assert known is not None
    assert known.known
    refused = rules.map(document({"kind": "cal"})).refused
    assert refused is not None
    assert refused.refusal.where.startswith("call.when (line ")
    assert "rules do not recognise" in refused.refusal.what


def test_own_words_over_a_preset() -> None:
    """A source's own `when` replaces the preset's; its own `not_call` is added to the preset's."""
    own_when = compiled("call: {when: doc.message.call.id == 'v-9'}", preset="vapi")
    assert own_when.map(document({"hello": 1})).ignored is not None
    assert own_when.map(document(accepted("vapi")[0])).call is not None
    own_not = compiled("call: {not_call: doc.hello}", preset="vapi")
    assert own_not.map(document({"hello": 1})).ignored is not None
    assert own_not.map(document({"message": {"type": "hang"}})).ignored is not None
    assert own_not.map(document({"goodbye": 1})).refused is not None


def test_envelopes_are_no_matter_of_home_made_rules() -> None:
    """Custom rules see the document as it is, with its envelope."""
    assert compiled(HOME_MADE.format(more="")).map(document({"body": {"kind": "call", "id": "a", "said": ["x"]}})).ignored


def test_a_let_that_fails_on_other_documents_does_no_harm() -> None:
    """No rule reads a value where `when:` is false: the document is ignored, not refused for an error."""
    text = HOME_MADE.format(more="let: {spoken: seconds_to_ms(doc.length)}")
    assert compiled(text).map(document({"kind": "test", "length": {"odd": 1}})).ignored is not None


def test_a_wrong_not_call_is_told_at_load() -> None:
    """A mistake in the rule is reported with its place, like in any other rule."""
    assert problems_of(HOME_MADE.format(more="not_call: dok.kind")) == [
        "config.yaml:4:13: sources.agent.call.not_call: unknown name `dok` (did you mean `doc`?)"
    ]
