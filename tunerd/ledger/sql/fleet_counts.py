"""Table counts: the tally of a fleet. Each instance adds to rows of its own, so that none waits for another."""

from collections.abc import Mapping
from typing import Final

from tunerd.ledger.sql.database import Database

SUMS: Final = "SELECT name, sum(amount) FROM counts GROUP BY name"
FIRST_SENDING: Final = "SELECT min(admitted_at) FROM call WHERE state = 'sending'"
"""Those that are being sent have an index on PostgreSQL."""
_ADD: Final = "ON CONFLICT (holder, name) DO UPDATE SET amount = counts.amount + excluded.amount"


class FleetCounts:
    def __init__(self, db: Database) -> None:
        self._db = db

    def sums(self) -> dict[str, int]:
        return {name: int(amount) for name, amount in self._db.execute(SUMS)}

    def first_sending(self) -> float | None:
        """The admission of the oldest call that is being sent, by any instance."""
        found: float | None = self._db.execute(FIRST_SENDING).fetchone()[0]
        return found

    def add(self, changes: Mapping[str, int]) -> None:
        """What a transaction of this instance has changed."""
        if changes:
            values = [value for name, amount in sorted(changes.items()) for value in (self._db.holder, name, amount)]
            marks = ", ".join(["(?, ?, ?)"] * len(changes))
            self._db.execute(f"INSERT INTO counts (holder, name, amount) VALUES {marks} {_ADD}", values)
