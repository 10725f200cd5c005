"""One ledger and two processes: the lock decides, and names its holder."""

import asyncio
import os
import re
import socket
import time
from pathlib import Path

from tests.e2e.harness import Process, call_document, command, put, running, until, world


async def test_the_second_refuses_and_names_the_first(tmp_path: Path) -> None:
    """The second process exits with 75 within a second of its start, and one line with host, pid and since; the first one is
    not disturbed."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        began = time.monotonic()
        await command(config, "schema")
        to_start_s = time.monotonic() - began
        began = time.monotonic()
        code, said = await command(config, "run")
        assert time.monotonic() - began <= 5.0 + 2 * to_start_s, "it does not wait for the lock"
        assert code == 75
        (line,) = [line for line in said.splitlines() if line.startswith("tunerd:")]
        since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
        assert re.search(rf"held by pid {daemon.pid} on {re.escape(socket.gethostname())} since {since}", line)
        put(tmp_path / "calls" / "a.json", call_document("a"))
        await tuner.has("a")
        assert await daemon.stop() == 0


async def test_wait_for_lock_takes_over_when_the_first_ends(tmp_path: Path) -> None:
    """With --wait-for-lock the second process continues as soon as the first has released the ledger, as in a rolling restart."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        second = await Process.start(
            "run", "--config", str(config), "--wait-for-lock", "60s",
            output=tmp_path / "second.log", environ={"RUNTIME_DIRECTORY": str(tmp_path)},
        )  # fmt: skip
        try:
            await until(lambda: _has_open(second.pid, "ledger.db.lock"))
            assert await daemon.stop() == 0
            put(tmp_path / "calls" / "b.json", call_document("b"))
            await tuner.has("b", ceiling_s=10)
            assert second.running
            second.signal(15)
            assert await second.ended() == 0
        finally:
            await second.kill()


async def test_wait_for_lock_ends_at_its_time(tmp_path: Path) -> None:
    """If the holder stays, the wait ends with exit code 75."""
    async with world(tmp_path) as (_, config), running(config):
        code, said = await command(config, "run", "--wait-for-lock", "0.3s")
    assert code == 75
    assert "is held by pid" in said


async def test_a_lock_left_by_a_kill_never_blocks(tmp_path: Path) -> None:
    """After SIGKILL the lock file names a dead process, or a live one that is not tunerd. Neither blocks the next start."""
    async with world(tmp_path) as (tuner, config):
        async with running(config) as daemon:
            await daemon.kill()
        lock = tmp_path / "ledger.db.lock"
        assert str(daemon.pid) in lock.read_text()
        lock.write_text(lock.read_text().replace(str(daemon.pid), str(os.getpid())))
        put(tmp_path / "calls" / "a.json", call_document("a"))
        async with asyncio.timeout(10), running(config) as daemon:
            await tuner.has("a")
            assert await daemon.stop() == 0


def _has_open(pid: int, name: str) -> bool:
    fds = Path(f"/proc/{pid}/fd")
    return any(str(fd.readlink()).endswith(name) for fd in fds.iterdir() if fd.is_symlink())
