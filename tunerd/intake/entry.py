"""Steps 3 and 4 for the batches of a file: mapped in slices, then handed to the ledger; while a batch becomes durable the
next one is read and mapped. The order of all steps stands in source_reader.py.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tunerd.call import Document, Mapped, RefusedDocument
from tunerd.clock import Clock
from tunerd.config import Source
from tunerd.intake.admission import Made, admission_of
from tunerd.intake.carry import Carried, Carry
from tunerd.intake.crash_journal import BATCH, JournalEntry, Phase
from tunerd.intake.gather import InThread, Patiently, with_waits_from_writing
from tunerd.intake.inspection import LARGE_BYTES, Batch
from tunerd.intake.loop_budget import LoopBudget
from tunerd.intake.quarantine import crashed, place_of, split
from tunerd.ledger import Admission, Admitted, WritePath

Mapper: TypeAlias = Callable[[Document], Mapped]
"""What mapping/ makes of one document; never raises on purpose."""

Entered: TypeAlias = Callable[[Batch, Sequence[Made], Admission, Admitted], None]
"""Told when a batch is durable."""


@dataclass(frozen=True, slots=True)
class _Handed:
    """A batch that is in the ledger's hands."""

    batch: Batch
    made: Sequence[Made]
    admission: Admission
    durable: "asyncio.Future[Admitted]"


class Entry:
    """One source's way into the ledger."""

    def __init__(
        self,
        source: Source,
        mapper: Mapper,
        ledger: WritePath,
        clock: Clock,
        entered: Entered,
        patiently: Patiently,
        in_thread: InThread,
        slices: LoopBudget,
        *,
        gathers: bool,
    ) -> None:
        self.mapper, self._slices = mapper, slices
        self._source, self._ledger, self._clock, self._gathers = source, ledger, clock, gathers
        self._entered, self._patiently, self._in_thread = entered, patiently, in_thread

    def of_file(self, hold: JournalEntry, *, final: bool) -> "FileEntry":
        """`final`: waits count from when a document was written."""
        return FileEntry(self, hold, final)

    async def map(self, batch: Batch, hold: JournalEntry) -> list[Made]:
        """Step 3, in slices on the loop (loop_budget.py); a large document in a thread, where only it is held up."""
        made: list[Made] = []
        for one in batch.documents:
            if isinstance(one, RefusedDocument):
                made.append((one, Mapped(refused=self._kept(one))))
                continue
            if hold.is_suspect and hold.is_quarantined(place_of(one)):
                made.append((one, Mapped(refused=self._kept(crashed(one)))))
                continue
            if len(one.raw) > LARGE_BYTES:
                made += (await self._in_thread(lambda one=one: self._map_one(one))).of(one)  # type: ignore[misc]
                continue
            await self._slices.room()
            with self._slices:
                made += self._map_one(one).of(one)
        return made

    def _map_one(self, document: Document) -> Mapped:
        try:
            return self.mapper(document)
        except Exception as exc:
            # A defect of ours on one document must not stop all others: it is set aside, visible, with its text.
            what = f"the mapping failed on this document ({type(exc).__name__}), a defect in tunerd: please report it"
            return Mapped(refused=self._kept(crashed(document, what)))

    def _kept(self, refused: RefusedDocument) -> RefusedDocument:
        return refused if self._source.stores_documents else refused.without_text()

    def gathered(self, carry: Carry, batch: Batch, made: Sequence[Made], *, final: bool) -> Carried:
        """Step 2b: documents without a key go with the one before them."""
        if not self._gathers:
            return Carried(made)
        carried = carry.into(batch, made, stores=self._source.stores_documents)
        return replace(carried, made=with_waits_from_writing(carried.made, self._clock.now())) if final else carried

    def hand_over(self, batch: Batch, carried: Carried) -> _Handed:
        """Step 4 begins: the batch and its file's mark in one transaction."""
        admission = admission_of(batch, carried)
        return _Handed(batch, carried.made, admission, asyncio.ensure_future(self._ledger.admit(admission, self._clock.now())))

    async def see_through(self, handed: _Handed) -> None:
        """Step 4 ends: it is durable. While the ledger cannot be written it is handed over again."""
        first = iter((handed.durable,))
        admitted = await self._patiently(lambda: next(first, None) or self._ledger.admit(handed.admission, self._clock.now()))
        self._entered(handed.batch, handed.made, handed.admission, admitted)


class FileEntry:
    """The batches of one file, in order. Always `close()`."""

    def __init__(self, entry: Entry, hold: JournalEntry, final: bool) -> None:
        self._entry, self._hold, self._final = entry, hold, final
        self._carry = Carry()
        self._handed: _Handed | None = None

    async def enter(self, batch: Batch) -> None:
        """Map it, and hand it over when the one before is durable. One by one, and to the end, where one of its documents
        may have ended the process before."""
        if not self._hold.is_suspect:
            await self._enter(batch)
            return
        for part in split(batch):
            await self._enter(part)
            await self.end()

    async def _enter(self, batch: Batch) -> None:
        place = place_of(batch.documents[0]) if len(batch.documents) == 1 else BATCH
        self._hold.note(Phase.MAPPING, place)
        carried = self._entry.gathered(self._carry, batch, await self._entry.map(batch, self._hold), final=self._final)
        await self.end()
        self._hold.note(Phase.ADMITTING, place)
        self._handed = self._entry.hand_over(batch, carried)

    async def end(self) -> None:
        """What was handed over is durable."""
        if self._handed is not None:
            await self._entry.see_through(self._handed)
            self._handed = None

    def close(self) -> None:
        """Nobody waits any more for what was handed over: it may become durable or not."""
        if self._handed is not None:
            self._handed.durable.cancel()
            self._handed = None
