"""A server that cannot hold the ledger is refused at the start, with one line that says what to do and quotes no password."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ledger.claimed_server import claimed_server
from tests.ledger.parts import NOW, SENT, claimed, put, state
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import State
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger import LedgerRefused, LedgerUnavailable
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def users(postgres: Cluster) -> Cluster:
    """The cluster with users that need a password, one without rights, and one whose sessions only read."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    with connect(postgres.server()) as connection:
        for statement in (
            "CREATE ROLE needs_password LOGIN PASSWORD 'the-right-one'",
            "CREATE ROLE without_rights LOGIN",
            "CREATE ROLE changes_password LOGIN",
            "GRANT CREATE ON DATABASE postgres TO changes_password",
            "CREATE ROLE only_reads LOGIN",
            "ALTER ROLE only_reads SET default_transaction_read_only = on",
        ):
            connection.execute(statement)
    return postgres


async def refusal(server: "Server", exit_code: int = 78) -> str:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    with pytest.raises(LedgerRefused) as caught:
        await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    assert caught.value.exit_code == exit_code, "78: systemd's unit does not start it again"
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


@pytest.mark.parametrize(
    ("described", "number", "words"),
    [
        ("PostgreSQL 13.14 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit", "13.14", "is PostgreSQL 13; tunerd needs 14 or newer"),
        ("PostgreSQL 9.6.24 on x86_64-pc-linux-gnu, compiled by gcc", "9.6.24", "is PostgreSQL 9; tunerd needs 14 or newer"),
        ("CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27, go1.19.10)", "13.0.0", "use PostgreSQL"),
        ("PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64-pc-linux-gnu, compiled by clang, 64-bit", "11.2-YB-2.20.1.0-b0", "use PostgreSQL"),
        ("PostgreSQL 15.2-YB-2.25.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang, 64-bit", "15.2-YB-2.25.0.0-b0", "use PostgreSQL"),
    ],
)  # fmt: skip
async def test_another_server_is_refused_before_anything_is_made(described: str, number: str, words: str) -> None:
    """A PostgreSQL that is too old, CockroachDB and YugabyteDB, whatever version of PostgreSQL they say they are: it is asked what
    it is, and nothing else."""
    with claimed_server(described, number) as there:
        server = server_at(there.port)
        assert words in await refusal(server)
        assert there.passwords == ["secret"]
        assert set(there.asked) <= {"SHOW transaction_read_only", "SELECT version()"}
        assert there.asked[-1] == "SELECT version()"


async def test_an_error_that_has_no_words_is_not_taken_for_silence() -> None:
    """A server that calls itself PostgreSQL 15 and does not know what it is asked: the line sends nobody to look at the network."""
    with claimed_server("PostgreSQL 15.4, or nearly", "15.4") as there:
        assert "the server answers with an error, and its log says which (42601)" in await refusal(server_at(there.port))


async def test_the_oldest_version_is_taken() -> None:
    """PostgreSQL 14.0, which differs from the servers that are refused only in what it says."""
    from tunerd.ledger.postgresql.postgresql_server import open_readable

    with claimed_server("PostgreSQL 14.0 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit", "14.0") as there:
        connection = await asyncio.to_thread(open_readable, server_at(there.port))
        connection.close()


async def test_a_standby_is_refused(postgres: Cluster) -> None:
    """A real one that follows its primary, and takes questions: an outage would end, but this address has to be changed."""
    server = postgres.server()
    with postgres.standby() as standby:
        said = await refusal(replace(server, url=standby.server().url.replace("postgres@", "postgres:secret@")))
        assert "the server is read-only (a standby); ledger.url has to name the primary" in said


async def test_a_password_that_is_changed_at_run_time(users: Cluster, tmp_path: Path) -> None:
    """A rotation that reaches the database first: nothing new is written, and the log says why. When ledger.password_file has the
    new password, what was kept is written, without a restart."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import connect

    file, told = tmp_path / "password", Recorder()
    file.write_text("secret-before\n")
    server = replace(users.server(user="changes_password"), password_file=str(file))
    with connect(users.server()) as operator:
        operator.execute("ALTER ROLE changes_password PASSWORD 'secret-before'")
        ledger = await PostgresqlLedger.open(server, now=NOW, emit=told)
        await put(ledger, make_call("c1"), make_call("c2"))
        held = await claimed(ledger)
        operator.execute("ALTER ROLE changes_password PASSWORD 'secret-after'")
        operator.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'changes_password'")
    settled = ledger.settle(held.row, SENT, NOW + 1)
    async with asyncio.timeout(30):
        await told.until(LedgerTrouble, 2)
        with pytest.raises(LedgerUnavailable):
            await put(ledger, make_call("c3"), now=NOW + 1)
    said = [one.detail for one in told.seen(LedgerTrouble)]
    assert "the password is wrong; check ledger.password_file" in said[-1]
    assert not any("secret" in one or "\n" in one for one in said)
    assert not told.seen(LedgerHealed)
    file.write_text("secret-after\n")
    async with asyncio.timeout(30):
        await told.until(LedgerHealed)
        await settled
    assert len(told.seen(LedgerTrouble)) == 2, "each reason is reported once, and not each second"
    assert await state(ledger, "c1") is State.SENT
    assert (await claimed(ledger, NOW + 2)).call_id == "c2"
    await ledger.close()


def server_at(port: int) -> "Server":
    from tunerd.ledger.postgresql.postgresql_server import Server

    return Server(url=f"postgresql://tunerd:secret@127.0.0.1:{port}/tunerd")


async def test_nobody_is_there(postgres: Cluster) -> None:
    """No server listens at the port."""
    from tunerd.ledger.postgresql.postgresql_server import Server

    said = await refusal(Server(url="postgresql://postgres:secret@127.0.0.1:1/postgres"), exit_code=69)
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
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    server = postgres.server()
    first = await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    await put(first, make_call("c1"))
    await first.close()
    second = await PostgresqlLedger.open(server, now=NOW, emit=Recorder())
    assert await state(second, "c1") is State.DUE
    await second.close()
