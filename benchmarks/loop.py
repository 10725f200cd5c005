"""The longest time for which work held up the daemon's event loop: the longest answer of /readyz, asked every 5 ms from
outside (asking.py). Beside it a second daemon that has nothing to do is asked in the same way: what *it* took is the
machine's doing (processors that are busy with the others), not the loop's.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.servers import counting_server, daemon

IDLE_S: Final = 40.0
"""Longer than `rescan`: a scan is in it."""
_CEILING_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Held:
    """What one daemon's loop was like."""

    longest_ms: float
    asked: int
    late: int
    """Answers that took over 50 ms."""


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon's directory and ledger."""

    calls: Path
    ledger: str

    async def sent(self, count: int) -> None:
        await self._until(("sent",), count)

    async def failed(self, count: int) -> None:
        await self._until(("failed",), count)

    async def ended(self, count: int) -> None:
        await self._until(("sent", "failed"), count)

    async def _until(self, states: Sequence[str], count: int) -> None:
        from tunerd.admin.api import StatusOrder
        from tunerd.admin.discovery import find_daemon

        client = find_daemon(self.ledger)
        assert client is not None
        end = time.monotonic() + _CEILING_S
        while True:
            calls = (await client.ask(StatusOrder())).calls
            if sum(calls[state].count for state in states) >= count:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"not {count} {' or '.join(states)}")
            await asyncio.sleep(0.1)


Prepare: TypeAlias = Callable[[Path], int]
"""Writes what is there before the start; gives how many calls of it are sent before the asking begins."""
Work: TypeAlias = Callable[[Place], Awaitable[None]]


async def measure(chosen: str = "") -> list[str]:
    lines = []
    for name, (prepare, work, more) in SCENES.items():
        if chosen in name:
            busy, idle = await _scene(prepare, work, more)
            lines.append(
                f"| loop held up, {name} | {busy.longest_ms:.0f} ms ({busy.late} of {busy.asked:,} answers over 50 ms); "
                f"a daemon without work beside it: {idle.longest_ms:.0f} ms; {at_most(busy.longest_ms, 50)} |"
            )
    return lines


async def _scene(prepare: Prepare, work: Work, more: str) -> tuple[Held, Held]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as name:
        place = Path(name)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(counting_server(place, "--no-check"))
            addresses = []
            for which in ("idle", "busy"):
                (place / which / "calls").mkdir(parents=True)
                config = place / which / "config.yaml"
                text = made.config(str(place / which), server.url).replace("listen: null", "listen: 127.0.0.1:0")
                text = text.replace("level: warning", "level: info")
                config.write_text(text.replace("    call:\n", f"{more}    call:\n", 1))
                first = prepare(place / which / "calls") if which == "busy" else 0
                await stack.enter_async_context(daemon(config))
                addresses.append(_address(place / which / "tunerd.log"))
            loaded = Place(place / "busy" / "calls", str(place / "busy" / "ledger.db"))
            await loaded.sent(first)
            idle = await stack.enter_async_context(_asking(addresses[0]))
            busy = await stack.enter_async_context(_asking(addresses[1]))
            await work(loaded)
            return await _answer(busy), await _answer(idle)


def _address(log: Path) -> str:
    for line in log.read_text().splitlines():
        if line.startswith("{") and (address := json.loads(line).get("address")):
            return str(address)
    raise ValueError(f"{log} names no address")


@asynccontextmanager
async def _asking(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    host, _, port = address.rpartition(":")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.asking", host, port, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answer(process: asyncio.subprocess.Process) -> Held:
    out, _ = await process.communicate(b"\n")
    return Held(**json.loads(out))


# The scenes: what is there before the start, and what happens then.


def _read_files(calls: Path) -> int:
    for number in range(1_000):
        (calls / f"{number}.json").write_text(json.dumps(made.document(number)))
    return 1_000


async def _sit(place: Place) -> None:
    await asyncio.sleep(IDLE_S)


def _beside(calls: Path) -> int:
    """Prepared where the daemon does not look, so that writing it is not measured."""
    log = calls / ".calls.tmp"
    with log.open("wb") as out:
        out.writelines(made.line(number) for number in range(4_000))
    return 0


async def _log(place: Place) -> None:
    (place.calls / ".calls.tmp").rename(place.calls / "calls.ndjson")
    await place.sent(4_000)


def _array_beside(calls: Path) -> int:
    with (calls / ".array.tmp").open("wb") as out:
        for number in range(3_000):
            out.write(b"[" if number == 0 else b",")
            out.write(made.line(number, rows=200))
        out.write(b"]")
    return 0


async def _array(place: Place) -> None:
    (place.calls / ".array.tmp").rename(place.calls / "array.json")
    await place.sent(3_000)


def _files_beside(calls: Path) -> int:
    for number in range(1_000):
        (calls / f".{number}.tmp").write_text(json.dumps(made.document(number)))
    return 0


async def _burst(place: Place) -> None:
    def rename() -> None:
        for number in range(1_000):
            (place.calls / f".{number}.tmp").rename(place.calls / f"{number}.json")

    await asyncio.to_thread(rename)
    await place.sent(1_000)


def _middling_beside(calls: Path) -> int:
    for number in range(100):
        (calls / f".{number}.tmp").write_bytes(made.line(number, rows=1_400))
    return 0


async def _middling(place: Place) -> None:
    for number in range(100):
        (place.calls / f".{number}.tmp").rename(place.calls / f"{number}.json")
    await place.sent(100)


def _large_beside(calls: Path) -> int:
    (calls / ".large.tmp").write_bytes(made.line(1, rows=235_000))
    return 0


async def _refused(place: Place) -> None:
    (place.calls / ".large.tmp").rename(place.calls / "large.json")
    await place.failed(1)


async def _large(place: Place) -> None:
    (place.calls / ".large.tmp").rename(place.calls / "large.json")
    await place.sent(1)


async def _far_too_large(place: Place) -> None:
    """Whether the server takes it is not the question."""
    (place.calls / ".large.tmp").rename(place.calls / "large.json")
    await place.ended(1)


def _rows_beside(calls: Path) -> int:
    (calls / ".large.tmp").write_bytes(made.line(1, rows=20_000))
    return 0


SCENES: Final[dict[str, tuple[Prepare, Work, str]]] = {
    "idle, 1,000 files": (_read_files, _sit, ""),
    "a log of 4,000 calls": (_beside, _log, ""),
    "an array file of 3,000 calls of 200 rows": (_array_beside, _array, ""),
    "1,000 small files at once": (_files_beside, _burst, ""),
    "100 files of 240 KB at once": (_middling_beside, _middling, ""),
    "a document of 40 MB, refused": (_large_beside, _refused, ""),
    "a document of 40 MB, with max_document raised": (_large_beside, _far_too_large, "    max_document: 64MiB\n"),
    "a document of 20,000 rows": (_rows_beside, _large, ""),
}
"""What is there before the start, what happens then, and more for the source."""


if __name__ == "__main__":
    print("\n".join(asyncio.run(measure(" ".join(sys.argv[1:])))))
