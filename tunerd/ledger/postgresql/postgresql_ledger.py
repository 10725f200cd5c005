"""PostgresqlLedger: a ledger in a schema of a PostgreSQL database, shared by the instances of a fleet."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import psycopg

from tunerd import __version__
from tunerd.clock import Clock, SystemClock
from tunerd.events import Emit
from tunerd.ledger import DiskUse
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.fleet_pacing import FleetPacing
from tunerd.ledger.postgresql.heartbeat import Heartbeat
from tunerd.ledger.postgresql.hint_listener import HintListener
from tunerd.ledger.postgresql.instances import Instance, give_up_dead, start_instance
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Server, connect, open_checked
from tunerd.ledger.postgresql.server_fleet import ServerFleet
from tunerd.ledger.postgresql.server_reader import ServerReader
from tunerd.ledger.postgresql.server_writer import ServerWriter
from tunerd.ledger.service.job_queue import JobQueue
from tunerd.ledger.service.jobs import AcceptsJobs, AnswersQuestions
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import scripts

_SIZE: Final = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relkind = 'r'"
)


class ServerPlace:
    """A ledger's tables in a database. The server looks after its own room."""

    def __init__(self, server: Server, heartbeat: Heartbeat, fleet: ServerFleet) -> None:
        self._server = server
        self.heartbeat, self.fleet = heartbeat, fleet

    def check_room(self) -> None:
        """A full disk shows when something is written."""

    def keep_free(self, min_free_bytes: int) -> None:
        """The server's disk is not this machine's."""

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

    def close(self) -> None:
        self.heartbeat.end()


class PostgresqlLedger(StoredLedger):
    """Open it with `PostgresqlLedger.open`."""

    def __init__(self, place: ServerPlace, reader: AnswersQuestions, writer: Callable[[StoredLedger], AcceptsJobs]) -> None:
        self.heartbeat = place.heartbeat
        self.fleet = place.fleet
        self._shared = place.fleet
        super().__init__(place, reader, writer)

    async def close(self) -> None:
        await super().close()
        await self._shared.close()

    @classmethod
    async def open(
        cls, server: Server, *, now: float, emit: Emit, instance: str = "", clock: Clock | None = None
    ) -> "PostgresqlLedger":
        """Connect, make the tables or bring them to the newest version, start as `instance` (default: the host's name), and make
        calls due again that an earlier start of it was sending. Raises LedgerRefused with one line."""
        columns = dialect.columns("".join(scripts()))
        name = instance or socket.gethostname()
        store, started = await asyncio.to_thread(_open, server, columns, name, now)
        loop, used_clock = asyncio.get_running_loop(), clock or SystemClock()
        heartbeat = Heartbeat(server, started)
        fleet = ServerFleet(heartbeat, loop, FleetPacing(server))
        place = ServerPlace(server, heartbeat, fleet)

        def writer(ledger: StoredLedger) -> ServerWriter:
            queue = JobQueue(loop, emit, ledger.committed)
            queue.on_pauses = fleet.pauses_changed
            if server.notifies:
                fleet.listener = HintListener(server, str(started.generation), queue.nudge)
            reopen = partial(_reopen, server, columns, started)
            return ServerWriter(store, reopen, queue, used_clock, heartbeat, fleet.hint)

        return cls(place, ServerReader(server, columns), writer)


def _open(server: Server, columns: Mapping[str, Mapping[str, str]], name: str, now: float) -> tuple[Store, Instance]:
    connection = open_checked(server, scripts())
    started = start_instance(connection, server, name, __version__, socket.gethostname())
    db = PostgresqlDatabase(connection, server, columns, started.generation, started.renewals)
    return _loaded(db, server, now), started


def _reopen(server: Server, columns: Mapping[str, Mapping[str, str]], instance: Instance) -> Store:
    db = PostgresqlDatabase(connect(server), server, columns, instance.generation, instance.renewals)
    return _loaded(db, server, None)


def _loaded(db: PostgresqlDatabase, server: Server, now: float | None) -> Store:
    """`now`: at a start, what earlier starts held is due again."""
    store = Store(db)
    try:
        db.begin(durable=True)
        store.load()
        db.rollback()
        if now is not None:
            store.begin(full=True)
            give_up_dead(store, server.pulse.dead_after_s, now)
            store.commit()
    except BaseException:
        db.close()
        raise
    return store
