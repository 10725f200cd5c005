"""What each instance does itself although another one does the upkeep, and what it leaves alone while others live: their
configuration may be another one (a rolling update)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, SENT, bring, claimed, put, recording, state, the, waiting
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_gather import collect, fragment
from tunerd.call import State
from tunerd.ledger import FarRule, Retention
from tunerd.ledger.disks import Disks
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Connection, Server

pytestmark = needs_postgres

Open = Callable[[str], "Awaitable[PostgresqlLedger]"]
KEEP_NONE = Retention(sent_s=1e9, failed_s=1e9, recordings_s=1e9, max_failed_bytes=1 << 40, documents=0)


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return postgres.server()


@pytest.fixture
async def open_instance(server: "Server") -> AsyncIterator[Open]:
    """Those that are open at the end are closed."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened: list[PostgresqlLedger] = []

    async def start(name: str) -> PostgresqlLedger:
        disks = Disks(volumes={"agent": "v1"})
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, disks=disks))
        return opened[-1]

    yield start
    for ledger in opened:
        if not ledger.heartbeat._ended.is_set():
            await ledger.close()


@pytest.fixture
def database(server: "Server") -> "Iterator[Connection]":
    from tunerd.ledger.postgresql.postgresql_server import connect

    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


async def test_a_call_that_a_command_at_the_other_instance_made_unique_is_matched(open_instance: Open) -> None:
    """Two calls tie for one recording. One is forgotten at b, which does not do the upkeep: the other one gets the recording."""
    a, b = await open_instance("a"), await open_instance("b")
    for ledger in (a, b):
        await ledger.set_far_rule(FarRule(not_before=0.0, at_once=False), NOW)
    await put(a, waiting("c1"), waiting("c2"))
    await bring(a, recording(at_s=0))
    assert await state(a, "c1") is State.WAITING
    await b.forget("c2", NOW)
    await b.tick(NOW)
    assert await state(a, "c1") is State.DUE


async def test_each_instance_removes_the_documents_that_it_sent(open_instance: Open, database: "Connection") -> None:
    """`ledger.keep_documents: 0` holds for calls that an instance sent which does not do the upkeep."""
    a, b = await open_instance("a"), await open_instance("b")
    for ledger in (a, b):
        await ledger.trim(KEEP_NONE, NOW)
    await put(a, make_call("c1"))
    one = await claimed(b, NOW + 1)
    await b.settle(one.row, SENT, NOW + 2)
    assert database.execute("SELECT count(*) FROM body").fetchone() == (0,)


async def test_documents_of_an_instance_that_is_gone_are_removed(open_instance: Open, database: "Connection") -> None:
    """It kept 200 of them until it ended; within an hour they are gone. Calls that are not sent keep theirs."""
    gone, a = await open_instance("gone"), await open_instance("a")
    await a.trim(KEEP_NONE, NOW)
    await put(gone, make_call("c1"), make_call("c2"))
    one = await claimed(gone, NOW + 1)
    await gone.settle(one.row, SENT, NOW + 2)
    await gone.close()
    await a.trim(KEEP_NONE, NOW + 3700)
    assert database.execute("SELECT c.state FROM body JOIN call c ON c.row = body.row").fetchall() == [("due",)]


async def test_calls_of_a_destination_that_another_instance_may_serve_stay(open_instance: Open) -> None:
    """c has an older configuration, with another base_url for the workspace. Alone it moves them."""
    b, c = await open_instance("b"), await open_instance("c")
    await put(b, replace(make_call("c1"), destination="new", workspace="https://new.example/42"))
    assert await c.follow("new", "old", "https://old.example/42", NOW + 1) == 0
    assert (await the(c, "c1")).destination == "new"
    await b.close()
    assert await c.follow("new", "old", "https://old.example/42", NOW + 1) == 1


async def test_gathered_documents_of_a_source_that_another_instance_may_have_are_not_given_up(open_instance: Open) -> None:
    """An instance with an older configuration does not have the source yet, so no call of that source fails there."""
    b, c = await open_instance("b"), await open_instance("c")
    await collect(b, fragment())
    assert list(await c.gathering_sources()) == []
    await b.close()
    assert list(await c.gathering_sources()) == ["agent"]
