"""A server that cannot hold the ledger is refused at the start, with one line that says what to do and quotes no password."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.ledger import LedgerRefused
from tunerd.testing import Recorder

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def users(postgres: Cluster) -> Cluster:
    """The cluster with a user that needs a password, one without rights, and one whose sessions only read."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    with connect(postgres.server()) as connection:
        for statement in (
            "CREATE ROLE needs_password LOGIN PASSWORD 'the-right-one'",
            "CREATE ROLE without_rights LOGIN",
            "CREATE ROLE only_reads LOGIN",
            "ALTER ROLE only_reads SET default_transaction_read_only = on",
        ):
            connection.execute(statement)
    return postgres


async def refusal(server: "Server") -> str:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    with pytest.raises(LedgerRefused) as caught:
        await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    said = str(caught.value)
    assert "\n" not in said
    assert "secret" not in said
    assert caught.value.__cause__ is None, "libpq's own message may quote the connection"
    return said


@pytest.mark.parametrize(
    ("user", "database", "options", "words"),
    [
        ("needs_password:secret", "postgres", "", "the password is wrong"),
        ("needs_password", "postgres", "", "the password is wrong"),
        ("postgres", "not_there", "", "the database does not exist"),
        ("without_rights", "postgres", "", "lacks a right"),
        ("only_reads", "postgres", "", "read-only"),
        ("postgres", "postgres", "?sslmode=require", "TLS was refused"),
    ],
)
async def test_what_is_wrong_is_said(users: Cluster, user: str, database: str, options: str, words: str) -> None:
    """Each with what to check."""
    assert words in await refusal(users.server(user=user, database=database, options=options))


async def test_the_password_may_come_from_a_file(users: Cluster, tmp_path: Path) -> None:
    """It is read for each connection: a new one is used without a restart, and a file that cannot be read is named as the cause."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    file = tmp_path / "password"
    server = replace(users.server(user="needs_password"), password_file=str(file))
    assert "ledger.password_file cannot be read" in await refusal(server)
    file.write_text("secret\n")
    assert "the password is wrong" in await refusal(server)
    file.write_text("the-right-one\n")
    with connect(server) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("needs_password",)


async def test_nobody_is_there(postgres: Cluster) -> None:
    """No server listens at the port."""
    from tunerd.ledger.postgresql.postgresql_server import Server

    said = await refusal(Server(url="postgresql://postgres:secret@127.0.0.1:1/postgres"))
    assert "check host and port in ledger.url" in said


async def test_a_newer_schema_is_refused_and_left_alone(postgres: Cluster) -> None:
    """An older program does not touch tables that it does not know."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import connect

    server = postgres.server()
    await (await PostgresqlLedger.open(server, now=NOW, emit=Recorder())).close()
    with connect(server) as connection:
        connection.execute(f"UPDATE {server.schema}.meta SET value = 99 WHERE name = 'schema'")
    assert "written by a newer tunerd (schema 99" in await refusal(server)
    with connect(server) as connection:
        assert connection.execute(f"SELECT value FROM {server.schema}.meta WHERE name = 'schema'").fetchone() == (99,)


async def test_a_second_start_keeps_what_is_there(postgres: Cluster) -> None:
    """The tables are made once."""
    from tests.ledger.parts import put, state
    from tunerd.call import State
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.testing import make_call

    server = postgres.server()
    first = await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    await put(first, make_call("c1"))
    await first.close()
    second = await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    assert await state(second, "c1") is State.DUE
    await second.close()
