"""How long from renamed into place to admitted, idle and while `after_sent: move_to` runs, and how fast a backlog is read.

Run: python benchmarks/intake_latency.py [DIRECTORY]. The directory should be on the disk that is meant.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tunerd.call import Document, Form, Mapped
from tunerd.clock import SystemClock
from tunerd.config import Source
from tunerd.events import CallAdmitted, Event, FileDisposed
from tunerd.intake.sources import Intake
from tunerd.ledger import Delivered
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import make_call

ONE_BY_ONE = 300
BACKLOG = 3_000


def _map(document: Document) -> Mapped:
    assert isinstance(document.value, Mapping)
    call = make_call(str(document.value["id"]), source="agent")
    return Mapped(call=replace(call, origin=document.origin, document=document.raw, settled_at=document.settled_at))


class _Told:
    def __init__(self) -> None:
        self.admitted: dict[str, float] = {}
        self.disposed = 0
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallAdmitted):
            self.admitted[event.call_id] = time.perf_counter()
            self._news.set()
        self.disposed += isinstance(event, FileDisposed)

    async def until(self, call_id: str) -> float:
        await self.until_count(0, call_id)
        return self.admitted[call_id]

    async def until_count(self, count: int, call_id: str = "first") -> None:
        while call_id not in self.admitted or len(self.admitted) < count:
            self._news.clear()
            await self._news.wait()


def _put(root: Path, name: str) -> float:
    hidden = root / f".{name}"
    hidden.write_text(json.dumps({"id": name, "text": "y" * 4000}))
    began = time.perf_counter()
    hidden.rename(root / f"{name}.json")
    return began


async def _one_by_one(root: Path, told: _Told, prefix: str) -> str:
    took = []
    for i in range(ONE_BY_ONE):
        began = _put(root, f"{prefix}{i}")
        took.append((await told.until(f"{prefix}{i}") - began) * 1000)
    took.sort()
    return f"p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms, most {took[-1]:.1f} ms"


async def _send_all(ledger: SqliteLedger) -> int:
    clock, sent = SystemClock(), 0
    while (claim := (await ledger.claim("tuner", Form.CREATE_CALL, lambda body: body.payload, clock.now())).claimed) is not None:
        await ledger.settle(claim.row, Delivered(status=200, tuner_call_id=None, already_there=False), clock.now())
        sent += 1
    return sent


async def main(directory: str) -> None:
    root, told, clock, stop = Path(directory) / "calls", _Told(), SystemClock(), asyncio.Event()
    root.mkdir()
    source = Source(name="agent", path=str(root), destination="tuner", after_sent="move_to", move_to="done")
    ledger = await SqliteLedger.open(Path(directory) / "ledger.db", now=clock.now(), emit=lambda _: None)
    intake = Intake([source], ledger, {"agent": _map}, clock, told)
    async with asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        _put(root, "first")
        await told.until("first")
        print("one at a time, idle:           ", await _one_by_one(root, told, "idle"))
        began = time.perf_counter()
        for i in range(BACKLOG):
            _put(root, f"backlog{i}")
        await told.until_count(1 + ONE_BY_ONE + BACKLOG)
        print(f"{BACKLOG} files at once:            {BACKLOG / (time.perf_counter() - began):.0f} files/s")
        sending = group.create_task(_send_all(ledger))
        print("one at a time, files are moved:", await _one_by_one(root, told, "moving"))
        print(f"                                (sent {await sending}, moved {told.disposed} meanwhile)")
        stop.set()
    await ledger.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as made:
        os.sync()
        asyncio.run(main(made))
