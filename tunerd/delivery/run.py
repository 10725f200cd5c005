"""The conductor of delivery: starts, changes and ends the workers of every destination.

worker.py has the order of steps 5 to 8, destination_pool.py what the workers of a destination share. retry.py and pacing.py
decide.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from tunerd.call import AudioState
from tunerd.config import Delivery as Settings
from tunerd.config import Destination
from tunerd.delivery.audio_delivery import AudioDelivery
from tunerd.delivery.audio_worker import SLOTS, AudioWorker
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.fleet_share import share_forever
from tunerd.delivery.handover import PoolReceiver
from tunerd.delivery.key import watch_keys
from tunerd.delivery.ports import Ports
from tunerd.delivery.selfcheck import SelfCheck
from tunerd.delivery.url_verifier import UrlVerifier
from tunerd.delivery.worker import LEDGER_AGAIN_S, LOOK_AGAIN_S, Worker
from tunerd.events import CallFailed
from tunerd.ledger import NO_PAUSES, FailedCall, FarRule, LedgerUnavailable, StoredPauses
from tunerd.statuses import DestinationStatus

_TICK_AT_LEAST_S: Final = 1.0


class DeliveryService:
    """Every destination's workers, from `run` to its end."""

    def __init__(self, destinations: Sequence[Destination], settings: Settings, ports: Ports) -> None:
        """Raises what `ports.connect` raises."""
        self._ports = ports
        self._ledger, self._clock, self._emit = ports.ledger, ports.clock, ports.emit
        self._settings = settings
        self._stop = asyncio.Event()
        self._stop_by = float("inf")
        """With `on_stop: empty`: calls that are due later than this (wall clock) are not waited for."""
        self._group: asyncio.TaskGroup | None = None
        self._pools = {destination.name: DestinationPool(destination, settings, self._ports) for destination in destinations}
        self._workers: dict[str, dict[int, Worker]] = {}
        """By destination and number."""
        self._receiver = PoolReceiver(self._pools, self._ledger, self._clock, self._is_taking)
        self._audio = None if ports.audio is None else AudioDelivery(ports, ports.audio)
        self._url_verifier = (
            UrlVerifier(self._ledger, ports.ask_url, self._clock, self._emit, self._tell_failed) if ports.ask_url else None
        )
        self._audio_workers: dict[str, set[AudioWorker]] = {}
        self._check = SelfCheck(self._pools_with_workers, self._ledger, self._clock, self._emit)

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set; then no new claims, and it returns when what is in flight is settled (with
        `on_stop: empty`: when nothing is due any more, nor comes due within `drain`: a ledger that ends with its pod has
        no later). Cancelled before that, it notes the open calls as due again. Raises only what nothing here expects."""
        self._stop = stop
        self._ports.fleet.on_pauses(self._follow_pauses)
        stored = await self._stored_pauses()
        for name, pool in self._pools.items():
            pool.restore(stored.get(name))
        self._ledger.on_due(self._wake)
        self._ledger.set_call_receiver(self._receiver)
        try:
            await self._run_group(stop)
        finally:
            self._group = None
            self._receiver.return_calls()

    async def _run_group(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for pool in self._pools.values():
                self._start_workers(pool, group)
            if self._audio is not None:
                self._audio.start(group, stop, self._audio_stop())
            if self._url_verifier is not None:
                group.create_task(self._url_verifier.run(stop))
            group.create_task(self._run_timers())
            group.create_task(watch_keys(lambda: [(pool.name, pool.key) for pool in self._pools.values()],
                                         self._clock, self._emit, stop))  # fmt: skip
            group.create_task(self._notify_all_on_stop())
            group.create_task(self._check.run(stop))

    def _is_taking(self) -> bool:
        """Whether workers are there, and will be."""
        return self._group is not None and not self._stop.is_set()

    def _drop_if_over(self, pool: DestinationPool) -> None:
        if not self._is_busy(pool):
            pool.tokens_wanted.set()
        if pool.is_retired and not self._is_busy(pool) and self._pools.get(pool.name) is pool:
            self._receiver.return_calls_of(pool)
            self._workers.pop(pool.name, None)
            self._audio_workers.pop(pool.name, None)
            del self._pools[pool.name]

    def _is_busy(self, pool: DestinationPool) -> bool:
        return bool(self._workers.get(pool.name) or self._audio_workers.get(pool.name))

    def _is_over(self, pool: DestinationPool) -> bool:
        if pool.is_retired:
            return True
        if not self._stop.is_set() or self._finishes(pool):
            return self._stop.is_set()
        return self._stop_by < float("inf") and pool.has_nothing_due(self._stop_by) and not pool.handed

    def _finishes(self, pool: DestinationPool) -> bool:
        """A stop only completes what is in flight."""
        return pool.settings.on_stop == "finish" or pool.settings.dry_run or self._ports.fleet.is_superseded

    def _is_over_for_audio(self, pool: DestinationPool) -> bool:
        """As `_is_over`, for workers that upload: with `on_stop: empty` they stay while a call with audio is due."""
        if pool.is_retired or not self._stop.is_set() or self._finishes(pool):
            return pool.is_retired or self._stop.is_set()
        return self._stop_by < float("inf") and pool.audio.has_nothing_due(self._stop_by)

    def _audio_stop(self) -> asyncio.Event:
        """When uploads are no longer tried again: at a stop that only completes what is in flight."""
        return self._stop if self._settings.on_stop == "finish" else asyncio.Event()

    # Beside the steps.

    async def pause(self, name: str, why: str = "") -> None:
        """No call of this destination goes out until `resume`, over restarts too. Raises KeyError."""
        pool = self._pools[name]
        pool.pause(why)
        await pool.pauses_are_kept(pool.keep_pauses())

    async def resume(self, name: str) -> None:
        """End whatever this destination is paused for; what is still wrong pauses it again. Raises KeyError."""
        pool = self._pools[name]
        pool.resume()
        await pool.pauses_are_kept(pool.keep_pauses())

    async def update(self, destinations: Sequence[Destination], settings: Settings) -> None:
        """A reload. New destinations begin, known ones change from their next attempt on; those that are no longer
        configured end with their open attempts, and their calls stay in the ledger, as after a restart. Raises what
        `connect` raises."""
        new = [
            DestinationPool(destination, settings, self._ports)
            for destination in destinations
            if destination.name not in self._pools
        ]
        for destination in destinations:
            if (pool := self._pools.get(destination.name)) is not None:
                pool.change(destination, settings)
        names = {destination.name for destination in destinations}
        for pool in list(self._pools.values()):
            pool.is_retired = pool.name not in names
            if pool.is_retired:
                pool.notify_all()
                self._drop_if_over(pool)
        self._settings = settings
        stored = await self._stored_pauses() if new and self._group else {}
        for pool in new:
            self._pools[pool.name] = pool
            if self._group:
                pool.restore(stored.get(pool.name))
        if self._group and not self._stop.is_set():
            for pool in self._pools.values():
                if not pool.is_retired:
                    self._start_workers(pool, self._group)

    def shift(self, seconds: float) -> None:
        """The wall clock jumped by so much: what waits, waits as long as before. (The ledger has its own `shift`.)"""
        for pool in self._pools.values():
            pool.pacing.shift(seconds)
            pool.notify_all()

    def statuses(self) -> tuple[DestinationStatus, ...]:
        return tuple(pool.status() for pool in self._pools.values())

    def idle(self) -> bool:
        """Nothing is in flight and nothing is due now (calls that back off or wait for a recording may be left)."""
        pools = self._pools.values()
        if self._audio is not None and not (self._audio.is_idle() and all(pool.audio.has_nothing_due() for pool in pools)):
            return False
        return all(pool.is_idle() for pool in pools)

    def has_asked_for_urls(self) -> bool:
        """Each URL of `verify: get` was asked for at least once, and no question is open."""
        return self._url_verifier is None or self._url_verifier.is_idle()

    def in_flight(self) -> int:
        return sum(pool.open_attempts() for pool in self._pools.values())

    def oldest_attempt_age(self) -> float | None:
        """Seconds since the oldest open attempt began; None: none is open. Never above the timeout while all is well."""
        began = [at for pool in self._pools.values() if (at := pool.oldest_attempt_at()) is not None]
        return self._clock.monotonic() - min(began) if began else None

    async def _run_timers(self) -> None:
        """The ledger's timers, and pauses that could not be stored when they changed."""
        while not self._stop.is_set():
            now, next_at = self._clock.now(), None
            with suppress(LedgerUnavailable):
                failed, next_at = await self._ledger.tick(now)
                self._tell_failed(failed)
            for pool in list(self._pools.values()):
                await pool.pauses_are_kept(pool.keep_pauses())
            wait_s = _TICK_AT_LEAST_S if next_at is None else min(_TICK_AT_LEAST_S, max(0.0, next_at - self._clock.now()))
            await self._clock.wait(self._stop, max(LOOK_AGAIN_S, wait_s))

    async def set_far_rule(self, rule: FarRule) -> None:
        """When recordings that are not near may be taken: what is read, or is not, decides that."""
        with suppress(LedgerUnavailable):
            self._tell_failed(await self._ledger.set_far_rule(rule, self._clock.now()))

    async def _notify_all_on_stop(self) -> None:
        await self._stop.wait()
        if self._audio is not None:
            self._audio.notice()
        self._stop_by = self._clock.now() + self._settings.drain_s
        for pool in self._pools.values():
            pool.notify_all()

    async def _stored_pauses(self) -> dict[str, StoredPauses]:
        while not self._stop.is_set():
            with suppress(LedgerUnavailable):
                return dict(await self._ledger.stored_pauses())
            await self._clock.wait(self._stop, LEDGER_AGAIN_S)
        return {}

    def _follow_pauses(self, stored: Mapping[str, StoredPauses]) -> None:
        for pool in self._pools.values():
            pool.follow(stored.get(pool.name, NO_PAUSES))

    def _start_workers(self, pool: DestinationPool, group: asyncio.TaskGroup) -> None:
        if self._ports.fleet.is_shared and pool.name not in self._workers:
            group.create_task(share_forever(pool, self._ports.fleet, self._clock, lambda: not self._is_busy(pool)))
        workers = self._workers.setdefault(pool.name, {})
        for number in range(pool.settings.concurrency):
            if number not in workers:
                workers[number] = Worker(pool, number, self._ledger, self._clock, self._tell_failed, self._is_over)
                group.create_task(self._work(pool, workers, workers[number]))
        if self._audio is not None:
            self._start_audio_workers(pool, group, self._audio)

    def _start_audio_workers(self, pool: DestinationPool, group: asyncio.TaskGroup, audio: AudioDelivery) -> None:
        workers = self._audio_workers.setdefault(pool.name, set())
        taken = {worker.number for worker in workers}
        for number in range(SLOTS):
            if number not in taken:
                worker = AudioWorker(
                    pool, number, self._ports, audio, self._tell_failed, self._is_over_for_audio, self._audio_stop()
                )
                workers.add(worker)
                group.create_task(self._work_with_audio(pool, workers, worker))

    async def _work_with_audio(self, pool: DestinationPool, workers: set[AudioWorker], worker: AudioWorker) -> None:
        try:
            await worker.run()
        finally:
            workers.discard(worker)
            self._drop_if_over(pool)

    async def _work(self, pool: DestinationPool, workers: dict[int, Worker], worker: Worker) -> None:
        try:
            await worker.run()
        finally:
            del workers[worker.number]
            self._drop_if_over(pool)

    def _pools_with_workers(self) -> Sequence[tuple[DestinationPool, Sequence[Worker]]]:
        return [
            (self._pools[name], [*workers.values(), *self._audio_workers.get(name, ())])
            for name, workers in self._workers.items()
        ]

    def _wake(self, destination: str) -> None:
        if (pool := self._pools.get(destination)) is not None:
            pool.parking.notify()
            if self._audio is not None and self._ledger.gauges().audio.get(AudioState.PENDING):
                pool.audio.parking.notify()
                self._audio.notice()

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
