"""What `tunerd check` asks of the server: its version, the rights of the user, standbys. It only reads."""

from typing import Final

from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server, open_readable, usable_version
from tunerd.ledger.server_findings import ServerFindings
from tunerd.ledger.sqlite.connect import scripts

_HAS_TABLES: Final = (
    "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relname = 'meta' AND c.relkind = 'r')"
)
_MAY_MAKE: Final = "SELECT has_database_privilege(current_database(), 'CREATE')"
_OWNS: Final = "SELECT coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s), false)"
_LACKS: Final = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r' AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY c.relname LIMIT 3"""
_ASYNCHRONOUS: Final = """SELECT coalesce(nullif(application_name, ''), 'unnamed') FROM pg_stat_replication
WHERE coalesce(sync_state, CASE WHEN current_setting('synchronous_standby_names') = '' THEN 'async' END) = 'async' ORDER BY 1"""
"""A user who is not a member of pg_monitor sees that there are standbys, and nothing more about them."""


def inspect(server: Server) -> ServerFindings:
    """Raises LedgerRefused where no connection can be had, or where the server or its ledger cannot be used."""
    with open_readable(server) as connection:
        is_new = not _answer(connection, _HAS_TABLES, server.schema)
        missing = _missing(connection, server, is_new=is_new)
        if not (is_new or missing):
            with connection.transaction():
                connection.execute(server.set_search_path)
                usable_version(connection, len(scripts()))
        version = connection.info.server_version
        return ServerFindings(
            server=f"PostgreSQL {version // 10000}.{version % 10000} at {connection.info.host}:{connection.info.port}",
            is_new=is_new, missing=tuple(missing), asynchronous=tuple(name for (name,) in connection.execute(_ASYNCHRONOUS)),
        )  # fmt: skip


def _missing(connection: PatientConnection, server: Server, *, is_new: bool) -> list[str]:
    if is_new:
        if _answer(connection, _MAY_MAKE) or _answer(connection, _OWNS, server.schema):
            return []
        return [f"the user {connection.info.user} may not make the tables; it needs CREATE on the database, or to own the schema "
                f"{server.schema}"]  # fmt: skip
    lacking = [name for (name,) in connection.execute(_LACKS, (server.schema,))]
    return [f"the user {connection.info.user} may not read and change the tables {', '.join(lacking)}"] if lacking else []


def _answer(connection: PatientConnection, statement: str, *values: str) -> bool:
    found = connection.execute(statement, values).fetchone()
    return found is not None and bool(found[0])
