"""What the instances of a fleet share besides the calls: probes, the rate limit, and the cap of open requests."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.ledger import LedgerUnavailable
from tunerd.ledger.fleet import Tokens
from tunerd.testing import Recorder

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

pytestmark = needs_postgres


@pytest.fixture
async def fleet(postgres: Cluster) -> "AsyncIterator[list[PostgresqlLedger]]":
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    server = postgres.server()
    opened = [await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name) for name in "abc"]
    yield opened
    for ledger in opened:
        await ledger.close()


async def test_one_instance_probes(fleet: "list[PostgresqlLedger]") -> None:
    """The others learn when to ask again; if the one that probes dies, another one gets the probe then."""
    a, b, _ = fleet
    waits = await asyncio.gather(*(ledger.fleet.claim_probe("tuner", "", 0.5) for ledger in fleet))
    assert min(waits) == 0.0
    assert all(0.0 < wait <= 0.5 for wait in sorted(waits)[1:])
    assert await a.fleet.claim_probe("tuner", "agent-1", 30.0) == 0.0
    assert await a.fleet.claim_probe("other", "", 30.0) == 0.0
    async with asyncio.timeout(10):
        while await b.fleet.claim_probe("tuner", "", 0.5):
            pass


async def test_no_more_starts_than_the_rate_limit_in_the_whole_fleet(fleet: "list[PostgresqlLedger]") -> None:
    """Three instances take as fast as they can: together they get what one would."""
    taken, rate = 0, 50.0
    began = time.monotonic()

    async def take(ledger: "PostgresqlLedger") -> None:
        nonlocal taken
        while time.monotonic() < began + 2.0:
            got = await ledger.fleet.take_tokens("tuner", rate, 5)
            if isinstance(got, Tokens):
                taken += got.count
                assert got.ahead_s <= 0.1

    await asyncio.gather(*map(take, fleet))
    took_s = time.monotonic() - began
    assert taken <= rate * (took_s + 0.1) + 5
    assert taken >= 5, "and they do get some, however slow the machine is"


async def test_the_shares_of_the_cap_never_exceed_it(fleet: "list[PostgresqlLedger]") -> None:
    """Each gets an equal share; who has more keeps it only as long as its requests are open."""
    a, b, c = fleet
    first = await a.fleet.take_slots("tuner", 8, 0)
    assert first == 3, "a third, rounded up"
    assert await b.fleet.take_slots("tuner", 8, 0) == 3
    assert await c.fleet.take_slots("tuner", 8, 0) == 2
    assert await a.fleet.take_slots("tuner", 3, 3) == 0, "the cap was lowered; the others still have five"
    assert await b.fleet.take_slots("tuner", 3, 0) == 0, "three requests of the first are open"
    assert await c.fleet.take_slots("tuner", 3, 0) == 0
    assert [await ledger.fleet.take_slots("tuner", 3, 0) for ledger in fleet] == [1, 1, 1]


async def test_the_share_of_an_instance_that_ended_is_free(postgres: Cluster) -> None:
    """At once if it ended in order, else when it counts as dead."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    server = postgres.server()
    a, b = [await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name) for name in "ab"]
    assert [await ledger.fleet.take_slots("tuner", 4, 0) for ledger in (a, b)] == [2, 2]
    await b.close()
    assert await a.fleet.take_slots("tuner", 4, 0) == 4
    await a.close()


async def test_a_server_that_is_away_is_unavailable(fleet: "list[PostgresqlLedger]", postgres: Cluster) -> None:
    """And it is asked on a new connection afterwards."""
    a, *_ = fleet
    assert await a.fleet.claim_probe("tuner", "", 0.1) == 0.0
    postgres.stop("immediate")
    try:
        with pytest.raises(LedgerUnavailable):
            await a.fleet.claim_probe("tuner", "", 0.1)
    finally:
        postgres.start()
    assert await a.fleet.claim_probe("elsewhere", "", 0.1) == 0.0
