"""Both ends of a copy of a ledger that are on a server (ledger/copying.py). Blocking.

Its tables are locked from before the first row is read until the end, so that neither a daemon nor a command changes them.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import psycopg
from psycopg import sql as names

from tunerd.file_pattern import FILES, files_source
from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import COPIED, COPYING, MOVED, LastNumbers, Row
from tunerd.ledger.exceptions import LOCKED
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.fleet_volumes import COPIED as VOLUME_COPIED
from tunerd.ledger.postgresql.instances import NAMES_ALIVE, NOW
from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Server, open_checked
from tunerd.ledger.postgresql.sqlstates import outage_words
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import quoted
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sql.volumes import OneVolume
from tunerd.ledger.sqlite.connect import scripts

_AT_ONCE: Final = 500
_USED: Final = "SELECT EXISTS (SELECT FROM call) OR EXISTS (SELECT FROM recording) OR EXISTS (SELECT FROM file)"
_NUMBER: Final = "SELECT number FROM instance WHERE name = %s"
_OTHERS: Final = """SELECT name FROM instance WHERE name <> %s AND name NOT LIKE '%%/%%' AND (
EXISTS (SELECT FROM call WHERE owner = instance.number)
OR EXISTS (SELECT FROM file JOIN volume ON volume.number = file.volume WHERE volume.owner = instance.number))
ORDER BY name LIMIT 5"""
"""Instances whose disks the ledger knows something of."""
_ON_ITS_DISK: Final = """ WHERE volume = 0 OR (volume IN (
SELECT DISTINCT ON (source) number FROM volume WHERE owner = %s ORDER BY source, seen_at DESC)
AND NOT EXISTS (SELECT FROM {table} AS shared WHERE shared.volume = 0 AND shared.source = {table}.source))"""
"""What is known of volumes that the instance had before is of no use to a file. Of a source that became `shared: true`, or was it
once, both are known, and a file has room for one: the shared volume's."""
_ENTER: Final = f"""INSERT INTO instance
(name, number, generation, version, host, taken_from, started_at, heartbeat_at, is_over, is_reading)
VALUES (%s, nextval('instance_number'), nextval('generation'), '', '', '', {NOW}, {NOW}, 1, 0)
ON CONFLICT (name) DO UPDATE SET is_over = 1 RETURNING number"""
_VOLUMES: Final = f"""INSERT INTO volume (number, owner, source, identity, seen_at)
SELECT nextval('volume_number'), %s, source, '{VOLUME_COPIED}', {NOW} FROM (
SELECT source FROM file UNION SELECT source FROM call UNION SELECT source FROM origin UNION SELECT source FROM cut
UNION SELECT source FROM torn) AS known ON CONFLICT DO NOTHING"""
_ON_VOLUME: Final = f"""UPDATE {{table}} SET volume = volume.number FROM volume
WHERE volume.owner = %s AND volume.identity = '{VOLUME_COPIED}' AND volume.source = {{table}}.source"""
_FRAGMENTS: Final = "UPDATE fragment SET volume = call.volume FROM call WHERE call.row = fragment.row"
_LOCAL: Final = "({column} LIKE 'file:%%' OR {column} LIKE 'embedded:%%')"
_OWN: Final = (
    "UPDATE call SET owner = %s WHERE audio <> 'none' AND " + _LOCAL.format(column="recording_location"),
    "UPDATE recording SET owner = %s WHERE " + _LOCAL.format(column="location"),
    "UPDATE gathering SET owner = %s",
)
_OWN_FILES: Final = "UPDATE {table} SET source = %s WHERE source = %s"
_LAST: Final = (
    "SELECT greatest((SELECT coalesce(max(row), 0) FROM {table}), "
    "(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_row))"
)


