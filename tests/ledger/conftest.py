"""The ledger on `:memory:`, on a file and on PostgreSQL, behind one fixture: whatever the contract promises holds for each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tunerd.ledger import Ledger
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import MemoryLedger, Recorder

from .parts import NOW
from .postgres_server import Cluster, cluster, needs_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=needs_postgres)])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    opened: Ledger
    if request.param == "memory":
        opened = MemoryLedger()
    elif request.param == "sqlite":
        opened = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    else:
        from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

        server = request.getfixturevalue("postgres").server()
        opened = await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    opened = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
    yield opened
    await opened.close()
