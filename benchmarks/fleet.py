"""A ledger that a fleet shares: PostgreSQL against SQLite, claims beside many due calls and beside dead tuples, two instances against one.

`python -m benchmarks.fleet [engines] [due] [dead] [instances]` starts a PostgreSQL of its own that syncs each commit (fsync on). What is
compared alternates within one run. Processor time of PostgreSQL is that of all its processes.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from benchmarks import made
from benchmarks.bars import at_least
from benchmarks.claim_cost import NOW, SENT, beside_dead_tuples, freeze, open_ledger, with_many_due
from benchmarks.idle import cpu_s
from benchmarks.server_cpu import server_cpu_s
from benchmarks.servers import counting_server, daemon
from tunerd.call import Form
from tunerd.ledger import Admission
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.sandbox.private_postgresql import PrivatePostgresql
from tunerd.testing import Recorder, make_call

_WORKERS: Final = 16
_CONCURRENCY: Final = 8
_LATENCY_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Sizes:
    calls: int = 1_500
    """Of each run of an engine."""
    pairs: int = 4
    few_due: int = 1_000
    many_due: int = 1_000_000
    dead: int = 24_000
    claims: int = 200
    """Of each kind of pick, in each ledger."""
    instance_pairs: int = 2
    sent: int = 1_200
    """By one instance, and then by two."""


SMALL: Final = Sizes(calls=40, pairs=1, few_due=50, many_due=500, dead=200, claims=5, instance_pairs=1, sent=48)
"""For tests: it shows that everything works, and no figure means anything."""
SCENES: Final = ("engines", "due", "dead", "instances")


async def measure(sizes: Sizes = Sizes(), scenes: tuple[str, ...] = SCENES) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place, _postgresql() as server:
        if "engines" in scenes:
            for line in await _engines(Path(place), server, sizes):
                yield line
        if "due" in scenes:
            for line in await with_many_due(server, sizes.few_due, sizes.many_due, sizes.claims):
                yield line
        if "dead" in scenes:
            for line in await beside_dead_tuples(server, sizes.few_due, sizes.dead, sizes.claims):
                yield line
        if "instances" in scenes:
            for line in await _instances(Path(place), server, sizes):
                yield line


@contextmanager
def _postgresql() -> Iterator[PrivatePostgresql]:
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-postgresql-") as place:
        server = PrivatePostgresql(Path(place), durable=True)
        server.make()
        server.start()
        try:
            with psycopg.connect(server.url()) as connection:
                assert connection.execute("SHOW fsync").fetchone() == ("on",)
            yield server
        finally:
            server.stop()


# SQLite and PostgreSQL, without HTTP.


@dataclass(frozen=True, slots=True)
class Run:
    admitted_s: float
    settled_s: float
    """Claimed and settled."""
    own_cpu_s: float
    """Of this process: tunerd's ledger, and the loop that asks it."""
    server_cpu_s: float


async def _engines(place: Path, server: PrivatePostgresql, sizes: Sizes) -> list[str]:
    on_sqlite, on_postgresql = [], []
    for pair in range(sizes.pairs):
        on_file = await SqliteLedger.open(place / f"{pair}.db", now=NOW, emit=Recorder())
        on_sqlite.append(await _run(on_file, server, sizes.calls))
        on_postgresql.append(await _run(await open_ledger(server, f"engine{pair}"), server, sizes.calls))
    pairs = list(zip(on_sqlite, on_postgresql, strict=True))
    admitted = [sqlite.admitted_s / postgresql.admitted_s for sqlite, postgresql in pairs]
    settled = [sqlite.settled_s / postgresql.settled_s for sqlite, postgresql in pairs]
    whole = [_whole_s(sqlite) / _whole_s(postgresql) for sqlite, postgresql in pairs]
    return [
        f"| ledger without HTTP, {_WORKERS} workers, SQLite | {_shown(on_sqlite, sizes.calls)} |",
        f"| the same, PostgreSQL with fsync on | {_shown(on_postgresql, sizes.calls)} |",
        f"| PostgreSQL's calls/s by SQLite's, admitted | {_spread(admitted)} |",
        f"| the same, claimed and settled | {_spread(settled)} |",
        f"| the same, admitted, claimed and settled | {_spread(whole)}; {at_least(median(whole), 0.5)} |",
    ]


