"""A connection to the server: what is checked before it is used, and the tables that are made at the first start."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql as names
from psycopg.adapt import AdaptersMap, Dumper, Loader

from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import moved_to
from tunerd.ledger.exceptions import MISCONFIGURED, UNREACHABLE
from tunerd.ledger.postgresql.dialect import schema
from tunerd.ledger.postgresql.patient_connection import PATIENCE_S, PatientConnection
from tunerd.ledger.postgresql.sqlstates import NO_PASSWORD, is_away, refusal_words

OLDEST: Final = 140000
FLEET_TABLES: Final = (
    "CREATE SEQUENCE call_row",
    "CREATE SEQUENCE recording_row",
    "CREATE SEQUENCE generation",
    "CREATE SEQUENCE instance_number",
    "CREATE SEQUENCE volume_number",
    "DROP INDEX call_due_row, call_waiting_row, call_gathering, call_ended",
    "CREATE INDEX call_due_row ON call (destination, row) WHERE state = 'due' AND audio <> 'pending'",
    "CREATE INDEX call_waiting_row ON call (row) WHERE state = 'waiting'",
    "CREATE INDEX call_gathering ON call (row) WHERE state = 'gathering'",
    "CREATE INDEX call_ended ON call (state, changed_at, row) WHERE state IN ('sent', 'failed', 'ignored')",
    "CREATE INDEX call_owner ON call (owner, row) WHERE owner <> 0 AND audio IN ('pending', 'uploading')",
    """CREATE TABLE volume (
    number BIGINT PRIMARY KEY,
    owner BIGINT NOT NULL,
    source TEXT NOT NULL,
    identity TEXT NOT NULL,
    seen_at DOUBLE PRECISION NOT NULL,
    UNIQUE (owner, source, identity))""",
    """CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder BIGINT NOT NULL,
    until DOUBLE PRECISION NOT NULL)""",
    "CREATE INDEX call_sending ON call (holder) WHERE state = 'sending'",
    "CREATE TABLE probe (destination TEXT, agent TEXT, until DOUBLE PRECISION NOT NULL, PRIMARY KEY (destination, agent))",
    "CREATE TABLE rate (destination TEXT PRIMARY KEY, next_at DOUBLE PRECISION NOT NULL)",
    "CREATE TABLE slot (destination TEXT, holder BIGINT, taken BIGINT NOT NULL, PRIMARY KEY (destination, holder))",
)
"""What a fleet needs beside the tables that SQLite has, too. `volume`: what an instance (instance.number) reads a source from,
told from others by its identity (tunerd/volume.py); files under another volume are other files, whatever their paths. `lease`:
work that one start (instance.generation) does for all, until a time by the clock of the database. The indexes that are made anew
end with the row number in SQLite without being told; without it PostgreSQL walks all rows to find the first one of a state."""
_SCHEMA_LOCK: Final = 0x74756E72
"""`tunr`: who makes or changes the tables holds it."""
_PREPARING_S: Final = 3600.0
"""The answer to a change of large tables may take so long."""
_NUL: Final = "\uf700"
"""PostgreSQL's text cannot hold NUL; sql/columns.py keeps other odd bytes in the same private area."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How an instance shows that it is alive, in seconds."""

    every_s: float = 5.0
    stops_after_s: float = 20.0
    """So long after its last heartbeat an instance sends nothing more."""
    dead_after_s: float = 30.0
    """Without a heartbeat for so long it is given up by any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the ledger is."""

    url: str
    """As libpq takes it."""
    schema: str = "tunerd"
    prepares: bool = True
    """False behind a pooler in transaction mode that is older than PgBouncer 1.21."""
    notifies: bool = True
    """False behind a pooler in transaction mode: LISTEN needs a server's connection of its own."""
    password_file: str | None = None
    """It is read for each connection."""
    pulse: Pulse = Pulse()
    stalls_after_s: float = 30.0
    """The server ends a transaction whose process has sent nothing for so long."""

    @property
    def search_path(self) -> str:
        return f'"{self.schema}"'

    @property
    def set_search_path(self) -> str:
        """A statement for one transaction."""
        return f"SET LOCAL search_path = {self.search_path}"


