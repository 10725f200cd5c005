"""Processor time of a call: the daemon's, against a bare loop that posts the same bodies to the same server.

The call's URL is in its document, with a manifest strategy behind it; the form is send-calls; the log level is info, and the
metrics are on. Ten pairs by turns, because other programs on the machine make processor time dearer, too.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.idle import cpu_s
from benchmarks.servers import counting_server, daemon
from benchmarks.throughput import CONCURRENCY, bare_loop
from tunerd.call import Form

CALLS: Final = 4_000
PAIRS: Final = 10
_STRATEGIES: Final = "[{url: doc.audio}, {manifest: rooms, key: doc.room, within: 10m, wait: 10m}]"


async def measure(pairs: int = PAIRS, calls: int = CALLS) -> list[str]:
    piped, bare = [], []
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        for pair in range(pairs):
            directory = Path(place) / str(pair)
            (directory / "calls").mkdir(parents=True)
            (directory / "rooms").mkdir()
            async with counting_server(directory, "--no-check") as server:
                piped.append(await _of_daemon(directory, server.url, calls))
            async with counting_server(directory, "--no-check") as server:
                bodies = made.bodies(directory, server.url, calls, Form.SEND_CALLS)
                bare.append((await bare_loop(server.url, bodies, CONCURRENCY, Form.SEND_CALLS))["cpu_ms"])
    ratios = [one / other for one, other in zip(piped, bare, strict=True)]
    return [
        f"| processor time of a call, bare aiohttp loop, send-calls | {_spread(bare)} ms |",
        f"| processor time of a call, tunerd: URL in the document, a manifest strategy behind it, level info, metrics on "
        f"| {_spread(piped)} ms |",
        f"| ratio, pair by pair | {_spread(ratios)}; {at_most(statistics.median(ratios), 3)} |",
    ]


async def _of_daemon(directory: Path, url: str, calls: int) -> float:
    """Milliseconds a call, from the rename that makes the log visible until the last call is settled."""
    from tunerd.admin.api import StatusOrder
    from tunerd.admin.discovery import find_daemon

    rooms = f"  - {{name: rooms, path: {directory}/rooms, manifest: {{key: doc.room, url: doc.url, started_at: doc.at}}}}"
    text = made.config(str(directory), url, concurrency=CONCURRENCY, recording=_STRATEGIES, more=rooms)
    text = text.replace("api_key: tr_api_bench", "api_key: bench, api: send-calls")
    text = text.replace("listen: null", "listen: 127.0.0.1:0").replace("level: warning", "level: info")
    config = directory / "config.yaml"
    config.write_text(text)
    beside = directory / "calls" / ".calls.tmp"
    with beside.open("wb") as out:
        out.writelines(made.line(number) for number in range(calls))
    async with daemon(config) as pid:
        before = cpu_s(pid)
        beside.rename(directory / "calls" / "calls.ndjson")
        client = find_daemon(str(directory / "ledger.db"))
        assert client is not None
        while (await client.ask(StatusOrder())).calls["sent"].count < calls:
            await asyncio.sleep(0.5)
        return (cpu_s(pid) - before) / calls * 1000


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
