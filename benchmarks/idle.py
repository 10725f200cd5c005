"""What an idle daemon costs: resident memory, and processor time over a minute."""

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.servers import counting_server, daemon

WINDOW_S = 60.0
_TICK = os.sysconf("SC_CLK_TCK")


async def measure(files: tuple[int, ...] = (1_000, 100_000), pending: int = 50_000) -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        async with counting_server(Path(place), "--no-check") as server:
            held = await _memory(Path(place) / "empty", server.url, 0)
            lines.append(f"| memory, idle, empty directory | {held:.0f} MB; {at_most(held, 60)} |")
            held = await _memory(Path(place) / "pending", server.url, pending)
            lines.append(f"| memory, {pending:,} pending calls in as many files | {held:.0f} MB; {at_most(held, 120)} |")
            for count, most in zip(files, (0.5, 1.5), strict=False):
                share = await _idle_cpu(Path(place) / str(count), server.url, count)
                lines.append(f"| processor, idle, {count:,} files | {share:.2f} % of a core; {at_most(share, most)} |")
    return lines


def _config(directory: Path, url: str) -> Path:
    waits = "[{manifest: rooms, key: doc.room, within: 10m, wait: 30d}]"
    rooms = f"  - {{name: rooms, path: {directory}/rooms, manifest: {{key: doc.room, url: doc.url, started_at: doc.at}}}}"
    (directory / "rooms").mkdir(parents=True, exist_ok=True)
    (directory / "calls").mkdir(exist_ok=True)
    config = directory / "config.yaml"
    config.write_text(made.config(str(directory), url, concurrency=8, recording=waits, more=rooms))
    return config


async def _memory(directory: Path, url: str, calls: int) -> float:
    """Resident MB, once every file has been read; its call waits for a recording."""
    from tunerd.admin.api import StatusOrder
    from tunerd.admin.discovery import find_daemon

    config = _config(directory, url)
    for number in range(calls):
        (directory / "calls" / f"{number}.json").write_text(json.dumps(made.document(number, rows=3)))
    async with daemon(config) as pid:
        client = find_daemon(str(directory / "ledger.db"))
        assert client is not None
        while (await client.ask(StatusOrder())).calls["waiting"].count < calls:
            await asyncio.sleep(1)
        await asyncio.sleep(5)
        return resident_mb(pid)


async def _idle_cpu(directory: Path, url: str, files: int) -> float:
    """Percent of a core over WINDOW_S, with so many files that were read before (here: left out by a rule, cheaply)."""
    config = _config(directory, url)
    text = config.read_text()
    config.write_text(text.replace("    call:\n", "    call:\n      when: doc.id\n", 1))
    for number in range(files):
        (directory / "calls" / f"{number}.json").write_text("{}")
    from tunerd.admin.api import StatusOrder
    from tunerd.admin.discovery import find_daemon

    async with daemon(config) as pid:
        client = find_daemon(str(directory / "ledger.db"))
        assert client is not None
        while (await client.ask(StatusOrder())).calls["ignored"].count < files:
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        before, began = cpu_s(pid), time.monotonic()
        await asyncio.sleep(WINDOW_S)
        return (cpu_s(pid) - before) / (time.monotonic() - began) * 100


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
