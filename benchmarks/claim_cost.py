"""What a claim takes in PostgreSQL: beside a million due calls, and beside dead tuples that an older snapshot keeps. Part of fleet.py.

The calls are made on the server, from one that the ledger admitted. Two ledgers are compared, with claims by turns.
"""

import asyncio
import time
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

import psycopg

from benchmarks.bars import at_most
from benchmarks.server_cpu import server_cpu_s
from tunerd.call import Form, Refusal
from tunerd.ledger import Admission, Delivered, Pick, Unfrozen
from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
from tunerd.ledger.postgresql.postgresql_server import Server
from tunerd.mapping.forms import freeze_body
from tunerd.sandbox.private_postgresql import PrivatePostgresql
from tunerd.testing import Recorder, make_call

NOW: Final = 1_767_225_600.0
SENT: Final = Delivered(status=201, tuner_call_id="t-1", already_there=False)
_OWN: Final = ("row", "call_id", "path", "due_at", "state")
"""Columns of `call` that are not copied from the call that the others are made from."""
_PICKS: Final = (Pick.OLDEST, Pick.NEWEST)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one claim took. The ratios are of processor time: on a busy machine a claim mostly waits for its turn, which hides what it
    costs."""

    took_ms: float
    own_cpu_ms: float
    server_cpu_ms: float

    @property
    def cpu_ms(self) -> float:
        return self.own_cpu_ms + self.server_cpu_ms


_Costs: TypeAlias = dict[Pick, list[Cost]]


def freeze(unfrozen: Unfrozen) -> bytes | Refusal:
    return freeze_body(unfrozen.payload, unfrozen.recording_url, unfrozen.checked_for, Form.CREATE_CALL)


async def open_ledger(server: PrivatePostgresql, schema: str) -> PostgresqlLedger:
    return await PostgresqlLedger.open(Server(url=server.url(), schema=schema), now=NOW, emit=Recorder(), instance="bench")


async def with_many_due(server: PrivatePostgresql, few_due: int, many_due: int, claims: int) -> list[str]:
    counts = {f"due{count}": count for count in (few_due, many_due)}
    for schema, count in counts.items():
        await _fill(server, schema, due=count)
        _vacuum(server, schema)
    few, many = await _claims(server, (f"due{few_due}", f"due{many_due}"), claims)
    what = f"with {many_due:,} due calls and with {few_due:,}"
    return [_compared(pick, what, many[pick], few[pick], 1.5) for pick in _PICKS]


async def beside_dead_tuples(server: PrivatePostgresql, due: int, dead_count: int, claims: int) -> list[str]:
    """The calls that left the dead tuples were due first, and are the newest: they are ahead of the others in both indexes."""
    for schema, state in (("clean", "sent"), ("dead", "due")):
        await _fill(server, schema, due=due, ahead=dead_count, ahead_are=state)
        _vacuum(server, schema)
    with psycopg.connect(server.url()) as older:
        older.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        older.execute("SELECT count(*) FROM dead.call")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            changed = connection.execute("UPDATE dead.call SET state = 'sent' WHERE path LIKE '/ahead/%'").rowcount
            connection.execute("ANALYZE dead.call")
        assert changed == dead_count
        clean, dead = await _claims(server, ("clean", "dead"), claims)
        older.rollback()
    what = f"beside {dead_count:,} dead tuples and an older snapshot, and without dead tuples"
    return [_compared(pick, what, dead[pick], clean[pick], 2) for pick in _PICKS]


async def _fill(server: PrivatePostgresql, schema: str, *, due: int, ahead: int = 0, ahead_are: str = "") -> None:
    """Calls that are due, made on the server from one that the ledger admitted."""
    ledger = await open_ledger(server, schema)
    await ledger.admit(Admission(calls=(make_call("first"),)), NOW)
    await ledger.close()
    await asyncio.to_thread(_copy_first, server, schema, [("due", due, 1000.0, "/calls/"), (ahead_are, ahead, 2000.0, "/ahead/")])


def _copy_first(server: PrivatePostgresql, schema: str, groups: list[tuple[str, int, float, str]]) -> None:
    """Each group: the state of its calls, how many, how long ago the first was due, the start of their paths. A hundred calls became due
    at once, as those of one admission do."""
    with psycopg.connect(server.url(), options=f"-c search_path={schema}") as connection:
        listed = {table: ", ".join(f'"{name}"' for name in _columns(connection, table)) for table in ("call", "body")}
        for state, count, ago_s, path in groups:
            connection.execute(
                f"INSERT INTO call (row, call_id, path, due_at, state, {listed['call']}) "
                f"SELECT nextval('call_row'), '{path}' || n, '{path}' || n || '.json', {NOW - ago_s} + (n / 100) * 0.01, '{state}', "
                f"{listed['call']} FROM call, generate_series(1, {count}) AS n WHERE call_id = 'first'".encode()
            )
        connection.execute(
            f"INSERT INTO body (row, {listed['body']}) SELECT copies.row, {listed['body']} FROM call AS copies, body "
            "WHERE copies.call_id <> 'first' AND body.row = (SELECT row FROM call WHERE call_id = 'first')".encode()
        )


def _columns(connection: "psycopg.Connection[tuple[str]]", table: str) -> list[str]:
    found = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = %s", (table,)
    )
    return [name for (name,) in found if name not in _OWN]


def _vacuum(server: PrivatePostgresql, schema: str) -> None:
    """As autovacuum does after a while; so it does not come in the middle of the claims."""
    with psycopg.connect(server.url(), autocommit=True, options=f"-c search_path={schema}") as connection:
        for table in ("call", "body"):
            connection.execute(f"VACUUM ANALYZE {table}".encode())
        connection.execute("CHECKPOINT")


async def _claims(server: PrivatePostgresql, schemas: tuple[str, str], claims: int) -> list[_Costs]:
    """The cost of each claim, by turns in both ledgers. Each call is settled before the next one is claimed."""
    ledgers = [await open_ledger(server, schema) for schema in schemas]
    costs: list[_Costs] = [{pick: [] for pick in _PICKS} for _ in ledgers]
    for _ in range(claims):
        for pick in _PICKS:
            for ledger, its in zip(ledgers, costs, strict=True):
                servers, own, began = server_cpu_s(server.directory), time.process_time(), time.perf_counter()
                found = (await ledger.claim("tuner", Form.CREATE_CALL, freeze, NOW, pick=pick)).claimed
                took, own = time.perf_counter() - began, time.process_time() - own
                its[pick].append(Cost(took * 1000, own * 1000, (server_cpu_s(server.directory) - servers) * 1000))
                assert found is not None
                await ledger.settle(found.row, SENT, NOW)
    for ledger in ledgers:
        await ledger.close()
    return costs


def _compared(pick: Pick, what: str, costs: list[Cost], base: list[Cost], most: float) -> str:
    ratio = median(cost.cpu_ms for cost in costs) / median(cost.cpu_ms for cost in base)
    return f"| a claim of the {pick.value} call {what} | {_shown(costs)}; {_shown(base)}; {ratio:.2f} times; {at_most(ratio, most)} |"


def _shown(costs: list[Cost]) -> str:
    own, servers = median(cost.own_cpu_ms for cost in costs), median(cost.server_cpu_ms for cost in costs)
    waited = median(cost.took_ms for cost in costs)
    return f"processor time {own:.2f} ms of tunerd and {servers:.2f} ms of PostgreSQL (it took {waited:.1f} ms)"
