"""How long `tunerd run` takes from its start to ready, and what many new files at once do to its memory.

`python -m benchmarks.start [KNOWN] [BURST]`: KNOWN files (500,000) that an earlier run has read are there at the next start; BURST files
(20,000) arrive within a minute.
"""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.idle import resident_mb
from benchmarks.servers import Counting, counting_server, daemon

KNOWN: Final = 500_000
STARTS: Final = 5
BURST: Final = 20_000
_A_DIRECTORY: Final = 10_000
_REST_S: Final = 90.0
"""Longer than the time after which the daemon gives memory back."""


async def measure(known: int = KNOWN, burst: int = BURST) -> AsyncIterator[str]:
    """The rows of the table, each when it is measured; `burst` 0 leaves its two rows out."""
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        async with counting_server(Path(place), "--no-check") as server:
            empty = [await _to_ready(_config(Path(place) / f"empty{number}", server.url)) for number in range(STARTS)]
            reached = at_most(round(max(empty), 2), 1)
            yield f"| start to ready, empty ledger, the slowest of {STARTS} | {max(empty):.2f} s; {reached} |"
            if burst:
                highest, after = await _burst(Path(place) / "burst", server, burst)
                reached = at_most(round(highest), 100)
                yield f"| memory while {burst:,} files arrive within a minute, the highest | {highest:.0f} MB; {reached} |"
                reached = at_most(round(after), 75)
                yield f"| memory {_REST_S:.0f} s after the last of them was sent | {after:.0f} MB; {reached} |"
            many = _config(Path(place) / "known", server.url)
            await asyncio.to_thread(_write_ignored, many.parent / "calls" / "0", range(1))
            await _read(many, 1)
            await asyncio.to_thread(_make_known, many.parent, known)
            again = await _to_ready(many)
            yield f"| start to ready, {known:,} known files | {again:.2f} s; {at_most(round(again, 2), 5)} |"


def _config(directory: Path, url: str) -> Path:
    (directory / "calls").mkdir(parents=True, exist_ok=True)
    config = directory / "config.yaml"
    text = made.config(str(directory), url, concurrency=8)
    config.write_text(text.replace("    call:\n", "    recursive: true\n    call:\n      when: doc.id\n", 1))
    return config


async def _to_ready(config: Path) -> float:
    """Seconds from the start of the process to READY=1, as systemd is notified."""
    address = config.parent / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, (config.parent / "tunerd.log").open("wb") as log:
        notified.bind(str(address))
        notified.setblocking(False)
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunerd", "run", "-c", str(config), stdout=log, stderr=log,
            env=os.environ | {"NOTIFY_SOCKET": str(address)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(120):
                while b"READY=1" not in await asyncio.get_running_loop().sock_recv(notified, 4096):
                    pass
            return time.monotonic() - began
        finally:
            process.terminate()
            await process.wait()


async def _read(config: Path, files: int) -> None:
    """Run the daemon until it has read and ignored all of these files."""
    from tunerd.admin.api import StatusOrder
    from tunerd.admin.discovery import find_daemon

    async with daemon(config):
        client = find_daemon(str(config.parent / "ledger.db"))
        assert client is not None
        while (await client.ask(StatusOrder())).calls["ignored"].count < files:
            await asyncio.sleep(0.1)


def _make_known(place: Path, files: int) -> None:
    """Write more files, and give each one the row that the ledger has of the first: reading them all takes ten minutes."""
    with contextlib.closing(sqlite3.connect(place / "ledger.db")) as ledger, ledger:
        ledger.row_factory = sqlite3.Row
        (first,) = ledger.execute("SELECT * FROM file").fetchall()
        columns = ", ".join(f'"{name}"' for name in first.keys())  # noqa: SIM118
        insert = f"INSERT INTO file ({columns}) VALUES ({', '.join('?' * len(first))})"
        for start in range(1, files, _A_DIRECTORY):
            below = place / "calls" / str(start)
            _write_ignored(below, range(start, min(start + _A_DIRECTORY, files)))
            ledger.executemany(insert, [tuple((dict(first) | _stat(entry)).values()) for entry in os.scandir(below)])


def _stat(entry: "os.DirEntry[str]") -> dict[str, Any]:
    at = entry.stat()
    return {"path": entry.path, "inode": at.st_ino, "mtime_ns": at.st_mtime_ns, "ctime_ns": at.st_ctime_ns}


def _write_ignored(directory: Path, numbers: range) -> None:
    directory.mkdir()
    for number in numbers:
        (directory / f"{number}.json").write_text("{}")


async def _burst(directory: Path, server: Counting, files: int) -> tuple[float, float]:
    """Resident MB: the highest while the files arrive and are sent, and later."""
    async with daemon(_config(directory, server.url)) as pid:
        writing = asyncio.create_task(_write_for_a_minute(directory / "calls", files))
        highest = 0.0
        while not writing.done() or await asyncio.to_thread(server.total) < files:
            highest = max(highest, resident_mb(pid))
            await asyncio.sleep(0.5)
        await writing
        await asyncio.sleep(_REST_S)
        return highest, resident_mb(pid)


async def _write_for_a_minute(directory: Path, files: int) -> None:
    a_second = files // 60 + 1
    for first in range(0, files, a_second):
        began = time.monotonic()
        await asyncio.to_thread(_write_calls, directory, range(first, min(first + a_second, files)))
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))


def _write_calls(directory: Path, numbers: range) -> None:
    for number in numbers:
        path = directory / f"{number}.json"
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(made.document(number)))
        beside.rename(path)


async def main(known: int, burst: int) -> None:
    async for line in measure(known, burst):
        print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:2] or [str(KNOWN)])[0]), int((sys.argv[2:3] or [str(BURST)])[0])))
