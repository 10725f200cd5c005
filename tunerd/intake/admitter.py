"""Steps 3 and 4: the batches of a file are mapped in the thread that read them, then submitted to the ledger.
While a batch becomes durable the next one is read and mapped. file_reader.py has the order of all steps.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from tunerd.audio.spool import EntryTooLarge
from tunerd.call import Document, Mapped, Refusal, RefusedDocument
from tunerd.intake.admission import Made, admission_of
from tunerd.intake.carry import Carried, Carry
from tunerd.intake.crash_journal import JournalEntry, Phase, Section, batch_at
from tunerd.intake.gather import with_waits_from_writing
from tunerd.intake.generations import Beginning, Begins, Generations, how_it_begins, is_new_log
from tunerd.intake.inspection import FileInspection
from tunerd.intake.looks import Batch, Look
from tunerd.intake.quarantine import crashed, refused_as, section_of, split
from tunerd.intake.refused_lines import RefusedLines, is_noise
from tunerd.intake.source_runtime import SourceRuntime
from tunerd.ledger import Admission, Admitted
from tunerd.outcome import FailReason
from tunerd.record import positional_record

Mapper: TypeAlias = Callable[[Document], Mapped]
"""What mapping/ makes of one document; never raises on purpose."""

OnAdmitted: TypeAlias = Callable[["SubmittedBatch", Admitted], None]
"""Called when a batch is durable."""


@positional_record
class SubmittedBatch:
    """A batch that was submitted to the ledger."""

    batch: Batch
    made: Sequence[Made]
    admission: Admission
    inspection: FileInspection | None
    """Of the file, which is still open."""
    durable: "asyncio.Future[Admitted]"


class Admitter:
    """Maps the documents of one source and admits them."""

    def __init__(self, runtime: SourceRuntime, mapper: Mapper, generations: Generations | None, on_admitted: OnAdmitted) -> None:
        """`generations`: of a source whose calls are gathered. `on_admitted` is called when a batch is durable."""
        self.mapper, self.runtime = mapper, runtime
        self._source, self._ledger, self._clock = runtime.source, runtime.ledger, runtime.clock
        self._generations, self._on_admitted = generations, on_admitted

    def batches_of_file(self, journal_entry: JournalEntry, *, final: bool, postponed: int = 0) -> "FileBatches":
        """`final`: waits count from when a document was written. `postponed`: how often it was."""
        return FileBatches(self, journal_entry, final, postponed)

    def map(self, batch: Batch, journal_entry: JournalEntry) -> list[Made]:
        """Step 3, in the thread that read them."""
        made: list[Made] = []
        ignores_noise = self._source.not_json == "ignore" and batch.mark is not None and not batch.mark.whole
        for one in batch.documents:
            if ignores_noise and is_noise(one):
                batch.noise += 1
                continue
            if isinstance(one, RefusedDocument):
                made.append((one, Mapped(refused=self._kept(one))))
                continue
            section = section_of(one)
            if journal_entry.is_suspect and journal_entry.is_quarantined(section):
                made.append((one, Mapped(refused=self._kept(crashed(one)))))
                continue
            with self.runtime.shared.mapping:
                journal_entry.note(Phase.MAPPING, section)
                made += self._map_one(one).of(one)
        journal_entry.note(Phase.ADMITTING, _section_of(batch))  # what follows waits for threads and the disk
        return made

    async def with_spooled_audio(self, made: Made) -> Made:
        """Audio that the document holds goes into the spool before the ledger hears of it."""
        document, mapped = made
        if mapped.recording is None or not mapped.recording.embedded or not isinstance(document, Document):
            return made
        try:
            return document, replace(mapped, recording=await self.runtime.spooled(mapped.recording))
        except EntryTooLarge as exc:
            refusal = Refusal(reason=FailReason.TOO_LARGE, where="manifest.audio", what=str(exc))
            refused = mapped.refused or self._kept(refused_as(document, refusal))
            return document, Mapped(refused=refused, notes=mapped.notes)

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
        return await self.runtime.in_thread(lambda: generations.beginning(batch, mark, begins, postponed=postponed))

    def gathered(self, carry: Carry, batch: Batch, made: Sequence[Made], beginning: Beginning, *, final: bool) -> Carried:
        """Gives documents without a key that of the document before them in their file."""
        if self._generations is None:
            return Carried(made)
        carried = carry.into(batch, made, stores=self._source.stores_documents, beginning=beginning)
        return replace(carried, made=with_waits_from_writing(carried.made, self._clock.now())) if final else carried

    def submit(self, batch: Batch, carried: Carried, inspection: FileInspection | None) -> SubmittedBatch:
        """Step 4 begins: the batch and its file's mark in one transaction."""
        admission = admission_of(batch, carried)
        return SubmittedBatch(batch, carried.made, admission, inspection, self._ledger.admit(admission, self._clock.now()))

    async def finish(self, submitted: SubmittedBatch) -> None:
        """Step 4 ends: it is durable. While the ledger cannot be written it is submitted again."""
        first = iter((submitted.durable,))
        admitted = await self.runtime.ask(lambda: next(first, None) or self._ledger.admit(submitted.admission, self._clock.now()))
        for location in _spooled_by(submitted.made):
            self.runtime.shared.spool.answered(location)
        self._on_admitted(submitted, admitted)


