"""The presets as a configuration uses them: they load, name what they need, and can be overridden in their tables."""

from itertools import takewhile
from pathlib import Path

import orjson
import pytest

from tests.mapping.presets.golden import FIXTURES
from tunerd.call import Document, Mapped, Origin
from tunerd.config import Config
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_source, manifest_sources, presets
from tunerd.yaml_location import ConfigError

CALLS = ("retell", "livekit", "pipecat", "bland", "telnyx", "ultravox", "dograh")
MANIFESTS = ("telnyx-recording", "twilio-recording", "daily-recording", "asterisk-recording", "freeswitch-cdr")
TUNER = "tuner: {workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_made_up}\nsources:\n"


def configured(*sources: str) -> Config:
    return load_text(TUNER + "".join(f"  - {source}\n" for source in sources), "/etc/tunerd/config.yaml", {})


def plain(preset: str, more: str = "") -> str:
    return f"{{name: {preset}, path: /calls/{preset}, preset: {preset}{more}}}"


def mapped(config: Config, name: str, fixture: str, environ: dict[str, str] | None = None) -> Mapped:
    source = next(source for source in config.sources if source.name == name)
    destination = next((each for each in config.destinations if each.name == source.destination), None)
    mapping = compile_source(source, destination, manifests=manifest_sources(config.sources), environ=environ or {})
    raw = (FIXTURES / fixture).read_bytes()
    origin = Origin(source=name, path=f"{source.path}/{Path(fixture).name}", length=len(raw))
    mapped = mapping.map(Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=1.0))
    return mapped if mapped.fragment is None else mapping.gather(None, [mapped.fragment]) or Mapped()


def test_all_of_them_load_in_one_configuration() -> None:
    """With the manifest sources that two of them look in, and a word on Ultravox's audio, nothing else has to be written."""
    sources = [plain(name) for name in (*CALLS, *MANIFESTS, "livekit-egress") if name != "ultravox"]
    config = configured(*sources, plain("ultravox", ", audio: upload"))
    manifests = manifest_sources(config.sources)
    for source in config.sources:
        compile_source(source, config.destinations[0], manifests=manifests, environ={})


@pytest.mark.parametrize(("preset", "source"), [("livekit", "livekit-egress"), ("telnyx", "telnyx-recording")])
def test_a_preset_without_its_manifest_source_names_it(preset: str, source: str) -> None:
    """The missing half of a join is told at load, by the name it has to have."""
    with pytest.raises(ConfigError, match=f"source named `{source}`"):
        configured(plain(preset))


def test_ultravox_asks_how_its_audio_reaches_tuner() -> None:
    """A preset of a platform without recording URLs does not pretend to have one."""
    with pytest.raises(ConfigError, match="write `audio: upload`"):
        configured(plain("ultravox"))


@pytest.mark.parametrize(
    ("preset", "variable"), [("asterisk-recording", "ASTERISK_RECORDINGS_URL"), ("freeswitch-cdr", "FREESWITCH_RECORDINGS_URL")]
)
def test_recordings_that_are_files_need_a_way_to_tuner(preset: str, variable: str) -> None:
    """A source of calls that looks for them is refused without `audio:`, unless a server gives the files URLs."""
    calls = f"{{name: agent, path: /calls/agent, preset: tuner, recording: [{{manifest: {preset}, key: doc.k, within: any}}]"
    with pytest.raises(ConfigError, match=rf"sources\[0\].audio: by the preset {preset} .*or set {variable}"):
        configured(calls + "}", plain(preset))
    assert configured(calls + ", audio: upload}", plain(preset))
    served = ', manifest: {let: {served: {const: "https://own.example.com/"}}}'
    assert configured(calls + "}", plain(preset, served))
    assert load_text(
        f"{TUNER}  - {calls}}}\n  - {plain(preset)}\n", "/etc/tunerd/config.yaml", {variable: "https://own.example.com/"}
    )


