"""Whether memory rises while calls go through: resident megabytes of a daemon against the calls that it has delivered.

`python -m benchmarks.memory [CALLS] [files|log]` writes CALLS calls in steps and prints a line for each step. What a daemon
keeps for each file that it knows (its name and a signature) grows with the files that are there; everything else levels off.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import made
from benchmarks.idle import _resident_mb as resident_mb
from benchmarks.servers import counting_server, daemon

STEP = 2_000


async def measure(calls: int, kind: str, *, keep: bool = True) -> list[tuple[int, float]]:
    """(calls delivered, resident MB) after each step. `keep` False: `after_sent: delete` takes the files away."""
    found: list[tuple[int, float]] = []
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
                    await asyncio.sleep(1)
                    found.append((done + STEP, resident_mb(pid)))
    return found


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


def slope(found: Sequence[tuple[int, float]]) -> float:
    """Megabytes for each 10,000 calls over the last half, by least squares: what is left once caches are full."""
    half = found[len(found) // 2 :]
    middle, mean = sum(x for x, _ in half) / len(half), sum(y for _, y in half) / len(half)
    spread = sum((x - middle) ** 2 for x, _ in half)
    return sum((x - middle) * (y - mean) for x, y in half) / spread * 10_000


if __name__ == "__main__":
    calls, kind = int((sys.argv[1:2] or ["40000"])[0]), (sys.argv[2:3] or ["files"])[0]
    found = asyncio.run(measure(calls, kind, keep="delete" not in sys.argv))
    for done, megabytes in found:
        sys.stdout.write(f"{done:>8,} calls  {megabytes:6.1f} MB\n")
    sys.stdout.write(f"slope over the last half: {slope(found):.1f} MB for 10,000 calls\n")
