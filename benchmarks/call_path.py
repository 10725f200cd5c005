"""How long the way of one call is: Python functions that tunerd calls for it, changes of thread, transactions of the ledger.

A daemon runs in this process under sys.setprofile and gets one call of two rows after the other, each in a file of its own, with
its URL in the document. Counted is what runs in tunerd's own files, from the rename that makes the file visible until the ledger
says `sent`. Timers of the daemon fall into some of these windows: the least of all calls counts.

`python -m benchmarks.call_path functions` lists the functions of such a call with their counts.
"""

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks import made
from benchmarks.bars import at_most
from benchmarks.servers import counting_server

CALLS: Final = 30
WARM_UP: Final = 5
_OWN: Final = f"{os.sep}tunerd{os.sep}"
_HERE: Final = f"{os.sep}benchmarks{os.sep}"
_INLINED: Final = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
"""From Python 3.12 on these are no functions."""


@dataclass(slots=True)
class Way:
    """What one call took."""

    functions: Counter[str] = field(default_factory=Counter)
    """Of tunerd, by file and name. A coroutine counts once, however often it is resumed."""
    others: int = 0
    """Calls of Python functions of the standard library and of other packages."""
    threads: list[int] = field(default_factory=list)
    """Of tunerd's functions, in order, each run of one thread once."""
    transactions: int = 0


class _Profiler:
    """The same function in all threads; it counts while there is a `way`."""

    way: Way | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        way = self.way
        code = frame.f_code
        if way is None or event != "call" or code.co_name in _INLINED or frame.f_lineno != code.co_firstlineno:
            return
        file = code.co_filename
        if _OWN in file and "site-packages" not in file:
            way.functions[f"{file.rpartition(_OWN)[2]} {code.co_qualname}"] += 1
            thread = threading.get_ident()
            if not way.threads or way.threads[-1] != thread:
                way.threads.append(thread)
        elif _HERE not in file:
            way.others += 1


async def measure(calls: int = CALLS) -> list[str]:
    """In a process of its own: a profiler makes everything slower."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.call_path", "json", str(calls), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    found = json.loads(out)
    return [
        f"| Python functions that tunerd calls for a call | {found['functions']} in {found['files']} files; "
        f"{at_most(found['functions'], 220)} |",
        f"| ... and functions of the libraries | {found['others']} |",
        f"| changes of thread for a call | {found['threads']}; {at_most(found['threads'], 7)} |",
        f"| transactions of the ledger for a call | {found['transactions']}; {at_most(found['transactions'], 2)} |",
    ]


async def _ways(calls: int) -> list[Way]:
    from tunerd.app import Options, run

    profiler = _Profiler()
    ways = []
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as name:
        place = Path(name)
        (place / "calls").mkdir()
        async with counting_server(place, "--no-check") as server:
            config = place / "config.yaml"
            config.write_text(made.config(str(place), server.url, concurrency=8))
            threading.setprofile(profiler)  # before the daemon's threads are started
            daemon = asyncio.create_task(run(Options(config_file=config)))
            sys.setprofile(profiler)
            try:
                ledger = await _opened(place / "ledger.db")
                for number in range(WARM_UP + calls):
                    way = await _one(place / "calls", ledger, profiler, number)
                    if number >= WARM_UP:
                        ways.append(way)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)  # type: ignore[arg-type]
                os.kill(os.getpid(), 15)
                await daemon
    return ways


async def _opened(path: Path) -> sqlite3.Connection:
    """Once the daemon has started, scanned and looked into its ledger for the first time."""
    while True:
        await asyncio.sleep(2)
        try:
            ledger = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
            ledger.execute("SELECT count(*) FROM call")
            return ledger
        except sqlite3.OperationalError:
            continue


async def _one(directory: Path, ledger: sqlite3.Connection, profiler: _Profiler, number: int) -> Way:
    def sent() -> int:
        return int(ledger.execute("SELECT count(*) FROM call WHERE state = 'sent'").fetchone()[0])

    def commits() -> int:
        return int(ledger.execute("SELECT coalesce(max(value), 0) FROM meta WHERE name = 'commits'").fetchone()[0])

    beside = directory / ".draft"
    beside.write_bytes(made.line(number, rows=2))
    before, transactions, way = sent(), commits(), Way()
    profiler.way = way
    beside.rename(directory / f"{number}.json")
    while sent() == before:
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.02)  # the worker that learns of it
    profiler.way = None
    way.transactions = commits() - transactions
    return way


def _least(ways: list[Way], count: Callable[[Way], int]) -> int:
    return min(count(way) for way in ways)


async def _main(what: str, calls: int) -> None:
    ways = await _ways(calls)
    shortest = min(ways, key=lambda way: way.functions.total())
    if what == "functions":
        for name, count in sorted(shortest.functions.items()):
            print(f"{count:4} {name}")
        print(f"{shortest.functions.total()} calls, {len(shortest.threads) - 1} changes of thread")
        return
    print(json.dumps({
        "functions": shortest.functions.total(),
        "files": len({name.partition(" ")[0] for name in shortest.functions}),
        "others": _least(ways, lambda way: way.others),
        "threads": _least(ways, lambda way: len(way.threads) - 1),
        "transactions": _least(ways, lambda way: way.transactions),
    }))  # fmt: skip


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int((sys.argv[2:3] or ["30"])[0])))
