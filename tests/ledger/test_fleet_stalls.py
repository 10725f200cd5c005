"""Sessions that stall, and servers that change their role: nobody waits for them for ever."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, SENT, claimed, put, state
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import State
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger import LedgerUnavailable
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return replace(postgres.server(), stalls_after_s=1.0)


@pytest.fixture
async def ledger(server: "Server") -> "AsyncIterator[PostgresqlLedger]":
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    yield opened
    await opened.close()


async def test_a_transaction_that_stalls_is_ended_by_the_server(ledger: "PostgresqlLedger", server: "Server") -> None:
    """Its process was stopped after it had locked a call and the name of another (river #1251): the server takes both away from
    it after a while, and the others continue."""
    from tunerd.ledger.postgresql import dialect
    from tunerd.ledger.postgresql.postgresql_database import NamesMissing, PostgresqlDatabase
    from tunerd.ledger.postgresql.postgresql_server import connect
    from tunerd.ledger.sql.store import Store
    from tunerd.ledger.sql.volumes import OneVolume
    from tunerd.ledger.sqlite.connect import scripts

    await put(ledger, make_call("c1"))
    held = await claimed(ledger)
    name = ("call", make_call("c2").workspace, make_call("c2").agent, "c2")
    stalled = PostgresqlDatabase(connect(server), server, dialect.columns("".join(scripts())), OneVolume(), holder=999)
    stalled.begin(durable=True)
    with pytest.raises(NamesMissing):
        stalled.hold(name)
    stalled.rollback()
    stalled.begin(durable=True)
    stalled.hold(name)
    assert Store(stalled).calls.get(held.row) is not None
    async with asyncio.timeout(30):
        await ledger.settle(held.row, SENT, NOW + 1)
        await put(ledger, make_call("c2"))
    assert await state(ledger, "c1") is State.SENT
    stalled.close()


async def test_a_server_that_becomes_read_only_is_left(server: "Server", postgres: Cluster) -> None:
    """The session is still open, but its server changed its role (river #1225): tunerd drops the connection, keeps what was
    settled, and writes it when a server takes writes again."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import connect

    told = Recorder()
    ledger = await PostgresqlLedger.open(server, now=NOW, emit=told, instance="a")
    await put(ledger, make_call("c1"), make_call("c2"))
    held = await claimed(ledger)
    with connect(server) as operator:
        try:
            operator.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            operator.execute("SELECT pg_reload_conf()")
            await told_of_trouble(ledger, told)
            settled = ledger.settle(held.row, SENT, NOW + 1)
            assert "read-only" in told.seen(LedgerTrouble)[-1].detail
        finally:
            operator.execute("SET default_transaction_read_only = off")
            operator.execute("ALTER SYSTEM RESET default_transaction_read_only")
            operator.execute("SELECT pg_reload_conf()")
    await told.until(LedgerHealed)
    await settled
    assert await state(ledger, "c1") is State.SENT
    assert await state(ledger, "c2") is State.DUE
    await ledger.close()


async def told_of_trouble(ledger: "PostgresqlLedger", told: Recorder) -> None:
    """The server takes up its new configuration a moment after it was asked to."""
    number = 0
    async with asyncio.timeout(20):
        while not told.seen(LedgerTrouble):
            number += 1
            try:
                await put(ledger, make_call(f"other{number}"), now=NOW + 1)
            except LedgerUnavailable:
                await told.until(LedgerTrouble)
