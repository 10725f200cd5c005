"""The short way of a call that may go at once: the transaction that admits it hands it to a worker, its body frozen.

Before an admission, permits are reserved, only where nothing else is due, and at most as many as there is room; what was not
needed goes back. Whether the call may still go is asked again when a worker takes it (worker.py). A backlog is claimed.
"""

from collections.abc import Callable, Mapping, Sequence

from tunerd.clock import Clock
from tunerd.delivery.lane import Lane
from tunerd.delivery.pacing import Go
from tunerd.ledger import Claimed, Reservation, WritePath


class HandOver:
    """What the ledger asks for each admission, in the event loop: see `ledger.CallReceiver`."""

    def __init__(self, lanes: Mapping[str, Lane], ledger: WritePath, clock: Clock, is_taking: Callable[[], bool]) -> None:
        """`is_taking`: workers are there, and will be."""
        self._lanes = lanes
        self._ledger = ledger
        self._clock = clock
        self._is_taking = is_taking
        self._reserved: dict[int, tuple[Lane, list[Go]]] = {}
        """By the identity of the offer."""

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        if not self._is_taking():
            return ()
        now = self._clock.now()
        offers: list[Reservation] = []
        for name, count in wanted.items():
            lane = self._lanes.get(name)
            if lane is None or lane.is_retired or lane.settings.dry_run or lane.key.form is None or not lane.has_nothing_due():
                continue
            permits = lane.pacing.reserve(count, now)
            if permits:
                offer = Reservation(destination=name, form=lane.key.form, freeze=lane.freeze(lane.key.form), count=len(permits))
                self._reserved[id(offer)] = lane, permits
                lane.reserved += len(permits)
                offers.append(offer)
        return offers

    def handed(self, offers: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        for offer in offers:
            lane, permits = self._reserved.pop(id(offer))
            lane.reserved -= len(permits)
            for claimed in claims:
                if claimed.destination == offer.destination:
                    lane.handed.append((permits.pop(), claimed))
            for permit in permits:
                lane.pacing.unused(permit, self._clock.now())
            for _ in range(len(lane.handed) or 1):  # who wanted to begin meanwhile found less room than there is
                lane.bench.pass_on()
            if lane.is_retired or not self._is_taking():
                self.let_go_of(lane)

    def let_go(self) -> None:
        """No worker will come any more: what was handed over and not begun goes back."""
        for lane in self._lanes.values():
            self.let_go_of(lane)

    def let_go_of(self, lane: Lane) -> None:
        while lane.handed:
            permit, claimed = lane.handed.popleft()
            lane.pacing.unused(permit, self._clock.now())
            self._ledger.release(claimed.row, self._clock.now())
