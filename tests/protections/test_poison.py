"""One call in a hundred always gets a 500: only this call is delayed. This test is small and deterministic; `make poison`
measures pairs of real runs."""

from tests.delivery.made import delivering, scripted
from tests.protections.simulated import Tuner, p99
from tunerd.events import PauseBegan
from tunerd.testing import FakeClock

SECONDS, PER_SECOND = 40, 10


async def run(poison: str) -> tuple[dict[str, float], Tuner, list[PauseBegan]]:
    """Send ten calls a second, each hundredth of them named by `poison`; return how long each accepted one took."""
    clock = FakeClock()
    tuner, admitted = Tuner(clock, round_trip_s=0.2), dict[str, float]()
    async with delivering(scripted(tuner), clock=clock) as bench:
        for number in range(SECONDS * PER_SECOND):
            call_id = f"{poison if number % 100 == 50 else 'good'}-{number}"
            admitted[call_id] = clock.now()
            await bench.admit(call_id)
            await clock.advance(1 / PER_SECOND)
        await clock.advance(30)
        pauses = bench.told.seen(PauseBegan)
    return {call_id: at - admitted[call_id] for call_id, at in tuner.accepted_at.items()}, tuner, pauses


async def test_poison_backs_off_alone() -> None:
    """The other calls take as long as without it and are not delayed by a pause. Each poisoned call is tried a few times in a
    minute and stays in the ledger."""
    clean, _, _ = await run("good")
    poisoned, tuner, pauses = await run("poison")
    assert len(clean) == SECONDS * PER_SECOND
    assert len(poisoned) == len(clean) - 4
    assert p99(poisoned.values()) <= 1.1 * p99(clean.values())
    assert pauses == []
    tries = [count for call_id, count in tuner.attempts.items() if call_id.startswith("poison")]
    assert len(tries) == 4
    assert 3 <= min(tries) <= max(tries) <= 8
