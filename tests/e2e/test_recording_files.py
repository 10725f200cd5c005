"""Recordings that are files, and recordings inside documents, from the disk to Tuner's storage: a real daemon and the sandbox."""

import base64
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.audio.made import unfinished_wav, wav
from tests.e2e.harness import call_document, command, put, running, until
from tunerd.sandbox.faults import FixedAnswer
from tunerd.sandbox.server import Sandbox

CONFIG = """
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, api_key: tr_api_files, base_url: {url}}}
sources:
  - name: calls
    path: {directory}/calls
    rescan: 1s
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.messages}}, role: m.role, text: m.text, start_ms: m.at}}
    recording:
      - {{file: "concat(doc.id, '.wav')", in: {directory}/rec, settle: 500ms, wait: 3s}}
      - {{manifest: webhooks, key: doc.id, within: any, wait: 20s}}
    audio: upload
  - name: webhooks
    path: {directory}/webhooks
    rescan: 1s
    max_document: 1MiB
    manifest: {{key: doc.id, audio: doc.full_audio}}
delivery: {{drain: 5s}}
ledger: {{url: "sqlite://{directory}/ledger.db", min_free: 0B}}
http: {{listen: 127.0.0.1:0}}
"""


@dataclass
class Office:
    tuner: Sandbox
    directory: Path
    config: Path

    def call(self, call_id: str) -> None:
        put(self.directory / "calls" / f"{call_id}.json", call_document(call_id, audio=False))

    def arrived(self, call_id: str) -> list[str]:
        return [one.sha256 for one in self.tuner.storage.stored.get(call_id, ())]

    async def status(self, call_id: str) -> str:
        return (await command(self.config, "status", call_id, "--json"))[1]

    @property
    def spool(self) -> list[str]:
        path = self.directory / "ledger.db.audio"
        return os.listdir(path) if path.exists() else []


@asynccontextmanager
async def office(directory: Path) -> AsyncIterator[Office]:
    for name in ("calls", "rec", "webhooks"):
        (directory / name).mkdir()
    async with Sandbox() as tuner:
        config = directory / "tunerd.yaml"
        config.write_text(CONFIG.format(url=tuner.url, directory=directory))
        yield Office(tuner, directory, config)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_wav_that_is_recorded_while_its_call_waits(tmp_path: Path) -> None:
    """The file grows with open sizes in its header, and is finished later: what arrives is the finished file, once, byte for byte,
    and `status` says before what the call waits for."""
    audio = wav(seconds=3)
    async with office(tmp_path) as place, running(place.config):
        path = tmp_path / "rec" / "c1.wav"
        path.write_bytes(unfinished_wav())
        place.call("c1")
        await until(lambda: _says(place, "c1", f"file {path}: {path} is still being written, by its header; waits until"))
        path.write_bytes(audio)
        await until(lambda: place.arrived("c1") == [digest(audio)])
        await until(lambda: _says(place, "c1", "uploaded"))


async def _says(place: Office, call_id: str, words: str) -> bool:
    return words in await place.status(call_id)


async def test_a_file_that_is_overwritten_is_never_somebody_elses_audio(tmp_path: Path) -> None:
    """While Tuner does not answer, the next call's audio is written over a file that was matched: nothing of it is uploaded."""
    async with office(tmp_path) as place:
        for _ in range(200):
            place.tuner.plan(FixedAnswer(503), call_id="c1")
        async with running(place.config) as daemon:
            (tmp_path / "rec" / "c1.wav").write_bytes(wav(seconds=1))
            place.call("c1")
            await place.tuner.wait_for(lambda received: len(received) > 0)
            (tmp_path / "rec" / "c1.wav").write_bytes(wav(seconds=2))
            await until(lambda: _says(place, "c1", "audio_changed"))
            assert place.arrived("c1") == []
            assert daemon is not None


@pytest.mark.parametrize("seconds", [2, 120])
async def test_audio_inside_a_document(tmp_path: Path, seconds: int) -> None:
    """base64 of a webhook, smaller or larger than max_document, arrives byte for byte; afterwards the spool is empty."""
    audio = wav(seconds=seconds)
    async with office(tmp_path) as place, running(place.config):
        put(tmp_path / "webhooks" / "a1.json", {"id": "c1", "full_audio": base64.b64encode(audio).decode()})
        place.call("c1")
        await until(lambda: place.arrived("c1") == [digest(audio)])
        await until(lambda: place.spool == [])


@pytest.mark.parametrize(("seconds", "is_running"), [(2, True), (120, True), (120, False)])
async def test_audio_inside_a_document_that_was_refused(tmp_path: Path, seconds: int, is_running: bool) -> None:
    """Corrected rules and `tunerd retry`, with the daemon or without: the audio arrives byte for byte."""
    audio = wav(seconds=seconds)
    async with office(tmp_path) as place:
        async with running(place.config) as daemon:
            put(tmp_path / "webhooks" / "a1.json", {"name": "c1", "full_audio": base64.b64encode(audio).decode()})
            place.call("c1")
            await until(lambda: bool(daemon.told("failed")))
            place.config.write_text(place.config.read_text().replace("{key: doc.id, audio", "{key: doc.name, audio"))
            if is_running:
                assert (await command(place.config, "reload"))[0] == 0
                code, said = await command(place.config, "retry", "--all")
                assert code == 0, said
                await until(lambda: place.arrived("c1") == [digest(audio)])
                return
        code, said = await command(place.config, "retry", "--all")
        assert code == 0, said
        async with running(place.config):
            await until(lambda: place.arrived("c1") == [digest(audio)])
            await until(lambda: place.spool == [])


async def test_killed_with_audio_in_the_spool(tmp_path: Path) -> None:
    """A webhook that came before its call, and a kill between them: the audio arrives after the restart, and an entry that nobody
    refers to is gone."""
    audio = wav(seconds=2)
    async with office(tmp_path) as place:
        async with running(place.config) as daemon:
            put(tmp_path / "webhooks" / "a1.json", {"id": "c1", "full_audio": base64.b64encode(audio).decode()})
            await until(lambda: len(place.spool) == 1 and not place.spool[0].startswith("."))
            await daemon.kill()
        (tmp_path / "ledger.db.audio" / "0000").write_bytes(b"of nobody")
        async with running(place.config):
            await until(lambda: len(place.spool) == 1)
            place.call("c1")
            await until(lambda: place.arrived("c1") == [digest(audio)])
            await until(lambda: place.spool == [])
