"""The limit finds by itself what the best fixed one would get through."""

import functools

import pytest

from tests.delivery.simulated import SERVERS, Fixed, simulate
from tunerd.delivery.adaptive import AdaptiveLimit


@functools.cache
def best_fixed(name: str) -> float:
    seconds = 60.0 if name == "slow" else 15.0
    return max(simulate(SERVERS[name](), Fixed(limit), seconds).per_second for limit in (*range(1, 20), 22, 25, 28, 32))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SERVERS)
def test_nearly_the_best_throughput_with_few_refusals(name: str, seed: int) -> None:
    """At least 0.9 of the best fixed limit's throughput, at most 5 % of the requests refused."""
    got = simulate(SERVERS[name](), AdaptiveLimit(32), 240.0 if name == "slow" else 120.0, seed)
    assert got.per_second >= 0.9 * best_fixed(name)
    assert got.refused <= 0.05


def test_it_stays_between_one_and_the_most() -> None:
    """Whatever the answers, the limit is at least 1 and at most what is configured."""
    limit = AdaptiveLimit(6)
    for turn in range(400):
        limit.started(limit.limit)
        limit.ended(turn * 0.1, 0.1, pressed=turn >= 200, answered=turn < 200)
        assert 1 <= limit.limit <= 6
        if turn == 199:
            assert limit.limit == 6
    assert limit.limit == 1


def test_a_limit_that_is_not_reached_does_not_grow() -> None:
    """There is no evidence for more than was tried."""
    limit = AdaptiveLimit(32)
    begin = limit.limit
    for turn in range(100):
        limit.started(1)
        limit.ended(turn * 0.1, 0.1, pressed=False, answered=True)
    assert limit.limit == begin


def test_resizing_caps_at_once() -> None:
    """A reload that lowers `delivery.concurrency` holds from the next start on."""
    limit = AdaptiveLimit(32)
    limit.resize(2)
    assert limit.limit == 2


def test_quick_answers_are_no_alarm_however_they_vary() -> None:
    """Round trips of a few milliseconds that now and then take five times as long, as a busy loop of our own makes them,
    never lower the limit; the same pattern in tenths of a second does."""

    def lowest(unit_s: float) -> int:
        limit, now, seen = AdaptiveLimit(32), 0.0, []
        for turn in range(2000):
            took_s = unit_s * (5 if turn // 100 % 2 else 1)
            limit.started(limit.limit)
            now += took_s / limit.limit
            limit.ended(now, took_s, pressed=False, answered=True)
            seen.append(limit.limit)
        return min(seen[500:])

    assert lowest(0.004) == 32
    assert lowest(0.1) < 32


def answers(limit: AdaptiveLimit, now: float, count: int, took_s: float, *, pressed: bool = False) -> tuple[float, list[int]]:
    """So many answers, evenly, with the limit's number of requests open; gives the time then, and the limits on the way."""
    seen = []
    for _ in range(count):
        limit.started(limit.limit)
        now += took_s / limit.limit
        limit.ended(now, took_s, pressed=pressed, answered=not pressed)
        seen.append(limit.limit)
    return now, seen


def test_latency_well_above_its_average_lowers_the_limit() -> None:
    """Also where no smaller limit was ever tried, so that nothing but the round trips tells."""
    limit = AdaptiveLimit(4)
    now, steady = answers(limit, 0.0, 200, 0.1)
    assert set(steady) == {4}
    _, slower = answers(limit, now, 20, 0.5)
    assert min(slower) < 4


def test_when_most_are_refused_the_limit_is_halved() -> None:
    """Two round trips of nothing but refusals leave less than half of it."""
    limit = AdaptiveLimit(32)
    now, _ = answers(limit, 0.0, 600, 0.1)
    assert limit.limit == 32
    _, refused = answers(limit, now, 64, 0.1, pressed=True)
    assert refused[-1] < 16


def test_after_refusals_the_limit_rests() -> None:
    """For each round trip with a refusal ten other answers come before more is tried: that is what keeps their share small."""
    limit = AdaptiveLimit(32)
    now, _ = answers(limit, 0.0, 600, 0.1)
    for _ in range(15):
        now, _ = answers(limit, now, 1, 0.1, pressed=True)
        now, _ = answers(limit, now, limit.limit, 0.1)
    lowered = limit.limit
    _, after = answers(limit, now, 1000, 0.1)
    assert after.index(lowered + 1) >= 150
    assert after[-1] == 32
