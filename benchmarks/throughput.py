"""Calls a second: a log of 4,000 calls through tunerd, against a bare loop that posts the same bodies to the same server.

The pipeline's clock runs from the rename that makes the log visible to the moment the last request has arrived; the bare
loop's from its first post to its last answer. Pairs alternate, and the ratio is taken pair by pair.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import made
from benchmarks.bars import at_least
from benchmarks.servers import counting_server, daemon
from tunerd.call import Form

CALLS = 4000
CONCURRENCY = 32
PAIRS = 3


async def measure(pairs: int = PAIRS, calls: int = CALLS) -> list[str]:
    bare, piped = [], []
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        for pair in range(pairs):
            directory = Path(place) / str(pair)
            (directory / "calls").mkdir(parents=True)
            async with counting_server(directory) as server:
                piped.append(calls / await _pipeline(directory, server, calls))
            async with counting_server(directory) as server:
                bare.append(calls / await _bare(directory, server.url, calls))
    ratios = [one / other for one, other in zip(piped, bare, strict=True)]
    median = statistics.median(ratios)
    return [
        f"| bare aiohttp loop, {CONCURRENCY} at a time | {statistics.median(bare):,.0f} calls/s |",
        f"| tunerd, NDJSON to answer, durable ledger | {statistics.median(piped):,.0f} calls/s |",
        f"| ratio, pair by pair | {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {at_least(median, 0.45)} |",
    ]


async def _pipeline(directory: Path, server: "object", calls: int) -> float:
    config = directory / "config.yaml"
    config.write_text(made.config(str(directory), server.url, concurrency=CONCURRENCY))  # type: ignore[attr-defined]
    beside = directory / "calls" / ".calls.tmp"
    with beside.open("wb") as out:
        out.writelines(made.line(number) for number in range(calls))
    async with daemon(config):
        began = time.monotonic()
        beside.rename(directory / "calls" / "calls.ndjson")
        return await server.reached(calls) - began  # type: ignore[attr-defined,no-any-return]


async def _bare(directory: Path, url: str, calls: int) -> float:
    bodies = made.bodies(directory, url, calls, Form.CREATE_CALL)
    return (await bare_loop(url, bodies, CONCURRENCY, Form.CREATE_CALL))["seconds"]


async def bare_loop(url: str, bodies: Path, concurrency: int, form: Form) -> dict[str, float]:
    """In a process of its own, as tunerd is: `seconds` it took, and `cpu_ms` of processor time for each call."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", url, str(bodies), str(concurrency), form.value, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    found: dict[str, float] = json.loads(out)
    return found