async def _run(ledger: StoredLedger, server: PrivatePostgresql, calls: int) -> Run:
    numbers = iter(range(calls))

    async def admit() -> None:
        for number in numbers:
            await ledger.admit(Admission(calls=(make_call(f"c{number}"),)), NOW)

    async def send() -> None:
        while (found := (await ledger.claim("tuner", Form.CREATE_CALL, freeze, NOW + 1)).claimed) is not None:
            await ledger.settle(found.row, SENT, NOW + 2)

    own, servers, began = time.process_time(), server_cpu_s(server.directory), time.perf_counter()
    await asyncio.gather(*(admit() for _ in range(_WORKERS)))
    admitted = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(_WORKERS)))
    settled = time.perf_counter()
    own, servers = time.process_time() - own, server_cpu_s(server.directory) - servers
    await ledger.close()
    return Run(admitted - began, settled - admitted, own, servers)


def _whole_s(run: Run) -> float:
    return run.admitted_s + run.settled_s


def _shown(runs: list[Run], calls: int) -> str:
    admitted, settled = (calls / median(found) for found in ([one.admitted_s for one in runs], [one.settled_s for one in runs]))
    own, servers = (
        median(found) / calls * 1000 for found in ([one.own_cpu_s for one in runs], [one.server_cpu_s for one in runs])
    )
    return (
        f"{admitted:,.0f} admissions/s, {settled:,.0f} claims with settlements/s; processor time of a call: "
        f"{own:.2f} ms of tunerd, {servers:.2f} ms of PostgreSQL"
    )


# One instance, and two.


@dataclass(frozen=True, slots=True)
class Sending:
    rate: float
    """Calls a second, from the rename that makes the log visible to the last request."""
    own_cpu_ms: float
    """For each call, of all instances."""
    server_cpu_ms: float


async def _instances(place: Path, server: PrivatePostgresql, sizes: Sizes) -> list[str]:
    """By turns, as the engines."""
    sendings: dict[int, list[Sending]] = {1: [], 2: []}
    for pair in range(sizes.instance_pairs):
        for count, its in sendings.items():
            its.append(await _sent(place, server, f"instances{count}_{pair}", count, sizes.sent))
    ratios = [two.rate / one.rate for one, two in zip(*sendings.values(), strict=True)]
    lines = [
        f"| {sizes.sent:,} calls of one instance's log, {count} sending, {_CONCURRENCY} at a time each, {_LATENCY_MS} ms an answer "
        f"| {median(one.rate for one in its):.1f} calls/s; processor time of a call: {median(one.own_cpu_ms for one in its):.2f} ms "
        f"of tunerd, {median(one.server_cpu_ms for one in its):.2f} ms of PostgreSQL |"
        for count, its in sendings.items()
    ]
    return [*lines, f"| two instances by one | {_spread(ratios)}; {at_least(median(ratios), 1.9)} |"]


async def _sent(place: Path, server: PrivatePostgresql, database: str, count: int, calls: int) -> Sending:
    place = place / database
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    place.mkdir()
    async with AsyncExitStack() as stack:
        tuner = await stack.enter_async_context(counting_server(place, "--no-check", "--latency", f"{_LATENCY_MS}ms"))
        pids = []
        for number in range(count):
            config = _config(place / f"host{number}", tuner.url, server.url(database), f"host{number}")
            pids.append(await stack.enter_async_context(daemon(config)))
        log = place / "host0" / "calls" / ".calls.tmp"
        with log.open("wb") as out:
            out.writelines(made.line(number) for number in range(calls))
        own, servers, began = sum(map(cpu_s, pids)), server_cpu_s(server.directory), time.monotonic()
        log.rename(log.with_name("calls.ndjson"))
        took = await tuner.reached(calls) - began
        own, servers = sum(map(cpu_s, pids)) - own, server_cpu_s(server.directory) - servers
    return Sending(calls / took, own / calls * 1000, servers / calls * 1000)


def _config(host: Path, url: str, ledger: str, instance: str) -> Path:
    (host / "calls").mkdir(parents=True)
    text = made.config(str(host), url, concurrency=_CONCURRENCY)
    config = host / "config.yaml"
    local = f'ledger: {{url: "sqlite://{host}/ledger.db"}}'
    assert local in text
    config.write_text(text.replace(local, f'ledger: {{url: "{ledger}", directory: {host}/local}}') + f"instance: {instance}\n")
    return config


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


async def main(scenes: tuple[str, ...]) -> None:
    if unknown := set(scenes) - set(SCENES):
        raise SystemExit(f"no such scene: {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}")
    print(
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start\n\n| what | measured |\n|---|---|", flush=True
    )
    async for line in measure(scenes=scenes):
        print(line, flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    asyncio.run(main(tuple(sys.argv[1:]) or SCENES))
