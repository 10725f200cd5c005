"""How long GET /metrics takes with 100,000 rows in the ledger, and what scrapes do to calls on their way.

Ten scrapes a second are 150 times what Prometheus asks for by default.
"""

import asyncio
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.servers import daemon
from tunerd.call import ManifestStrategy
from tunerd.ledger import Admission
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.sandbox.server import Sandbox
from tunerd.testing import make_call

ROWS: Final = 100_000
SCRAPES: Final = 300
CALLS: Final = 300
_BATCH: Final = 500
_EVERY_S: Final = 0.1


async def measure(rows: int = ROWS, calls: int = CALLS) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        directory = Path(place)
        await _fill(directory / "ledger.db", rows)
        async with Sandbox() as sandbox:
            (directory / "calls").mkdir()
            config = directory / "config.yaml"
            text = made.config(str(directory), sandbox.url, concurrency=8).replace("listen: null", "listen: 127.0.0.1:0")
            config.write_text(text.replace("level: warning", "level: info"))
            async with daemon(config):
                port = _port(directory)
                took = await asyncio.to_thread(lambda: [_scrape(port) for _ in range(SCRAPES)])
                alone = await _latencies(directory, sandbox, 0, calls)
                scraper = _Scraper(port)
                scraped = await _latencies(directory, sandbox, calls, calls)
                beside = scraper.stop()
    size = len(took[0][1])
    return [
        f"| GET /metrics, {rows:,} rows in the ledger | {_shown([ms for ms, _ in took])}, {size / 1024:.0f} KiB; "
        f"p99 {at_most(round(_p99([ms for ms, _ in took]), 1), 20)} |",
        f"| the same while calls are sent | {_shown(beside)}; p99 {at_most(round(_p99(beside), 1), 20)} |",
        f"| file renamed into place -> request received, without scrapes | {_shown(alone)} |",
        f"| the same with {1 / _EVERY_S:g} scrapes a second | {_shown(scraped)} |",
    ]


async def _fill(path: Path, rows: int) -> None:
    """Calls that wait for their recording: open rows, which the gauges count."""
    ledger = await SqliteLedger.open(path, now=time.time(), emit=lambda _: None)
    strategy = ManifestStrategy(source="egress", key="nobody", within_s=60.0, wait_s=14 * 86_400.0)
    for first in range(0, rows, _BATCH):
        batch = [make_call(f"old-{number}", strategies=(strategy,)) for number in range(first, min(rows, first + _BATCH))]
        await ledger.admit(Admission(calls=batch), time.time())
    await ledger.close()


def _port(directory: Path) -> int:
    lines = [json.loads(line) for line in (directory / "tunerd.log").read_text().splitlines() if line.startswith("{")]
    return int(next(line["address"] for line in lines if line["event"] == "listening").rpartition(":")[2])


def _scrape(port: int) -> tuple[float, bytes]:
    """Milliseconds, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    began = time.perf_counter()
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    return took, body


class _Scraper:
    """Scrapes from a thread until `stop`, which gives how long each scrape took."""

    def __init__(self, port: int) -> None:
        self._ended = threading.Event()
        self._took: list[float] = []
        self._thread = threading.Thread(target=self._run, args=(port,))
        self._thread.start()

    def _run(self, port: int) -> None:
        while not self._ended.wait(_EVERY_S):
            self._took.append(_scrape(port)[0])

    def stop(self) -> list[float]:
        self._ended.set()
        self._thread.join()
        return self._took


async def _latencies(directory: Path, sandbox: Sandbox, first: int, calls: int) -> list[float]:
    renamed: dict[str, float] = {}
    for number in range(first, first + calls):
        document = made.document(number)
        beside = directory / "calls" / f".{number}.tmp"
        beside.write_text(json.dumps(document))
        renamed[document["id"]] = time.time()
        os.rename(beside, beside.with_name(f"{number}.json"))
        await asyncio.sleep(0.03)
    await sandbox.wait_for(lambda arrivals: len(arrivals) >= first + calls)
    return [(arrival.at - renamed[arrival.call_id]) * 1000 for arrival in sandbox.received if arrival.call_id in renamed]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _shown(values: list[float]) -> str:
    return f"p50 {statistics.median(values):.1f} ms, p99 {_p99(values):.1f} ms"
