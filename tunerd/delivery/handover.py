"""The short way of a call that may go at once: the transaction that admits it hands it to a worker, its body frozen.

Before an admission, permits are reserved, only where nothing else is due, and at most as many as there is room; what was not
needed goes back. Whether the call may still go is asked again when a worker takes it (worker.py). A backlog is claimed.
"""

from collections.abc import Callable, Mapping, Sequence

from tunerd.clock import Clock
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.permits import Permit
from tunerd.ledger import Claimed, Reservation, WritePath


class PoolReceiver:
    """What the ledger asks for each admission, in the event loop: see `ledger.CallReceiver`."""

    def __init__(
        self, pools: Mapping[str, DestinationPool], ledger: WritePath, clock: Clock, is_taking: Callable[[], bool]
    ) -> None:
        """`is_taking`: workers are there, and will be."""
        self._pools = pools
        self._ledger = ledger
        self._clock = clock
        self._is_taking = is_taking
        self._reserved: dict[int, tuple[DestinationPool, list[Permit]]] = {}
        """By the identity of the offer."""

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        if not self._is_taking():
            return ()
        now = self._clock.now()
        reserved: list[Reservation] = []
        for name, count in wanted.items():
            pool = self._pools.get(name)
            if pool is None or pool.is_retired or pool.settings.dry_run or pool.key.form is None or not pool.has_nothing_due():
                continue
            permits = pool.pacing.reserve(count, now)
            if permits:
                offer = Reservation(destination=name, form=pool.key.form, freeze=pool.freeze(pool.key.form), count=len(permits))
                self._reserved[id(offer)] = pool, permits
                pool.reserved += len(permits)
                reserved.append(offer)
        return reserved

    def receive(self, reserved: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        for offer in reserved:
            pool, permits = self._reserved.pop(id(offer))
            pool.reserved -= len(permits)
            for claimed in claims:
                if claimed.destination == offer.destination:
                    pool.handed.append((permits.pop(), claimed))
            for permit in permits:
                pool.pacing.unused(permit, self._clock.now())
            for _ in range(
                len(pool.handed) or 1
            ):  # permits were reserved meanwhile: a worker that found no room may find some now
                pool.parking.wake_next()
            if pool.is_retired or not self._is_taking():
                self.return_calls_of(pool)

    def return_calls(self) -> None:
        """No worker will come any more: what was handed over and not begun goes back."""
        for pool in self._pools.values():
            self.return_calls_of(pool)

    def return_calls_of(self, pool: DestinationPool) -> None:
        while pool.handed:
            permit, claimed = pool.handed.popleft()
            pool.pacing.unused(permit, self._clock.now())
            self._ledger.release(claimed.row, self._clock.now())
