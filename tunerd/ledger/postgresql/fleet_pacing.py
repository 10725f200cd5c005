"""What a fleet shares besides the calls: who probes a paused destination, the rate limit, and the cap of open requests.

Each is a small transaction of its own, on a connection that is opened when the first is asked for. Times are the database's.
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg

from tunerd.ledger import LedgerUnavailable
from tunerd.ledger.fleet import Tokens
from tunerd.ledger.postgresql.instances import NOW, SENDS
from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server, connect
from tunerd.ledger.postgresql.sqlstates import outage_words

T = TypeVar("T")

_PATIENCE_S: Final = 10.0
_TIMEOUTS: Final = "SET LOCAL lock_timeout = 2000; SET LOCAL statement_timeout = 5000"
_SAVED_S: Final = 0.1
"""What is saved up while nothing starts is worth so long, as with one process (delivery/token_bucket.py)."""
_CLAIM_PROBE: Final = f"""INSERT INTO probe (destination, agent, until) VALUES (%s, %s, {NOW} + %s)
ON CONFLICT (destination, agent) DO UPDATE SET until = excluded.until WHERE probe.until <= {NOW} RETURNING 1"""
_PROBE_FREE_IN: Final = f"SELECT until - {NOW} FROM probe WHERE destination = %s AND agent = %s"
_SLOT_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 1953853042))"
_SENDING_INSTANCES: Final = f"SELECT count(*) FROM instance WHERE {SENDS}"
_TAKEN_BY_OTHERS: Final = f"""SELECT coalesce(sum(taken), 0) FROM slot JOIN instance ON generation = holder
WHERE destination = %s AND holder <> %s AND {SENDS}"""
_TAKE_SLOTS: Final = """INSERT INTO slot (destination, holder, taken) VALUES (%s, %s, %s)
ON CONFLICT (destination, holder) DO UPDATE SET taken = excluded.taken"""
_DROP_SLOTS: Final = "DELETE FROM slot WHERE destination = %s AND holder NOT IN (SELECT generation FROM instance)"


class FleetPacing:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-pacing")
        self._connection: PatientConnection | None = None

    async def ask(self, transaction: Callable[[PatientConnection], T]) -> T:
        """Raises LedgerUnavailable."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, transaction)
        except TimeoutError:
            raise LedgerUnavailable("the ledger's PostgreSQL does not answer") from None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # The thread.

    def _run(self, transaction: Callable[[PatientConnection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = connect(self._server)
            with self._connection.transaction():
                self._connection.execute(f"{self._server.set_search_path}; {_TIMEOUTS}")
                return transaction(self._connection)
        except psycopg.Error as exc:
            self._close()
            raise LedgerUnavailable(outage_words(exc)) from None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def claim_probe(connection: PatientConnection, destination: str, agent: str, for_s: float) -> float:
    """See Fleet.claim_probe."""
    if connection.execute(_CLAIM_PROBE, (destination, agent, for_s)).fetchone() is not None:
        return 0.0
    return max(0.1, float(_one(connection, _PROBE_FREE_IN, destination, agent)))


def take_tokens(connection: PatientConnection, destination: str, rate: float, count: int) -> Tokens | float:
    """See Fleet.take_tokens. What was taken begins where the last taken part of time ends."""
    connection.execute("INSERT INTO rate (destination, next_at) VALUES (%s, 0) ON CONFLICT DO NOTHING", (destination,))
    next_at = float(_one(connection, "SELECT next_at FROM rate WHERE destination = %s FOR UPDATE", destination))
    now = float(_one(connection, f"SELECT {NOW}"))
    if next_at > now:
        return next_at - now
    begins = max(next_at, now - _SAVED_S)
    connection.execute("UPDATE rate SET next_at = %s WHERE destination = %s", (begins + count / rate, destination))
    return Tokens(count=count, ahead_s=now - begins)


def take_slots(connection: PatientConnection, destination: str, holder: int, cap: int, in_use: int, dead_after_s: float) -> int:
    """See Fleet.take_slots. What others have is theirs until they take less, or are dead."""
    connection.execute(_SLOT_LOCK, (destination,))
    alive = int(_one(connection, _SENDING_INSTANCES, dead_after_s))
    others = int(_one(connection, _TAKEN_BY_OTHERS, destination, holder, dead_after_s))
    share = share_of(cap, alive, others)
    connection.execute(_TAKE_SLOTS, (destination, holder, max(share, in_use)))
    connection.execute(_DROP_SLOTS, (destination,))
    return share


def share_of(cap: int, instances: int, taken_by_others: int) -> int:
    """An equal share of `cap`, as far as it is free."""
    return max(0, min(math.ceil(cap / max(1, instances)), cap - taken_by_others))


def _one(connection: PatientConnection, statement: str, *values: object) -> Any:
    found = connection.execute(statement, values).fetchone()
    return 0 if found is None else found[0]
