"""vCon and the presets that gather as a configuration uses them: what each needs, and one line that sets it right."""

from typing import Any

import orjson
import pytest

from tests.mapping.presets2.golden import FIXTURES
from tunerd.call import Document, Origin
from tunerd.carried_key import keyed
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources

TUNER = "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_made_up}\nsources:\n"
TWILIO = "  - {name: twilio-recording, path: /srv/recordings, preset: twilio-recording}\n"
RECORDING = "    recording: [{url: \"concat('https://tapes.example.com/', '1.wav')\"}]\n"


def rows_of(preset: str, variant: str, own: str = "", sources: str = "") -> list[dict[str, Any]]:
    """The rows of a fixture's call under a configuration of the preset and some lines of one's own."""
    config = load_text(
        f"{TUNER}{sources}  - name: calls\n    path: /srv/calls\n    preset: {preset}\n{own}", "/etc/tunerd/config.yaml", {}
    )
    mapping = compile_sources(config, {})["calls"]
    value = orjson.loads((FIXTURES / preset / f"{variant}.json").read_bytes())
    documents = []
    for at, one in enumerate(value if isinstance(value, list) else [value]):
        raw = orjson.dumps(one)
        origin = Origin(source="calls", path="/srv/calls/1.json", offset=at, length=len(raw))
        documents.append(Document(origin=origin, raw=raw, value=one, settled_at=1.0))
    found = [mapping.map(document) for document in documents]
    mapped = found[0]
    if mapping.gathers:
        (together,) = keyed([one.fragment for one in found if one.fragment is not None]).calls.values()
        gathered = mapping.gather(None, together)
        assert gathered is not None
        mapped = gathered
    assert mapped.call is not None, mapped.refused
    rows: list[dict[str, Any]] = orjson.loads(mapped.call.payload)["transcript_with_tool_calls"]
    return rows


@pytest.mark.parametrize(
    ("preset", "variant", "own", "sources"),
    [
        ("vcon", "wtf", "", ""),
        ("openai-realtime", "items", "", ""),
        ("twilio-intelligence", "transcript_and_two_pages", "", ""),
        ("twilio-conversationrelay", "stamped_tokens", "", TWILIO),
        ("deepgram", "stamped", RECORDING, ""),
        ("amazon-connect", "record_delivered_three_times_and_lens", RECORDING, ""),
    ],
)
def test_the_preset_and_what_it_needs(preset: str, variant: str, own: str, sources: str) -> None:
    """A preset whose platform names its audio needs nothing; the others a recording, or a source that brings some."""
    assert rows_of(preset, variant, own, sources)


def test_where_the_audio_of_connect_is_served() -> None:
    """The bucket and key stand in a let name for a recording of one's own."""
    own = "    recording: [{url: \"concat('https://tapes.example.com/', url_quote(location))\"}]\n"
    assert rows_of("amazon-connect", "record_delivered_three_times_and_lens", own)


@pytest.mark.parametrize(
    ("preset", "variant", "let", "roles"),
    [
        ("vcon", "v001_deepgram_alternative_as_text", "voices: {const: {'1': agent}}", "user agent user"),
        ("vcon", "deepgram_only_words_two_channels", "positions: {const: {'1': user}}", "user agent"),
        ("twilio-intelligence", "sentences_without_times", "channels: {const: {'1': agent, '2': user}}", "user agent"),
    ],
)
def test_who_is_who_is_one_line(preset: str, variant: str, let: str, roles: str) -> None:
    """Voices, parties and channels that say nothing of their role are told apart by a table that a configuration replaces."""
    found = [row["role"] for row in rows_of(preset, variant, f"    call: {{let: {{{let}}}}}\n")]
    assert " ".join(found) == roles


def test_the_patience_of_a_preset_is_one_line() -> None:
    """Members of `gather:` go over the preset's one by one; null switches one off."""
    own = "    gather: {wait: 1h, complete: null}\n"
    config = load_text(
        f"{TUNER}  - name: calls\n    path: /srv/calls\n    preset: pipecat\n{own}{RECORDING}", "/etc/tunerd/config.yaml", {}
    )
    value = {"event": "call_ended", "call_sid": "CA1"}
    raw = orjson.dumps(value)
    document = Document(origin=Origin(source="calls", path="/srv/calls/1.json"), raw=raw, value=value, settled_at=1.0)
    one = compile_sources(config, {})["calls"].map(document).fragment
    assert one is not None
    assert (one.key, one.part, one.wait_s, one.decides) == ("CA1", "ended", 3600.0, False)


def test_a_transcript_without_a_start_can_take_another_moment() -> None:
    """What the page of twilio-intelligence says for a null media_start_time works."""
    own = "    call: {start_timestamp: head.date_created}\n"
    assert rows_of("twilio-intelligence", "start_unknown", own)
