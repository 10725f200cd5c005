"""Every statement of the ledger is one that PostgreSQL understands, and its tables are those of SQLite."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_statements import STATEMENTS
from tunerd.ledger.sqlite.connect import scripts

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Connection

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def connection(postgres: Cluster) -> "Iterator[Connection]":
    from tunerd.ledger.postgresql.postgresql_server import open_checked

    server = postgres.server()
    with open_checked(server, scripts()) as connection:
        connection.execute(f"SET search_path = {server.schema}")
        yield connection


def test_each_statement_is_prepared(connection: "Connection") -> None:
    """Its parameters have types, and its names exist: for every statement of sql/."""
    common = {name: text for name, text in STATEMENTS.items() if name.startswith("sql.")}
    assert len(common) > 80
    for name, text in common.items():
        with connection.transaction(force_rollback=True):
            connection.execute(f'PREPARE "{name[-60:]}" AS {numbered(text)}')


def numbered(text: str) -> str:
    """The statement with parameters as PREPARE takes them."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[0] if found[1] else f"{found[0]}{len(numbers)}"
        return f"${numbers.setdefault(name, len(numbers) + 1)}"

    return re.sub(r"\?|(?<!:):([a-z_]+)", number, text)


def test_the_tables_are_those_of_sqlite(connection: "Connection") -> None:
    """Each table of the schema is there with each of its columns."""
    from tunerd.ledger.postgresql.dialect import columns
    from tunerd.ledger.postgresql.postgresql_server import FLEET_TABLES

    found: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    ):
        found.setdefault(table, set()).add(column)
    of_a_fleet = {name for statement in FLEET_TABLES for name in re.findall(r"CREATE TABLE (\w+)", statement)}
    assert {table: names for table, names in found.items() if table not in of_a_fleet} == {
        table: set(names) for table, names in columns("".join(scripts())).items()
    }
    assert {"call", "body", "want", "recording", "file"} <= found.keys()