def _spooled_by(made: Sequence[Made]) -> Iterator[str]:
    """Where audio of these documents is in the spool."""
    for document, mapped in made:
        if isinstance(document, Document):
            yield from (one.location for one in document.spooled.values())
        if mapped.recording is not None and mapped.recording.location is not None:
            yield mapped.recording.location


class FileBatches:
    """The batches of one file, in order. Always `close()`."""

    def __init__(self, admitter: Admitter, journal_entry: JournalEntry, final: bool, postponed: int) -> None:
        self._admitter, self._journal_entry, self._final, self._postponed = admitter, journal_entry, final, postponed
        self._carry = Carry()
        self._refused = RefusedLines()
        self._submitted: SubmittedBatch | None = None
        self._made: Sequence[Made] = ()

    async def read(self, step: Callable[[], Look]) -> Look:
        """The next step of the file's reading (steps 1 and 2) and the mapping of what it gave (step 3): one way into the
        thread, and one back."""
        return await self._admitter.runtime.in_thread(lambda: self._read(step))

    def _read(self, step: Callable[[], Look]) -> Look:
        look = step()
        if isinstance(look, Batch) and not self._journal_entry.is_taken_singly(_section_of(look)):
            self._made = self._admitter.map(look, self._journal_entry)
        return look

    async def admit(self, batch: Batch, inspection: FileInspection) -> None:
        """Submit the batch when the one before it is durable. Raises Postponed, and then nothing was done. Of a suspect file no
        batch is read while another one is admitted; each document alone where one of the batch may have ended the process."""
        if not self._journal_entry.is_taken_singly(_section_of(batch)):
            beginning = await self._admitter.beginning(batch, self._made, self._postponed)
            await self._admit_mapped(batch, self._made, beginning, inspection)
            if self._journal_entry.is_suspect:
                await self.end()
            return
        beginning = await self._admitter.beginning(batch, None, self._postponed)
        for part in split(batch):
            made = await self._admitter.runtime.in_thread(lambda part=part: self._admitter.map(part, self._journal_entry))  # type: ignore[misc]
            await self._admit_mapped(part, made, beginning, inspection)
            await self.end()

    async def _admit_mapped(self, batch: Batch, made: Sequence[Made], beginning: Beginning, inspection: FileInspection) -> None:
        made = [await self._admitter.with_spooled_audio(one) for one in made]
        carried = self._admitter.gathered(self._carry, batch, made, beginning, final=self._final)
        carried = replace(carried, made=self._without_nothing(batch, carried.made))
        await self.end()
        self._submitted = self._admitter.submit(batch, carried, inspection)

    def _without_nothing(self, batch: Batch, made: Sequence[Made]) -> Sequence[Made]:
        """Not a row for each of a million empty lines."""
        if batch.first and batch.continues is not None:
            self._refused = RefusedLines(batch.continues.refused, batch.continues.summary_at)
        made = self._refused.into(made)
        if batch.mark is not None and not batch.mark.whole:
            batch.mark = replace(batch.mark, refused=self._refused.count, summary_at=self._refused.summary_at)
        return made

    async def end(self) -> None:
        """Wait until what was submitted is durable."""
        if self._submitted is not None:
            await self._admitter.finish(self._submitted)
            if (mark := self._submitted.batch.mark) is not None and not mark.whole:
                self._journal_entry.passed(mark.offset)
            self._submitted = None

    def close(self) -> None:
        """Stop waiting for what was submitted: it may become durable or not."""
        if self._submitted is not None:
            self._submitted.durable.cancel()
            self._submitted = None


def _section_of(batch: Batch) -> Section:
    if len(batch.documents) == 1:
        return section_of(batch.documents[0])
    return batch_at(batch.documents[0].origin.offset if batch.documents else 0)
