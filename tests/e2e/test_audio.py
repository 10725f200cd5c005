"""`audio: upload` with a real daemon that is killed at each step, beside the sandbox as Tuner and its storage."""

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.audio.made import wav
from tests.e2e.harness import Daemon, call_document, command, config_text, put, running, until
from tunerd.sandbox.faults import Faults, HoldAnswer
from tunerd.sandbox.server import Sandbox


@dataclass
class Studio:
    """A sandbox and a configuration whose calls name files of audio."""

    tuner: Sandbox
    directory: Path
    config: Path

    def record(self, call_id: str, content: bytes | None = None) -> str:
        """Write the audio of a call, and then its document; gives the hash of the audio."""
        content = wav(seconds=1.0 + len(call_id) / 10) + call_id.encode() if content is None else content
        path = self.directory / "rec" / f"{call_id}.wav"
        path.write_bytes(content)
        os.utime(path, (time.time() - 100,) * 2)
        put(self.directory / "calls" / f"{call_id}.json", {**call_document(call_id), "audio": str(path)})
        return hashlib.sha256(content).hexdigest()

    def arrived(self, call_id: str) -> list[str]:
        return [one.sha256 for one in self.tuner.storage.stored.get(call_id, ())]

    async def failed(self) -> dict[str, str]:
        """Call id -> reason, as `tunerd failed` lists them."""
        _, said = await command(self.config, "failed", "--json")
        return {call["call_id"]: call["reason"] for call in json.loads(said)["calls"]}

    async def audio_of(self, call_id: str) -> str:
        _, said = await command(self.config, "status", call_id, "--json")
        return str(json.loads(said)["stories"][0]["call"]["audio"])


@asynccontextmanager
async def studio(directory: Path, faults: Faults | None = None, audio: str = "") -> AsyncIterator[Studio]:
    for name in ("calls", "recordings", "rec"):
        (directory / name).mkdir()
    async with Sandbox(faults=faults) as tuner:
        config = directory / "tunerd.yaml"
        plan = f"    audio: {{publish: upload, files: [{directory}/rec]{audio}}}"
        config.write_text(config_text(tuner.url, directory, source=plan))
        yield Studio(tuner, directory, config)


async def test_once_waits_until_the_audio_is_uploaded(tmp_path: Path) -> None:
    """`run --once` ends when the storage has the audio, not when Tuner has the call; afterwards the file is moved."""
    async with studio(tmp_path, audio=", after_upload: {move_to: done}") as place:
        digests = {f"c{number}": place.record(f"c{number}") for number in range(6)}
        daemon = await Daemon.start("run", "-c", str(place.config), "--once", output=tmp_path / "tunerd.log")
        assert await daemon.ended() == 0, daemon.said
        assert {call_id: place.arrived(call_id) for call_id in digests} == {name: [one] for name, one in digests.items()}
        assert sorted(one.name for one in (tmp_path / "rec" / "done").iterdir()) == [f"c{number}.wav" for number in range(6)]
        assert await place.audio_of("c0") == "uploaded"


async def test_killed_before_the_target_is_written_down_the_audio_is_lost_and_told(tmp_path: Path) -> None:
    """Tuner has taken the call and nobody knows where its audio goes: the call is sent, exactly failed(upload_target_lost)."""
    async with studio(tmp_path) as place:
        hold = HoldAnswer(asyncio.Event())
        place.tuner.plan(hold, call_id="a")
        place.record("a")
        async with running(place.config) as daemon:
            await place.tuner.wait_for(lambda received: len(received) == 1)
            await daemon.kill()
        hold.release.set()
        async with running(place.config) as daemon:
            await until(lambda: daemon.told("the audio of a call does not reach Tuner"))
            assert await place.failed() == {"a": "upload_target_lost"}
            assert place.arrived("a") == []
            assert await daemon.metric("tunerd_audio_uploads_total", outcome="upload_target_lost") == 1
            assert await daemon.metric("tunerd_calls_audio", audio="failed") == 1
            assert (await daemon.states())["sent"] == 1
            code, said = await command(place.config, "retry", "--audio")
            assert (code, "cannot be uploaded any more" in said) == (1, True), said
            assert (await command(place.config, "dismiss", "a"))[0] == 0
            assert await place.failed() == {}