class _FlagDumper(Dumper):
    """Flags are 0 and 1 in the tables."""

    oid = psycopg.adapters.types["int8"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _TextDumper(psycopg.types.string.StrDumperUnknown):
    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", _NUL) if "\0" in obj else obj)


class _TextLoader(Loader):
    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        return text if text.isascii() else text.replace(_NUL, "\0")


class _NumberLoader(Loader):
    """Sums of integers come as numeric."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or "e" in text.lower() or "n" in text.lower() else int(text)


def connect(server: Server, patience_s: float = PATIENCE_S) -> PatientConnection:
    """`patience_s`: how long an answer may take. Raises psycopg.Error."""
    connection = PatientConnection.connect(
        server.url, password=_password(server), autocommit=True, connect_timeout=10, target_session_attrs="read-write",
        application_name="tunerd",
        prepare_threshold=5 if server.prepares else None, keepalives_idle=10, keepalives_interval=5, keepalives_count=3,
        tcp_user_timeout=20_000,
    )  # fmt: skip
    connection.patience_s = patience_s
    _adapt(connection.adapters)
    return connection


def _password(server: Server) -> str | None:
    """None: as libpq finds it (the URL, PGPASSWORD, PGPASSFILE)."""
    if server.password_file is None:
        return None
    try:
        return Path(server.password_file).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise psycopg.OperationalError(NO_PASSWORD) from None


def _adapt(adapters: AdaptersMap) -> None:
    adapters.register_dumper(bool, _FlagDumper)
    adapters.register_dumper(str, _TextDumper)
    adapters.register_loader("text", _TextLoader)
    adapters.register_loader("numeric", _NumberLoader)


def open_checked(server: Server, scripts: Sequence[str], *, create: bool = True) -> PatientConnection:
    """A connection to a server that can hold the ledger, with its tables. Raises LedgerRefused with one line."""
    connection = open_readable(server)
    try:
        if not create:
            _refuse_absent(connection, server)
        _prepare(connection, server, scripts)
    except psycopg.Error as exc:
        connection.close()
        raise _refused(exc) from None
    except BaseException:
        connection.close()
        raise
    return connection


def open_readable(server: Server) -> PatientConnection:
    """A connection to a server that could hold a ledger. Raises LedgerRefused with one line."""
    try:
        connection = connect(server)
    except psycopg.Error as exc:
        raise _refused(exc) from None
    try:
        _refuse_server(connection)
    except psycopg.Error as exc:
        connection.close()
        raise _refused(exc) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _refused(exc: psycopg.Error) -> LedgerRefused:
    code = UNREACHABLE if is_away(exc) else MISCONFIGURED
    return LedgerRefused(f"the ledger's PostgreSQL cannot be used: {refusal_words(exc)}", exit_code=code)


def _refuse_server(connection: PatientConnection) -> None:
    described = str(_one(connection, "SELECT version()"))
    for other in ("CockroachDB", "YugabyteDB", "-YB-"):
        if other in described:
            raise LedgerRefused(
                "the server of ledger.url is CockroachDB or YugabyteDB, whose row locks and notifications differ; use PostgreSQL",
                exit_code=MISCONFIGURED,
            )
    if connection.info.server_version < OLDEST:
        raise LedgerRefused(
            f"the server of ledger.url is PostgreSQL {connection.info.server_version // 10000}; tunerd needs 14 or newer",
            exit_code=MISCONFIGURED,
        )


def _refuse_absent(connection: PatientConnection, server: Server) -> None:
    if not _one(connection, "SELECT to_regclass(%s) IS NOT NULL", (f'"{server.schema}".meta',)):
        raise LedgerRefused("there is no ledger in the database of ledger.url yet; `tunerd run` makes it")


def _prepare(connection: PatientConnection, server: Server, scripts: Sequence[str]) -> None:
    """Bring the tables to the newest version, one process at a time."""
    connection.patience_s = _PREPARING_S
    name = names.Identifier(server.schema)
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '60s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        if not _one(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", (server.schema,)):
            connection.execute(names.SQL("CREATE SCHEMA {}").format(name))
        connection.execute(server.set_search_path)
        has_tables = _one(connection, "SELECT to_regclass('meta') IS NOT NULL")
        version = usable_version(connection, len(scripts)) if has_tables else 0
        for number in range(version, len(scripts)):
            connection.execute(schema(scripts[number]))
        if version == 0:
            for statement in FLEET_TABLES:
                connection.execute(statement)
        if version < len(scripts):
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('schema', %s) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value", (len(scripts),),
            )  # fmt: skip


def usable_version(connection: PatientConnection, known: int) -> int:
    """Of the tables on the search path. Raises LedgerRefused for a ledger that was moved, or is newer than this program."""
    version: int = _one(connection, "SELECT value FROM meta WHERE name = 'schema'")
    if moved := _one(connection, "SELECT name FROM meta WHERE starts_with(name, 'moved:')"):
        raise moved_to(moved)
    if version > known:
        raise LedgerRefused(
            f"the ledger in PostgreSQL was written by a newer tunerd (schema {version}, this one knows {known}); "
            "install that version again", exit_code=MISCONFIGURED,
        )  # fmt: skip
    return version


def _one(connection: PatientConnection, statement: str, values: Sequence[object] = ()) -> Any:
    found = connection.execute(statement, values).fetchone()
    return None if found is None else found[0]
