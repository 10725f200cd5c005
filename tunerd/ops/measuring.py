"""Measures what a scrape shows and nobody keeps: the ledger's size, the free space on its disk, unmatched recordings.

It is done beside everything else, in threads, and a scrape shows the last result: a disk that hangs delays no scrape.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from tunerd.clock import Clock
from tunerd.ledger import DiskUse, Inspection, LedgerUnavailable
from tunerd.ops.measures import LedgerMeasures

MEASURE_EVERY_S: Final = 10.0


async def measure_forever(
    ledger: Inspection,
    manifest_sources: Callable[[], Collection[str]],
    keep: Callable[[LedgerMeasures], None],
    clock: Clock,
    stop: asyncio.Event,
) -> None:
    """At once and then every 10 s, until `stop`. What cannot be measured keeps its last value."""
    disk, unmatched = DiskUse(ledger_bytes=0, free_bytes=0), dict[str, int]()
    while True:
        with suppress(OSError):
            disk = await ledger.disk_use()
        with suppress(LedgerUnavailable):
            unmatched = dict(await ledger.unmatched_recordings())
        shown = dict.fromkeys(manifest_sources(), 0) | unmatched
        keep(LedgerMeasures(file_bytes=disk.ledger_bytes, disk_free_bytes=disk.free_bytes, unmatched=shown))
        if await clock.wait(stop, MEASURE_EVERY_S):
            return
