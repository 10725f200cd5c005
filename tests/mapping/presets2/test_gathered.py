"""The `gather:` of the presets that have one: which documents make a call, by which parts, and when it is complete."""

import orjson
import pytest

from tests.mapping.presets2.gathering import PRESETS, document_at, map_documents, mapping_of
from tests.mapping.presets2.golden import FIXTURES
from tunerd.call import Form
from tunerd.mapping import presets

CALLS = {
    # fixture: of each call how many documents, which parts, and whether it is complete before its wait is over
    "amazon-connect/record_delivered_three_times_and_lens": [(4, "record lens", True)],
    "amazon-connect/lens_first_without_recording": [(2, "lens record", True)],
    "amazon-connect/lens_alone": [(1, "lens", False)],
    "amazon-connect/record_alone": [(1, "record", False)],
    "deepgram/stamped": [(16, "welcome", False)],
    "deepgram/two_calls_side_by_side": [(3, "welcome", False), (2, "welcome", False)],
    "openai-realtime/items": [(1, "dump", True)],
    "openai-realtime/events_ga_stamped": [(20, "session", False)],
    "openai-realtime/only_transcripts_logged": [(3, "", False)],
    "twilio-conversationrelay/stamped_tokens": [(15, "setup end", True)],
    "twilio-conversationrelay/two_calls_one_after_the_other": [(3, "setup end", True), (2, "setup", False)],
    "twilio-conversationrelay/nobody_spoke": [(1, "setup", False)],
    "twilio-intelligence/transcript_and_two_pages": [(4, "transcript", True)],
    "twilio-intelligence/in_one_document_with_participants": [(1, "transcript", True)],
    "twilio-intelligence/sentences_within_the_transcript": [(1, "transcript", True)],
    "twilio-intelligence/failed": [(1, "transcript", True)],
    "twilio-intelligence/sentences_alone": [(1, "", False)],
    "retell/three_webhooks": [(2, "ended analyzed", True)],
    "retell/analyzed_before_ended": [(2, "analyzed ended", True)],
    "retell/ended_alone": [(1, "ended", False)],
    "retell/not_connected_and_a_chat": [(1, "ended", True)],
    "telnyx/four_events": [(3, "hung talk insight", True)],
    "telnyx/two_legs_of_a_session": [(2, "hung talk", False), (1, "hung", False)],
    "ultravox/call_and_two_pages": [(3, "about said", True)],
    "ultravox/call_then_messages": [(2, "about said", True)],
    "ultravox/messages_alone_in_their_file": [(1, "said", False)],
    "ultravox/nobody_joined": [(1, "about", True)],
    "pipecat/turns_as_events": [(9, "started recorded ended", True)],
    "pipecat/two_calls_the_second_goes_on": [(9, "started recorded ended", True), (2, "started", False)],
    "pipecat/dump": [(1, "dump", True)],
}


@pytest.mark.parametrize("fixture", CALLS)
def test_which_documents_make_a_call(fixture: str) -> None:
    """Keys join documents, a document without one goes to the call before it, and `complete` ends the wait."""
    documents = orjson.loads((FIXTURES / f"{fixture}.json").read_bytes())
    gathered = map_documents(fixture.split("/")[0], Form.CREATE_CALL, documents)
    assert [(one.documents, " ".join(one.parts), one.complete) for one in gathered] == CALLS[fixture]


def test_pages_of_sentences_are_waited_for() -> None:
    """A transcript whose last page of sentences is not there yet is not complete."""
    documents = orjson.loads((FIXTURES / "twilio-intelligence/transcript_and_two_pages.json").read_bytes())
    without_last = [one for one in documents if "sentences" not in one or one["meta"]["next_page_url"]]
    assert len(without_last) == len(documents) - 1
    assert not map_documents("twilio-intelligence", Form.CREATE_CALL, without_last)[0].complete


@pytest.mark.parametrize("fixture", ["three_webhooks", "analyzed_before_ended"])
def test_what_only_the_analysis_knows_of_a_retell_call_is_sent(fixture: str) -> None:
    """In whichever order the two webhooks come; call_ended alone waits for it, and goes without it in the end."""
    documents = orjson.loads((FIXTURES / f"retell/{fixture}.json").read_bytes())
    (both,) = map_documents("retell", Form.CREATE_CALL, documents)
    (alone,) = map_documents("retell", Form.CREATE_CALL, [one for one in documents if one["event"] == "call_ended"])
    assert both.mapped.call is not None
    assert alone.mapped.call is not None
    assert orjson.loads(both.mapped.call.payload)["user_sentiment"] == "neutral"
    assert "user_sentiment" not in orjson.loads(alone.mapped.call.payload)
    assert not alone.complete


def test_messages_of_ultravox_find_their_call_by_the_name_of_their_file() -> None:
    """An id as Ultravox makes them anywhere in the name, or what stands before `messages`."""
    mapping = mapping_of("ultravox", Form.CREATE_CALL)
    (call, messages) = orjson.loads((FIXTURES / "ultravox/call_then_messages.json").read_bytes())
    uid = "3c90c3cc-0d44-4b50-8888-8dd25736052a"
    for name, key in ((f"messages_{uid}.json", uid), (f"{uid}.json", uid), ("u-1.messages.json", "u-1"), ("u-1.json", "u-1")):
        assert mapping.map(document_at(name, messages)).fragment.key == key  # type: ignore[union-attr]
    assert mapping.map(document_at("ended.json", call)).fragment.key == "one"  # type: ignore[union-attr]


@pytest.mark.parametrize("left_out", [2, 3])
def test_all_pages_of_ultravox_messages_are_waited_for(left_out: int) -> None:
    """In whichever order they are read: neither the first page nor the last one alone completes a call."""
    documents = orjson.loads((FIXTURES / "ultravox/call_and_two_pages.json").read_bytes())
    assert map_documents("ultravox", Form.CREATE_CALL, documents)[0].complete
    del documents[left_out]
    assert not map_documents("ultravox", Form.CREATE_CALL, documents)[0].complete


@pytest.mark.parametrize("preset", ["vcon", *PRESETS])
def test_presets_open_with_their_page(preset: str) -> None:
    """Where the file comes from, what is mapped, what the platform lacks: the page of the documentation."""
    heads = [line.split(":")[0] for line in presets.text(preset).splitlines() if line.startswith("# ") and line[2] != " "]
    assert heads in (["# from", "# maps", "# lacks"], ["# from", "# maps", "# lacks", "# audio"])
