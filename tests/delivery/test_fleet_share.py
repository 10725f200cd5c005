"""The rate limit and the cap of open requests that the instances of a fleet share, seen from one of them."""

from tests.delivery.fleet_parts import Others
from tests.delivery.made import NOW, delivering_to
from tests.delivery.server import Reply, Request, serving
from tunerd.delivery.fleet_bucket import FleetBucket
from tunerd.events import CallSent
from tunerd.ledger.fleet import Tokens


class Wants:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def test_starts_are_spaced_and_not_more_than_were_taken() -> None:
    """Three starts of ten a second: at once, after 100 ms, after 200 ms; then new ones are wanted."""
    wants = Wants()
    bucket = FleetBucket(10.0, wants)
    assert bucket.take(NOW) == NOW + 1.0
    assert wants.count == 1
    bucket.grant(Tokens(count=3, ahead_s=0.0), NOW)
    assert bucket.take(NOW) is None
    assert bucket.take(NOW) == NOW + 0.1
    assert bucket.take(NOW + 0.1) is None
    assert bucket.take(NOW + 0.2) is None
    assert wants.count == 1
    assert bucket.take(NOW + 0.3) == NOW + 1.3
    assert wants.count == 2


def test_what_is_not_used_within_a_second_is_lost() -> None:
    """And half as much is taken the next time; while all is used, twice as much is, up to what a second allows."""
    wants = Wants()
    bucket = FleetBucket(4.0, wants)
    taken = []
    for _ in range(4):
        taken.append(bucket.takes)
        bucket.grant(Tokens(count=bucket.takes, ahead_s=10.0), NOW)
        while bucket.take(NOW) is None:
            pass
    assert taken == [1, 2, 4, 4]
    bucket.grant(Tokens(count=4, ahead_s=10.0), NOW)
    assert bucket.take(NOW) is None
    assert bucket.take(NOW + 1.0) == NOW + 2.0
    bucket.grant(Tokens(count=1, ahead_s=0.0), NOW + 1.0)
    assert bucket.takes == 2


async def test_a_start_waits_for_the_ledger_where_the_rate_is_limited() -> None:
    """Others have used it up: the call goes out when the ledger gives a start, and is not lost in between."""
    others = Others()
    others.tokens = 0.4
    async with serving() as server, delivering_to(server.url, fleet=others, rate_limit=2.0) as bench:
        await bench.admit("call-1")
        await bench.clock.advance(5)
        assert server.requests == []
        assert others.tokens_asked
        others.tokens = Tokens(count=1, ahead_s=0.0)
        await bench.clock.advance(1)
        await bench.told.until(CallSent)


async def test_without_a_rate_limit_nothing_is_asked() -> None:
    """Claims touch nothing that the fleet shares."""
    others = Others()
    async with serving() as server, delivering_to(server.url, fleet=others) as bench:
        await bench.admit("call-1")
        await bench.told.until(CallSent)
        await bench.clock.advance(3)
    assert (others.tokens_asked, others.slots_asked) == (0, 0)


async def test_no_more_requests_are_open_than_the_share_of_the_cap() -> None:
    """Nothing starts before the first share is there; a larger one is used at once."""
    others = Others()
    others.slots = 0

    async def behave(request: Request) -> Reply:
        await bench.clock.wait(others.never, 5.0)
        return Reply()

    async with serving(behave=behave) as server, delivering_to(server.url, fleet=others, fleet_concurrency=6) as bench:
        await bench.admit(*(f"call-{n}" for n in range(8)))
        await bench.clock.advance(3)
        assert server.requests == []
        others.slots = 2
        await bench.clock.advance(1.5)
        await server.arrived(2)
        assert server.most_at_once == 2
        for _ in range(8):
            await bench.clock.advance(5)
        await bench.told.until(CallSent, 8)
        assert server.most_at_once == 2


async def test_with_one_process_the_cap_is_its_own() -> None:
    """On SQLite `fleet_concurrency` bounds the open requests of the one process that there is."""
    async with serving() as server, delivering_to(server.url, fleet_concurrency=2) as bench:
        await bench.admit(*(f"call-{n}" for n in range(20)))
        await bench.told.until(CallSent, 20)
        assert server.most_at_once <= 2
