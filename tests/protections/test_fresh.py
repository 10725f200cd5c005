"""After an outage new calls do not wait behind the backlog. This test is small and deterministic; `make fresh` measures it
with real processes and a backlog of 10,000."""

from tests.delivery.made import delivering, scripted
from tests.protections.simulated import Tuner, p99
from tunerd.events import PauseBegan, PauseEnded
from tunerd.testing import FakeClock

BACKLOG, PER_SECOND, FRESH_S = 600, 50.0, 10


async def test_fresh_calls_pass_the_backlog() -> None:
    """A backlog of 600 calls is sent at the rate limit for twelve seconds, and a new call comes each half second. All new
    calls but the slowest hundredth arrive within five seconds, and the backlog still gets most of the limit."""
    clock = FakeClock()
    tuner = Tuner(clock, round_trip_s=0.05)
    tuner.is_away = True
    async with delivering(scripted(tuner), clock=clock, rate_limit=PER_SECOND) as bench:
        await bench.admit(*(f"old-{number}" for number in range(BACKLOG)))
        await clock.advance(60)
        assert bench.told.seen(PauseBegan)
        tuner.is_away = False
        while not bench.told.seen(PauseEnded):
            await clock.advance(0.5)
        fresh, began, before = dict[str, float](), clock.now(), len(tuner.accepted_at)
        for number in range(2 * FRESH_S):
            fresh[f"fresh-{number}"] = clock.now()
            await bench.admit(f"fresh-{number}")
            await clock.advance(0.5)
        drained = len(tuner.accepted_at) - before - len(fresh.keys() & tuner.accepted_at.keys())
        assert len(tuner.accepted_at) < BACKLOG, "the backlog outlasted the new calls"
        assert drained / (clock.now() - began) >= 0.7 * PER_SECOND
        await clock.advance(300)  # calls that the last probes of the outage used wait longest
        assert p99(tuner.accepted_at[call_id] - at for call_id, at in fresh.items()) < 5.0
        assert len(tuner.accepted_at) == BACKLOG + len(fresh)
