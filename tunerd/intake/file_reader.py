"""Reads one due file and brings it into the ledger: steps 2 to 4 of docs/architecture.md. source_reader.py decides when."""

import asyncio
from typing import Final

from tunerd.audio.spool import SpoolFull
from tunerd.call import Mapped, RefusedDocument
from tunerd.events import LinesIgnored
from tunerd.intake.admission import events_of
from tunerd.intake.admission_gate import RETRY_S
from tunerd.intake.admitter import Admitter, FileBatches, Mapper, SubmittedBatch
from tunerd.intake.after_sent import AfterSent
from tunerd.intake.carry import Carry
from tunerd.intake.crash_journal import FILE, JournalEntry, Phase
from tunerd.intake.due_queue import Due, moved_key
from tunerd.intake.gather import Gatherer
from tunerd.intake.generations import PATIENCE_STEP_S, POSTPONED_S, Generations, Postponed
from tunerd.intake.inspection import FileInspection, Now
from tunerd.intake.log_identity import LookUp, SameFile
from tunerd.intake.looks import Batch, Compare, Large, Later, LeftOut, Look, NotRegular, Recognized, Unchanged, Working
from tunerd.intake.monitor import DirectoryMonitor
from tunerd.intake.quarantine import unread
from tunerd.intake.restore_marks import restore_mark
from tunerd.intake.source_files import SourceFiles
from tunerd.intake.source_runtime import SourceEnded, SourceRuntime
from tunerd.ledger import Admitted, FileMark
from tunerd.outcome import IntakeReason

_NOISY_FILES: Final = 1_000
_UNREADABLE_S: Final = 5.0
"""How soon a file is tried again that gave no permission or an I/O error."""


