"""What uploads of large audio cost the calls beside them: the latency of calls while 500 MB WAVs are uploaded, and the memory.

The WAVs are sparse files; Tuner and its storage are two processes apart, so that neither slows the other down.
"""

import asyncio
import base64
import json
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from aiohttp import web

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.servers import daemon

CALLS: Final = 300
MEGABYTES: Final = 500
UPLOADS: Final = 6

_STORAGE: Final = """
import asyncio, sys
async def serve(reader, writer):
    while (line := await reader.readline()) not in (b"\\r\\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            left = int(value)
    while left and (piece := await reader.read(1 << 18)):
        left -= len(piece)
    writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def measure(calls: int = CALLS, megabytes: int = MEGABYTES, uploads: int = UPLOADS) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        directory = Path(place)
        for name in ("calls", "rec"):
            (directory / name).mkdir()
        async with _storage() as storage, _tuner(storage) as (url, arrived):
            config = directory / "config.yaml"
            plan = f"    audio: {{publish: upload, files: [{place}/rec]}}"
            config.write_text(made.config(place, url, concurrency=8, more=plan))
            async with daemon(config) as pid:
                await _latency(directory, arrived, 0, 50)  # warm
                alone = await _latency(directory, arrived, 1_000, calls)
                _forget_peak(pid)
                before = _peak_kb(pid)
                for number in range(uploads):
                    _large_call(directory, 9_000_000 + number, megabytes)
                began = time.monotonic()
                beside = await _latency(directory, arrived, 2_000, calls)
                took_s = time.monotonic() - began
                grown = (_peak_kb(pid) - before) / 1024
                sent = sum(name.startswith("call-9") for name in arrived)
    ratio = beside[1] / alone[1]
    return [
        f"| latency of calls without audio | p50 {alone[0]:.1f} ms, p99 {alone[1]:.1f} ms |",
        f"| the same while WAVs of {megabytes} MB are uploaded ({sent} of {uploads} begun in {took_s:.0f} s) | "
        f"p50 {beside[0]:.1f} ms, p99 {beside[1]:.1f} ms; p99 {ratio:.2f} times; {at_most(ratio, 1.2)} |",
        f"| peak memory above that before the uploads | {grown:.1f} MB; {at_most(grown, 20)} |",
    ]


async def _latency(directory: Path, arrived: dict[str, float], first: int, calls: int) -> tuple[float, float]:
    """From a file renamed into place to its request."""
    renamed: dict[str, float] = {}
    for number in range(first, first + calls):
        document = made.document(number)
        beside = directory / "calls" / f".{number}.tmp"
        beside.write_text(json.dumps(document))
        renamed[document["id"]] = time.time()
        beside.rename(directory / "calls" / f"{number}.json")
        await asyncio.sleep(0.03)
    async with asyncio.timeout(60):
        while not renamed.keys() <= arrived.keys():
            await asyncio.sleep(0.02)
    took = sorted((arrived[name] - at) * 1000 for name, at in renamed.items())
    return statistics.median(took), took[int(len(took) * 0.99)]


def _large_call(directory: Path, number: int, megabytes: int) -> None:
    size = megabytes * 1_000_000
    path = directory / "rec" / f"{number}.wav"
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    with path.open("wb") as file:
        file.write(head + struct.pack("<4sI", b"data", size))
        file.truncate(size + 44)
    document = {**made.document(number), "audio": str(path)}
    beside = directory / "calls" / f".{number}.tmp"
    beside.write_text(json.dumps(document))
    beside.rename(directory / "calls" / f"{number}.json")


@asynccontextmanager
async def _storage() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _STORAGE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}/bucket"
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _tuner(storage: str) -> AsyncIterator[tuple[str, dict[str, float]]]:
    """Takes every call, notes when it came, and names the storage where it is asked to."""
    arrived: dict[str, float] = {}
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    policy = base64.b64encode(json.dumps({"expiration": expires}).encode()).decode()

    async def take(request: web.Request) -> web.Response:
        at = time.time()
        body = await request.json()
        arrived[body["call_id"]] = at
        answer = {"id": len(arrived), "provider_call_id": body["call_id"], "is_new": True}
        if "recording_file_extension" in body:
            answer["recording_upload"] = {"url": storage, "fields": {"key": "k", "policy": policy}, "key": "k", "max_bytes": None}
        return web.json_response(answer, status=201)

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", arrived
    finally:
        await runner.cleanup()


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
