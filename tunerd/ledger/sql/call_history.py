"""Tables origin and event: further places of a call's document, and what happened to the call."""

from typing import Final

from tunerd.call import Origin
from tunerd.ledger import StoredEvent
from tunerd.ledger.rows import EVENTS_KEPT, LedgerRow
from tunerd.ledger.sql.columns import from_text, to_text
from tunerd.ledger.sql.database import Execute

ADD_ORIGIN: Final = 'INSERT INTO origin (row, source, path, "offset", volume) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING'
ORIGINS: Final = 'SELECT volume, source, path, "offset" FROM origin WHERE row = ? LIMIT ?'
DELETE_ORIGINS: Final = "DELETE FROM origin WHERE row = ?"
ADD_EVENT: Final = "INSERT INTO event (row, seq, at, what, status, detail) VALUES (?, ?, ?, ?, ?, ?)"
EVENTS: Final = "SELECT at, what, status, detail FROM event WHERE row = ? ORDER BY seq"
LAST_EVENT: Final = "SELECT coalesce(max(seq), 0) FROM event WHERE row = ?"
DELETE_OLD_EVENTS: Final = "DELETE FROM event WHERE row = ? AND seq <= ?"
DELETE_EVENTS: Final = "DELETE FROM event WHERE row = ?"

_NO_LIMIT: Final = 1 << 62


class CallHistory:
    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def add_origin(self, row: LedgerRow, volume: int, source: str, path: str, offset: int) -> None:
        self._execute(ADD_ORIGIN, (row.row, source, to_text(path), offset, volume))

    def origins(self, row: LedgerRow, limit: int = _NO_LIMIT) -> set[tuple[int, str, str, int]]:
        """Every (volume, source, path, offset) at which the call's document was read."""
        first = (row.volume, row.source, row.path, row.offset)
        if not row.copies:
            return {first}
        further = self._execute(ORIGINS, (row.row, limit))
        return {first, *((volume, source, from_text(path), at) for volume, source, path, at in further)}

    def volumes_of(self, row: LedgerRow, origin: Origin) -> list[int]:
        """On which volumes a file is that the row was read from."""
        places = self.origins(row)
        return sorted({volume for volume, source, path, _ in places if (source, path) == (origin.source, origin.path)})

    def add(self, row: LedgerRow, at: float, what: str, status: int | None = None, detail: str = "") -> None:
        """Note one event of the call; the last EVENTS_KEPT are kept."""
        if row.event_count < 0:  # the row was read from the table: it does not say how many there are
            row.event_count = self._execute(LAST_EVENT, (row.row,)).fetchone()[0]
        row.event_count += 1
        self._execute(ADD_EVENT, (row.row, row.event_count, at, what, status, to_text(detail)))
        if row.event_count > EVENTS_KEPT:
            self._execute(DELETE_OLD_EVENTS, (row.row, row.event_count - EVENTS_KEPT))

    def events(self, row: LedgerRow) -> list[StoredEvent]:
        found = self._execute(EVENTS, (row.row,))
        return [StoredEvent(at=at, what=what, status=status, detail=from_text(detail)) for at, what, status, detail in found]

    def delete(self, row: int) -> None:
        self._execute(DELETE_ORIGINS, (row,))
        self._execute(DELETE_EVENTS, (row,))
