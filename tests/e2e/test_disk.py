"""The disk of a running daemon's ledger fills up, becomes read-only or gives I/O errors, or file descriptors run out. Each
time intake pauses and says so once, open requests are finished, nothing is lost or sent twice, and ten seconds after the cause
is gone everything works again."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Sandbox, call_document, command, put, running, until, world
from tests.real_parts import needs_mount, needs_strace
from tunerd.clock import SystemClock

WITHIN_S = 10.0
CANNOT = "the ledger cannot be written; reading is paused until it can"
CAN_AGAIN = "the ledger can be written again"


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """A separate file system of this size."""
    disk = directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Use up all space except `leave` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while (room := os.statvfs(disk)).f_bavail * room.f_frsize >= max(leave, 1) + size * bool(leave):
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def move_ledger(config: Path, disk: Path, min_free: str = "0") -> None:
    text = config.read_text()
    config.write_text(text.replace(f"sqlite://{config.parent}/ledger.db", f"sqlite://{disk}/ledger.db\n  min_free: {min_free}"))


@asynccontextmanager
async def failing(daemon: Daemon, calls: str, error: str) -> AsyncIterator[None]:
    """Make these system calls of the process fail in this way, until the end of the block."""
    strace = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}", "-p",
        str(daemon.pid), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await until(lambda: strace.returncode is not None or _is_traced(daemon.pid))
        assert strace.returncode is None, (await strace.communicate())[1]
        yield
    finally:
        if strace.returncode is None:
            strace.terminate()
        await strace.wait()


def _is_traced(pid: int) -> bool:
    """All threads of the process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


@asynccontextmanager
async def full_disk(daemon: Daemon) -> AsyncIterator[None]:
    filler = fill(daemon.directory / "disk")
    yield
    filler.unlink()


