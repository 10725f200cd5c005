"""Simulated servers on a simulated clock: how many calls a limit gets through, without sockets or waiting."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Limit(Protocol):
    @property
    def limit(self) -> int: ...

    def started(self, in_flight: int) -> None: ...

    def ended(self, now: float, took_s: float, *, pressed: bool, answered: bool) -> None: ...


class Fixed:
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def started(self, in_flight: int) -> None: ...

    def ended(self, now: float, took_s: float, *, pressed: bool, answered: bool) -> None: ...


@dataclass(frozen=True)
class Reply:
    after_s: float
    accepted: bool = True


Server = Callable[[float, int, random.Random], Reply]
"""(now, requests open with this one, chance) -> what it answers."""


@dataclass(frozen=True)
class Result:
    per_second: float
    refused: float
    """Share of the requests that were answered 429."""
    mean_limit: float


def simulate(server: Server, limit: Limit, seconds: float, seed: int = 7) -> Result:
    """An endless backlog against the server for `seconds` of simulated time."""
    chance = random.Random(seed)
    order = itertools.count()
    open_requests: list[tuple[float, int, float, bool]] = []
    now, accepted, refused, limits, samples = 0.0, 0, 0, 0, 0
    while now < seconds:
        while len(open_requests) < limit.limit:
            limit.started(len(open_requests) + 1)
            reply = server(now, len(open_requests) + 1, chance)
            heapq.heappush(open_requests, (now + reply.after_s, next(order), now, reply.accepted))
        now, _, began, well = heapq.heappop(open_requests)
        accepted += well
        refused += not well
        limit.ended(now, now - began, pressed=not well, answered=well)
        limits += limit.limit
        samples += 1
    return Result(accepted / now, refused / max(1, accepted + refused), limits / samples)


def constant(now: float, in_flight: int, chance: random.Random) -> Reply:
    """Always 100 ms."""
    return Reply(0.1)


def jittery(now: float, in_flight: int, chance: random.Random) -> Reply:
    """50 ms and an exponential tail of the same mean."""
    return Reply(0.05 + chance.expovariate(1 / 0.05))


def slow(now: float, in_flight: int, chance: random.Random) -> Reply:
    """5 s, as an overloaded but patient server."""
    return Reply(5.0 * chance.uniform(0.9, 1.1))


def knee(now: float, in_flight: int, chance: random.Random) -> Reply:
    """50 ms up to 10 at once; beyond that each request more slows all, so that throughput falls."""
    over = max(0, in_flight - 10)
    return Reply(0.05 * (1 + over / 5 + (over / 10) ** 2) * chance.uniform(0.95, 1.05))


def queueing(now: float, in_flight: int, chance: random.Random) -> Reply:
    """Ten at a time are worked on, the others queue: throughput stays, latency grows."""
    return Reply(0.05 * max(1.0, in_flight / 10) * chance.uniform(0.9, 1.1))


def crowded(now: float, in_flight: int, chance: random.Random) -> Reply:
    """429 soon for the 13th open request."""
    return Reply(0.1 * chance.uniform(0.9, 1.1)) if in_flight <= 12 else Reply(0.02, accepted=False)


class RateLimited:
    """429 beyond `rate` requests a second."""

    def __init__(self, rate: float, round_trip_s: float, burst: float) -> None:
        self.rate, self.round_trip_s, self.burst = rate, round_trip_s, burst
        self.tokens, self.at = burst, 0.0

    def __call__(self, now: float, in_flight: int, chance: random.Random) -> Reply:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return Reply(self.round_trip_s / 4, accepted=False)
        self.tokens -= 1
        return Reply(self.round_trip_s * chance.uniform(0.9, 1.1))


SERVERS: dict[str, Callable[[], Server]] = {
    "constant": lambda: constant,
    "jittery": lambda: jittery,
    "slow": lambda: slow,
    "knee": lambda: knee,
    "queueing": lambda: queueing,
    "crowded": lambda: crowded,
    "rate-limited": lambda: RateLimited(110.0, 0.1, burst=10),
    "rate-limited, slower": lambda: RateLimited(45.0, 0.4, burst=10),
}
