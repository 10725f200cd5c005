"""Prepared statements that the server does not have."""

from typing import TYPE_CHECKING

from tests.ledger.parts import NOW, put, state
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import State
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.sql.store import Store

pytestmark = needs_postgres


async def test_a_statement_that_is_not_prepared_any_more_ends_nothing(postgres: Cluster) -> None:
    """psycopg takes a statement for prepared that was in a pipeline which failed (seen under kills: SQLSTATE 26000). The transaction
    runs again without prepared statements."""
    from tunerd.ledger.postgresql.postgresql_database import postgresql_of
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    def forget(store: "Store") -> None:
        store.begin(full=False)
        postgresql_of(store).connection.execute("DEALLOCATE ALL", prepare=False)
        store.commit()

    ledger = await PostgresqlLedger.open(postgres.server(), now=NOW, emit=Recorder(), instance="a")
    try:
        for number in range(12):  # psycopg prepares what is executed often
            await put(ledger, make_call(f"before{number}"))
        await ledger._alone(forget)
        await put(ledger, make_call("after"))
        assert await state(ledger, "after") is State.DUE
    finally:
        await ledger.close()
