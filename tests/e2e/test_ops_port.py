"""The ops port of a real daemon: what stops it from starting, and what a lack of descriptors or a crowd of clients does to it."""

import asyncio
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.e2e.harness import KEY, Daemon, Process, call_document, running, until, world

LINES = 10


@contextmanager
def exhausted(daemon: Daemon) -> Iterator[None]:
    """The limit is where the first free descriptor would be: each one below it is taken. What is open for a moment only, and would
    be free later, does not count."""
    taken = set.intersection(*({int(fd.name) for fd in Path(f"/proc/{daemon.pid}/fd").iterdir()} for _ in range(50)))
    limit = next(number for number in range(len(taken) + 1) if number not in taken)
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    yield
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


async def ended(config: Path) -> tuple[int, list[str]]:
    """A daemon that does not start: its exit code, and its lines that are no log lines."""
    process = await Process.start("run", "--config", str(config), output=config.parent / "said")
    code = await process.ended()
    return code, [line for line in process.said.splitlines() if not line.startswith("{")]


async def test_a_port_that_is_taken_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """Which address, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with world(tmp_path) as (_, config):
            config.write_text(config.read_text().replace("  listen: 127.0.0.1:0", f"  listen: {address}"))
            assert await ended(config) == (
                1, [f"tunerd: http.listen: {address} is in use by another process: choose another port, or stop that process"],
            )  # fmt: skip


async def test_no_key_is_one_line_and_exit_code_78(tmp_path: Path) -> None:
    """The place in the file, and the three ways to give one; the line after it only counts."""
    async with world(tmp_path) as (_, config):
        config.write_text(config.read_text().replace(f"  api_key: {KEY}\n", ""))
        code, lines = await ended(config)
    assert code == 78
    assert lines == [
        f"{config}:3:3: tuner.api_key_file: there is no key to send with: `api_key_file: /etc/tunerd/key`, `api_key: ...` or "
        "the environment variable TUNER_API_KEY",
        "1 problem in the configuration",
    ]


async def test_without_descriptors_deliveries_continue_and_the_log_stays_short(tmp_path: Path) -> None:
    """No descriptor is left while 300 calls are being sent over the open connections, and scrapers connect all the time: every
    call arrives once before a descriptor is free again, with at most ten lines of the log; afterwards scrapes succeed."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        await tuner.plan({"latency_s": 0.1})
        calls = [f"call-{number}" for number in range(300)]
        written = tmp_path / "calls" / ".written"
        written.write_text("".join(f"{json.dumps(call_document(call_id))}\n" for call_id in calls))
        written.rename(tmp_path / "calls" / "calls.ndjson")
        await until(lambda: all_admitted(daemon, 300))
        await tuner.busy(8)
        host, _, port = daemon.told("listening")[-1]["address"].rpartition(":")
        before, turned_away = len(daemon.lines()), 0
        with exhausted(daemon):
            sending = asyncio.ensure_future(tuner.has(*calls))
            while not sending.done():
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection(host, int(port))
                    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    turned_away += await reader.read() == b""
                    writer.close()
            await sending
            assert len(daemon.lines()) - before <= LINES
        assert turned_away > 100
        assert await daemon.healthy()
        assert await daemon.metric("process_open_fds") is not None
        assert await tuner.accepted() == dict.fromkeys(calls, 1)
        assert await daemon.stop() == 0


async def all_admitted(daemon: Daemon, count: int) -> bool:
    return await daemon.metric("tunerd_calls_admitted_total", source="calls") == count
