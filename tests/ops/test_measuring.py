"""What a scrape shows of the ledger's disk and of unmatched recordings is measured beside it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tunerd.ledger import DiskUse, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.ops.measures import LedgerMeasures
from tunerd.ops.measuring import MEASURE_EVERY_S, measure_forever
from tunerd.testing import FakeClock, MemoryLedger, Recorder


class Disk(MemoryLedger):
    """A ledger whose disk has the size and the free space that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.use: DiskUse | None = DiskUse(ledger_bytes=10, free_bytes=20)
        self.unmatched: dict[str, int] | None = {"egress": 3}

    async def disk_use(self) -> DiskUse:
        if self.use is None:
            raise OSError
        return self.use

    async def unmatched_recordings(self) -> Mapping[str, int]:
        if self.unmatched is None:
            raise LedgerUnavailable("the ledger cannot be read now")
        return self.unmatched


async def test_it_is_measured_at_once_and_then_every_ten_seconds() -> None:
    """Each manifest source is there from the start; what cannot be measured keeps its last value."""
    ledger, clock, stop, kept = Disk(), FakeClock(), asyncio.Event(), list[LedgerMeasures]()
    async with asyncio.TaskGroup() as group:
        group.create_task(measure_forever(ledger, lambda: ["egress", "bucket"], kept.append, clock, stop))
        await clock.advance(0)
        first = LedgerMeasures(file_bytes=10, disk_free_bytes=20, unmatched={"egress": 3, "bucket": 0})
        assert kept == [first]
        ledger.use = ledger.unmatched = None
        await clock.advance(MEASURE_EVERY_S)
        assert kept == [first, first]
        ledger.use, ledger.unmatched = DiskUse(ledger_bytes=11, free_bytes=19), {}
        await clock.advance(MEASURE_EVERY_S)
        assert kept[2] == LedgerMeasures(file_bytes=11, disk_free_bytes=19, unmatched={"egress": 0, "bucket": 0})
        stop.set()


async def test_the_size_of_a_ledger_is_that_of_its_files(tmp_path: Path) -> None:
    """The database and its write-ahead log."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=0.0, emit=Recorder())
    use = await ledger.disk_use()
    assert use.ledger_bytes == sum((tmp_path / name).stat().st_size for name in ("ledger.db", "ledger.db-wal"))
    assert use.free_bytes > 0
    await ledger.close()
    assert (await ledger.disk_use()).ledger_bytes == (tmp_path / "ledger.db").stat().st_size
