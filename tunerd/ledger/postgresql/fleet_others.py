"""The other instances of a fleet, asked within a transaction: leases for work that one does for all, and who lives.

A lease is a row (table lease): the start of an instance that has it, and until when by the clock of the database. It is taken or
renewed in the transaction that acts under it, so that nobody else can take it before that has ended. There are no session locks.
"""

from typing import Final, cast

from tunerd.ledger.postgresql.instances import NOW
from tunerd.ledger.postgresql.renewals import Renewals
from tunerd.ledger.sql.database import Cursor, Execute

_LASTS_S: Final = 30.0
_AGREES_S: Final = 5.0
_ALIVE: Final = f"is_over = 0 AND heartbeat_at >= {NOW} - ?"

LEASE: Final = f"SELECT holder, {NOW} - until FROM lease WHERE name = ?"
TAKE: Final = f"""INSERT INTO lease (name, holder, until) VALUES (?, ?, {NOW} + ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE lease.holder = excluded.holder OR lease.until < {NOW} RETURNING holder"""
ALIVE_SINCE: Final = f"SELECT {NOW} - ?"
OTHERS: Final = f"SELECT 1 FROM instance WHERE generation <> ? AND {_ALIVE} LIMIT 1"
LIVES: Final = f"SELECT 1 FROM instance WHERE number = ? AND {_ALIVE}"
HAS_NAME: Final = "SELECT 1 FROM instance WHERE generation = ?"
READERS: Final = f"SELECT 1 FROM instance WHERE generation <> ? AND is_reading = 1 AND {_ALIVE} LIMIT 1"
NOTE_READING: Final = "UPDATE instance SET is_reading = ? WHERE generation = ?"


class FleetOthers:
    def __init__(self, execute: Execute, holder: int, renewals: Renewals | None, dead_after_s: float) -> None:
        self._execute, self._holder, self._renewals = execute, holder, renewals
        self._dead_after_s = dead_after_s
        self._has_name, self._asked = True, cast(Cursor | None, None)

    def begin(self) -> None:
        """Asked for now, and answered with what is read first: it costs no round trip."""
        self._asked = self._execute(HAS_NAME, (self._holder,))

    def has_name(self) -> bool:
        if self._asked is not None:
            self._has_name = self._asked.fetchone() is not None
            self._asked = None
        return self._has_name

    def acts_for_all(self, work: str) -> bool:
        """A host whose clock differs from the database's leaves this to others, unless nobody else has done it for a while."""
        found = self._execute(LEASE, (work,)).fetchone()
        holder, over_s = found or (0, 2 * _LASTS_S)
        if holder != self._holder and over_s <= 0:
            return False
        if not self._agrees() and over_s < _LASTS_S:
            return False
        return self._execute(TAKE, (work, self._holder, _LASTS_S)).fetchone() is not None

    def _agrees(self) -> bool:
        return self._renewals is None or abs(self._renewals.clock_ahead_s) <= _AGREES_S

    def is_alone(self) -> bool:
        return self._execute(OTHERS, (self._holder, self._dead_after_s)).fetchone() is None

    def is_alive(self, number: int) -> bool:
        return self._execute(LIVES, (number, self._dead_after_s)).fetchone() is not None

    def alive_since(self) -> float:
        return float(self._execute(ALIVE_SINCE, (self._dead_after_s,)).fetchone()[0])

    def note_reading(self, is_reading: bool) -> None:
        self._execute(NOTE_READING, (int(is_reading), self._holder))

    def is_reading(self) -> bool:
        return self._execute(READERS, (self._holder, self._dead_after_s)).fetchone() is not None
