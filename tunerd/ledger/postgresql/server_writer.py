"""The writer thread on PostgreSQL: batches of jobs, their commits, and what happens while the server is away.

While nothing can be committed impatient jobs fail at once; patient ones (settle, release: their results must not be lost) are
kept and tried again until a commit succeeds. A batch that was in the way of another instance's is run again.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from random import uniform
from typing import Any, Final, TypeVar

import psycopg

from tunerd.clock import Clock
from tunerd.ledger import Gauges, LedgerUnavailable, StoredPauses
from tunerd.ledger.commands.lock_names import names_of
from tunerd.ledger.commands.reclaim import take_over
from tunerd.ledger.postgresql.heartbeat import Heartbeat
from tunerd.ledger.postgresql.instances import give_up_dead
from tunerd.ledger.postgresql.postgresql_database import NamesMissing, postgresql_of
from tunerd.ledger.postgresql.server_outage import ServerOutage
from tunerd.ledger.postgresql.sqlstates import NOT_PREPARED, is_outage, may_run_again, outage_words
from tunerd.ledger.service.batch import carry_out
from tunerd.ledger.service.job_queue import JobQueue, never_preempt
from tunerd.ledger.service.jobs import BatchReport, Job
from tunerd.ledger.sql.store import Store

T = TypeVar("T")

_RETRY_S: Final = 1.0
"""Between two tries while the server is away."""
_TRIES: Final = 30
"""Of a batch that is in the way of others."""
_AWAY: Final = "the ledger's PostgreSQL does not answer now; tunerd tries again every second"
_LOOKS_S: Final = (0.8, 1.2)
"""Between two looks at what other instances did, while there is nothing to do: chance keeps instances apart."""


class ServerWriter:
    def __init__(
        self,
        store: Store,
        reopen: Callable[[], Store],
        queue: JobQueue,
        clock: Clock,
        heartbeat: Heartbeat,
        hint: Callable[[], None],
    ) -> None:
        """`reopen` gives a store on another connection; raises psycopg.Error. `hint` is called after a commit that other
        instances may have to see."""
        self._store = store
        self._reopen = reopen
        self._queue, self._hint = queue, hint
        self._clock = clock
        self._heartbeat, self._pulse = heartbeat, heartbeat.pulse
        self._outage = ServerOutage(clock)
        self._kept: list[Job[Any]] = []
        """Patient jobs that wait for a commit that works."""
        self.gauges: Gauges = _asked(store)
        """As of the last look; replaced as a whole, so any thread may read it."""
        self._told_pauses: Mapping[str, StoredPauses] = {}
        """As they were last reported."""
        self._looked_at = self._judged_at = clock.monotonic()
        self._is_broken = False
        """The connection could not undo the last transaction: it has to be replaced."""
        self._thread = threading.Thread(target=self._main, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def is_troubled(self) -> bool:
        return self._outage.is_on

    @property
    def waits_for_server(self) -> bool:
        return self._outage.is_on or postgresql_of(self._store).connection.is_waiting

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
        batch, is_closing = self._queue.collect(self._patience())
        report = BatchReport()
        try:
            if self._outage.is_on:
                self._keep_patient(batch, report, _AWAY)
                batch = []
                self._heal(report)
            if batch:
                self._run(batch, report)
            if is_closing:
                for job in self._kept:
                    self._refuse(job, "the ledger was closed before this could be written", report)
        finally:  # jobs that were refused before a defect are answered all the same
            self._queue.send(report)
        if not is_closing:
            self._look(is_idle=not batch)
        return not is_closing

    def _patience(self) -> float:
        if self._outage.is_on:
            return _RETRY_S
        return uniform(*_LOOKS_S)  # noqa: S311

    def _run(self, batch: list[Job[Any]], report: BatchReport) -> None:
        if batch[-1].alone:  # it ended its batch
            *batch, alone = batch
            if batch:
                self._commit(batch, report)
            if self._outage.is_on:
                self._keep_patient([alone], report, _AWAY)
            else:
                self._commit([alone], report)
        else:
            self._commit(batch, report)

    def _commit(self, batch: Sequence[Job[Any]], report: BatchReport) -> bool:
        """One transaction for all of them. If one raises they run singly, so that only the culprit sees the error."""
        postgresql_of(self._store).want(name for job in batch if job.admission is not None for name in names_of(job.admission))
        try:
            woken, disposable = self._attempt(lambda store: carry_out(store, batch))
        except Exception as exc:
            if self._is_broken or is_outage(exc):
                self._outage.begin(outage_words(exc), report)
                self._keep_patient(batch, report, outage_words(exc))
                return False
            if len(batch) == 1:
                batch[0].error = exc
                report.jobs.append(batch[0])
                return True
            is_fine = True
            for job in batch:
                is_fine = self._commit([job], report) and is_fine
            return is_fine
        self.gauges = self._store.tally.gauges(self.gauges.oldest_at, self.gauges.due_since)
        if self._report_pauses(report) or woken:
            self._hint()
        report.woken |= woken
        report.disposable |= disposable
        report.jobs += batch
        return True

    def _attempt(self, transaction: Callable[[Store], T]) -> T:
        """Run it until nobody is in its way. If it raises, it is undone, or `_is_broken`."""
        db, tries = postgresql_of(self._store), 0
        try:
            while True:
                try:
                    return transaction(self._store)
                except Exception as exc:
                    tries += not isinstance(exc, NamesMissing)
                    self._is_broken = not self._store.rollback()
                    if getattr(exc, "sqlstate", None) == NOT_PREPARED:
                        db.connection.prepare_threshold = None  # nothing is prepared until the next connection
                    if self._is_broken or not may_run_again(exc) or tries == _TRIES:
                        raise
        finally:
            db.want_no_more()

    def _look(self, *, is_idle: bool) -> None:
        """About once a second, also if there is much to do: what others did, and whether one of them is dead."""
        now = self._clock.monotonic()
        if self._outage.is_on or not (is_idle or now - self._looked_at >= _LOOKS_S[0]):
            return
        self._looked_at = now
        try:
            self.gauges = _asked(self._store)
        except psycopg.Error:
            return  # the next command meets the same error and deals with it
        report, at = BatchReport(), self._clock.now()
        self._report_pauses(report)
        report.woken |= {name for name, due_at in self.gauges.due_since.items() if due_at <= at}
        if now - self._judged_at >= self._pulse.every_s and self._heartbeat.may_judge():
            self._judged_at = now
            while self._give_up_dead(at, report):
                pass
        self._queue.send(report)

    def _report_pauses(self, report: BatchReport) -> bool:
        """Right after a transaction: what this instance or another stored, if it changed."""
        pauses = self._store.destinations.stored_pauses()
        has_changed = pauses != self._told_pauses
        if has_changed:
            report.pauses = self._told_pauses = pauses
        return has_changed

    def _give_up_dead(self, now: float, report: BatchReport) -> bool:
        """True: there may be more."""

        def run(store: Store) -> tuple[bool, set[str]]:
            store.begin(full=True)
            is_more = give_up_dead(store, self._pulse.dead_after_s, now)
            return is_more, store.commit()[0]

        try:
            is_more, woken = self._attempt(run)
        except psycopg.Error as exc:
            self._outage.begin(outage_words(exc), report)
            return False
        report.woken |= woken
        return is_more

    # While the server is away.

    def _keep_patient(self, batch: Sequence[Job[Any]], report: BatchReport, words: str) -> None:
        for job in batch:
            if job.patient:
                self._kept.append(job)
            else:
                self._refuse(job, words, report)

    @staticmethod
    def _refuse(job: Job[Any], words: str, report: BatchReport) -> None:
        job.error = LedgerUnavailable(words)
        report.jobs.append(job)

    def _heal(self, report: BatchReport) -> None:
        """Connect again, see what became of the last transaction, and write what was kept."""
        self._store.db.close()
        try:
            store = self._reopen()
        except psycopg.Error as exc:
            self._outage.continues(exc, report)
            return
        except OSError:
            return
        try:
            store.begin(full=True)
            take_over(store, self._store, self._clock.now())
            woken, _ = store.commit()
        except psycopg.Error as exc:
            store.db.close()
            if not is_outage(exc):
                raise
            return
        report.woken |= woken
        self._store = store
        self._outage.end(report)
        kept, self._kept = self._kept, []
        for at, job in enumerate(kept):
            if not self._commit([job], report):  # it failed again on the way: the outage continues
                self._kept += kept[at + 1 :]
                return


def _asked(store: Store) -> Gauges:
    """The gauges of the whole fleet."""
    store.db.begin(durable=False)
    try:
        store.destinations.ask()
        gauges = store.gauges()
        store.destinations.stored_pauses()  # read what was asked before the transaction ends
        return gauges
    finally:
        store.db.rollback()
