"""The seam of sql/database.py on PostgreSQL: transactions, row numbers, statements for many rows.

Statements are kept until somebody reads the rows of one (statement_queue.py), so that a transaction takes few round trips.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import psycopg

from tunerd.ledger.postgresql import dialect
from tunerd.ledger.postgresql.fleet_others import FleetOthers
from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server
from tunerd.ledger.postgresql.renewals import Renewals
from tunerd.ledger.postgresql.statement_queue import StatementQueue
from tunerd.ledger.sql.database import Cursor, RunAgain
from tunerd.ledger.sql.due_calls import COLUMNS
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sql.volumes import Volumes

HOLD: Final = "SELECT pg_advisory_xact_lock(name) FROM unnest(%s::bigint[]) AS names (name)"
_DUE: Final = "call.state = 'due' AND call.audio <> 'pending' AND call.destination = :destination"
PICK_LOCKED: Final = f"""WITH
newest AS MATERIALIZED (
    SELECT call.row FROM (SELECT row AS number FROM call WHERE {_DUE} ORDER BY row DESC LIMIT :look_at) AS looked
    JOIN call ON call.row = looked.number WHERE {_DUE} AND call.due_at <= :due_by
    ORDER BY call.row DESC LIMIT :newest FOR UPDATE OF call SKIP LOCKED),
soon AS MATERIALIZED (
    SELECT call.row FROM (
        SELECT row AS number FROM call WHERE {_DUE}
        AND recording_expires_at IS NOT NULL AND recording_expires_at <= :soon
        ORDER BY recording_expires_at, row LIMIT :look_at) AS looked
    JOIN call ON call.row = looked.number WHERE {_DUE} AND call.due_at <= :due_by AND call.row NOT IN (SELECT row FROM newest)
    ORDER BY call.recording_expires_at, call.row LIMIT :expiring FOR UPDATE OF call SKIP LOCKED),
oldest AS MATERIALIZED (
    SELECT row FROM call WHERE {_DUE} AND due_at <= :due_by
    AND row NOT IN (SELECT row FROM newest UNION ALL SELECT row FROM soon)
    ORDER BY due_at, row LIMIT :count - (SELECT count(*) FROM newest) - (SELECT count(*) FROM soon)
    FOR UPDATE SKIP LOCKED)