async def test_killed_while_it_is_uploaded_the_audio_arrives_byte_for_byte(tmp_path: Path) -> None:
    """The target was written down before the first byte went out: the next start uploads, without asking Tuner again."""
    async with studio(tmp_path) as place:
        hold = HoldAnswer(asyncio.Event())
        place.tuner.storage.plan(hold, call_id="a")
        digest = place.record("a")
        async with running(place.config) as daemon:
            await place.tuner.wait_for(lambda _: place.tuner.storage.begun == 1)
            await daemon.kill()
        hold.release.set()
        async with running(place.config) as daemon:
            await until(lambda: len(place.arrived("a")) == 2)
            assert set(place.arrived("a")) == {digest}
            assert len(place.tuner.received) == 1
            await until(lambda: _is_uploaded(place))
            assert await place.failed() == {}


async def _is_uploaded(place: Studio) -> bool:
    return await place.audio_of("a") == "uploaded"


_SETTLED = ("ledger/commands/audio_life.py", "store.change(row, audio=AudioState.UPLOADING)", 1)
_ENDED = ("ledger/commands/audio_life.py", "store.change(row, audio=AudioState.UPLOADED)", 1)
_COMMIT = ("ledger/sql/store.py", "self.db.commit()", 1)
_COMMITTED = ("ledger/sql/store.py", "done = ({name", 1)
KILLED_BEFORE = {
    "Tuner's answer is looked at": [("delivery/worker.py", "return pool.ended(permit, claimed", 1)],
    "the target is written": [_SETTLED],
    "the target is committed": [_SETTLED, _COMMIT],
}
KILLED_AFTER = {
    "the target is committed": [_SETTLED, _COMMITTED],
    "the upload is given out": [("delivery/audio_delivery.py", "self._open.add(upload.row)", 1)],
    "the storage is asked": [("delivery/audio_upload.py", "proxy = proxy_for(url", 1)],
    "half of the body is read": [("audio/local.py", "with self._directories.opened(self._path", 3)],
    "the storage has answered": [("delivery/audio_delivery.py", "await self._ledger.upload_ended(", 1)],
    "the end is written": [_ENDED, _COMMIT],
    "the end is committed": [_ENDED, _COMMITTED],
    "the file is set aside": [("audio/local_place.py", "_check_aside(folder, aside, path, identity)", 1)],
    "the file is moved": [("delivery/audio_delivery.py", "self._ledger.leftover_done(", 1)],
}
LARGE = wav(channels=2, rate=48_000, seconds=10.0)
"""1.9 MB: it is looked at once, and then read in two turns."""


async def _killed_at(place: Studio, points: list[tuple[str, str, int]]) -> str:
    """The call a is read by a daemon that is killed at the points; gives the hash of its audio."""
    under = (sys.executable, "-m", "tests.e2e.killed_at", json.dumps(points))
    daemon = await Daemon.run(place.config, under=under)
    digest = place.record("a", LARGE)
    assert await daemon.ended() == -signal.SIGKILL, daemon.said
    return digest


@pytest.mark.parametrize("moment", KILLED_BEFORE)
async def test_a_kill_before_the_target_is_committed_loses_exactly_the_target(moment: str, tmp_path: Path) -> None:
    """The call is sent once, and its audio is failed(upload_target_lost), listed and counted; nothing is at the storage."""
    async with studio(tmp_path, audio=", after_upload: {move_to: done}") as place:
        await _killed_at(place, KILLED_BEFORE[moment])
        async with running(place.config) as daemon:
            await until(lambda: daemon.told("the audio of a call does not reach Tuner"))
            assert await place.failed() == {"a": "upload_target_lost"}
            assert await daemon.metric("tunerd_audio_uploads_total", outcome="upload_target_lost") == 1
            assert await daemon.metric("tunerd_calls_audio", audio="failed") == 1
            assert await daemon.states() == {"sent": 1}
        assert place.arrived("a") == []
        assert (tmp_path / "rec" / "a.wav").read_bytes() == LARGE


