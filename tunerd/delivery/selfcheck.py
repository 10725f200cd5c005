"""Finds and corrects what a defect left behind: calls, workers and permits without an owner.

A defect may leave a call as `sending` although no worker has it, a worker waiting for a settlement that nobody writes, or a
permit counted that nobody holds. None of this may happen. If it does, deliveries continue, and the log and a metric report it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Final

from tunerd.clock import Clock
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.ports import CheckedLedger
from tunerd.delivery.worker import Worker
from tunerd.events import Emit, Stuck, StuckKind
from tunerd.ledger import LedgerUnavailable
from tunerd.record import positional_record

EVERY_S: Final = 60.0
"""Only what is wrong at two looks is repaired: on its way from one part to the next a call is in neither for a moment."""


@positional_record
class _Look:
    """What was in nobody's hands."""

    calls: Mapping[int, float] = field(default_factory=dict)
    workers: frozenset[tuple[str, int, int]] = frozenset()
    """Destination, number, and the row whose settlement the worker waits for."""
    permits: Mapping[str, int] = field(default_factory=dict)


class SelfCheck:
    def __init__(
        self,
        pools_with_workers: Callable[[], Sequence[tuple[DestinationPool, Sequence[Worker]]]],
        ledger: CheckedLedger,
        clock: Clock,
        emit: Emit,
    ) -> None:
        """`pools_with_workers`: each destination with its workers, as they are now."""
        self._pools_with_workers = pools_with_workers
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._before = _Look()

    async def run(self, stop: asyncio.Event) -> None:
        while not await self._clock.wait(stop, EVERY_S):
            try:
                await self.look()
            except LedgerUnavailable:
                self._before = _Look()  # settlements wait for the ledger now: nothing can be said

    async def look(self) -> None:
        """Look, and repair what the last look saw, too. Raises LedgerUnavailable."""
        seen = await self._seen()
        before, self._before = self._before, seen
        calls = {row: at for row, at in seen.calls.items() if before.calls.get(row) == at}
        if calls:
            self._tell(StuckKind.CALL, await self._ledger.reclaim(calls, self._clock.now()))
        for pool, workers in self._pools_with_workers():
            stuck = [worker for worker in workers if _waits_for(pool, worker) in seen.workers & before.workers]
            for worker in stuck:
                worker.go_on()
            lost = max(0, min(seen.permits.get(pool.name, 0), before.permits.get(pool.name, 0)))
            pool.pacing.forget_permits(lost)
            self._tell(StuckKind.WORKER, len(stuck))
            self._tell(StuckKind.PERMIT, lost)
            if stuck or lost:
                pool.parking.notify()

    async def _seen(self) -> _Look:
        before = self._ledger.unsettled()
        sending = await self._ledger.sending()
        queued, pools = before | self._ledger.unsettled(), self._pools_with_workers()
        in_hand = {worker.claimed.row for _, workers in pools for worker in workers if worker.claimed is not None}
        in_hand |= {claimed.row for pool, _ in pools for _, claimed in pool.handed}
        waiting = [mark for pool, workers in pools for worker in workers if (mark := _waits_for(pool, worker)) is not None]
        return _Look(
            calls={row: at for row, at in sending.items() if row not in queued and row not in in_hand},
            workers=frozenset(mark for mark in waiting if mark[2] not in queued),
            permits={
                pool.name: pool.pacing.in_flight
                - pool.reserved
                - len(pool.handed)
                - sum(worker.permit is not None for worker in workers)
                for pool, workers in pools
            },
        )

    def _tell(self, what: StuckKind, count: int) -> None:
        if count:
            self._emit(Stuck(what=what, count=count))


def _waits_for(pool: DestinationPool, worker: Worker) -> tuple[str, int, int] | None:
    return None if worker.settling is None else (pool.name, worker.number, worker.settling.claimed.row)
