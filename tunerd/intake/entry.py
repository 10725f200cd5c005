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
from tunerd.intake.crash_journal import BATCH, JournalEntry, Phase, Place
from tunerd.intake.gather import InThread, Patiently, with_waits_from_writing
from tunerd.intake.generations import Beginning, Begins, Generations, how_it_begins, is_new_log
from tunerd.intake.inspection import LARGE_BYTES, Batch, Inspection
from tunerd.intake.loop_budget import LoopBudget
from tunerd.intake.quarantine import crashed, place_of, split
from tunerd.ledger import Admission, Admitted, WritePath

Mapper: TypeAlias = Callable[[Document], Mapped]
"""What mapping/ makes of one document; never raises on purpose."""

Entered: TypeAlias = Callable[["Handed", Admitted], None]
"""Told when a batch is durable."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A batch that is in the ledger's hands."""

    batch: Batch
    made: Sequence[Made]
    admission: Admission
    inspection: Inspection | None
    """Of the file, which is still open."""
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
        generations: Generations | None,
    ) -> None:
        """`generations`: of a source whose calls are gathered."""
        self.mapper, self._slices = mapper, slices
        self._source, self._ledger, self._clock, self._generations = source, ledger, clock, generations
        self._entered, self._patiently, self._in_thread = entered, patiently, in_thread

    def of_file(self, hold: JournalEntry, *, final: bool, postponed: int = 0) -> "FileEntry":
        """`final`: waits count from when a document was written. `postponed`: how often it was."""
        return FileEntry(self, hold, final, postponed)

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
                made.append((one, await self._in_thread(lambda one=one: self._map_one(one))))  # type: ignore[misc]
                continue
            await self._slices.room()
            with self._slices:
                made.append((one, self._map_one(one)))
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

    async def beginning(self, batch: Batch, made: Sequence[Made] | None, postponed: int) -> Beginning:
        """What stood before the first documents of a new log; `made`: they, where they are mapped already. Raises Postponed."""
        generations, mark = self._generations, batch.mark
        if generations is None or mark is None or not is_new_log(batch):
            return None
        begins = Begins.UNKNOWN if made is None else Begins.EMPTY if not made else how_it_begins(made[0])
        return await self._in_thread(lambda: generations.beginning(batch, mark, begins, postponed=postponed))

    def gathered(self, carry: Carry, batch: Batch, made: Sequence[Made], beginning: Beginning, *, final: bool) -> Carried:
        """Step 2b: documents without a key go with the one before them."""
        if self._generations is None:
            return Carried(made)
        carried = carry.into(batch, made, stores=self._source.stores_documents, beginning=beginning)
        return replace(carried, made=with_waits_from_writing(carried.made, self._clock.now())) if final else carried

    def hand_over(self, batch: Batch, carried: Carried, inspection: Inspection | None) -> Handed:
        """Step 4 begins: the batch and its file's mark in one transaction."""
        admission = admission_of(batch, carried)
        durable = asyncio.ensure_future(self._ledger.admit(admission, self._clock.now()))
        return Handed(batch, carried.made, admission, inspection, durable)

    async def see_through(self, handed: Handed) -> None:
        """Step 4 ends: it is durable. While the ledger cannot be written it is handed over again."""
        first = iter((handed.durable,))
        admitted = await self._patiently(lambda: next(first, None) or self._ledger.admit(handed.admission, self._clock.now()))
        self._entered(handed, admitted)


def _place(batch: Batch) -> Place:
    return place_of(batch.documents[0]) if len(batch.documents) == 1 else BATCH


class FileEntry:
    """The batches of one file, in order. Always `close()`."""

    def __init__(self, entry: Entry, hold: JournalEntry, final: bool, postponed: int) -> None:
        self._entry, self._hold, self._final, self._postponed = entry, hold, final, postponed
        self._carry = Carry()
        self._handed: Handed | None = None

    async def enter(self, batch: Batch, inspection: Inspection) -> None:
        """Map it, and hand it over when the one before is durable. One by one, and to the end, where one of its documents
        may have ended the process before. Raises Postponed, and then nothing was done."""
        if not self._hold.is_suspect:
            self._note_mapping(batch)
            made = await self._entry.map(batch, self._hold)
            await self._enter(batch, made, await self._entry.beginning(batch, made, self._postponed), inspection)
            return
        beginning = await self._entry.beginning(batch, None, self._postponed)
        for part in split(batch):
            self._note_mapping(part)
            await self._enter(part, await self._entry.map(part, self._hold), beginning, inspection)
            await self.end()

    def _note_mapping(self, batch: Batch) -> None:
        self._hold.note(Phase.MAPPING, _place(batch))

    async def _enter(self, batch: Batch, made: Sequence[Made], beginning: Beginning, inspection: Inspection) -> None:
        carried = self._entry.gathered(self._carry, batch, made, beginning, final=self._final)
        await self.end()
        self._hold.note(Phase.ADMITTING, _place(batch))
        self._handed = self._entry.hand_over(batch, carried, inspection)

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