@pytest.mark.parametrize("moment", KILLED_AFTER)
async def test_a_kill_after_the_target_is_committed_loses_nothing(moment: str, tmp_path: Path) -> None:
    """The audio is at the storage byte for byte, Tuner was asked once, and the file is where `after_upload` puts it."""
    async with studio(tmp_path, audio=", after_upload: {move_to: done}") as place:
        digest = await _killed_at(place, KILLED_AFTER[moment])
        async with running(place.config) as daemon:
            await until(lambda: (tmp_path / "rec" / "done" / "a.wav").exists())
            await until(lambda: _is_uploaded(place))
            assert set(place.arrived("a")) == {digest}
            assert len(place.tuner.received) == 1
            assert await place.failed() == {}
            assert await daemon.states() == {"sent": 1}
        assert [path.name for path in (tmp_path / "rec").rglob("*") if path.is_file()] == ["a.wav"]
        assert (tmp_path / "rec" / "done" / "a.wav").read_bytes() == LARGE


@pytest.mark.parametrize("seed", [1])
async def test_killed_at_any_moment_no_audio_is_silent(tmp_path: Path, seed: int) -> None:
    """After kills at random moments each call is sent once, and its audio has arrived byte for byte or is listed as lost."""
    chance = random.Random(seed)
    async with studio(tmp_path, Faults(latency_s=0.02)) as place:
        digests: dict[str, str] = {}
        for kill in range(6):
            for number in range(8):
                digests[f"k{kill}-{number}"] = place.record(f"k{kill}-{number}")
            async with running(place.config) as daemon:
                before = len(place.tuner.received)
                wanted = before + chance.randrange(1, 7)
                await place.tuner.wait_for(lambda received, wanted=wanted: len(received) >= wanted)
                await daemon.kill()
        async with running(place.config) as daemon:
            await until(lambda: _is_quiet(daemon))
            lost = await place.failed()
            for call_id, digest in digests.items():
                if call_id in lost:
                    assert lost[call_id] == "upload_target_lost"
                    assert place.arrived(call_id) == []
                else:
                    assert set(place.arrived(call_id)) == {digest}
            assert (await daemon.states()) == {"sent": len(digests)}
            assert len(lost) < len(digests) / 2


async def _is_quiet(daemon: Daemon) -> bool:
    states = await daemon.states()
    return set(states) == {"sent"} and await daemon.metric("tunerd_calls_audio", audio="uploading") == 0


async def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """100 MB are streamed: the process grows by less than 20 MB (benchmarks/audio.py measures 500 MB)."""
    async with studio(tmp_path) as place:
        size = 100_000_000
        head = wav(seconds=0.0)
        head = head[:4] + (size + 36).to_bytes(4, "little") + head[8:40] + size.to_bytes(4, "little")
        path = tmp_path / "rec" / "large.wav"
        with path.open("wb") as file:
            file.write(head)
            file.truncate(size + 44)
        os.utime(path, (time.time() - 100,) * 2)
        async with running(place.config) as daemon:
            place.record("small")
            await until(lambda: place.arrived("small"))
            Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")
            before = _peak_kb(daemon.pid)
            put(tmp_path / "calls" / "large.json", {**call_document("large"), "audio": str(path)})
            await until(lambda: place.arrived("large"))
            assert place.tuner.storage.stored["large"][-1].size == size + 44
            assert (_peak_kb(daemon.pid) - before) / 1024 < 20


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
