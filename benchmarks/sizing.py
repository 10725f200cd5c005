"""What a ledger needs for its calls while Tuner cannot be reached, and for the rows of calls that were sent.

`python -m benchmarks.sizing [CALLS]` writes calls of several sizes. For each size a daemon reads them while nothing listens at its
destination; its ledger and its memory are measured when all of them are due. docs/sizing.md has the figures.
"""

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import made
from benchmarks.servers import counting_server, daemon
from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.api import StatusOrder
from tunerd.admin.discovery import find_daemon

ROWS: Final = (10, 60, 300, 2_000, 17_500)
GIB: Final = 1 << 30
_NOBODY: Final = "http://127.0.0.1:9"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Held:
    """What the calls of one size took."""

    document_bytes: float
    counted_bytes: float
    """For each call, as `max_pending_bytes` counts them."""
    disk_bytes: float
    """For each call, in all files of the ledger without the reserve."""
    peak_mb: float


async def held(directory: Path, rows: int, calls: int) -> Held:
    """The ledger's bytes for each call, when all calls are due, and the highest resident memory of the daemon."""
    config, size = written(directory, rows, calls, _NOBODY)
    async with daemon(config) as pid:
        status = await until_counted(directory / "ledger.db", "due", calls)
        peak = peak_mb(pid)
    return Held(size, status.pending_bytes / calls, _used(directory) / calls, peak)


async def after_sending(directory: Path, calls: int) -> int:
    """The ledger's bytes when this many calls were sent, one from each file, and no document of them is kept."""
    async with counting_server(directory, "--no-check") as server:
        config, _ = written(directory, 10, calls, server.url)
        config.write_text(config.read_text().replace("ledger: {", "ledger: {keep_documents: 0, "))
        async with daemon(config):
            await until_counted(directory / "ledger.db", "sent", calls)
    return _used(directory)


def written(directory: Path, rows: int, calls: int, url: str) -> tuple[Path, float]:
    """A configuration beside a directory of calls; also the mean size of their files."""
    words = random.Random(rows)
    (directory / "calls").mkdir()
    total = 0
    for number in range(calls):
        document = made.document(number, rows)
        for message in document["messages"]:
            message["text"] = " ".join("".join(words.choices(_LETTERS, k=words.randint(2, 9))) for _ in range(22))
        text = json.dumps(document)
        total += len(text)
        (directory / "calls" / f"{number}.json").write_text(text)
    config = directory / "config.yaml"
    config.write_text(made.config(str(directory), url, concurrency=8))
    return config, total / max(1, calls)


async def until_counted(ledger: Path, state: str, calls: int) -> StatusDocument:
    client = find_daemon(str(ledger))
    assert client is not None
    while (status := await client.ask(StatusOrder())).calls[state].count < calls:
        await asyncio.sleep(0.1)
    return status


def peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _used(directory: Path) -> int:
    """Bytes of the pages in use, after the daemon has ended and merged its log into the file."""
    db = sqlite3.connect(directory / "ledger.db")
    try:
        page, pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count"))
    finally:
        db.close()
    return int(page * (pages - free))


def _told(rows: int, found: Held) -> str:
    by_limit, by_disk = GIB / found.counted_bytes, GIB / found.disk_bytes
    return (
        f"| {rows:,} | {shown_size(found.document_bytes)} | {shown_size(found.counted_bytes)} | {shown_size(found.disk_bytes)} | "
        f"{_round(by_limit)} | {_round(by_disk)} | {found.peak_mb:.0f} MB |"
    )


def shown_size(count: float) -> str:
    return f"{count / 1000:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def _round(count: float) -> str:
    return f"{count:,.0f}"


async def main(calls: int) -> None:
    print(
        "| rows | document | counted | on disk | calls until max_pending_bytes (1 GiB) | calls for 1 GiB of disk | peak memory |"
    )
    print("|---|---|---|---|---|---|---|")
    for rows in ROWS:
        with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
            print(_told(rows, await held(Path(place), rows, max(50, calls * ROWS[0] // rows))), flush=True)
    used = []
    for sent in (0, calls):
        with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
            used.append(await after_sending(Path(place), sent))
    print(f"\nan empty ledger: {shown_size(used[0])}; each sent call: {(used[1] - used[0]) / calls:.0f} bytes")


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:2] or ["10000"])[0])))
