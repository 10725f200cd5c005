"""Batches of one file on their way into the ledger: one becomes durable while the next is read and mapped, in their order,
and none goes past what the ledger may hold."""

import asyncio
import json
from pathlib import Path

from tests.intake.harness import map_call, running, source
from tunerd.call import Document, Mapped, State
from tunerd.events import CallAdmitted, IntakePaused
from tunerd.intake.admission_gate import Limits
from tunerd.intake.follow import BATCH_DOCUMENTS
from tunerd.ledger import Admission, Admitted, LedgerUnavailable
from tunerd.testing import MemoryLedger

CALLS = 4 * BATCH_DOCUMENTS - 10
WORDS = "so many words that " * 40


def log(path: Path, count: int = CALLS) -> None:
    beside = path.with_name(".beside")
    beside.write_text("".join(json.dumps({"id": f"c{number:05d}", "words": WORDS}) + "\n" for number in range(count)))
    beside.rename(path)


class Held(MemoryLedger):
    """Nothing is durable before it is let; the first `refuses` admissions after that are refused."""

    def __init__(self, refuses: int = 0) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.refuses = refuses

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Admitted]":
        return asyncio.ensure_future(self._admit(admission, now))

    async def _admit(self, admission: Admission, now: float) -> Admitted:
        first = admission.calls[0].call_id
        self.begun.append(first)
        await self.let.wait()
        if self.refuses:
            self.refuses -= 1
            raise LedgerUnavailable("no space left")
        admitted = await super().admit(admission, now)
        self.ended.append(first)
        return admitted


async def test_a_batch_is_mapped_while_the_one_before_becomes_durable(tmp_path: Path) -> None:
    """The second batch is mapped while the first is in the ledger's hands; it is handed over when that one is durable, and
    a third is not begun before."""
    ledger, mapped, second = Held(), [], asyncio.Event()

    def mapper(document: Document) -> Mapped:
        mapped.append(document.value["id"])
        if len(mapped) == 2 * BATCH_DOCUMENTS:
            second.set()
        return map_call(document)

    log(tmp_path / "calls.ndjson")
    async with running(source(tmp_path), ledger=ledger, mapper=mapper) as run:
        await asyncio.wait_for(second.wait(), 10)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(mapped) == 2 * BATCH_DOCUMENTS
        assert ledger.begun == ["c00000"]
        assert not run.told.seen(CallAdmitted)
        ledger.let.set()
        await run.told.until(CallAdmitted, CALLS)
    assert ledger.ended == sorted(ledger.ended)
    assert run.ids() == sorted(mapped)


async def test_a_batch_that_could_not_be_written_comes_before_the_next(tmp_path: Path) -> None:
    """While the ledger cannot be written a batch is handed over again, and the one behind it waits."""
    ledger = Held(refuses=1)
    ledger.let.set()
    log(tmp_path / "calls.ndjson")
    async with running(source(tmp_path), ledger=ledger) as run:
        await run.told.until(CallAdmitted, CALLS)
    assert ledger.begun[:3] == ["c00000", "c00000", f"c{BATCH_DOCUMENTS:05d}"]
    assert ledger.ended == sorted(ledger.ended)
    assert len(run.ids()) == CALLS


async def test_one_large_log_does_not_go_past_what_the_ledger_may_hold(tmp_path: Path) -> None:
    """max_pending_bytes holds within a file, too: reading stops after a batch or two, and goes on when calls have left."""
    log(tmp_path / "calls.ndjson")
    ledger = MemoryLedger()
    one = 2 * len(WORDS)  # document and payload
    calls = source(tmp_path)
    async with running(calls, ledger=ledger, limits=Limits(max_pending_bytes=10 * one)) as run:
        await run.told.until(IntakePaused)
        assert ledger.gauges().calls[State.DUE] <= 2 * BATCH_DOCUMENTS
        admitted = len(run.told.seen(CallAdmitted))
        assert admitted == ledger.gauges().calls[State.DUE] < CALLS
        await run.intake.update([calls], {"agent": map_call}, Limits())
        await run.told.until(CallAdmitted, CALLS)
    assert len(run.ids()) == CALLS
