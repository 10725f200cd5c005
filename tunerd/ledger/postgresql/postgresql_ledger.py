"""PostgresqlLedger: a ledger in a schema of a PostgreSQL database."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

import psycopg

from tunerd.clock import Clock, SystemClock
from tunerd.events import Emit
from tunerd.ledger import DiskUse
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Server, connect, open_checked
from tunerd.ledger.postgresql.server_reader import ServerReader
from tunerd.ledger.postgresql.server_writer import ServerWriter
from tunerd.ledger.service.job_queue import JobQueue
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import scripts

_SIZE: Final = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relkind = 'r'"
)


class ServerPlace:
    """A ledger's tables in a database. The server looks after its own room."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def check_room(self) -> None:
        """A full disk shows when something is written."""

    def disk_use(self) -> DiskUse:
        """What is free on the server's disk is not known."""
        try:
            with connect(self._server) as connection:
                found = connection.execute(_SIZE, (self._server.schema,)).fetchone()
        except psycopg.Error as exc:
            raise OSError("the PostgreSQL server of the ledger does not answer") from exc
        return DiskUse(ledger_bytes=0 if found is None else int(found[0]), free_bytes=2**63 - 1)

    def was_erased(self, store: Store) -> None:
        """Deleted rows stay in the server's pages until VACUUM, and in its write-ahead log and backups."""

    def was_trimmed(self, store: Store) -> None:
        """Autovacuum gives room back."""

    def close(self) -> None: ...


class PostgresqlLedger(StoredLedger):
    """Open it with `PostgresqlLedger.open`."""

    @classmethod
    async def open(cls, server: Server, *, now: float, emit: Emit, clock: Clock | None = None) -> "PostgresqlLedger":
        """Connect, and make the tables or bring them to the newest version. Raises LedgerRefused with one line."""
        columns = dialect.columns("".join(scripts()))
        store = await asyncio.to_thread(_open, server, columns)
        loop, used_clock = asyncio.get_running_loop(), clock or SystemClock()

        def writer(ledger: StoredLedger) -> ServerWriter:
            queue = JobQueue(loop, emit, ledger.committed)
            return ServerWriter(store, partial(_reopen, server, columns), queue, used_clock)

        return cls(ServerPlace(server), ServerReader(server, columns), writer)


def _open(server: Server, columns: Mapping[str, Mapping[str, str]]) -> Store:
    db = PostgresqlDatabase(open_checked(server, scripts()), server, columns)
    return _loaded(db)


def _reopen(server: Server, columns: Mapping[str, Mapping[str, str]]) -> Store:
    return _loaded(PostgresqlDatabase(connect(server), server, columns))


def _loaded(db: PostgresqlDatabase) -> Store:
    store = Store(db)
    db.begin(durable=False)
    try:
        store.load()
    except BaseException:
        db.close()
        raise
    db.rollback()
    return store
