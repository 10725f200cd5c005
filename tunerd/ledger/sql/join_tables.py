"""Tables recording, want, destination and file: the second part of the store."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from tunerd.call import State
from tunerd.ledger import FileMark, Gate
from tunerd.ledger.matching import Answer, Free
from tunerd.ledger.rows import KeptRecording, PauseClock, Row, Want, shifted
from tunerd.ledger.sql.call_tables import CallTables
from tunerd.ledger.sql.codec import (
    MARK_COLUMNS,
    clock_of,
    clock_text,
    from_text,
    gate_of,
    gate_text,
    mark_values,
    to_text,
)

NEAR: Final = 8
"""How many recordings, or seekers, on each side of a start are looked at."""
_RECORDING: Final = (
    'row, source, key, url, started_at_ms, expires_at, duration_s, origin_source, path, "offset", admitted_at, taken_by'
)
_WANT: Final = "call, position, source, key, started_at_ms, within_ms, answered_at, expired"
_IS_OPEN: Final = "seeking = 1 AND (answered_at IS NULL OR expired = 1)"


class JoinTables(CallTables):
    def load_joins(self) -> None:
        self._last_recording: int = self.db.execute("SELECT coalesce(max(row), 0) FROM recording").fetchone()[0]
        self._gates: dict[str, tuple[Gate, PauseClock]] = {
            name: (gate_of(gate), clock_of(clock))
            for name, gate, clock in self.db.execute("SELECT name, gate, clock FROM destination")
        }

    # Recordings.

    def add_recording(self, recording: KeptRecording) -> int:
        self._last_recording += 1
        r = recording
        self.db.execute(
            f"INSERT INTO recording ({_RECORDING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(self._last_recording, r.source, r.key, r.url, r.started_at_ms, r.expires_at, r.duration_s),
                *(r.origin_source, to_text(r.path), r.offset, r.admitted_at, r.taken_by),
            ),
        )
        return self._last_recording

    def same_recording(self, source: str, key: str, url: str | None, started_at_ms: int | None) -> KeptRecording | None:
        where = "WHERE source = ? AND key = ? AND started_at_ms IS ? AND url IS ? ORDER BY row LIMIT 1"
        return next(iter(self._recordings(where, (source, key, started_at_ms, url))), None)

    def recordings_at(self, source: str, path: str, offset: int) -> Sequence[KeptRecording]:
        return self._recordings(
            'WHERE origin_source = ? AND path = ? AND "offset" = ? ORDER BY row', (source, to_text(path), offset)
        )

    def _recordings(self, where: str, values: Sequence[object]) -> list[KeptRecording]:
        return [_recording_of(columns) for columns in self.db.execute(f"SELECT {_RECORDING} FROM recording {where}", values)]

    def drop_recording(self, row: int) -> None:
        self.db.execute("DELETE FROM recording WHERE row = ?", (row,))

    def refresh_recording(self, row: int, expires_at: float | None) -> None:
        self.db.execute("UPDATE recording SET expires_at = ? WHERE row = ?", (expires_at, row))

    def take(self, recording: int, call: int) -> None:
        self.db.execute("UPDATE recording SET taken_by = ? WHERE row = ?", (call, recording))

    def give_back(self, call: int) -> None:
        """Free every recording that the call has taken."""
        self.db.execute("UPDATE recording SET taken_by = NULL WHERE taken_by = ?", (call,))

    def drop_taken(self, call: int) -> None:
        self.db.execute("DELETE FROM recording WHERE taken_by = ?", (call,))

    def free_near(self, source: str, key: str, started_at_ms: int) -> Sequence[Free]:
        """Free recordings with the key: up to NEAR on each side of the start, and up to NEAR without a start."""
        select = "SELECT row, url, started_at_ms, expires_at FROM recording WHERE taken_by IS NULL AND source = ? AND key = ?"
        found: list[tuple[Any, ...]] = []
        for side, order in ((">=", ""), ("<", " DESC")):
            sql = f"{select} AND started_at_ms {side} ? ORDER BY started_at_ms{order}, row{order} LIMIT {NEAR}"
            found += self.db.execute(sql, (source, key, started_at_ms))
        found += self.db.execute(f"{select} AND started_at_ms IS NULL ORDER BY row LIMIT {NEAR}", (source, key))
        return [Free(row=row, url=url, started_at_ms=at, expires_at=expires) for row, url, at, expires in found]

    # Wants.

    def seekers_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """Open wants with the key: up to NEAR on each side of the start; without a start NEAR of those without a window."""
        select = f"SELECT {_WANT} FROM want WHERE {_IS_OPEN} AND source = ? AND key = ?"
        if started_at_ms is None:
            sql = f"{select} AND within_ms IS NULL ORDER BY call, position LIMIT {NEAR}"
            return [_want_of(columns) for columns in self.db.execute(sql, (source, key))]
        found: list[tuple[Any, ...]] = []
        for side, order in ((">=", ""), ("<", " DESC")):
            sql = f"{select} AND started_at_ms {side} ? ORDER BY started_at_ms{order}, call{order}, position{order} LIMIT {NEAR}"
            found += self.db.execute(sql, (source, key, started_at_ms))
        return [_want_of(columns) for columns in found]

    def wants(self, call: int) -> Sequence[Want]:
        sql = f"SELECT {_WANT} FROM want WHERE call = ? ORDER BY position"
        return [_want_of(columns) for columns in self.db.execute(sql, (call,))]

    def set_wants(self, call: int, wants: Sequence[Want]) -> None:
        """Put these (open) wants in place of the call's."""
        self.db.execute("DELETE FROM want WHERE call = ?", (call,))
        self.db.executemany(
            f"INSERT INTO want ({_WANT}, seeking) VALUES (?, ?, ?, ?, ?, ?, NULL, 0, 1)",
            [(call, w.position, w.source, w.key, w.started_at_ms, w.within_ms) for w in wants],
        )

    def answer_want(self, call: int, position: int, answer: Answer | None) -> None:
        """Keep a strategy's answer. "Absent" closes the want for good; "expired" leaves it open for a fresh URL."""
        values = (None, False) if answer is None else (answer.at, answer.expired)
        self.db.execute("UPDATE want SET answered_at = ?, expired = ? WHERE call = ? AND position = ?", (*values, call, position))

    def open_wants(self, call: int, is_open: bool) -> None:
        """Whether the call looks for recordings now (not for what was answered "absent")."""
        self.db.execute("UPDATE want SET seeking = ? WHERE call = ?", (is_open, call))

    # Destinations, kept in memory besides: every admission and claim asks.

    def gate(self, destination: str) -> tuple[Gate, PauseClock] | None:
        return self._gates.get(destination)

    def gates(self) -> dict[str, Gate]:
        return {name: gate for name, (gate, _) in sorted(self._gates.items())}

    def set_gate(self, destination: str, gate: Gate, clock: PauseClock) -> None:
        self._gates[destination] = (gate, clock)
        sql = "INSERT OR REPLACE INTO destination (name, gate, clock) VALUES (?, ?, ?)"
        self.db.execute(sql, (destination, gate_text(gate), clock_text(clock)))

    # Files.

    def set_mark(self, mark: FileMark, now: float, *, is_as_read: bool = False) -> None:
        """The path is there: it is neither vanished nor disposed. What else was at this path is not; a log has one mark.
        `is_as_read`: the file is the one that was read, so it stays held if it was."""
        path = to_text(mark.path)
        held = "SELECT held FROM file WHERE source = ? AND path = ? AND log = ?"
        was_held = self.db.execute(held, (mark.source, path, mark.log)).fetchone() if is_as_read else None
        if mark.log:
            self.db.execute("DELETE FROM file WHERE source = ? AND log = ? AND path <> ?", (mark.source, mark.log, path))
        sql = "UPDATE file SET vanished_at = ? WHERE source = ? AND path = ? AND log <> ? AND vanished_at IS NULL"
        self.db.execute(sql, (now, mark.source, path, mark.log))
        columns = f"{MARK_COLUMNS}, changed_at, vanished_at, disposed, held"
        sql = f"INSERT OR REPLACE INTO file ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, ?)"
        self.db.execute(sql, (*mark_values(mark), now, was_held is not None and was_held[0]))

    def hold_files(self, row: Row) -> None:
        """The files that the row came from are never disposable again: it goes without having been sent."""
        self.db.execute("UPDATE file SET held = 1 WHERE source = ? AND path = ?", (row.source, to_text(row.path)))
        sql = "UPDATE file SET held = 1 WHERE (source, path) IN (SELECT source, path FROM origin WHERE row = ?)"
        self.db.execute(sql, (row.row,))

    # Retention.

    def drop_recordings(self, before: float, limit: int) -> int:
        sql = "DELETE FROM recording WHERE row IN (SELECT row FROM recording WHERE admitted_at <= ? ORDER BY admitted_at LIMIT ?)"
        return self.db.execute(sql, (before, limit)).rowcount

    def drop_vanished(self, before: float, limit: int) -> int:
        # The newest log of a source keeps its row: the next one gets a greater number.
        newest = "log = 0 OR log < (SELECT max(log) FROM file g WHERE g.source = f.source AND g.log > 0)"
        gone = f"SELECT source, path, log FROM file f WHERE vanished_at IS NOT NULL AND vanished_at <= ? AND ({newest}) LIMIT ?"
        return self.db.execute(f"DELETE FROM file WHERE (source, path, log) IN ({gone})", (before, limit)).rowcount

    def shift(self, seconds: float) -> None:
        opened = ", ".join(f"'{state}'" for state in State if state.is_open)
        self._ask(
            "UPDATE call SET due_at = due_at + ?1, waits_from = waits_from + ?1, first_attempt_at = first_attempt_at + ?1 "
            f"WHERE state IN ({opened})",
            (seconds,),
        )
        self.db.execute("UPDATE want SET answered_at = answered_at + ? WHERE answered_at IS NOT NULL", (seconds,))
        for name, (gate, clock) in list(self._gates.items()):
            self.set_gate(name, shifted(gate, seconds), replace(clock, at=clock.at + seconds))
            self.woken[name] += 1


def _recording_of(columns: Sequence[Any]) -> KeptRecording:
    row, source, key, url, started_at_ms, expires_at, duration_s, origin_source, path, offset, admitted_at, taken_by = columns
    return KeptRecording(
        row=row,
        source=source,
        key=key,
        url=url,
        started_at_ms=started_at_ms,
        expires_at=expires_at,
        duration_s=duration_s,
        origin_source=origin_source,
        path=from_text(path),
        offset=offset,
        admitted_at=admitted_at,
        taken_by=taken_by,
    )


def _want_of(columns: Sequence[Any]) -> Want:
    call, position, source, key, started_at_ms, within_ms, answered_at, expired = columns
    return Want(
        call=call,
        position=position,
        source=source,
        key=key,
        started_at_ms=started_at_ms,
        within_ms=within_ms,
        answer=None if answered_at is None else Answer(at=answered_at, expired=bool(expired)),
    )
