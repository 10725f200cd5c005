"""What an instance knows of its claims while the database restarts, and after it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, SENT, claimed, gauged, put, state, take
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_url_checks import verified
from tunerd.call import State
from tunerd.ledger import Pick
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Connection, Server

pytestmark = needs_postgres


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return postgres.server()


@pytest.fixture
async def ledger(server: "Server") -> "AsyncIterator[PostgresqlLedger]":
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    yield opened
    await opened.close()


@pytest.fixture
def database(server: "Server", ledger: "PostgresqlLedger") -> "Iterator[Connection]":
    from tunerd.ledger.postgresql.postgresql_server import connect

    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


async def looks(ledger: "PostgresqlLedger", count: int) -> None:
    """Wait until the writer has looked at what other instances did, `count` times from now on, without a command."""
    for _ in range(count):
        before = ledger._writer._looked_at  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            while ledger._writer._looked_at == before:  # type: ignore[attr-defined]
                await asyncio.to_thread(lambda: None)


async def test_an_acceptance_is_kept_if_an_idle_writer_notices_that_the_database_is_away(
    postgres: Cluster, ledger: "PostgresqlLedger"
) -> None:
    """The call was accepted while the database restarted: it is sent, and not due again."""
    await put(ledger, make_call("c1"))
    one = await claimed(ledger)
    await asyncio.to_thread(postgres.stop)
    await looks(ledger, 2)
    settled = ledger.settle(one.row, SENT, NOW + 1)
    await asyncio.to_thread(postgres.start)
    await asyncio.wait_for(settled, 30)
    assert await state(ledger, "c1") is State.SENT


async def test_a_claim_whose_commit_was_seen_too_late_is_found(ledger: "PostgresqlLedger", database: "Connection") -> None:
    """The writer gave its connection up and looked before the server had committed: the call is `sending` for this instance, and
    nothing here knows of it. The self-check sees it and makes it due again."""
    await put(ledger, make_call("c1"), make_call("c2"))
    held = await claimed(ledger)
    database.execute(
        "UPDATE call SET state = 'sending', holder = %s, claims = 1, claimed_at = %s WHERE call_id = 'c2'",
        (ledger.heartbeat.generation, NOW),
    )
    seen = await ledger.sending()
    assert len(seen) == 2
    assert await ledger.reclaim({row: at for row, at in seen.items() if row != held.row}, NOW + 1) == 1
    assert await state(ledger, "c2") is State.DUE


async def test_a_call_that_another_instance_sends_is_not_reclaimed(ledger: "PostgresqlLedger", database: "Connection") -> None:
    """It was claimed at the same time as ours, after ours was given up."""
    await put(ledger, make_call("c1"))
    await claimed(ledger)
    seen = await ledger.sending()
    database.execute("UPDATE call SET holder = 999, claims = claims + 1")
    assert await ledger.sending() == {}
    assert await ledger.reclaim(seen, NOW + 1) == 0
    assert await state(ledger, "c1") is State.SENDING


async def test_many_hints_are_few_looks(ledger: "PostgresqlLedger") -> None:
    """Fifty instances give 250 hints a second. This one looks at most each 0.2 s, and jobs behind the hints do not wait."""
    writer, seen, ends_at = ledger._writer, set(), time.monotonic() + 1.5
    while time.monotonic() < ends_at:
        for _ in range(20):
            writer._queue.nudge()  # type: ignore[attr-defined]
        assert writer._queue._queue.qsize() <= 1  # type: ignore[attr-defined]
        await asyncio.to_thread(lambda: None)
        seen.add(writer._looked_at)  # type: ignore[attr-defined]
    assert 3 <= len(seen) <= 10


@pytest.mark.parametrize("change", ["destination = 'other'", "due_at = due_at + 999", "audio = 'pending'"])
async def test_a_call_that_changed_while_its_lock_was_waited_for_is_not_claimed(
    ledger: "PostgresqlLedger", database: "Connection", change: str
) -> None:
    """Another transaction moves it, puts it back for later, or gives it audio."""
    await put(ledger, make_call("c1"))
    database.execute("BEGIN")
    database.execute(f"UPDATE call SET {change}")
    claim = asyncio.ensure_future(take(ledger, NOW + 1, Pick.NEWEST))
    async with asyncio.timeout(10):
        while not database.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            await asyncio.to_thread(lambda: None)
    database.execute("COMMIT")
    assert (await claim).claimed is None


async def test_the_url_that_another_instance_asks_for_goes_with_its_call(
    server: "Server", ledger: "PostgresqlLedger", database: "Connection"
) -> None:
    """A call that waits for its URL was admitted at b a moment ago, and is forgotten here: no row of it stays, and nobody asks for
    its URL any more."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    b = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="b")
    await looks(ledger, 1)
    await put(b, verified())
    assert await ledger.forget("a", NOW) == 1
    assert database.execute("SELECT count(*) FROM url_check").fetchone() == (0,)
    await gauged(b, lambda gauges: gauges.url_checks == 0)
    await gauged(ledger, lambda gauges: gauges.url_checks == 0)
    await b.close()
