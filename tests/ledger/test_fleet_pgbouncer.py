"""The ledger behind PgBouncer in transaction mode: each transaction may be on another connection of the server, and prepared
statements are off."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, SENT, bring, claimed, put, recording, state, take, waiting
from tests.ledger.pgbouncer import PgBouncer, needs_pgbouncer, pgbouncer
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_match import *  # noqa: F403
from tests.ledger.test_contract_send import *  # noqa: F403
from tunerd.call import State
from tunerd.ledger import Ledger
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

pytestmark = [needs_postgres, needs_pgbouncer]


@pytest.fixture(scope="module")
def pooler(postgres: Cluster) -> Iterator[PgBouncer]:
    with pgbouncer(postgres) as running:
        yield running


@pytest.fixture
async def ledger(pooler: PgBouncer) -> AsyncIterator[Ledger]:
    """What the contract's tests of matching and sending, imported above, run on."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened = await PostgresqlLedger.open(pooler.server(), now=NOW, emit=Recorder())
    yield opened
    await opened.close()


async def test_instances_share_the_connections_of_a_pooler(pooler: PgBouncer) -> None:
    """Four instances admit, join, claim and settle at once on fewer connections than they have: each call goes out once."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    server = pooler.server()
    names = ("a", "b", "c", "d")
    ledgers = [await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name) for name in names]
    got: Counter[str] = Counter()

    async def work(ledger: "PostgresqlLedger") -> None:
        while (claim := (await take(ledger, NOW + 1)).claimed) is not None:
            got[claim.call_id] += 1
            await ledger.settle(claim.row, SENT, NOW + 2)

    try:
        await asyncio.gather(*(put(ledgers[at % 4], make_call(f"c{at}")) for at in range(80)))
        await put(ledgers[0], waiting("late"))
        assert [one.call_id for one in (await bring(ledgers[1], recording())).matched] == ["late"]
        await asyncio.gather(*(work(ledger) for ledger in ledgers for _ in range(2)))
        assert set(got) == {*(f"c{at}" for at in range(80)), "late"}
        assert set(got.values()) == {1}
        assert await state(ledgers[2], "late") is State.SENT
    finally:
        for ledger in ledgers:
            await ledger.close()


async def test_a_settling_survives_the_restart_of_the_pooler(postgres: Cluster) -> None:
    """What a worker gives back while the pooler is away is kept, and written through the next one."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    with pgbouncer(postgres) as first:
        ledger = await PostgresqlLedger.open(first.server(), now=NOW, emit=Recorder())
        await put(ledger, make_call("c1"))
        claim = await claimed(ledger)
    settled = ledger.settle(claim.row, SENT, NOW + 1)
    with pgbouncer(postgres, port=first.port):
        await settled
        assert await state(ledger, "c1") is State.SENT
        await ledger.close()
