"""JobQueue: jobs on their way from the event loop to a writer thread, and their results on the way back.

Results go back with one call_soon_threadsafe for each batch. What a batch does, and when it is tried again, is the writer's.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from tunerd.events import Emit
from tunerd.ledger import LedgerUnavailable, StoredPauses
from tunerd.ledger.service.jobs import BatchReport, Job

T = TypeVar("T")

_BATCH_ROWS: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024


class Nudge:
    """No job: the writer looks up from waiting."""


NUDGE: Final = Nudge()


class JobQueue:
    """The event loop calls `submit`, `unsettled` and `end`; the writer thread the other methods."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, emit: Emit, committed: Callable[[set[str], set[tuple[str, str]]], None]
    ) -> None:
        """`committed` gets, in the event loop, the destinations that were woken and the files that may be disposable."""
        self._loop = loop
        self._emit = emit
        self._committed = committed
        self._queue: SimpleQueue[Job[Any] | None | Nudge] = SimpleQueue()
        self.is_nudged = False
        """The writer has not called `looked` since the last nudge."""
        self._unsettled: Counter[int] = Counter()
        """The event loop's: rows of patient jobs that have not been answered."""
        self.on_pauses: Callable[[Mapping[str, StoredPauses]], None] = lambda pauses: None
        """Called in the event loop with those of a report."""
        self._dead: BaseException | None = None
        self._closing = False

    def submit(self, job: Job[T]) -> "asyncio.Future[T]":
        if self._dead is not None or self._closing:
            job.error = self._dead or LedgerUnavailable("the ledger is closed")
            if job.answered is not None:
                job.answered(job)
            job.future.set_exception(job.error)
        else:
            if job.row is not None:
                self._unsettled[job.row] += 1
            self._queue.put(job)
        return job.future

    def unsettled(self) -> frozenset[int]:
        return frozenset(self._unsettled)

    def end(self) -> None:
        """No job is accepted any more; what is queued is still given out."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)

    def nudge(self) -> None:
        """The writer, if it waits, gets an empty batch: once until it calls `looked`. Any thread."""
        if not self.is_nudged:
            self.is_nudged = True
            self._queue.put(NUDGE)

    # The writer thread.

    def looked(self) -> None:
        """About to look at what a nudge is about: the next nudge counts again."""
        self.is_nudged = False

    def is_empty(self) -> bool:
        return self._queue.empty()

    def collect(self, wait_s: float | None) -> tuple[list[Job[Any]], bool]:
        """The next batch, at the latest after `wait_s` (then it may be empty), and whether it is the last one. A job that runs
        alone ends its batch."""
        try:
            job = self._queue.get(timeout=wait_s)
        except Empty:
            return [], False
        if isinstance(job, Nudge):
            return [], False
        batch: list[Job[Any]] = []
        rows = size = 0
        while job is not None:
            batch.append(job)
            rows += job.rows
            size += job.size
            if job.alone or rows >= _BATCH_ROWS or size >= _BATCH_BYTES:
                return batch, False
            job = self._next()
            if isinstance(job, Nudge):
                return batch, False
        return batch, True

    def _next(self) -> Job[Any] | None | Nudge:
        """What is there now; a nudge where nothing is."""
        try:
            return self._queue.get_nowait()
        except Empty:
            return NUDGE

    def die(self, exc: BaseException, kept: list[Job[Any]]) -> None:
        """A defect ended the writer: everybody who waits, or asks later, must learn of it."""
        self._dead = exc
        report = BatchReport(jobs=kept)
        while True:
            try:
                job = self._queue.get_nowait()
            except Empty:
                break
            if isinstance(job, Job):
                report.jobs.append(job)
        for left in report.jobs:
            left.error = exc
        self.send(report)

    def send(self, report: BatchReport) -> None:
        if not (report.jobs or report.events or report.woken or report.disposable or report.pauses is not None):
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, report)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _deliver(self, report: BatchReport) -> None:
        if report.pauses is not None:
            self.on_pauses(report.pauses)
        unwanted: list[Job[Any]] = []
        for job in report.jobs:
            if job.row is not None:
                self._unsettled[job.row] -= 1
                if not self._unsettled[job.row]:
                    del self._unsettled[job.row]
            if job.answered is not None:
                job.answered(job)
            if job.future.done():
                unwanted.append(job)
            elif job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
                if job.patient:
                    job.future.exception()  # perhaps nobody waits for it, and then Python would complain
        for job in unwanted:
            if job.unwanted is not None and job.error is None:
                job.unwanted(job.result)
        for event in report.events:
            self._emit(event)
        self._committed(report.woken, report.disposable)


def never_preempt() -> None:
    """Make this thread a batch job for the kernel: when the event loop hands it work, it does not take the processor from the
    loop, and Python's lock with it, in the middle of a turn. [measured] 8 to 22 % more calls a second in a backlog."""
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):
        pass  # forbidden here, or no Linux: slower, nothing else
