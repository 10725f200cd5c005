"""Both ends of a copy of a ledger that are on a server (ledger/copying.py). Blocking.

Its tables are locked from before the first row is read until the end, so that neither a daemon nor a command changes them.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import psycopg
from psycopg import sql as names

from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import COPIED, COPYING, MOVED, LastNumbers, Row
from tunerd.ledger.exceptions import LOCKED
from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.instances import ALIVE
from tunerd.ledger.postgresql.postgresql_database import PostgresqlDatabase
from tunerd.ledger.postgresql.postgresql_server import Connection, Server, open_checked
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import quoted
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import scripts

_AT_ONCE: Final = 500
_USED: Final = "SELECT EXISTS (SELECT FROM call) OR EXISTS (SELECT FROM recording) OR EXISTS (SELECT FROM file)"
_OTHERS: Final = "SELECT name FROM instance WHERE name <> %s AND name NOT LIKE '%%/%%' ORDER BY name LIMIT 5"
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

    def close(self) -> None:
        self.connection.close()

    def _lock(self) -> Connection:
        """Begin, once, the transaction that holds the tables."""
        if not self._is_locked:
            tables = names.SQL(", ").join(map(names.Identifier, self._columns))
            self.connection.execute(f"BEGIN; {self._server.set_search_path}; SET LOCAL lock_timeout = 10000")
            try:
                self.connection.execute(names.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(tables))
            except psycopg.errors.LockNotAvailable:
                words = "others use the ledger's tables now; stop every tunerd, and try again"
                raise LedgerRefused(words, exit_code=LOCKED) from None
            alive = [name for (name,) in self.connection.execute(ALIVE, (self._server.pulse.dead_after_s,))]
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
        others = [name for (name,) in self.connection.execute(_OTHERS, (self._instance,))]
        if others:
            raise LedgerRefused(
                f"the ledger has other instances than {self._instance} ({', '.join(others)}), and a file has one; what they "
                "have read would be read again by another"
            )
        return number

    def rows(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        with self._lock().cursor(name="copy") as cursor:
            cursor.itersize = _AT_ONCE
            yield from cursor.execute(f"SELECT {quoted(columns)} FROM {table}")

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
        store = Store(PostgresqlDatabase(self.connection, self._server, self._columns))
        store.counts.add({name: count for name, count in store.counted().numbers().items() if count})
        self.connection.execute("COMMIT")
