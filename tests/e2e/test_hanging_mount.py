"""A mount of recordings hangs under a real daemon: what is elsewhere arrives, and the daemon ends when it is asked to."""

import json
import os
import signal
import time
from pathlib import Path

from tests.audio.made import wav
from tests.e2e.harness import call_document, command, config_text, put, running, until
from tests.hanging_mount import hanging, needs_hanging_mount
from tunerd.sandbox.server import Sandbox

pytestmark = needs_hanging_mount


async def test_audio_elsewhere_arrives_and_the_daemon_ends(tmp_path: Path) -> None:
    """More calls than there are upload slots and threads name audio on a mount that hangs, by a rule and by `file:`. Audio in
    other directories is found and uploaded; one line and `status` say why the others wait; SIGTERM ends the daemon in time;
    and when the mount is back, the next start delivers them."""
    for name in ("calls", "recordings", "nfs", "disk"):
        (tmp_path / name).mkdir()
    async with Sandbox() as tuner:
        config, nfs, disk = tmp_path / "tunerd.yaml", tmp_path / "nfs", tmp_path / "disk"
        plan = f"""      - {{file: "concat(doc.id, '.wav')", in: {disk}, wait: 5s}}
      - {{file: "concat(doc.id, '.wav')", in: {nfs}, wait: 1h}}
    audio: {{publish: upload, files: [{nfs}, {disk}]}}"""
        config.write_text(config_text(tuner.url, tmp_path, source=plan, drain="5s"))

        def record(call_id: str, directory: Path, *, is_named: bool) -> None:
            path = directory / f"{call_id}.wav"
            path.write_bytes(wav(seconds=1.0))
            os.utime(path, (time.time() - 100,) * 2)
            named = {"audio": str(path)} if is_named else {}
            put(tmp_path / "calls" / f"{call_id}.json", {**call_document(call_id, audio=False), **named})

        on_nfs = [f"nfs{number}" for number in range(12)]
        for number, call_id in enumerate(on_nfs):
            record(call_id, nfs, is_named=number != 0)
        with hanging(nfs):
            async with running(config) as daemon:
                (line,) = await until(lambda: daemon.told("a directory of recordings does not answer; its calls wait"))
                assert line["directory"] == str(nfs)
                record("disk0", disk, is_named=False)
                record("disk1", disk, is_named=True)
                await until(lambda: {"disk0", "disk1"} <= set(tuner.storage.stored))

                async def says_why(call_id: str) -> bool:
                    _, said = await command(config, "status", call_id, "--json")
                    return f"the directory {nfs} has not answered" in json.dumps(json.loads(said))

                for call_id in on_nfs:
                    await until(lambda call_id=call_id: says_why(call_id))
                assert len(daemon.told("a directory of recordings does not answer; its calls wait")) == 1
                assert await daemon.healthy()
                began = time.monotonic()
                assert await daemon.stop() == 0
                assert time.monotonic() - began < 6.0
        assert set(tuner.storage.stored) == {"disk0", "disk1"}
        async with running(config) as daemon:
            await until(lambda: set(on_nfs) <= set(tuner.storage.stored))
            assert await daemon.stop() == 0


async def test_a_source_that_hangs_holds_up_no_stop(tmp_path: Path) -> None:
    """The directory of a source hangs while it is read: SIGTERM still ends the daemon."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    async with Sandbox() as tuner:
        config = tmp_path / "tunerd.yaml"
        config.write_text(config_text(tuner.url, tmp_path, drain="5s"))
        async with running(config) as daemon:
            with hanging(tmp_path / "calls"):
                await until(lambda: _waits_in_fuse(daemon.pid))
                began = time.monotonic()
                assert await daemon.stop() == 0
                assert time.monotonic() - began < 6.0


async def test_a_reload_while_a_source_hangs_holds_up_no_stop(tmp_path: Path) -> None:
    """Whoever reads the configuration again looks at its directories: SIGTERM still ends the daemon."""
    for name in ("calls", "recordings"):
        (tmp_path / name).mkdir()
    async with Sandbox() as tuner:
        config = tmp_path / "tunerd.yaml"
        config.write_text(config_text(tuner.url, tmp_path, drain="5s"))
        async with running(config) as daemon:
            with hanging(tmp_path / "calls"):
                await until(lambda: _waits_in_fuse(daemon.pid))
                before = _waits_in_fuse(daemon.pid)
                daemon.signal(signal.SIGHUP)
                await until(lambda: _waits_in_fuse(daemon.pid) > before)
                began = time.monotonic()
                assert await daemon.stop() == 0
                assert time.monotonic() - began < 6.0


def _waits_in_fuse(pid: int) -> int:
    """How many threads of the process wait for the file system that nobody serves."""
    return sum("fuse" in (task / "wchan").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
