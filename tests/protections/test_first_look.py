"""After a start, recordings that are not near are not used until the files on disk have been read."""

import asyncio

import pytest

from tunerd.ledger import FarRule
from tunerd.maintenance import FIRST_READ_S, take_far_ones
from tunerd.testing import FakeClock


class Delivery:
    def __init__(self) -> None:
        self.rules: list[FarRule] = []

    async def set_far_rule(self, rule: FarRule) -> None:
        self.rules.append(rule)


@pytest.mark.parametrize("read_after_s", [0.0, 30.0, 9000.0])
async def test_they_may_be_taken_when_all_was_read_or_ten_minutes_later(read_after_s: float) -> None:
    """A source that cannot be read delays them only for a limited time."""
    clock, delivery, stop = FakeClock(), Delivery(), asyncio.Event()
    until = clock.monotonic() + read_after_s
    task = asyncio.create_task(take_far_ones(delivery, lambda: clock.monotonic() >= until, clock, stop))
    due = min(read_after_s, FIRST_READ_S)
    await clock.advance(max(0.0, due - 1))
    assert delivery.rules == ([] if due else [FarRule()])
    await clock.advance(2)
    assert delivery.rules == [FarRule()]
    await task


async def test_a_stop_ends_the_wait() -> None:
    """A stop ends the wait, and no such recording is used."""
    clock, delivery, stop = FakeClock(), Delivery(), asyncio.Event()
    task = asyncio.create_task(take_far_ones(delivery, lambda: False, clock, stop))
    await clock.advance(5)
    stop.set()
    await task
    assert delivery.rules == []
