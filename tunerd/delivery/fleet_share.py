"""What a destination's workers may use of what the fleet shares: starts of the rate limit, and a share of the open requests.

One task for each destination asks the ledger, only where `rate_limit` or `fleet_concurrency` is set.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from tunerd.clock import Clock
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.fleet_bucket import FleetBucket
from tunerd.ledger import Fleet, LedgerUnavailable
from tunerd.ledger.fleet import Tokens

EVERY_S: Final = 1.0
"""How often the share of the open requests is asked for, and how long a wait for starts is at most."""


async def share_forever(pool: DestinationPool, fleet: Fleet, clock: Clock, is_over: Callable[[], bool]) -> None:
    """Until no worker is left; whoever ends sets `pool.tokens_wanted`, so that it is noticed."""
    slots_at = clock.monotonic()
    while not is_over():
        if clock.monotonic() >= slots_at:
            await _take_slots(pool, fleet)
            slots_at = clock.monotonic() + EVERY_S
        if await clock.wait(pool.tokens_wanted, max(0.0, slots_at - clock.monotonic())):
            pool.tokens_wanted.clear()
            await _take_tokens(pool, fleet, clock)


async def _take_slots(pool: DestinationPool, fleet: Fleet) -> None:
    cap, before = pool.settings.fleet_concurrency, pool.pacing.cap
    if cap is None:
        return
    try:
        pool.pacing.cap = await fleet.take_slots(pool.name, cap, pool.pacing.in_flight)
    except LedgerUnavailable:
        return  # an instance that may send keeps its share
    if before is not None and pool.pacing.cap > before:
        pool.notify_all()


async def _take_tokens(pool: DestinationPool, fleet: Fleet, clock: Clock) -> None:
    bucket, wait_s = pool.pacing.bucket, EVERY_S
    if not isinstance(bucket, FleetBucket):
        return
    try:
        taken = await fleet.take_tokens(pool.name, bucket.rate, bucket.takes)
        if isinstance(taken, Tokens):
            bucket.grant(taken, clock.now())
            pool.notify_all()
            return
        wait_s = min(EVERY_S, taken)
    except LedgerUnavailable:
        pass
    await clock.wait(asyncio.Event(), wait_s)
    pool.tokens_wanted.set()
