"""Whether memory rises while calls go through: resident megabytes of a daemon against the calls that it has delivered.

`python -m benchmarks.memory [CALLS] [files|log] [delete]` writes CALLS calls in steps and prints a line for each step. For each
file that is there the daemon keeps its name and a signature; with `delete` (`after_sent: delete`) nothing may grow.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import made
from benchmarks.idle import resident_mb
from benchmarks.servers import counting_server, daemon

STEP: Final = 2_000

Sample: TypeAlias = tuple[int, float]
"""Calls delivered, and resident megabytes then."""


async def samples(calls: int, kind: str, *, keep: bool = True) -> AsyncIterator[Sample]:
    """One after each step. `keep` False: `after_sent: delete` takes the files away."""
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        directory = Path(place)
        (directory / "calls").mkdir()
        async with counting_server(directory, "--no-check") as server:
            config = directory / "config.yaml"
            text = made.config(str(directory), server.url, concurrency=8)
            if not keep:
                text = text.replace("    call:\n", "    after_sent: delete\n    call:\n", 1)
            config.write_text(text)
            async with daemon(config) as pid:
                for done in range(0, calls, STEP):
                    await asyncio.to_thread(_write, directory / "calls", range(done, done + STEP), kind)
                    await server.reached(done + STEP)
                    while not keep and any((directory / "calls").iterdir()):  # files that are there are known by name
                        await asyncio.sleep(0.5)
                    await asyncio.sleep(1)
                    yield done + STEP, resident_mb(pid)


def _write(directory: Path, numbers: range, kind: str) -> None:
    if kind == "log":
        with (directory / "calls.ndjson").open("ab") as log:
            log.writelines(made.line(number) for number in numbers)
        return
    for number in numbers:
        path = directory / f"{number}.json"
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(made.document(number)))
        beside.rename(path)


def slope(found: Sequence[Sample]) -> float:
    """Megabytes for each 10,000 calls, by least squares."""
    middle, mean = sum(x for x, _ in found) / len(found), sum(y for _, y in found) / len(found)
    spread = sum((x - middle) ** 2 for x, _ in found)
    return sum((x - middle) * (y - mean) for x, y in found) / spread * 10_000


async def main(calls: int, kind: str, *, keep: bool) -> None:
    found: list[Sample] = []
    async for done, megabytes in samples(calls, kind, keep=keep):
        found.append((done, megabytes))
        print(f"{done:>8,} calls  {megabytes:6.1f} MB", flush=True)
    print(f"slope over the last half: {slope(found[len(found) // 2 :]):.1f} MB for 10,000 calls")


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:2] or ["40000"])[0]), (sys.argv[2:3] or ["files"])[0], keep="delete" not in sys.argv))