SELECT 0, row FROM newest UNION ALL SELECT 1, row FROM soon UNION ALL SELECT 2, row FROM oldest
"""
"""The numbers that PICK_MANY of sql/due_calls.py gives, locked."""
READ_PICKED: Final = (
    f"SELECT call.row, payload, checked_for, {COLUMNS} FROM call LEFT JOIN body ON body.row = call.row WHERE call.row = ANY(%s)"
)
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Whatever the database's default is: what is read after a lock has to be what was committed until then."""
_BEGIN_QUESTION: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""All its statements see the tables as they were at one time."""
_NUMBERS_AT_ONCE: Final = 32
_LOCK_TIMEOUT_MS: Final = 5_000
_STATEMENT_TIMEOUT_MS: Final = 30_000
_QUESTION_TIMEOUT_MS: Final = 1_000


class NamesMissing(RunAgain):
    """The transaction needs names that it does not hold: with each time it is run again it holds more."""


class PostgresqlDatabase:
    """`columns` as dialect.columns gives them; `holder` is 0 for a connection that only reads."""

    def __init__(
        self,
        connection: PatientConnection,
        server: Server,
        columns: Mapping[str, Mapping[str, str]],
        volumes: Volumes,
        holder: int = 0,
        renewals: Renewals | None = None,
    ) -> None:
        self.connection = connection
        self.holder = holder
        self.volumes = volumes
        self.others = FleetOthers(self.execute, volumes, holder, renewals, server.pulse.dead_after_s)
        self._renewals = renewals
        self.lease = 0
        self.row_lock = " FOR UPDATE" if holder else ""
        self.skip_locked = " FOR UPDATE SKIP LOCKED" if holder else ""
        self._columns = columns
        self._wanted: set[int] = set()
        """Names that the next transaction holds from its beginning, as their hashes."""
        self._held: set[int] = set()
        self._settings = _settings(
            server, lock_timeout=_LOCK_TIMEOUT_MS, statement_timeout=_STATEMENT_TIMEOUT_MS, synchronous_commit="on"
        )
        self._settings_of_question = _settings(server, statement_timeout=_QUESTION_TIMEOUT_MS)
        self._queue = StatementQueue(connection)
        self._numbers: dict[str, list[int]] = {}

    def execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = (), /) -> Cursor:
        return self._queue.add(dialect.translated(sql), values)

    def begin(self, *, durable: bool) -> None:
        """Every commit is synced: the server gathers those of several connections. What has to be held is locked before anything
        is read, in one order, by a statement of its own: one that locks and reads misses what was committed in between."""
        if self._renewals is not None:
            self.lease = self._renewals.lease
        self._open(_BEGIN, self._settings)
        if self._wanted:
            self._queue.add(HOLD, (sorted(self._wanted),))
        self._held = set(self._wanted)

    def want(self, names: Iterable[tuple[str, ...]]) -> None:
        """The next transaction will need these names (`hold`)."""
        self._wanted.update(map(_hash, names))

    def want_no_more(self) -> None:
        """The transaction that needed them is done."""
        self._wanted.clear()

    def hold(self, *names: tuple[str, ...]) -> None:
        if self.holder:
            missing = {_hash(name) for name in names} - self._held
            if missing:
                self._wanted |= missing
                raise NamesMissing

    def pick_due(self, values: Mapping[str, object]) -> Sequence[Any]:
        """First it is locked, then it is read."""
        picks = {row: pick for pick, row in self.execute(PICK_LOCKED, values)}
        found = self._queue.add(READ_PICKED, (list(picks),)).fetchall() if picks else []
        read = {row: (picks[row], *columns) for row, *columns in found}
        return [read[row] for row in picks]

    def begin_question(self) -> None:
        """A transaction that only reads, and that the server ends after a second."""
        self._open(_BEGIN_QUESTION, self._settings_of_question)

    def _open(self, begin: str, settings: str) -> None:
        self._queue.add(begin)
        self._queue.add(settings)

    def commit(self) -> None:
        self._queue.add("COMMIT")
        self._queue.send()

    def rollback(self) -> bool:
        self._queue.forget()
        with suppress(psycopg.Error):
            if not self.connection.closed:
                self._queue.add("ROLLBACK")
                self._queue.send()
                return True
        return False

    def next_number(self, table: str) -> int:
        kept = self._numbers.setdefault(table, [])
        if not kept:
            found = self._queue.add(f"SELECT nextval('{table}_row') FROM generate_series(1, {_NUMBERS_AT_ONCE})")
            kept += sorted((number for (number,) in found), reverse=True)
        return kept.pop()

    def retire_number(self, table: str, number: int) -> None:
        """A sequence gives no number twice."""

    def insert(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]], key: Sequence[str] = ()) -> None:
        if len(rows) == 1:
            self._many(dialect.insert_one(table, tuple(names), tuple(key)), rows[0])
        elif rows:
            types = self._types(table, names)
            self._many(dialect.insert_many(table, tuple(names), tuple(key), types), _arrays(rows, types))

    def update(self, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if len(rows) == 1:
            number, *values = rows[0]
            self._many(dialect.update_one(table, tuple(names)), [*values, number])
        elif rows:
            types = self._types(table, ("row", *names))
            self._many(dialect.update_many(table, tuple(names), types), _arrays(rows, types))

    def delete(self, table: str, numbers: Sequence[int]) -> None:
        self._many(dialect.delete_many(table), (list(numbers),))

    def _many(self, statement: str, values: Sequence[object]) -> None:
        self._queue.add(statement, values)

    def _types(self, table: str, names: Sequence[str]) -> tuple[str, ...]:
        known = self._columns[table]
        return tuple(known[name] for name in names)

    def close(self) -> None:
        self._queue.close()
        with suppress(psycopg.Error):
            self.connection.close()


def _settings(server: Server, **others: object) -> str:
    """Of one transaction, in one statement. Nothing is set for the session: a pooler gives it to somebody else."""
    others = {
        "search_path": server.search_path,
        "idle_in_transaction_session_timeout": round(server.stalls_after_s * 1000),
    } | others
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in others.items())


def _hash(name: tuple[str, ...]) -> int:
    """As PostgreSQL takes it: 64 bits with a sign."""
    return int.from_bytes(blake2b("\x1f".join(name).encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)


def _arrays(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> list[list[object]]:
    """The rows column by column, each of one type: psycopg takes no mixed lists."""
    found: list[list[object]] = []
    for at, kind in enumerate(types):
        values = [row[at] for row in rows]
        if kind == "REAL":
            found.append([None if value is None else float(value) for value in values])
        elif kind == "INTEGER":
            found.append([None if value is None else int(value) for value in values])
        else:
            found.append(values)
    return found


def postgresql_of(store: Store) -> PostgresqlDatabase:
    """The database of a store on PostgreSQL, for what only a fleet needs."""
    if not isinstance(store.db, PostgresqlDatabase):
        raise TypeError("not a store on PostgreSQL")
    return store.db
