"""Poison, in pairs of real runs: the same calls through `tunerd run`, once all good, once with one in a hundred that always
gets a 500. Do the others take longer?

    python -m benchmarks.poison [PAIRS]         (make poison)
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.fresh import p99, write
from benchmarks.servers import daemon

PAIRS = 5
CALLS, PER_SECOND, ROUND_TRIP_S = 1000, 50, 0.05


@asynccontextmanager
async def tuner(poisoned: bool) -> AsyncIterator[tuple[str, dict[str, float]]]:
    """Takes ROUND_TRIP_S for each call; gives when each was accepted."""
    accepted: dict[str, float] = {}

    async def answer(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        await asyncio.sleep(ROUND_TRIP_S)
        if poisoned and int(body["call_id"].rpartition("-")[2]) % 100 == 50:
            return web.json_response({"success": False, "error": "poison"}, status=500)
        accepted[body["call_id"]] = time.time()
        return web.json_response({"success": True, "id": 1}, status=201)

    app = web.Application()
    app.router.add_post("/api/v1/public/call", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", accepted
    finally:
        await runner.cleanup()


async def run(directory: Path, *, poisoned: bool) -> float:
    """p99 of the good calls, from their rename to their acceptance."""
    (directory / "calls").mkdir(parents=True)
    config, written = directory / "config.yaml", dict[str, float]()
    async with tuner(poisoned) as (url, accepted):
        config.write_text(made.config(str(directory), url, concurrency=8))
        async with daemon(config):
            began = time.monotonic()
            for number in range(CALLS):
                written[f"call-{number:07d}"] = time.time()
                write(directory / "calls", number)
                await asyncio.sleep(max(0.0, began + (number + 1) / PER_SECOND - time.monotonic()))
            while len(accepted) < (CALLS - CALLS // 100 if poisoned else CALLS):
                await asyncio.sleep(0.05)
    return p99(at - written[call_id] for call_id, at in accepted.items() if int(call_id.rpartition("-")[2]) % 100 != 50)


async def measure(pairs: int = PAIRS) -> list[str]:
    """Beside each pair a second clean run: what the machine alone makes of the ratio."""
    runs: dict[str, list[float]] = {"clean": [], "control": [], "poisoned": []}
    with tempfile.TemporaryDirectory(prefix="tunerd-poison-") as place:
        for pair in range(pairs):
            for kind in random.Random(pair).sample(list(runs), 3):
                runs[kind].append(await run(Path(place) / f"{pair}-{kind}", poisoned=kind == "poisoned"))
    clean = runs["clean"]
    lines = [f"| p99 of good calls, none poisoned | {statistics.median(clean) * 1000:.0f} ms |"]
    for kind, words in (("control", "the same again"), ("poisoned", "1 % poisoned")):
        ratios = [one / other for one, other in zip(runs[kind], clean, strict=True)]
        told = f"{statistics.median(runs[kind]) * 1000:.0f} ms; ratio, pair by pair {statistics.median(ratios):.2f}"
        bar = f"; {at_most(statistics.median(ratios), 1.10)}" if kind == "poisoned" else ""
        lines.append(f"| p99 of good calls, {words} | {told} ({min(ratios):.2f} to {max(ratios):.2f}){bar} |")
    return lines


if __name__ == "__main__":
    for row in asyncio.run(measure(*(int(word) for word in sys.argv[1:2]))):
        print(row)