class _ServerEnd:
    def __init__(self, server: Server, instance: str, *, create: bool) -> None:
        """Raises LedgerRefused."""
        self._server, self._instance = server, instance
        self._columns = dialect.columns("".join(scripts()))
        self.connection = open_checked(server, scripts(), create=create)
        self._is_locked = False

    def words(self, exc: Exception) -> str | None:
        return outage_words(exc) if isinstance(exc, psycopg.Error) else None

    def close(self) -> None:
        self.connection.close()

    def _lock(self) -> PatientConnection:
        """Begin, once, the transaction that holds the tables."""
        if not self._is_locked:
            tables = names.SQL(", ").join(map(names.Identifier, self._columns))
            self.connection.execute(f"BEGIN; {self._server.set_search_path}; SET LOCAL lock_timeout = 10000")
            try:
                self.connection.execute(names.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(tables))
            except psycopg.errors.LockNotAvailable:
                raise LedgerRefused("others use the ledger; stop every tunerd, and try again", exit_code=LOCKED) from None
            alive = [name for (name,) in self.connection.execute(NAMES_ALIVE, (self._server.pulse.dead_after_s,))]
            if alive:
                raise LedgerRefused(f"the instances {', '.join(alive)} use the ledger; stop every tunerd, and try again"
                                    " after 30 s", exit_code=LOCKED)  # fmt: skip
            self._is_locked = True
        return self.connection

    def _set(self, name: str, value: int) -> None:
        self.connection.execute(meta.SET.replace("?", "%s"), (name, value))

    def _number(self, name: str) -> int:
        found = self.connection.execute("SELECT value FROM meta WHERE name = %s", (name,)).fetchone()
        return 0 if found is None else int(found[0])


class ServerSource(_ServerEnd):
    def begin(self, target: str) -> int:
        with self.connection.transaction():  # durable before the target is
            self.connection.execute(self._server.set_search_path)
            number = self._number(COPYING + target) or secrets.randbits(62) | 1
            self._set(COPYING + target, number)
        self._lock()
        if self.connection.execute(_NUMBER, (self._instance,)).fetchone() is None:
            raise LedgerRefused(f"the ledger knows no instance {self._instance}; `tunerd status` lists those that run")
        others = [name for (name,) in self.connection.execute(_OTHERS, (self._instance,))]
        if others:
            raise LedgerRefused(
                f"the ledger has other instances than {self._instance} ({', '.join(others)}), and a file has one; what they "
                "have read would be read again by another"
            )
        return number

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        where, values = "", list[object]()
        if table in ("file", "torn"):
            number = self._lock().execute(_NUMBER, (self._instance,)).fetchone()
            where, values = _ON_ITS_DISK.format(table=table), [None if number is None else number[0]]
        with self._lock().cursor(name="copy") as cursor:
            cursor.itersize = _AT_ONCE
            yield from cursor.execute(f"SELECT {quoted(columns)} FROM {table}{where}", values)

    def last_numbers(self) -> LastNumbers:
        found = [self._lock().execute(_LAST.format(table=table)).fetchone() for table in ("call", "recording")]
        call, recording = (0 if one is None else int(one[0]) for one in found)
        return LastNumbers(call=call, recording=recording)

    def finish(self, target: str) -> None:
        self._lock().execute("DELETE FROM meta WHERE name = %s", (COPYING + target,))
        self._set(MOVED + target, 1)
        self.connection.execute("COMMIT")


class ServerTarget(_ServerEnd):
    def copied(self) -> int | None:
        connection = self._lock()
        number = self._number(COPIED)
        if number:
            return number
        used = connection.execute(_USED).fetchone()
        if used is None or used[0]:
            return 0
        connection.execute("DELETE FROM meta WHERE name <> 'schema'")
        return None

    def write(self, table: str, columns: Sequence[str], rows: Iterator[Row]) -> int:
        count = 0
        with self._lock().cursor() as cursor, cursor.copy(f"COPY {table} ({quoted(columns)}) FROM STDIN") as written:
            for row in rows:
                written.write_row(row)
                count += 1
        return count

    def commit(self, number: int, last: LastNumbers) -> None:
        for table, value in (("call", last.call), ("recording", last.recording)):
            if value:
                self.connection.execute("SELECT setval(%s, %s)", (f"{table}_row", value))
        self._set(COPIED, number)
        self._give_to_instance()
        store = Store(PostgresqlDatabase(self.connection, self._server, self._columns, OneVolume()))
        store.counts.add({name: count for name, count in store.counted().numbers().items() if count})
        store.db.commit()
        store.db.close()  # with its pipeline, of which psycopg complains otherwise

    def _give_to_instance(self) -> None:
        """What the ledger knows of files belongs to the instance from now on, and to the disk that its first start finds."""
        found = self.connection.execute(_ENTER, (self._instance,)).fetchone()
        owner = 0 if found is None else found[0]
        self.connection.execute(_VOLUMES, (owner,))
        for table in ("call", "origin", "cut", "torn", "file"):
            self.connection.execute(_ON_VOLUME.format(table=table), (owner,))
        self.connection.execute(_FRAGMENTS)
        for statement in _OWN:
            self.connection.execute(statement, (owner,))
        for table in ("want", "recording"):
            self.connection.execute(_OWN_FILES.format(table=table), (files_source(owner), FILES))
