"""The wall clock jumps a day, forward or back, or the machine sleeps for an hour, with calls in every state: no storm of
retries, nothing is given up or failed early, no call is sent twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.delivery.made import SENT, Rig, delivering, scripted
from tunerd.call import Hold, ManifestStrategy, State
from tunerd.clock import SteadyClock
from tunerd.events import CallFailed, ClockJumped
from tunerd.ledger import Claimed, Filter
from tunerd.maintenance import follow_clock
from tunerd.outcome import Outcome, Retry, RetryReason
from tunerd.testing import FakeClock

DAY_S = 86_400.0
BACKS_OFF = Retry(reason=RetryReason.SERVER_ERROR, status=500, detail="answered 500")
HELD = Retry(reason=RetryReason.THROTTLED, status=429, detail="answered 429", retry_after_s=1800.0)


@dataclass
class Tuner:
    """Accepts some calls and not others; counts each call's attempts."""

    moody: bool = True
    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, call: Claimed) -> Outcome:
        self.seen[call.call_id] += 1
        if call.call_id.startswith("poison") or (self.moody and call.call_id.startswith("later")):
            return BACKS_OFF
        return SENT


@asynccontextmanager
async def world(tuner: Tuner) -> AsyncIterator[tuple[Rig, FakeClock]]:
    """Calls that were sent, that wait for a retry, and that wait for a recording; the clock is followed as in the daemon."""
    wall, stop = FakeClock(), asyncio.Event()
    clock = SteadyClock(wall)
    async with delivering(scripted(tuner), clock=clock, give_up_after_s=7 * DAY_S) as bench:
        follower = asyncio.ensure_future(follow_clock(bench.ledger, bench.delivery, clock, bench.told, stop))
        await bench.admit(*(f"sent-{n}" for n in range(20)), *(f"later-{n}" for n in range(8)), "poison")
        missing = ManifestStrategy(source="egress", key="room", within_s=600.0, wait_s=1800.0)
        await bench.admit("waits", strategies=(missing,), on_missing=Hold(hold_s=2 * DAY_S))
        for _ in range(60):  # attempts are spread, and most calls wait minutes for their retry by now
            await wall.advance(5)
        yield bench, wall
        stop.set()
        await wall.advance(2)
        await follower


async def by_state(bench: Rig) -> Counter[State]:
    return Counter(call.state for call in await bench.ledger.calls(Filter(), limit=100))


async def minutes_around(jump_s: float) -> list[Counter[str]]:
    """The attempts of each call in ten minutes, in slices. The wall clock jumps at their beginning, and new calls arrive at
    that moment."""
    tuner, slices = Tuner(), []
    async with world(tuner) as (bench, wall):
        states = await by_state(bench)
        wall.jump(jump_s)
        await bench.admit("fresh-1")
        for seconds in (0.5, 1.5, 58.0, 540.0):
            before = tuner.seen.copy()
            await wall.advance(seconds)
            await bench.admit(f"fresh-after-{seconds:g}")
            slices.append(tuner.seen - before)
        assert [event.seconds for event in bench.told.seen(ClockJumped)] == ([pytest.approx(jump_s, abs=0.1)] if jump_s else [])
        assert bench.told.seen(CallFailed) == []
        assert (await by_state(bench))[State.WAITING] == states[State.WAITING] == 1
        tuner.moody = False
        await wall.advance(1000)
        assert await by_state(bench) == {State.SENT: 33, State.DUE: 1, State.WAITING: 1}
        assert {n for call, n in tuner.seen.items() if call.startswith(("sent", "fresh"))} == {1}
    return slices


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_a_jump_changes_nothing(jump_s: float) -> None:
    """Every call is tried exactly as often as without the jump, even in the first half second. The call that waits for its
    recording does not fail, and nothing is sent twice."""
    assert await minutes_around(jump_s) == await minutes_around(0.0)


async def test_days_of_jumps_do_not_use_up_give_up_after() -> None:
    """Eight jumps of a day forward do not count as a week of retries."""
    tuner = Tuner()
    async with world(tuner) as (bench, wall):
        for number in range(8):
            wall.jump(DAY_S)
            await wall.advance(400)
            await bench.admit(f"sent-again-{number}")
            await wall.advance(1)
        assert bench.told.seen(CallFailed) == []
        assert (await by_state(bench))[State.WAITING] == 1


async def test_an_hour_of_suspend_is_no_storm() -> None:
    """During a suspend both clocks advance while nothing runs: every call that became due is tried once, and the deadlines are
    exactly one hour nearer."""
    tuner = Tuner()
    async with world(tuner) as (bench, wall):
        before = tuner.seen.copy()
        wall.sleep(3600)
        await wall.advance(1)
        assert max((tuner.seen - before).values()) == 1
        assert bench.told.seen(ClockJumped) == []
        assert bench.told.seen(CallFailed) == []
        tuner.moody = False
        await wall.advance(1000)
        assert await by_state(bench) == {State.SENT: 28, State.DUE: 1, State.WAITING: 1}
        assert {n for call, n in tuner.seen.items() if call.startswith("sent")} == {1}


async def test_retry_after_outlives_a_jump() -> None:
    """A destination that asked for half an hour (Retry-After) gets it, whatever the wall clock does."""
    answers = iter((HELD, SENT, SENT))
    wall = FakeClock()
    clock, stop, seen = SteadyClock(wall), asyncio.Event(), list[float]()

    def tuner(call: Claimed) -> Outcome:
        seen.append(wall.monotonic())
        return next(answers)

    async with delivering(scripted(tuner), clock=clock) as bench:
        follower = asyncio.ensure_future(follow_clock(bench.ledger, bench.delivery, clock, bench.told, stop))
        await bench.admit("call-1")
        await wall.advance(1)
        wall.jump(DAY_S)
        await bench.admit("call-2")
        await wall.advance(60)
        wall.jump(-2 * DAY_S)
        await wall.advance(1730)
        assert len(seen) == 1
        await wall.advance(40)
        assert len(seen) == 3
        assert min(seen[1:]) - seen[0] >= 1800.0
        stop.set()
        await wall.advance(2)
        await follower
