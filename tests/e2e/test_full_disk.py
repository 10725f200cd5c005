"""Under load the ledger's disk is filled to the last byte for several seconds and freed again, several times. Afterwards every
worker still works: as many requests are open at once as `concurrency` allows, nothing was lost, and nothing was repeated.

TUNERD_FILLINGS sets how often (1 by default; `make full-disk` sets 10).
"""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, call_document, put, running, until, world
from tests.e2e.test_disk import move_ledger, small_disk
from tests.real_parts import needs_mount
from tunerd.clock import SystemClock
from tunerd.sandbox.faults import Faults

FILLINGS = int(os.environ.get("TUNERD_FILLINGS", "1"))
FULL_FOR_S = 12.0 if FILLINGS > 1 else 6.0
CONCURRENCY = 8
CALLS_A_FILLING = 800
AFTERWARDS = 400
KINDS = ("call", "worker", "permit")


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Write a file until the disk is full, write more whenever space becomes free, and delete the file at the end."""
    over = threading.Event()

    def write() -> None:
        with (disk / "filler").open("wb", buffering=0) as filler:
            while not over.is_set():
                try:
                    filler.write(bytes(1 << 20))
                except OSError:
                    try:
                        filler.write(bytes(1 << 12))
                    except OSError:
                        over.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()
        (disk / "filler").unlink()


@needs_mount
@pytest.mark.slow
@pytest.mark.timeout(180 + 60 * FILLINGS)
async def test_every_worker_still_works_after_a_full_disk(tmp_path: Path) -> None:
    """No worker is lost, no call is lost, and no call is repeated (see above)."""
    never, clock = asyncio.Event(), SystemClock()
    with small_disk(tmp_path, "160m") as disk:
        async with world(tmp_path, Faults(latency_s=0.1)) as (tuner, config):
            move_ledger(config, disk, min_free="64MiB")
            put_calls(tmp_path, "before", 200)
            async with running(config) as daemon:
                await tuner.busy(CONCURRENCY // 2)
                for number in range(FILLINGS):
                    put_calls(tmp_path, f"filling{number}", CALLS_A_FILLING)
                    expected = 200 + (number + 1) * CALLS_A_FILLING
                    await until(lambda expected=expected: _has_read(daemon, expected))  # type: ignore[misc]
                    with filled(disk):
                        await clock.wait(never, FULL_FOR_S)
                await until(lambda: _has_sent(daemon, 200 + FILLINGS * CALLS_A_FILLING), ceiling_s=60 + 20 * FILLINGS)
                await tuner.plan({"latency_s": 0.5})  # slow, but not so slow that the limit stays low
                put_calls(tmp_path, "after", AFTERWARDS)
                await tuner.busy(CONCURRENCY)
                await tuner.plan({"latency_s": 0.0})
                await until(lambda: _has_sent(daemon, 200 + FILLINGS * CALLS_A_FILLING + AFTERWARDS))
                repaired = {what: await daemon.metric("tunerd_stuck_total", what=what) for what in KINDS}
                assert set(repaired.values()) == {0.0}, repaired
                assert await daemon.stop() == 0
            came = Counter(arrival["call_id"] for arrival in await tuner.arrivals())
    repeats = sum(count - 1 for count in came.values())
    print(f"{FILLINGS} fillings: {len(came)} calls, {repeats} repeats")
    assert len(came) == 200 + FILLINGS * CALLS_A_FILLING + AFTERWARDS
    assert repeats <= FILLINGS * CONCURRENCY


def put_calls(directory: Path, name: str, count: int) -> None:
    for number in range(count):
        put(directory / "calls" / f"{name}-{number}.json", call_document(f"{name}-{number}"))


async def _has_read(daemon: Daemon, count: int) -> bool:
    return sum((await daemon.states()).values()) >= count


async def _has_sent(daemon: Daemon, count: int) -> bool:
    return (await daemon.states()).get("sent") == count
