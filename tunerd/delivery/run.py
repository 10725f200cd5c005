"""The conductor of delivery, steps 5 to 8 of a call's life: claim, upload, decide, settle.

N identical workers for each destination; the steps themselves, gate, permit, claim, upload, settle, are worker.py's: nobody
holds a call while waiting. What they need of a destination is lane.py's; what they decide is retry.py's and pacing.py's.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from tunerd.clock import Clock
from tunerd.config import Delivery as Settings
from tunerd.config import Destination
from tunerd.delivery.handover import HandOver
from tunerd.delivery.key import watch_keys
from tunerd.delivery.lane import Connect, FreezeBody, Lane
from tunerd.delivery.selfcheck import CheckedLedger, SelfCheck
from tunerd.delivery.worker import LEDGER_AGAIN_S, LOOK_AGAIN_S, Worker
from tunerd.events import CallFailed, Emit
from tunerd.ledger import FailedCall, FarRule, Gate, LedgerUnavailable, Maintenance, WritePath
from tunerd.statuses import DestinationStatus

_TICK_AT_LEAST_S: Final = 1.0


class DeliveryLedger(WritePath, Maintenance, CheckedLedger, Protocol):
    """What delivery needs of the ledger."""


class Delivery:
    """Every destination's workers, from `run` to its end."""

    def __init__(
        self,
        destinations: Sequence[Destination],
        settings: Settings,
        *,
        ledger: DeliveryLedger,
        connect: Connect,
        freeze: FreezeBody,
        clock: Clock,
        emit: Emit,
        chance: Callable[[], float],
    ) -> None:
        """`chance` gives numbers in [0, 1) (random.random). Raises what `connect` raises."""
        self._ledger = ledger
        self._connect = connect
        self._freeze = freeze
        self._clock = clock
        self._emit = emit
        self._chance = chance
        self._settings = settings
        self._stop = asyncio.Event()
        self._stop_by = float("inf")
        """With `on_stop: empty`: calls that are due later than this (wall clock) are not waited for."""
        self._group: asyncio.TaskGroup | None = None
        self._lanes = {destination.name: self._lane(destination, settings) for destination in destinations}
        self._workers: dict[str, dict[int, Worker]] = {}
        """By destination and number."""
        self._hand_over = HandOver(self._lanes, ledger, clock, lambda: self._group is not None and not self._stop.is_set())
        self._check = SelfCheck(self._crews, ledger, clock, emit)

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; then no new claims, and it returns when what is in flight is settled (with
        `on_stop: empty`: when nothing is due any more, nor comes due within `drain`: a ledger that ends with its pod has
        no later). Cancelled before that, it notes the open calls as due again. Raises only what nothing here expects."""
        self._stop = stop
        gates = await self._stored_gates()
        for name, lane in self._lanes.items():
            lane.restore(gates.get(name))
        self._ledger.on_due(self._wake)
        self._ledger.hand_over(self._hand_over)
        try:
            await self._run_group(stop)
        finally:
            self._group = None
            self._hand_over.let_go()

    async def _run_group(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for lane in self._lanes.values():
                self._staff(lane, group)
            group.create_task(self._keep_house())
            group.create_task(watch_keys(lambda: [(lane.name, lane.key) for lane in self._lanes.values()],
                                         self._clock, self._emit, stop))  # fmt: skip
            group.create_task(self._call_all_on_stop())
            group.create_task(self._check.run(stop))

    def _drop_if_over(self, lane: Lane) -> None:
        if lane.is_retired and not self._workers.get(lane.name) and self._lanes.get(lane.name) is lane:
            self._hand_over.let_go_of(lane)
            self._workers.pop(lane.name, None)
            del self._lanes[lane.name]

    def _is_over(self, lane: Lane) -> bool:
        if lane.is_retired:
            return True
        if not self._stop.is_set() or (lane.settings.on_stop == "empty" and self._stop_by == float("inf")):
            return False
        if lane.settings.on_stop == "finish" or lane.settings.dry_run:
            return True
        return lane.has_nothing_due(self._stop_by) and not lane.handed

    # Beside the steps.

    async def pause(self, name: str, why: str = "") -> None:
        """No call of this destination goes out until `resume`, over restarts too. Raises KeyError."""
        lane = self._lanes[name]
        lane.pause(why)
        await lane.gate_is_kept(lane.keep_gate())

    async def resume(self, name: str) -> None:
        """End whatever this destination is paused for; what is still wrong pauses it again. Raises KeyError."""
        lane = self._lanes[name]
        lane.resume()
        await lane.gate_is_kept(lane.keep_gate())

    async def update(self, destinations: Sequence[Destination], settings: Settings) -> None:
        """A reload. New destinations begin, known ones change from their next attempt on; those that are no longer
        configured end with their open attempts, and their calls stay in the ledger, as after a restart. Raises what
        `connect` raises."""
        new = [self._lane(destination, settings) for destination in destinations if destination.name not in self._lanes]
        for destination in destinations:
            if (lane := self._lanes.get(destination.name)) is not None:
                lane.change(destination, settings)
        names = {destination.name for destination in destinations}
        for lane in list(self._lanes.values()):
            lane.is_retired = lane.name not in names
            if lane.is_retired:
                lane.bench.call_all()
                self._drop_if_over(lane)
        self._settings = settings
        gates = await self._stored_gates() if new and self._group else {}
        for lane in new:
            self._lanes[lane.name] = lane
            if self._group:
                lane.restore(gates.get(lane.name))
        if self._group and not self._stop.is_set():
            for lane in self._lanes.values():
                if not lane.is_retired:
                    self._staff(lane, self._group)

    def shift(self, seconds: float) -> None:
        """The wall clock jumped by so much: what waits, waits as long as before. (The ledger has its own `shift`.)"""
        for lane in self._lanes.values():
            lane.pacing.shift(seconds)
            lane.bench.call_all()

    def statuses(self) -> tuple[DestinationStatus, ...]:
        return tuple(lane.status() for lane in self._lanes.values())

    def idle(self) -> bool:
        """Nothing is in flight and nothing is due now (calls that back off or wait for a recording may be left)."""
        return all(lane.is_idle() for lane in self._lanes.values())

    def in_flight(self) -> int:
        return sum(lane.open_attempts() for lane in self._lanes.values())

    def oldest_attempt_age(self) -> float | None:
        """Seconds since the oldest open attempt began; None: none is open. Never above the timeout while all is well."""
        began = [at for lane in self._lanes.values() if (at := lane.oldest_attempt_at()) is not None]
        return self._clock.monotonic() - min(began) if began else None

    async def _keep_house(self) -> None:
        """The ledger's timers, and gates that could not be kept when they changed."""
        while not self._stop.is_set():
            now, next_at = self._clock.now(), None
            with suppress(LedgerUnavailable):
                failed, next_at = await self._ledger.tick(now)
                self._tell_failed(failed)
            for lane in list(self._lanes.values()):
                await lane.gate_is_kept(lane.keep_gate())
            wait_s = _TICK_AT_LEAST_S if next_at is None else min(_TICK_AT_LEAST_S, max(0.0, next_at - self._clock.now()))
            await self._clock.wait(self._stop, max(LOOK_AGAIN_S, wait_s))

    async def set_far_rule(self, rule: FarRule) -> None:
        """When recordings that are not near may be taken: what is read, or is not, decides that."""
        with suppress(LedgerUnavailable):
            self._tell_failed(await self._ledger.set_far_rule(rule, self._clock.now()))

    async def _call_all_on_stop(self) -> None:
        await self._stop.wait()
        self._stop_by = self._clock.now() + self._settings.drain_s
        for lane in self._lanes.values():
            lane.bench.call_all()

    async def _stored_gates(self) -> dict[str, Gate]:
        while not self._stop.is_set():
            with suppress(LedgerUnavailable):
                return dict(await self._ledger.gates())
            await self._clock.wait(self._stop, LEDGER_AGAIN_S)
        return {}

    def _lane(self, destination: Destination, settings: Settings) -> Lane:
        return Lane(destination, settings, ledger=self._ledger, connect=self._connect, freeze=self._freeze,
                    clock=self._clock, emit=self._emit, chance=self._chance)  # fmt: skip

    def _staff(self, lane: Lane, group: asyncio.TaskGroup) -> None:
        crew = self._workers.setdefault(lane.name, {})
        for number in range(lane.settings.concurrency):
            if number not in crew:
                crew[number] = Worker(lane, number, self._ledger, self._clock, self._tell_failed, self._is_over)
                group.create_task(self._work(lane, crew, crew[number]))

    async def _work(self, lane: Lane, crew: dict[int, Worker], worker: Worker) -> None:
        try:
            await worker.run()
        finally:
            del crew[worker.number]
            self._drop_if_over(lane)

    def _crews(self) -> Sequence[tuple[Lane, Sequence[Worker]]]:
        return [(self._lanes[name], list(crew.values())) for name, crew in self._workers.items()]

    def _wake(self, destination: str) -> None:
        if (lane := self._lanes.get(destination)) is not None:
            lane.bench.call()

    def _tell_failed(self, failed: Sequence[FailedCall]) -> None:
        for call in failed:
            self._emit(
                CallFailed(
                    source=call.source,
                    reason=call.refusal.reason,
                    call_id=call.call_id,
                    path=call.path,
                    where=call.refusal.where,
                    what=call.refusal.what,
                )
            )
