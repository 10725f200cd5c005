"""How long an idle daemon takes from a file renamed into place to the request received, each call on its own."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import made
from benchmarks.bars import to_reach
from benchmarks.servers import daemon
from tunerd.sandbox.server import Sandbox

CALLS = 400


async def measure(calls: int = CALLS) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        plain = await _run(Path(place) / "keep", calls, "keep")
        moving = await _run(Path(place) / "move", calls, "{move_to: done/}")
    both, p99 = to_reach("25 and 100", plain[0] <= 25 and plain[1] <= 100), to_reach("p99 100", moving[1] <= 100)
    return [
        f"| renamed into place -> request received | p50 {plain[0]:.1f} ms, p99 {plain[1]:.1f} ms; {both} |",
        f"| the same while `after_sent: move_to` runs | p50 {moving[0]:.1f} ms, p99 {moving[1]:.1f} ms; {p99} |",
    ]


async def _run(directory: Path, calls: int, after_sent: str) -> tuple[float, float]:
    inbox = directory / "calls"
    inbox.mkdir(parents=True)
    async with Sandbox() as sandbox:
        config = directory / "config.yaml"
        text = made.config(str(directory), sandbox.url, concurrency=8)
        config.write_text(text.replace("    call:\n", f"    after_sent: {after_sent}\n    call:\n", 1))
        renamed: dict[str, float] = {}
        async with daemon(config):
            for number in range(calls):
                document = made.document(number)
                beside = inbox / f".{number}.tmp"
                beside.write_text(json.dumps(document))
                renamed[document["id"]] = time.time()
                beside.rename(inbox / f"{number}.json")
                await asyncio.sleep(0.03)
            await sandbox.wait_for(lambda arrivals: len(arrivals) >= calls)
    took = sorted((arrival.at - renamed[arrival.call_id]) * 1000 for arrival in sandbox.received if arrival.call_id)
    return statistics.median(took), took[int(len(took) * 0.99)]
