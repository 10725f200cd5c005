"""Audio that came inside documents: small ones are decoded by the rules, large ones while their file is read."""

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio import made
from tests.intake.harness import put, source
from tests.mapping.sources import compiled, document, problems_of
from tunerd.admin.api import RetryOrder
from tunerd.admin.call_orders import CallOrders
from tunerd.audio.spool import AudioSpool, SpoolFull
from tunerd.call import Document, Origin, Recording, RefusedDocument, State
from tunerd.clock import SystemClock
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.events import CallFailed, IntakePaused, IntakeResumed, RecordingAdmitted
from tunerd.file_identity import FileIdentity
from tunerd.intake.embedded_audio import LONG_CHARS, StillTooLarge, without_audio
from tunerd.intake.read_again import read_place
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.intake.spool_sweeper import SpoolSweeper
from tunerd.ledger import Admission, Ledger
from tunerd.mapping import compile_source, manifest_sources
from tunerd.outcome import FailReason, IntakeReason
from tunerd.testing import MemoryLedger, Recorder

RULES = "manifest: {key: doc.id, audio: doc.full_audio}\n"
MIB = 1024 * 1024


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# By the rules.


def test_a_rule_gives_the_audio_itself() -> None:
    """base64, with line ends in it too, becomes the bytes of the recording."""
    audio = made.wav()
    text = base64.encodebytes(audio).decode()
    recording = compiled(RULES, None).map(document({"id": "c1", "full_audio": text})).recording
    assert recording is not None
    assert (recording.key, recording.location, recording.embedded) == ("c1", None, audio)
    assert "RIFF" not in repr(recording)


@pytest.mark.parametrize(("text", "words"), [("no base64!", "is no base64"), ("UklGR", "its end is missing")])
def test_what_is_no_base64(text: str, words: str) -> None:
    """The document is refused with the place of the rule."""
    refused = compiled(RULES, None).map(document({"id": "c1", "full_audio": text})).refused
    assert refused is not None
    assert refused.refusal.where.startswith("manifest.audio (line ")
    assert words in refused.refusal.what
    assert text not in refused.refusal.what


def test_a_document_without_audio() -> None:
    """Null, and an empty text, are no recording; a URL comes before the audio."""
    refused = compiled(RULES, None).map(document({"id": "c1", "full_audio": ""})).refused
    assert refused is not None
    assert refused.refusal.where.startswith("manifest.audio (line ")
    both = "manifest: {key: doc.id, url: doc.url, audio: doc.full_audio}\n"
    mapped = compiled(both, None).map(document({"id": "c1", "url": "https://a.example/1.wav", "full_audio": "UklG"}))
    assert mapped.recording is not None
    assert (mapped.recording.location, mapped.recording.embedded) == ("https://a.example/1.wav", b"")
    assert "no rule for `url`" in problems_of("manifest: {key: doc.id}\n", destination=None)[0]


