"""When `tunerd drain` says that nothing is left: its questions to the daemon, on a fake clock."""

import asyncio
from dataclasses import dataclass
from typing import TypeVar, cast

import pytest

from tunerd.admin.answer_types import IdleDocument, RescanStarted
from tunerd.admin.api import Order, RescanOrder
from tunerd.cli.drain import IDLE_FOR_S, drain
from tunerd.testing import FakeClock

A = TypeVar("A")


@dataclass
class Daemon:
    """Idle, as far as it knows; a look takes so long (None: for ever, as on a dead mount)."""

    clock: FakeClock
    look_s: float | None
    asked: int = 0
    looked_at: float = 0.0

    async def ask(self, order: Order[A]) -> A:
        if isinstance(order, RescanOrder):
            self.asked += 1
            self.looked_at = self.clock.monotonic() + (self.look_s if self.look_s is not None else 1e9)
            return cast(A, RescanStarted(look=self.asked))
        done = self.asked if self.clock.monotonic() >= self.looked_at else self.asked - 1
        return cast(A, IdleDocument(left={}, idle=True, looked=0 if self.look_s is None else done))


@pytest.mark.parametrize(
    ("look_s", "deadline_s", "is_idle", "took_s", "looks"),
    [
        (0.0, 20.0, True, IDLE_FOR_S, 2),
        (1.0, 20.0, True, IDLE_FOR_S + 1.0, 2),
        (1.0, 2.0, True, 2.0, 1),
        (None, 2.0, False, 2.0, 1),
        (None, 20.0, False, 20.0, 2),
    ],
)
async def test_idle_is_believed_after_a_look(
    look_s: float | None, deadline_s: float, is_idle: bool, took_s: float, looks: int
) -> None:
    """Idle for 3 s, and then every directory listed once more; at the deadline at least the look at the start is over."""
    clock = FakeClock()
    daemon, began = Daemon(clock, look_s), clock.monotonic()
    draining = asyncio.ensure_future(drain(daemon, deadline_s, clock))
    while not draining.done():
        await clock.advance(0.05)
        assert clock.monotonic() - began < 60
    assert (draining.result()[1], daemon.asked) == (is_idle, looks)
    assert clock.monotonic() - began == pytest.approx(took_s, abs=0.6)
