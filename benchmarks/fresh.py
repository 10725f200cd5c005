"""Fresh before old, with real processes: `tunerd run` with a rate limit against the stand-in, 10,000 calls that piled up
while it was away, and one new call each half second while they drain. How long does the newest wait?

    python -m benchmarks.fresh [BACKLOG]        (make fresh)
"""

import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import made
from benchmarks.bars import to_reach
from benchmarks.servers import counting_server, daemon

BACKLOG = 10_000
PER_SECOND = 200
EVERY_S = 0.5


def p99(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def write(directory: Path, number: int) -> None:
    draft = directory / f".{number}.tmp"
    draft.write_bytes(made.line(number))
    draft.rename(directory / f"{number}.json")


def arrived(journal: Path) -> dict[str, float]:
    """Call id -> when it was accepted."""
    whole, _, _ = journal.read_bytes().rpartition(b"\n")
    lines = (json.loads(line) for line in whole.splitlines())
    return {line["call_id"]: line["at"] for line in lines if line["accepted"]}


async def measure(backlog: int = BACKLOG) -> list[str]:
    never = asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="tunerd-fresh-") as place:
        directory = Path(place)
        calls, config, journal = directory / "calls", directory / "config.yaml", directory / "journal"
        calls.mkdir()
        async with counting_server(directory) as server:
            url = server.url
        # The server is gone: the outage. Its port is free, and the next one takes it.
        text = made.config(str(directory), url, concurrency=8)
        config.write_text(text.replace("concurrency: 8", f"concurrency: 8, rate_limit: {PER_SECOND}"))
        (calls / "backlog.ndjson").write_bytes(b"".join(made.line(number) for number in range(backlog)))
        async with daemon(config):
            await _admitted(config, backlog)
            port = url.rpartition(":")[2]
            async with counting_server(directory, "--journal", str(journal), "--listen", f"127.0.0.1:{port}"):
                while not (journal.exists() and len(arrived(journal)) > 10):  # until the next probe
                    await _pause(never, 0.2)
                began, written = time.time(), dict[str, float]()
                while len(arrived(journal)) < 0.9 * backlog:
                    number = backlog + len(written)
                    written[f"call-{number:07d}"] = time.time()
                    write(calls, number)
                    await _pause(never, EVERY_S)
                drained, took_s = len(arrived(journal)), time.time() - began
                while len(there := arrived(journal)) < backlog + len(written):
                    await _pause(never, 0.2)
    waits = [there[call_id] - at for call_id, at in written.items()]
    return [
        f"| backlog that drained meanwhile | {drained:,} calls at {drained / took_s:,.0f}/s; the limit is {PER_SECOND}/s |",
        f"| {len(waits)} new calls meanwhile, file to accepted | p50 {statistics.median(waits):.2f} s, p99 {p99(waits):.2f} s; "
        f"{to_reach('p99 under 5 s', p99(waits) < 5)} |",
    ]


async def _admitted(config: Path, count: int) -> None:
    from tunerd.admin.api import IdleOrder
    from tunerd.admin.discovery import find_daemon
    from tunerd.loading.config_file import load

    client = find_daemon(load(config, {}).ledger.path)
    assert client is not None
    while sum((await client.ask(IdleOrder())).left.values()) < count:
        await asyncio.sleep(0.1)


async def _pause(never: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await never.wait()
    except TimeoutError:
        pass


if __name__ == "__main__":
    for row in asyncio.run(measure(*(int(word) for word in sys.argv[1:2]))):
        print(row)