# While the file is read.


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_only_audio_is_taken_out(data: st.DataObject) -> None:
    """Whatever else a document holds, and wherever the chunks are cut: it is the same document, with a name in place of each long
    base64 string, and the spool has the bytes."""
    texts = data.draw(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=4))
    audio = data.draw(st.binary(min_size=1, max_size=50)) * (LONG_CHARS // 20)
    encoded = base64.b64encode(audio * 2).decode()
    value = {"before": texts, "full_audio": encoded, "after": [texts, 'a "quoted\\" text', "x" * 100]}
    raw = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode()
    if escapes := data.draw(st.booleans()):
        raw = raw.replace(b"/", b"\\/")
    spool = _Memory()
    is_long = len(encoded) + escapes * encoded.count("/") > LONG_CHARS
    found, spooled = without_audio(pieces(raw, data.draw(st.sampled_from([1000, 4099, 70_001]))), spool, "/a@0", 100_000)
    read = json.loads(found)
    if is_long:
        (name,) = spooled
        assert spool.kept == {spooled[name].location: audio * 2}
        assert read == value | {"full_audio": name}
    else:
        assert (read, spooled) == (value, {})


class _Memory(AudioSpool):
    """A spool that keeps its entries in memory."""

    def __init__(self) -> None:
        super().__init__("", 10**9)
        self.kept: dict[str, bytes] = {}

    def add(self, place: str, chunks: Any, *, beside: int = 0) -> Any:
        location = f"embedded:{len(self.kept)}"
        self.kept[location] = b"".join(chunks)
        return location, FileIdentity(0, 0, len(self.kept[location]), 0, 0)


@pytest.mark.parametrize(
    "text",
    ["A" * 3 * LONG_CHARS + "!", "a long story " * LONG_CHARS, "A" * (2 * LONG_CHARS + 1), "QQ==" + "A" * 4 * LONG_CHARS],
)
def test_long_text_that_is_no_base64(text: str) -> None:
    """The document stays too large; a text with blanks may be short enough to be kept."""
    with pytest.raises(StillTooLarge):
        without_audio([json.dumps({"a": text}).encode()], _Memory(), "/a@0", 50_000)


def test_an_end_that_is_missing() -> None:
    """A file that ends inside of a string is no document."""
    for raw in (b'{"a": "' + b"A" * 3 * LONG_CHARS, b'{"a": "b', b'{"a": "b\\'):
        with pytest.raises(StillTooLarge):
            without_audio([raw], _Memory(), "/a@0", 10**6)


# A running intake.


def intake_of(root: Path, ledger: Ledger, told: Recorder, spool: AudioSpool) -> Intake:
    members = parse_yaml(RULES, "config.yaml").value
    assert isinstance(members, dict)
    brings = source(root, manifest=members["manifest"], destination="", max_document_bytes=MIB, holds_audio=True)
    mapping = compile_source(brings, None, manifests=manifest_sources([brings]), environ={})
    return Intake([brings], ledger, {"agent": mapping.map}, SystemClock(), told, IntakeOptions(spool=spool))


async def swept(root: Path, ledger: Ledger, spool: AudioSpool) -> Recorder:
    told = Recorder()
    intake = intake_of(root, ledger, told, spool)
    try:
        async with asyncio.timeout(30):
            await intake.sweep()
    finally:
        intake.close()
    return told


@pytest.mark.parametrize("seconds", [1, 200])
async def test_audio_of_a_document_is_in_the_spool(tmp_path: Path, seconds: int) -> None:
    """A document of any size: its recording is in the ledger with the location of an entry that has the audio, byte for byte."""
    ledger, spool = MemoryLedger(), AudioSpool(str(tmp_path / "spool"), 100 * MIB)
    (root := tmp_path / "calls").mkdir()
    audio = made.wav(seconds=seconds)
    put(root / "c1.json", {"id": "c1", "full_audio": base64.b64encode(audio).decode(), "more": "text"})
    told = await swept(root, ledger, spool)
    assert len(told.seen(RecordingAdmitted)) == 1
    (kept,) = ledger.change(lambda store: store.recordings.free_near("agent", "c1", 0))
    assert kept.location is not None
    path = Path(spool.path_of(kept.location))
    assert path.read_bytes() == audio
    assert str(path.stat().st_ino) in kept.identity
    await swept(root, ledger, AudioSpool(spool.directory, 100 * MIB))
    assert spool.locations() == [kept.location]


async def test_a_large_document_is_read_again_from_its_file(tmp_path: Path) -> None:
    """The ledger keeps no text of a document whose audio was taken out. `retry` reads its file, and the recording has all of it."""
    ledger, spool = MemoryLedger(), AudioSpool(str(tmp_path / "spool"), 100 * MIB)
    (root := tmp_path / "calls").mkdir()
    audio = made.wav(seconds=200)
    put(root / "c1.json", {"name": "c1", "full_audio": base64.b64encode(audio).decode()})
    told = await swept(root, ledger, spool)
    assert [failed.reason for failed in told.seen(CallFailed)] == [FailReason.UNMAPPABLE]

    def read(name: str, path: str, offset: int) -> Document | RefusedDocument:
        return read_place(path, offset, 0, MIB, source=name, root=str(root), spool=spool)

    now_right = compiled(RULES.replace("doc.id", "doc.name"), None)
    orders = CallOrders(ledger, lambda: {"agent": now_right}, read, lambda: 1.0, spool.keep)
    report = await orders.retry(RetryOrder(states=frozenset({State.FAILED})))
    assert report.done == {"recording": 1, "dismissed": 1}
    (kept,) = ledger.change(lambda store: store.recordings.free_near("agent", "c1", 0))
    assert kept.location is not None
    assert Path(spool.path_of(kept.location)).read_bytes() == audio


@pytest.mark.parametrize("fields", [{}, {"story": "a long story " * MIB}])
async def test_audio_of_a_refused_document_leaves_the_spool(tmp_path: Path, fields: dict[str, str]) -> None:
    """Two sweeps after a large document was refused, by the rules or because the rest of it is too large, its room is free."""
    ledger, spool = MemoryLedger(), AudioSpool(str(tmp_path / "spool"), 100 * MIB)
    (root := tmp_path / "calls").mkdir()
    text = base64.b64encode(made.wav(seconds=200)).decode()
    put(root / "c1.json", {"name": "c1", "full_audio": text, **fields})
    told = await swept(root, ledger, spool)
    assert (len(told.seen(CallFailed)), len(spool.locations())) == (1, 1)
    sweeper = SpoolSweeper(spool, ledger, SystemClock())
    await sweeper.sweep()
    await sweeper.sweep()
    assert spool.locations() == []


async def test_the_ledger_takes_no_audio_itself() -> None:
    """A recording whose audio is not in the spool yet is no statement that there is none."""
    recording = Recording(origin=Origin(source="agent", path="/a"), source="agent", key="c1", location=None, embedded=b"RIFF")
    with pytest.raises(ValueError, match="spool"):
        await MemoryLedger().admit(Admission(recordings=[recording]), 1.0)


async def test_a_large_document_without_audio_is_refused(tmp_path: Path) -> None:
    """What is too large without its audio, too, is refused as before, and nothing stays in the spool."""
    ledger, spool = MemoryLedger(), AudioSpool(str(tmp_path / "spool"), 100 * MIB)
    (root := tmp_path / "calls").mkdir()
    audio = base64.b64encode(made.wav(seconds=100)).decode()
    put(root / "c1.json", {"id": "c1", "full_audio": audio, "story": "a long story " * MIB})
    told = await swept(root, ledger, spool)
    assert [failed.reason for failed in told.seen(CallFailed)] == [FailReason.TOO_LARGE]
    await swept(root, ledger, again := AudioSpool(spool.directory, 100 * MIB))
    assert again.locations() == []


@pytest.mark.parametrize("seconds", [5, 200])
async def test_a_full_spool_pauses_the_source(tmp_path: Path, seconds: int) -> None:
    """With no room the source waits, with the reason `spool`, and reads on as soon as there is room."""
    ledger, told, stop = MemoryLedger(), Recorder(), asyncio.Event()
    audio = made.wav(seconds=seconds)
    spool = AudioSpool(str(tmp_path / "spool"), len(audio) + 100)
    (root := tmp_path / "calls").mkdir()
    first, _ = spool.add("elsewhere", [bytes(200)])
    put(root / "c1.json", {"id": "c1", "full_audio": base64.b64encode(audio).decode()})
    intake = intake_of(root, ledger, told, spool)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        (paused,) = await told.until(IntakePaused)
        assert (paused.source, paused.reason) == ("agent", IntakeReason.SPOOL)
        assert "ledger.max_spool" in paused.detail
        spool.remove(first)
        await told.until(RecordingAdmitted)
        await told.until(IntakeResumed)
        stop.set()
    assert os.path.getsize(spool.path_of(spool.locations()[0])) == len(audio)


@pytest.mark.parametrize(("seconds", "parts"), [(5, 1), (200, 1), (100, 2)])
async def test_audio_larger_than_the_spool_refuses_its_document(tmp_path: Path, seconds: int, parts: int) -> None:
    """No upload could make room for it: the document is refused with the key that allows more, and the next one is read."""
    ledger = MemoryLedger()
    audio = made.wav(seconds=seconds)
    spool = AudioSpool(str(tmp_path / "spool"), parts * len(audio) - 1)
    (root := tmp_path / "calls").mkdir()
    text = base64.b64encode(audio).decode()
    put(root / "c1.json", {"id": "c1", "full_audio": text, "more": [text] * (parts - 1)})
    put(root / "c2.json", {"id": "c2", "full_audio": base64.b64encode(made.wav()).decode()})
    told = await swept(root, ledger, spool)
    (failed,) = told.seen(CallFailed)
    assert (failed.reason, "c1.json" in failed.path) == (FailReason.TOO_LARGE, True)
    assert "ledger.max_spool" in failed.what
    assert (told.seen(IntakePaused), len(told.seen(RecordingAdmitted))) == ([], 1)


async def test_entries_of_nobody_are_removed_at_the_start(tmp_path: Path) -> None:
    """What a kill left between the spool and the ledger is gone after the next start; what the ledger knows stays."""
    ledger, spool = MemoryLedger(), AudioSpool(str(tmp_path / "spool"), 100 * MIB)
    (root := tmp_path / "calls").mkdir()
    put(root / "c1.json", {"id": "c1", "full_audio": base64.b64encode(made.wav()).decode()})
    await swept(root, ledger, spool)
    known = spool.locations()
    spool.add("a document that was never admitted", [b"audio"])
    (Path(spool.directory) / ".new-1").write_bytes(b"half")
    await swept(root, ledger, AudioSpool(spool.directory, 100 * MIB))
    assert os.listdir(spool.directory) == [known[0].removeprefix("embedded:")]


def test_a_full_spool_is_told_in_bytes(tmp_path: Path) -> None:
    """The message says how much is there, and which key allows more."""
    spool = AudioSpool(str(tmp_path / "s"), 100)
    spool.add("a", [bytes(90)])
    with pytest.raises(SpoolFull, match=r"holds 90 bytes, and 20 more are not allowed \(ledger\.max_spool is 100\);"):
        spool.add("b", [bytes(20)])
