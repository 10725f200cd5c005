"""A shared source whose turn goes to another instance while something else happens. (With PostgreSQL: ledger/test_fleet_shared.py.)"""

import asyncio
import threading
from pathlib import Path

from tests.intake.harness import map_call, put, source
from tunerd.call import Document, Mapped
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted
from tunerd.intake.sources import Intake
from tunerd.ledger.fleet import Alone
from tunerd.testing import MemoryLedger, Recorder


class Turns(Alone):
    """Of a fleet in which `reader` has the turn; "" is this instance."""

    is_shared = True
    reader = ""

    async def begin_reading(self, source: str) -> str:
        return self.reader

    async def still_reads(self, source: str) -> bool:
        return not self.reader


async def test_a_reload_while_the_turn_is_lost(tmp_path: Path) -> None:
    """The last file is still in hand when the source changes: the reader that comes of that is the only one, and ends."""
    ledger, told, stop, turns = MemoryLedger(), Recorder(), asyncio.Event(), Turns()
    ledger.fleet = turns
    in_hand, over = threading.Event(), threading.Event()

    def slow(document: Document) -> Mapped:
        in_hand.set()
        over.wait(20)
        return map_call(document)

    intake = Intake([source(tmp_path, shared=True, rescan_s=0.2)], ledger, {"agent": slow}, SystemClock(), told)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(intake.run(stop))
        put(tmp_path / "1.json", {"id": "c1"})
        await asyncio.to_thread(in_hand.wait, 20)
        turns.reader = "b"
        await intake._sources["agent"].ending.wait()
        changed = source(tmp_path, shared=True, rescan_s=0.3)
        reload = group.create_task(intake.update([changed], {"agent": map_call}))
        await asyncio.sleep(0)
        over.set()
        await reload
        turns.reader = ""
        put(tmp_path / "2.json", {"id": "c2"})
        await told.until(CallAdmitted, 2)
        assert [one.source.rescan_s for one in intake._sources.values()] == [0.3]
        stop.set()
        await running
    await ledger.close()
