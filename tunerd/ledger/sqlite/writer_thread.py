"""The writer thread: batches of jobs, their commits, and the recovery from a failing disk.

It owns the connection, and commits together what was queued while its last commit ran.
Commands come in as jobs (service/job_queue.py). While nothing can be committed (disk full, I/O error) impatient jobs fail at
once; patient ones (settle, release: their results must not be lost) are kept and tried again until a commit succeeds.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from tunerd.clock import Clock
from tunerd.events import Emit
from tunerd.ledger import Gauges, LedgerUnavailable
from tunerd.ledger.commands.reclaim import take_over
from tunerd.ledger.service.batch import carry_out
from tunerd.ledger.service.job_queue import JobQueue, never_preempt
from tunerd.ledger.service.jobs import BatchReport, Job
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.errors import LedgerDamaged, is_damage, is_trouble, words_for
from tunerd.ledger.sqlite.open_file import OpenFile
from tunerd.ledger.sqlite.outage import Outage
from tunerd.ledger.sqlite.reserve import Reserve
from tunerd.ledger.sqlite.sqlite_database import sqlite_of

T = TypeVar("T")

_RETRY_S: Final = 1.0
"""Between two tries while nothing can be committed."""
_OLDEST_EVERY_S: Final = 0.5
"""How old the oldest calls in the gauges may be while there is much to do."""


class WriterThread:
    def __init__(
        self,
        store: Store,
        file: OpenFile,
        reserve: Reserve,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        emit: Emit,
        committed: Callable[[set[str], set[tuple[str, str]]], None],
    ) -> None:
        self._store = store
        self._file = file
        self._outage = Outage(reserve, clock)
        self._clock = clock
        self._queue = JobQueue(loop, emit, committed)
        self._kept: list[Job[Any]] = []
        """Patient jobs that wait for a commit that works."""
        self.gauges: Gauges = store.gauges()
        """As of the last commit; replaced as a whole, so any thread may read it."""
        self._is_behind = False
        """The oldest calls in the gauges are those of an earlier commit."""
        self._looked_at = 0.0
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def is_troubled(self) -> bool:
        return self._outage.is_on

    @property
    def waits_for_server(self) -> bool:
        return False

    def submit(self, job: Job[T]) -> "asyncio.Future[T]":
        return self._queue.submit(job)

    def unsettled(self) -> frozenset[int]:
        return self._queue.unsettled()

    async def close(self) -> None:
        """Finish what is queued, try what is kept once more, close the connection."""
        self._queue.end()
        await asyncio.to_thread(self._thread.join)

    # The thread.

    def _main(self) -> None:
        never_preempt()
        try:
            while self._turn():
                pass
        except BaseException as exc:
            self._queue.die(exc, self._kept)
        finally:
            self._store.db.close()

    def _turn(self) -> bool:
        """Take a batch, run it, report. False: closed."""
        batch, is_closing = self._queue.collect(_RETRY_S if self._outage.is_reported else None)
        report = BatchReport()
        try:
            if self._outage.is_on:
                self._keep_patient(batch, report, "the ledger cannot be written now; tunerd tries again every second")
                batch = []
                self._heal(report)
            elif self._outage.is_short:
                batch = self._turn_away(batch, report)
                self._refill(report)
            if not self._outage.is_on and batch:
                self._run(batch, report)
            if is_closing:
                self._last(report)
            elif self._is_behind:
                self._look_for_oldest()
        finally:  # jobs that were refused before a defect are answered all the same
            self._queue.send(report)
        return not is_closing

    def _look_for_oldest(self) -> None:
        """When there is nothing else to do, or when it was last done long ago: while calls are sent one after the other it would
        be asked at each commit."""
        now = self._clock.monotonic()
        if self._outage.is_on or not (self._queue.is_empty() or now - self._looked_at >= _OLDEST_EVERY_S):
            return
        self._looked_at = now
        try:
            self.gauges, self._is_behind = self._store.gauges(), False
        except sqlite3.Error:
            pass  # the next command meets the same error and deals with it

    def _run(self, batch: list[Job[Any]], report: BatchReport) -> None:
        if batch[-1].alone:  # it ended its batch
            *together, alone = batch
            if together:
                self._commit(together, report)
            self._run_alone(alone, report)
        else:
            self._commit(batch, report)

    def _commit(self, batch: Sequence[Job[Any]], report: BatchReport) -> bool:
        """One transaction for all of them. If one raises they run singly, so that only the culprit sees the error."""
        store = self._store
        try:
            woken, disposable = carry_out(store, batch)
        except Exception as exc:
            is_undone = store.rollback()
            self._outage.must_reopen = self._outage.must_reopen or not is_undone
            if not is_undone or is_trouble(exc):
                self._fail(batch, exc, report)
                return False
            if len(batch) == 1:
                batch[0].error = self._damaged() if is_damage(exc) else exc
                report.jobs.append(batch[0])
                return True
            is_fine = True
            for job in batch:
                is_fine = self._commit([job], report) and is_fine
            return is_fine
        self.gauges, self._is_behind = store.tally.gauges(self.gauges.oldest_at, self.gauges.due_since), True
        report.woken |= woken
        report.disposable |= disposable
        report.jobs += batch
        return True

    def _damaged(self) -> LedgerDamaged:
        """Damage cannot be repaired while tunerd runs: the process ends, and the next start rebuilds the ledger. SQLite's own
        words may quote what a row holds."""
        self._file.mark_suspect()
        return LedgerDamaged()

    def _run_alone(self, job: Job[Any], report: BatchReport) -> None:
        try:
            job.result = job.run(self._store)
        except Exception as exc:
            if is_trouble(exc):
                self._fail([job], exc, report)
                return
            job.error = exc
        report.jobs.append(job)

    # While the disk fails.

    def _fail(self, batch: Sequence[Job[Any]], exc: Exception, report: BatchReport) -> None:
        """A batch could not be written."""
        self._outage.begin(exc, report)
        self._keep_patient(batch, report, words_for(exc), exc)

    def _keep_patient(
        self, batch: Sequence[Job[Any]], report: BatchReport, words: str, cause: BaseException | None = None
    ) -> None:
        for job in batch:
            if job.patient:
                self._kept.append(job)
            else:
                self._refuse(job, words, report, cause)

    def _turn_away(self, batch: Sequence[Job[Any]], report: BatchReport) -> list[Job[Any]]:
        """The disk is still short: refuse what brings new rows, give back the rest."""
        for job in batch:
            if job.grows:
                self._refuse(job, "the disk of the ledger is nearly full; free some space, then tunerd continues", report)
        return [job for job in batch if not job.grows]

    def _refill(self, report: BatchReport) -> None:
        if self._outage.should_refill():
            self._shorten_log()
            self._outage.refill(report)

    def _shorten_log(self) -> None:
        """Give the log's room back to the disk: on a small disk the log may have taken all there was."""
        try:
            sqlite_of(self._store).write_log_back()
        except sqlite3.Error:
            pass  # the file has no room to grow either, or somebody reads: the log stays as it is

    @staticmethod
    def _refuse(job: Job[Any], words: str, report: BatchReport, cause: BaseException | None = None) -> None:
        job.error = LedgerUnavailable(words)
        job.error.__cause__ = cause
        report.jobs.append(job)

    def _heal(self, report: BatchReport) -> None:
        """Try one commit: of what is kept, or of a write that changes nothing."""
        if not (self._is_reopened(report) and self._can_commit()):
            return
        kept, self._kept = self._kept, []
        self._outage.commits_again()
        for at, job in enumerate(kept):
            if not self._commit([job], report):  # it failed again on the way: the outage continues
                self._kept += kept[at + 1 :]
                return
        if self._outage.is_short:
            self._refill(report)
        else:
            self._outage.end(report)

    def _is_reopened(self, report: BatchReport) -> bool:
        """Replace the connection if that is necessary. False: it did not work."""
        if not self._outage.must_reopen:
            return True
        try:
            self._store.db.close()
            store = self._file.reopen()
            try:
                store.begin(full=True)
                take_over(store, self._store, self._clock.now())
                woken, _ = store.commit()
                report.woken |= woken
            except BaseException:
                store.db.close()
                raise
            self._store = store
            self._outage.must_reopen = False
        except sqlite3.Error as exc:
            if not is_trouble(exc):
                raise
            self._outage.note(exc)
            return False
        return True

    def _can_commit(self) -> bool:
        if self._outage.is_short:
            self._shorten_log()
        try:
            self._store.begin(full=True)
            self._store.probe_write()
            self._store.commit()
        except sqlite3.Error as exc:
            self._outage.must_reopen = not self._store.rollback()
            if not is_trouble(exc) and not self._outage.must_reopen:
                raise
            self._outage.note(exc)
            return False
        return True

    def _last(self, report: BatchReport) -> None:
        """The ledger is closed."""
        if self._kept:
            self._heal(report)
        for job in self._kept:
            self._refuse(job, "the ledger was closed before this could be written", report)
        self._shorten_log()  # if it fails, the next start replays the log
