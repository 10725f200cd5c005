"""PostgresqlLedger: a ledger in a schema of a PostgreSQL database, shared by the instances of a fleet."""

import asyncio
import math
import socket
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import psycopg

from tunerd import __version__
from tunerd.clock import Clock, SystemClock
from tunerd.events import Emit, InstanceNameShared
from tunerd.ledger import DiskUse, FailedCall, FileMark, LedgerUnavailable, Retention
from tunerd.ledger.commands.timers import VANISHED_KEPT_S
from tunerd.ledger.disks import Disks
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.departed import clear, fail_lost_audio
from tunerd.ledger.postgresql.fleet_pacing import FleetPacing
from tunerd.ledger.postgresql.fleet_volumes import FleetVolumes
from tunerd.ledger.postgresql.heartbeat import Heartbeat
from tunerd.ledger.postgresql.hint_listener import HintListener
from tunerd.ledger.postgresql.instances import Instance, give_up_dead, list_instances, start_instance
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Server, connect, open_checked
from tunerd.ledger.postgresql.server_fleet import ServerFleet
from tunerd.ledger.postgresql.server_reader import ServerReader
from tunerd.ledger.postgresql.server_writer import ServerWriter
from tunerd.ledger.postgresql.sqlstates import outage_words
from tunerd.ledger.service.job_queue import JobQueue
from tunerd.ledger.service.jobs import AcceptsJobs, AnswersQuestions
from tunerd.ledger.service.stored_ledger import StoredLedger
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import scripts
from tunerd.statuses import InstanceStatus

_SIZE: Final = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relkind = 'r'"
)
_LOOK_THROUGH_EVERY_S: Final = 60.0
_FAIL_LOST_EVERY_S: Final = 10.0


class ServerPlace:
    """A ledger's tables in a database. The server looks after its own room."""

    def __init__(self, server: Server, heartbeat: Heartbeat, fleet: ServerFleet, volumes: FleetVolumes, clock: Clock) -> None:
        self._server = server
        self.heartbeat, self.fleet, self.volumes, self.clock = heartbeat, fleet, volumes, clock

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
        self.heartbeat, self._volumes = place.heartbeat, place.volumes
        self.fleet = self._shared = place.fleet
        self._clock, self._looked_through_at = place.clock, place.clock.monotonic()
        self._keep_marks_s, self._failed_lost_at = VANISHED_KEPT_S, -math.inf
        super().__init__(place, reader, writer)
        self._shared.in_writer = self._alone

    async def close(self) -> None:
        await super().close()
        await self._shared.close()

    async def instances(self) -> Sequence[InstanceStatus]:
        return await self._reader.ask(list_instances)

    @classmethod
    async def open(
        cls,
        server: Server,
        *,
        now: float,
        emit: Emit,
        instance: str = "",
        clock: Clock | None = None,
        disks: Disks | None = None,
        create: bool = True,
    ) -> "PostgresqlLedger":
        """Connect, make the tables or bring them to the newest version, start as `instance` (default: the host's name), and make
        calls due again that an earlier start of it was sending. `disks`: what it reads. `create=False`: the tables have to be
        there already. Raises LedgerRefused with one line."""
        columns = dialect.columns("".join(scripts()))
        name = instance or socket.gethostname()
        store, started, volumes = await asyncio.to_thread(_open, server, columns, name, now, disks or Disks(), create)
        if started.taken_back_from:
            emit(InstanceNameShared(name=name, host=started.taken_back_from))
        loop, used_clock = asyncio.get_running_loop(), clock or SystemClock()
        heartbeat = Heartbeat(server, started, used_clock)
        fleet = ServerFleet(heartbeat, loop, FleetPacing(server))
        place = ServerPlace(server, heartbeat, fleet, volumes, used_clock)

        def writer(ledger: StoredLedger) -> ServerWriter:
            queue = JobQueue(loop, emit, ledger.committed)
            queue.on_pauses = fleet.pauses_changed
            if server.notifies:
                fleet.listener = HintListener(server, str(started.generation), queue.nudge)
            reopen = partial(_reopen, server, columns, started, volumes)
            return ServerWriter(store, reopen, queue, used_clock, heartbeat, fleet.hint)

        return cls(place, ServerReader(server, columns, volumes), writer)

    async def disposable(
        self, source: str, limit: int = 100, *, to_the_end: bool = False, leave: Container[str] = ()
    ) -> Sequence[FileMark]:
        """Another instance may have sent the calls of our files, and no commit of ours says so."""
        now = self._clock.monotonic()
        if to_the_end or now - self._looked_through_at >= _LOOK_THROUGH_EVERY_S:
            self._looked_through_at = now
            self._disposable.look_again()
        return await super().disposable(source, limit, to_the_end=to_the_end, leave=leave)

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        failed, next_at = await super().tick(now)
        if self._clock.monotonic() - self._failed_lost_at >= _FAIL_LOST_EVERY_S:
            self._failed_lost_at = self._clock.monotonic()
            with suppress(LedgerUnavailable):
                lost = await self._do(lambda store: fail_lost_audio(store, self._keep_marks_s, now))
                failed = (*failed, *lost)
        return failed, next_at

    async def trim(self, keep: Retention, now: float) -> int:
        self._keep_marks_s = keep.marks_s
        gone = await super().trim(keep, now)
        with suppress(LedgerUnavailable):
            gone += await self._do(lambda store: clear(store, keep.marks_s, self._volumes.numbers))
        return gone

    async def set_disks(self, disks: Disks) -> None:
        """The configuration was read again: other sources, other directories. Raises LedgerUnavailable."""
        try:
            await asyncio.to_thread(self._volumes.change, disks)
        except psycopg.Error as exc:
            raise LedgerUnavailable(outage_words(exc)) from None


def _open(
    server: Server, columns: Mapping[str, Mapping[str, str]], name: str, now: float, disks: Disks, create: bool
) -> tuple[Store, Instance, FleetVolumes]:
    connection = open_checked(server, scripts(), create=create)
    started = start_instance(connection, server, name, __version__, socket.gethostname())
    volumes = FleetVolumes(server, started, disks)
    db = PostgresqlDatabase(connection, server, columns, volumes, started.generation, started.renewals)
    return _loaded(db, server, now), started, volumes


def _reopen(server: Server, columns: Mapping[str, Mapping[str, str]], instance: Instance, volumes: FleetVolumes) -> Store:
    db = PostgresqlDatabase(connect(server), server, columns, volumes, instance.generation, instance.renewals)
    return _loaded(db, server, None)


def _loaded(db: PostgresqlDatabase, server: Server, now: float | None) -> Store:
    """`now`: at a start, what starts held that are over, or whose name was taken, is due again."""
    store = Store(db)
    try:
        db.begin(durable=True)
        store.load()
        db.rollback()
        if now is not None:
            is_more = True
            while is_more:
                store.begin(full=True)
                db.execute(meta.END_COPY)
                is_more = give_up_dead(store, math.inf, now)  # others may be silent because the server was away
                store.commit()
    except BaseException:
        db.close()
        raise
    return store