class FileReader:
    """Reads files of one source."""

    def __init__(
        self,
        runtime: SourceRuntime,
        files: SourceFiles,
        monitor: DirectoryMonitor,
        after_sent: AfterSent,
        mapper: Mapper,
        gatherer: Gatherer | None,
        generations: Generations | None,
    ) -> None:
        """`gatherer` and `generations`: of a source whose calls come of several documents."""
        self._runtime, self._files, self._monitor, self._after_sent = runtime, files, monitor, after_sent
        self._clock, self._ledger, self._journal, self._gate = runtime.clock, runtime.ledger, runtime.journal, runtime.shared.gate
        self._index, self._gatherer = files.index, gatherer
        self.admitter = Admitter(runtime, mapper, generations, self._on_admitted)
        self._new_logs = asyncio.Lock()
        self._has_calls = bool(runtime.source.destination)
        self.progress = 0
        """Counts files that gave documents, or wait for another one."""
        self.unreadable: dict[str, str] = {}
        """Files that gave an error when they were last looked at, and which."""
        self._noisy: set[str] = set()
        """Logs of which it was reported that lines of them are ignored."""

    async def read(self, due: Due, *, final: bool, patient: bool) -> float | None:
        """One file through steps 2 to 4. Gives the seconds after which to look at it again, if that is needed."""
        if not await self._gate.wait_open(self._runtime.pauses, self._runtime.ending, calls=self._has_calls, patient=patient):
            raise SourceEnded
        await restore_mark(self._runtime, self._index, due.path)
        inspection = FileInspection(
            self._runtime.source, self._files, due, Now(self._clock.now(), self._clock.monotonic(), final)
        )
        journal_entry = self._journal.begin(self._runtime.name, inspection.path)
        # Each line that is written to a file makes it due again: what counts is time, but in a sweep, which goes round and round.
        postponed = due.postponed if final else int(due.waited_s(self._clock.monotonic()) / PATIENCE_STEP_S)
        batches = self.admitter.batches_of_file(journal_entry, final=final, postponed=postponed)
        try:
            if journal_entry.is_quarantined(FILE) and not due.moved_log:
                await self._set_aside(due, journal_entry)
                self.unreadable.pop(due.path, None)
                return None
            look = await self._looked_at(inspection, batches, due.path)  # settled?  2. read  3. map
            while True:
                if isinstance(look, Compare):
                    look = await self._compared(inspection, batches, due.path)
                elif isinstance(look, LookUp):
                    look = await self._looked_up(inspection, batches, look)
                if isinstance(look, Batch):
                    await batches.admit(look, inspection)  # 4. admit
                if isinstance(look, Compare | LookUp):
                    continue
                if not isinstance(look, Large | Working) and not (isinstance(look, Batch) and not look.last):
                    break
                await self._wait_for_room(batches, patient=patient)
                async with self._runtime.shared.turns.turn(self._runtime.name):  # what takes long: a turn each, over all sources
                    journal_entry.note(Phase.READING, FILE)
                    look = await self._more(inspection, batches)
            await batches.end()
            self._runtime.pauses.end(IntakeReason.SPOOL, by=due.path)
            later = await self._after(due, look)
            self.unreadable.pop(due.path, None)
            journal_entry.end(cleared=not isinstance(look, Later))
            return later
        except Postponed as postponed:
            journal_entry.end(cleared=True)
            due.wait_for(postponed.read_up_to, self._clock.monotonic())
            self.progress += 1
            self._files.due.scan_now.set()
            return POSTPONED_S
        except (SpoolFull, OSError) as exc:
            return await self._failed(due, journal_entry, exc)
        except (SourceEnded, asyncio.CancelledError):
            journal_entry.end(cleared=False)
            raise
        finally:  # any other exception ends the process, and the file stays noted as what it had in hand
            batches.close()
            inspection.close()

    async def _failed(self, due: Due, journal_entry: JournalEntry, exc: SpoolFull | OSError) -> float:
        """It cannot be read now: in how many seconds to try again."""
        if isinstance(exc, SpoolFull):
            journal_entry.end(cleared=True)
            self._runtime.pauses.begin(IntakeReason.SPOOL, str(exc), by=due.path)
            return RETRY_S
        journal_entry.end(cleared=False)
        self.unreadable[due.path] = exc.strerror or type(exc).__name__
        if isinstance(exc, PermissionError) and await self._monitor.is_denied():
            return RETRY_S
        self._monitor.odd(due.path, f"cannot be read ({exc.strerror}); it is tried again until it can or is gone")
        return _UNREADABLE_S

    async def _looked_at(self, inspection: FileInspection, batches: FileBatches, relative: str) -> Look:
        """The first look at a file. Logs that nobody knows yet are looked at one after the other, in the order in which they
        became due (a scan puts the oldest first), because a log gets its number when its first documents are read."""
        if relative in self._index.logs or self._files.names.kind(relative) != "log":
            return await batches.read(inspection.look)
        async with self._new_logs:
            look = await batches.read(inspection.look)
            return await self._looked_up(inspection, batches, look) if isinstance(look, LookUp) else look

    async def _compared(self, inspection: FileInspection, batches: FileBatches, relative: str) -> Look:
        """A whole file was read at this path, and has another stat now: its content says whether to read it again."""
        path = self._index.absolute(relative)
        stored = await self._runtime.ask(lambda: self._ledger.mark(self._runtime.name, path))
        return await batches.read(lambda: inspection.compare(stored))

    async def _looked_up(self, inspection: FileInspection, batches: FileBatches, asked: LookUp) -> Look:
        """Which logs this one may be."""
        marks = await self._runtime.ask(lambda: self._ledger.logs_like(self._runtime.name, asked.inode, asked.head))
        return await batches.read(lambda: inspection.found(marks))

    async def _more(self, inspection: FileInspection, batches: FileBatches) -> Look:
        try:
            return await batches.read(inspection.more)
        except OSError:
            await batches.end()  # what could be read stays read
            raise

    async def _wait_for_room(self, batches: FileBatches, *, patient: bool) -> None:
        """A large file does not go past what the ledger may hold, either."""
        if self._gate.closed() is not None:
            await batches.end()
        if not await self._gate.wait_open(self._runtime.pauses, self._runtime.ending, calls=self._has_calls, patient=patient):
            await batches.end()
            raise SourceEnded

    async def _set_aside(self, due: Due, journal_entry: JournalEntry) -> None:
        """The process died too often while the bytes of this file were read: it becomes failed(crashed), and is not opened again
        before it changes."""
        batch = unread(
            self._runtime.name,
            self._index.absolute(due.path),
            self._index.logs.get(due.path),
            self._clock.now(),
        )
        made = [(one, Mapped(refused=one)) for one in batch.documents if isinstance(one, RefusedDocument)]
        carried = self.admitter.gathered(Carry(), batch, made, None, final=False)
        await self.admitter.finish(self.admitter.submit(batch, carried, None))
        journal_entry.end(cleared=True)

    async def _after(self, due: Due, look: Look) -> float | None:
        if due.closed or isinstance(look, Batch):
            self._after_sent.was_seen(due.path, closed=due.closed)
        match look:
            case NotRegular(why):
                self._monitor.odd(due.path, why)
            case Recognized(mark):
                await self._runtime.ask(lambda: self._ledger.set_mark(mark, self._clock.now()))
                self._index.came_back(mark)
            case LeftOut(sign):
                self._index.leave_out(due.path, sign)
            case SameFile():
                if not due.moved_log:
                    self._index.leave_out(due.path, due.signature)
            case Later(seconds, first, is_busy):
                if first:
                    await self._monitor.read_first(first)
                self.progress += bool(first) or is_busy
                return seconds
            case Batch(mark=FileMark(whole=True), first=True, documents=[]):
                self._monitor.odd(due.path, "holds an empty list: there is no document in it")
            case Batch(later_s=seconds):
                return seconds
            case Unchanged() | Compare() | LookUp() | Large() | Working():
                pass
        return None

    def _on_admitted(self, submitted: SubmittedBatch, admitted: Admitted) -> None:
        """A batch is durable: update what is known, then emit the events."""
        batch, made, admission = submitted.batch, submitted.made, submitted.admission
        if batch.mark is not None:
            self._remember(batch, batch.mark, submitted.inspection)
        self.progress += bool(made)
        self._runtime.late_parts += admitted.late
        if self._gatherer is not None and (admission.fragments or admission.cuts or admission.torn or admission.refused):
            self._gatherer.changed.set()
        for event in events_of(self._runtime.name, made, admission, admitted):
            self._runtime.emit(event)
        if batch.noise and batch.mark is not None:
            path = batch.mark.path
            self._runtime.emit(
                LinesIgnored(source=self._runtime.name, path=path, count=batch.noise, is_first=path not in self._noisy)
            )
            if len(self._noisy) < _NOISY_FILES:
                self._noisy.add(path)

    def _remember(self, batch: Batch, mark: FileMark, inspection: FileInspection | None) -> None:
        relative = self._index.relative(mark.path)
        if mark.is_there:
            self._index.remember(mark)
        else:
            self._index.read_elsewhere(mark)
            relative = moved_key(mark.log)
        if not mark.whole and inspection is not None and (fd := inspection.log_fd) is not None:
            now = self._clock.monotonic()
            self._files.followed.read(fd, mark, now=now, seen=inspection.seen if batch.last else None)
        if batch.refused_tail is not None:
            self._index.refused_tails[relative] = batch.refused_tail
        else:
            self._index.refused_tails.pop(relative, None)