@asynccontextmanager
async def no_descriptors(daemon: Daemon, but: int = 0) -> AsyncIterator[None]:
    """Use up every descriptor below the limit, except `but` of them."""
    taken = {int(fd.name) for fd in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    limit = next(n for n in range(3, 10_000) if n - sum(fd < n for fd in taken) >= but)
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def read_only(daemon: Daemon) -> AsyncIterator[None]:
    """Files that are opened from now on are on a read-only mount. Writes to open files get EROFS too, as if they were on that
    mount (the kernel remounts a file system with open writers only after its own errors)."""
    disk = str(daemon.directory / "disk")
    for how in (["--bind", disk], ["-o", "remount,bind,ro"]):
        await _ran("mount", *how, disk)
    try:
        async with failing(daemon, "pwrite64,ftruncate", "EROFS"):
            yield
    finally:
        await _ran("umount", "-l", disk)


async def _ran(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


def bad_syncs(daemon: Daemon) -> AbstractAsyncContextManager[None]:
    return failing(daemon, "fsync,fdatasync", "EIO")


@needs_mount
@needs_strace
@pytest.mark.parametrize("fault", [full_disk, read_only, bad_syncs])
async def test_the_ledgers_disk_fails_and_comes_back(
    tmp_path: Path, fault: Callable[[Daemon], AbstractAsyncContextManager[None]]
) -> None:
    """Under load: ENOSPC for lack of space, EROFS on every write, EIO on every sync."""
    with small_disk(tmp_path, "64m"):
        async with world(tmp_path) as (tuner, config):
            move_ledger(config, tmp_path / "disk")
            async with running(config) as daemon:
                await tuner.plan({"latency_s": 2.5})
                early = [f"early-{number}" for number in range(4)]
                for call_id in early:
                    put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
                await until(lambda: _open_at(tuner, 4))
                late = [f"late-{number}" for number in range(40)]
                async with fault(daemon):
                    for call_id in late:
                        document = call_document(call_id)
                        document["messages"][0]["text"] = "so much to say " * 10_000
                        put(tmp_path / "calls" / f"{call_id}.json", document)
                    await until(lambda: daemon.told(CANNOT))
                    await until(lambda: _is_paused(daemon, 1))
                    assert await _open_at(tuner, 4), "the requests were open when the ledger failed"
                    await until(lambda: _open_at_most(tuner, 0))
                    await until(lambda: _holds_no_attempt(daemon))
                    await tuner.plan({"latency_s": 0})
                    assert len(daemon.told(CANNOT)) == 1
                    assert len(daemon.told("source paused")) <= 1
                    assert await daemon.healthy(), "a restart would not mend the disk"
                await until(lambda: daemon.told(CAN_AGAIN), ceiling_s=WITHIN_S)
                await until(lambda: _is_paused(daemon, 0), ceiling_s=WITHIN_S)
                await tuner.has(*early, *late)
                assert await daemon.stop() == 0
            assert await tuner.accepted() == dict.fromkeys([*early, *late], 1)


async def test_no_descriptors_are_left(tmp_path: Path) -> None:
    """EMFILE everywhere: files cannot be read and no connection can be made. The daemon reports it and keeps running; ten
    seconds after descriptors are free, everything is sent."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        put(tmp_path / "calls" / "early.json", call_document("early"))
        await tuner.has("early")
        late = [f"late-{number}" for number in range(30)]
        async with no_descriptors(daemon):
            for call_id in late:
                put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
            await until(lambda: "Too many open files" in daemon.said or "descriptors" in daemon.said)
        await tuner.has(*late, ceiling_s=WITHIN_S)
        assert daemon.running
        assert "Traceback" not in daemon.said
        assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys(["early", *late], 1)


async def test_no_descriptors_for_uploads(tmp_path: Path) -> None:
    """Calls in the ledger meet EMFILE when they connect. If a connection can be made, it is used; otherwise the pause `local`
    says so. Tuner does not count as unreachable, no attempt is counted, and ten seconds after descriptors are free everything
    is sent, nothing twice."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        assert (await command(config, "pause"))[0] == 0
        calls = [f"call-{number}" for number in range(40)]
        for call_id in calls:
            put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
        await until(lambda: _all_due(daemon, 40))
        await tuner.plan({"latency_s": 0.2})
        async with no_descriptors(daemon, but=1):  # one descriptor, for the resume command
            await until(lambda: succeeds(config, "resume"))
            await until(lambda: _paused(daemon, "local") or _has_any(tuner))
        await tuner.has(*calls, ceiling_s=WITHIN_S)
        assert all("LimitNOFILE" in line["detail"] for line in _paused(daemon, "local"))
        assert not _paused(daemon, "unreachable")
        assert await daemon.metric("tunerd_delivery_paused", reason="local") == 0
        assert not await daemon.metric("tunerd_calls_retried_total", reason="unreachable")
        assert "Traceback" not in daemon.said
        assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys(calls, 1)


async def test_idle_connections_do_not_take_the_descriptors(tmp_path: Path) -> None:
    """With 128 descriptors, somebody opens 300 connections to the ops port, again and again: calls are read and delivered, a
    scrape succeeds, and the log stays short."""
    async with world(tmp_path) as (tuner, config):
        daemon = await Daemon.run(config, under=("prlimit", "--nofile=128:128"))
        idle: list[asyncio.StreamWriter] = []
        try:
            host, _, port = daemon.told("listening")[-1]["address"].rpartition(":")
            before = len(daemon.lines())
            for number in range(20):
                for _ in range(15):
                    idle.append((await asyncio.open_connection(host, int(port)))[1])
                put(tmp_path / "calls" / f"call-{number}.json", call_document(f"call-{number}"))
                await tuner.has(f"call-{number}", ceiling_s=WITHIN_S)
            assert await daemon.healthy()
            assert len(list(Path(f"/proc/{daemon.pid}/fd").iterdir())) < 96
            assert len(daemon.lines()) - before <= 10
            assert await daemon.stop() == 0
        finally:
            for writer in idle:
                writer.close()
            await daemon.kill()


async def test_deliveries_go_on_with_the_connections_that_are_open(tmp_path: Path) -> None:
    """No descriptor is left, but some connections are open: the daemon keeps using them without a pause, and ten minutes of
    this would not fill the log."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        await tuner.plan({"latency_s": 0.3})
        first = [f"first-{number}" for number in range(4)]
        for call_id in first:
            put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
        await tuner.busy(3)
        assert (await command(config, "pause"))[0] == 0
        calls = [f"call-{number}" for number in range(60)]
        for call_id in calls:
            put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
        await until(lambda: _all_due(daemon, 60))
        await tuner.plan({"latency_s": 0.05})
        before = len(daemon.lines())
        async with no_descriptors(daemon, but=1):
            await until(lambda: succeeds(config, "resume"))
            await tuner.has(*calls, ceiling_s=30)
            assert len(daemon.lines()) - before <= 10
        assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys([*first, *calls], 1)


@needs_mount
async def test_min_free_pauses_intake_before_the_disk_is_full(tmp_path: Path) -> None:
    """With less than `ledger.min_free` left nothing is admitted, one log line and the metric say so, and space remains. Calls
    in the ledger are sent. With more space intake resumes within ten seconds."""
    with small_disk(tmp_path, "40m") as disk:
        async with world(tmp_path) as (tuner, config):
            move_ledger(config, disk, "20MiB")
            async with running(config) as daemon:
                await tuner.plan({"latency_s": 1.0})
                put(tmp_path / "calls" / "early.json", call_document("early"))
                await until(lambda: _open_at(tuner, 1))
                filler = fill(disk, leave=15 << 20)
                late = []
                while not await _is_paused(daemon, 1):  # free space is checked once a second
                    late.append(f"late-{len(late)}")
                    put(tmp_path / "calls" / f"{late[-1]}.json", call_document(late[-1]))
                    await SystemClock().wait(asyncio.Event(), 0.1)
                put(tmp_path / "calls" / "last.json", call_document("last"))
                await until(lambda: _open_at_most(tuner, 0))
                await tuner.plan({"latency_s": 0})
                assert "last" not in await tuner.accepted()
                assert "due" not in await daemon.states()
                (line,) = daemon.told("source paused")
                assert line["reason"] == "disk"
                assert "min_free" in line["detail"]
                assert not daemon.told(CANNOT)
                filler.unlink()
                await tuner.has("early", "last", *late, ceiling_s=WITHIN_S)
                assert await daemon.stop() == 0


@needs_mount
async def test_a_read_only_place_is_refused_at_the_start(tmp_path: Path) -> None:
    """The daemon exits with 1 and one line that names the place."""
    with small_disk(tmp_path, "14m") as disk:
        async with world(tmp_path) as (_, config):
            move_ledger(config, disk)
            remounted = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro", str(disk))
            assert await remounted.wait() == 0
            code, said = await command(config, "run")
    assert code == 1
    assert [line for line in said.splitlines() if not line.startswith("{")] == [
        f"tunerd: {disk} cannot be written (read-only, or another owner); the ledger needs a place of its own"
    ]


def _paused(daemon: Daemon, reason: str) -> list[dict[str, object]]:
    return [line for line in daemon.told("paused") if line["reason"] == reason]


async def succeeds(config: Path, *arguments: str) -> bool:
    """A daemon without a free descriptor cannot accept a command's connection at once."""
    code, _ = await command(config, *arguments)
    return code == 0


async def _has_any(tuner: Sandbox) -> bool:
    return bool(await tuner.accepted())


async def _all_due(daemon: Daemon, count: int) -> bool:
    return (await daemon.states()).get("due") == count


async def _open_at(tuner: Sandbox, count: int) -> bool:
    return int((await tuner.counts())["in_flight"]) >= count


async def _open_at_most(tuner: Sandbox, count: int) -> bool:
    return int((await tuner.counts())["in_flight"]) <= count


async def _is_paused(daemon: Daemon, value: int) -> bool:
    return await daemon.metric("tunerd_intake_paused", reason="disk") == value


async def _holds_no_attempt(daemon: Daemon) -> bool:
    return await daemon.metric("tunerd_uploads_in_flight") == 0
