"""A connection to the server through which nothing comes any more."""

import asyncio
import time

import psycopg
import pytest

from tests.e2e.fleet import Relay
from tests.ledger.postgres_server import Cluster, needs_postgres

pytestmark = needs_postgres


async def test_an_answer_is_not_waited_for_without_end(postgres: Cluster) -> None:
    """A half-open connection (pg-boss #850): after its patience the connection is closed, and the command fails as in an outage.
    A timeout of the server's cannot reach the client here."""
    from tunerd.ledger.postgresql.postgresql_server import Server, connect
    from tunerd.ledger.postgresql.sqlstates import is_outage

    async with Relay(postgres.port).listening() as relay:
        server = Server(url=f"postgresql://postgres@127.0.0.1:{relay.port}/postgres")
        connection = await asyncio.to_thread(connect, server, 0.5)
        assert (await asyncio.to_thread(connection.execute, "SELECT 1")).fetchone() == (1,)
        relay.stall()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError) as raised:
            await asyncio.to_thread(connection.execute, "SELECT 1")
        assert time.monotonic() - began >= 0.5
        assert is_outage(raised.value)
        assert connection.closed
        assert not connection.is_waiting
