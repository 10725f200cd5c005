"""The processes that measurements run against: a stand-in for Tuner that only counts, and `tunerd run`."""

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_NONE = 10**9
"""More arrivals than there will be."""
_FASTEST = 10_000
"""Calls a second that nobody reaches."""


async def _until(question: "object", ceiling_s: float = 120.0, every_s: float = 0.005) -> None:
    end = time.monotonic() + ceiling_s
    while not question():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError
        await asyncio.sleep(every_s)


class Counting:
    """`tunerd sandbox --no-check`: takes everything, and counts."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self.pid = url, pid

    def total(self) -> int:
        """Asked without the list of arrivals: putting that together would take the server more time than the calls do."""
        with urllib.request.urlopen(f"{self.url}/arrivals.json?since={_NONE}", timeout=10) as answer:
            return int(json.load(answer)["total"])

    async def reached(self, total: int) -> float:
        """The moment (monotonic) at which this many requests had come. Asked more often as the end comes near: each
        question takes about as much processor time as three calls, from the server and from whoever asks."""
        while (left := total - await asyncio.to_thread(self.total)) > 0:
            await asyncio.sleep(max(0.01, left / _FASTEST))
        return time.monotonic()


@asynccontextmanager
async def counting_server(directory: Path, *arguments: str) -> AsyncIterator[Counting]:
    ready = directory / "server.url"
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", "sandbox", "--listen", "127.0.0.1:0", "--ready-file", str(ready), "--quiet", *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _until(lambda: ready.exists() and ready.read_text().strip())
        yield Counting(ready.read_text().strip(), process.pid)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def daemon(config: Path) -> AsyncIterator[int]:
    """`tunerd run`; gives its process id once every source has been scanned."""
    from tunerd.admin.api import StatusOrder
    from tunerd.admin.discovery import find_daemon
    from tunerd.loading.config_file import load

    ledger = load(config, os.environ).ledger.path
    log = (config.parent / "tunerd.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", "run", "-c", str(config), stdout=log, stderr=log
    )
    try:
        await _until(lambda: find_daemon(ledger) is not None or process.returncode is not None)
        client = find_daemon(ledger)
        if client is None:
            raise RuntimeError((config.parent / "tunerd.log").read_text())
        while not all(source.last_scan_at for source in (await client.ask(StatusOrder())).sources):
            await asyncio.sleep(0.01)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()