@pytest.mark.parametrize(
    ("preset", "name", "fixture", "url"),
    [
        ("daily-recording", "bucket", "ready.json", "https://own.example.com/a/garage/lobby%20one/1782900000123"),
        ("asterisk-recording", "served", "finished.json", "https://own.example.com/a/1782900000.7.wav"),
        ("freeswitch-cdr", "served", "encoded_values.json", "https://own.example.com/a/f-1%20in.wav"),
    ],
)
def test_where_audio_is_served_has_to_be_said(preset: str, name: str, fixture: str, url: str) -> None:
    """A let in the configuration says it; without it the recording is refused at its url."""
    refused = mapped(configured(plain(preset)), preset, f"{preset}/{fixture}").refused
    assert refused is not None
    assert refused.refusal.where.startswith("manifest.url")
    own = configured(plain(preset, f', manifest: {{let: {{{name}: {{const: "https://own.example.com/a/"}}}}}}'))
    recording = mapped(own, preset, f"{preset}/{fixture}").recording
    assert recording is not None
    assert recording.location == url


def test_a_table_of_a_preset_can_be_replaced() -> None:
    """Who a transfer target is to be is one line in the configuration."""
    config = configured(plain("retell", ", call: {let: {roles: {const: {agent: agent, user: user, transfer_target: user}}}}"))
    call = mapped(config, "retell", "retell/call_analyzed.json").call
    assert call is not None
    rows = orjson.loads(call.payload)["transcript_with_tool_calls"]
    assert [row["role"] for row in rows if row.get("text") == "Bakery counter, hello."] == ["user"]


@pytest.mark.parametrize("fixture", ["call_analyzed", "call_ended_outbound_signed", "call_started"])
def test_what_a_preset_gathers_can_be_taken_singly(fixture: str) -> None:
    """`gather: null`: each document is mapped at once as the call it would be if nothing more came, and nothing waits."""
    config = configured(plain("retell", ", gather: null"))
    (source,) = config.sources
    mapping = compile_source(source, config.destinations[0], manifests={}, environ={})
    raw = (FIXTURES / f"retell/{fixture}.json").read_bytes()
    origin = Origin(source="retell", path=f"/calls/retell/{fixture}.json", length=len(raw))
    alone = mapping.map(Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=1.0))
    together = mapped(configured(plain("retell")), "retell", f"retell/{fixture}.json")
    assert not mapping.gathers
    assert alone.fragment is None
    assert (alone.call and alone.call.payload) == (together.call and together.call.payload)
    assert (alone.ignored is not None) == (together.ignored is not None) == (fixture == "call_started")


def test_a_document_taken_singly_misses_no_part_that_could_come() -> None:
    """`gather: null`: that a part never came would send an operator looking for it."""
    record = orjson.loads((FIXTURES.parent.parent / "presets2/fixtures/amazon-connect/record_alone.json").read_bytes())[0]
    raw = orjson.dumps(record)
    origin = Origin(source="amazon-connect", path="/calls/amazon-connect/record_alone.json", length=len(raw))
    told = []
    for own in (", gather: null", ""):
        config = configured(plain("amazon-connect", f", audio: upload{own}"))
        mapping = compile_source(config.sources[0], config.destinations[0], manifests={}, environ={})
        one = mapping.map(Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=1.0))
        refused = one.refused or (one.fragment and (mapping.gather(None, [one.fragment]) or one).refused)
        assert refused
        told.append(refused.refusal.what.rpartition("; ")[2])
    assert told == [
        "with `gather: null` each document is a whole call, and this one has no part `lens`", "its part `lens` never came",
    ]  # fmt: skip


def test_redaction_of_documents_takes_a_preset_whose_gathering_is_off() -> None:
    """Parts would stand in the ledger as they are; single documents need not."""
    redacted = ", redact: {detect: [card]}"
    with pytest.raises(ConfigError, match="gather: null"):
        configured(plain("retell", redacted))
    assert configured(plain("retell", f"{redacted}, gather: null")).sources[0].redact is not None


@pytest.mark.parametrize("preset", [*CALLS, *MANIFESTS])
def test_each_preset_says_where_from_what_and_what_not(preset: str) -> None:
    """The comment at its top has the three parts that the documentation is made of, in order, and fits the screen."""
    text = presets.text(preset)
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    parts = [line.split(":")[0] for line in head if not line.startswith("#   ")]
    assert parts in (["# from", "# maps", "# lacks"], ["# from", "# maps", "# lacks", "# audio"])
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize("preset", [*CALLS, *MANIFESTS])
def test_each_preset_has_documents_that_it_takes_and_some_that_it_leaves(preset: str) -> None:
    """No preset is without golden files of both kinds."""
    kinds = {name for file in (FIXTURES / preset).glob("*.expected.json") for name in orjson.loads(file.read_bytes())}
    assert kinds & {"body", "recording"}
    assert "ignored" in kinds
