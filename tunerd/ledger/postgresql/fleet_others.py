"""The other instances of a fleet, asked within a transaction: leases for work that one does for all, and who lives.

A lease is a row (table lease): the start of an instance that has it, and until when by the clock of the database. It is taken or
renewed in the transaction that acts under it, so that nobody else can take it before that has ended. There are no session locks.

The turn to read a shared source is such a row, too. It needs no time of its own: it is over when its instance is, and heartbeats
tell that. Who has lost it does not take it again in passing, because what it knows of the files is old.
"""

from typing import Final, cast

from tunerd.ledger import NotTheReader
from tunerd.ledger.postgresql.instances import NOW
from tunerd.ledger.postgresql.renewals import Renewals
from tunerd.ledger.sql.database import Cursor, Execute
from tunerd.ledger.sql.volumes import Volumes

_LASTS_S: Final = 30.0
_AGREES_S: Final = 5.0
_ALIVE: Final = f"is_over = 0 AND heartbeat_at >= {NOW} - ?"

LEASE: Final = f"SELECT holder, {NOW} - until FROM lease WHERE name = ?"
TAKE: Final = f"""INSERT INTO lease (name, holder, until) VALUES (?, ?, {NOW} + ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE lease.holder = excluded.holder OR lease.until < {NOW} RETURNING holder"""
READER: Final = f"SELECT holder, instance.name FROM lease JOIN instance ON generation = holder WHERE lease.name = ? AND {_ALIVE}"
TAKE_TURN: Final = f"""INSERT INTO lease (name, holder, until) VALUES (?, ?, 'infinity')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder WHERE lease.holder = excluded.holder
OR NOT EXISTS (SELECT 1 FROM instance WHERE generation = lease.holder AND {_ALIVE}) RETURNING holder"""
HAS_TURN: Final = "SELECT 1 FROM lease WHERE name = ? AND holder = ? FOR SHARE"
END_TURN: Final = "DELETE FROM lease WHERE name = ? AND holder = ?"
ALIVE_SINCE: Final = f"SELECT {NOW} - ?"
OTHERS: Final = f"SELECT 1 FROM instance WHERE generation <> ? AND {_ALIVE} LIMIT 1"
LIVES: Final = f"SELECT 1 FROM instance WHERE number = ? AND {_ALIVE}"
HAS_NAME: Final = "SELECT 1 FROM instance WHERE generation = ?"
READERS: Final = f"SELECT 1 FROM instance WHERE generation <> ? AND is_reading = 1 AND {_ALIVE} LIMIT 1"
NOTE_READING: Final = "UPDATE instance SET is_reading = ? WHERE generation = ?"


class FleetOthers:
    def __init__(self, execute: Execute, volumes: Volumes, holder: int, renewals: Renewals | None, dead_after_s: float) -> None:
        self._execute, self._volumes, self._holder, self._renewals = execute, volumes, holder, renewals
        self._dead_after_s = dead_after_s
        self._checked: set[str] = set()
        """Shared sources that this transaction may store something of."""
        self._has_name, self._asked = True, cast(Cursor | None, None)

    def begin(self) -> None:
        """Asked for now, and answered with what is read first: it costs no round trip."""
        self._asked = self._execute(HAS_NAME, (self._holder,))
        self._checked.clear()

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

    def begin_reading(self, source: str) -> str:
        at = _turn(source)
        found = self._execute(READER, (at, self._dead_after_s)).fetchone()
        if found is None and self._execute(TAKE_TURN, (at, self._holder, self._dead_after_s)).fetchone() is None:
            found = self._execute(READER, (at, self._dead_after_s)).fetchone() or (0, "another instance")  # it was faster
        return "" if found is None or found[0] == self._holder else str(found[1])

    def still_reads(self, source: str) -> bool:
        return self._execute(HAS_TURN, (_turn(source), self._holder)).fetchone() is not None

    def end_reading(self, source: str) -> None:
        self._execute(END_TURN, (_turn(source), self._holder))

    def check_reader(self, source: str) -> None:
        if self._volumes.is_shared(source) and source not in self._checked:
            if not self.still_reads(source):
                raise NotTheReader(f"another instance reads the source {source}")
            self._checked.add(source)

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


def _turn(source: str) -> str:
    """The name of its lease."""
    return f"read/{source}"
