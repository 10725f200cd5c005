"""The instances of a fleet: each start takes a number, and renews it; what a start held that is over, or silent, is due again.

Times are the database's, so that no clock of a host decides who is dead.
"""

import time
from dataclasses import dataclass
from typing import Final

from tunerd.ledger.commands.reclaim import reclaim
from tunerd.ledger.postgresql.patient_connection import PatientConnection
from tunerd.ledger.postgresql.postgresql_server import Server
from tunerd.ledger.postgresql.renewals import Renewals
from tunerd.ledger.sql.store import Store
from tunerd.statuses import InstanceStatus

_AT_ONCE: Final = 256

NOW: Final = "extract(epoch FROM clock_timestamp())::double precision"
ALIVE_ELSEWHERE: Final = f"""SELECT host, taken_from FROM instance
WHERE name = %s AND host <> %s AND is_over = 0 AND heartbeat_at >= {NOW} - %s FOR UPDATE"""
START: Final = f"""INSERT INTO instance
(name, number, generation, version, host, taken_from, started_at, heartbeat_at, is_over, is_reading)
VALUES (%s, nextval('instance_number'), nextval('generation'), %s, %s, %s, {NOW}, {NOW}, 0, 0)
ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, version = excluded.version, host = excluded.host,
taken_from = excluded.taken_from, started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at,
is_over = 0, is_reading = 0 RETURNING number, generation"""
BEAT: Final = f"UPDATE instance SET heartbeat_at = {NOW} WHERE name = %s AND generation = %s RETURNING heartbeat_at"
END: Final = (
    "WITH ended AS (UPDATE instance SET is_over = 1 WHERE name = %s AND generation = %s RETURNING generation) "
    "DELETE FROM lease WHERE holder IN (SELECT generation FROM ended) RETURNING until"
)
"""It ended in order: nobody has to wait until it is silent for long, or until its leases are over."""
HOLDERS: Final = (
    "WITH RECURSIVE found (holder) AS (SELECT min(holder) FROM call WHERE state = 'sending' UNION ALL "
    "SELECT (SELECT min(holder) FROM call WHERE state = 'sending' AND holder > found.holder) FROM found "
    "WHERE found.holder IS NOT NULL) SELECT holder FROM found WHERE holder IS NOT NULL"
)
"""Starts that hold calls: a step of the index for each."""
SENDS: Final = f"is_over = 0 AND heartbeat_at >= {NOW} - %s AND name NOT LIKE '%%/%%'"
"""Of an instance that may have requests open, with the seconds after which it counts as dead. A command's name has a slash."""
IS_ALIVE: Final = f"SELECT 1 FROM instance WHERE generation = ? AND is_over = 0 AND heartbeat_at >= {NOW} - ? FOR UPDATE"
"""Locked, so that it cannot come back while its calls are taken from it."""

NAMES_ALIVE: Final = f"SELECT name FROM instance WHERE is_over = 0 AND heartbeat_at >= {NOW} - %s ORDER BY name LIMIT 5"
LIST: Final = f"""SELECT name, host, version, started_at, {NOW} - heartbeat_at,
(SELECT count(*) FROM call WHERE state = 'sending' AND holder = instance.generation)
FROM instance WHERE is_over = 0 AND name NOT LIKE '%/%' ORDER BY name LIMIT 1000"""
"""Those that did not end. A command's name has a slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One start of one tunerd."""

    name: str
    number: int
    """Of the name, whatever its start."""
    generation: int
    renewals: Renewals
    taken_back_from: str = ""
    """A host that had taken this name from this host, and was alive. So both go on taking it from each other."""


def start_instance(connection: PatientConnection, server: Server, name: str, version: str, host: str) -> Instance:
    """Take the next number. An older start of the name is superseded: it learns of it at its next heartbeat."""
    began_at = boottime()
    with connection.transaction():
        connection.execute(server.set_search_path)
        rival, had_taken_from = connection.execute(ALIVE_ELSEWHERE, (name, host, server.pulse.dead_after_s)).fetchone() or (
            "",
            "",
        )
        found = connection.execute(START, (name, version, host, rival)).fetchone()
    number, generation = (0, 0) if found is None else found
    return Instance(
        name=name, number=number, generation=generation, renewals=Renewals(server.pulse, began_at),
        taken_back_from=rival if had_taken_from == host else "",
    )  # fmt: skip


def boottime() -> float:
    """Runs while the machine is suspended, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def list_instances(store: Store) -> list[InstanceStatus]:
    return [
        InstanceStatus(
            name=name, host=host, version=version, started_at=started_at, heartbeat_age_s=max(0.0, age), in_flight=count
        )
        for name, host, version, started_at, age, count in store.db.execute(LIST)
    ]


def give_up_dead(store: Store, dead_after_s: float, now: float) -> bool:
    """Calls that a start held which is over or silent are due again, with their bodies: nobody knows whether they arrived.
    At most 256 of each; True: there may be more."""
    is_more = False
    for (holder,) in store.ask(HOLDERS).fetchall():
        if holder == store.db.holder or store.db.execute(IS_ALIVE, (holder, dead_after_s)).fetchone() is not None:
            continue
        rows = store.calls.sending(holder, _AT_ONCE)
        for row in rows:
            reclaim(store, row, now, "the instance that was sending it ended or does not answer")
        is_more |= len(rows) == _AT_ONCE
    return is_more
