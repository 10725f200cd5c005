"""Tables recording, want, destination and file: the second part of the store."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from tunerd.call import State
from tunerd.ledger import FarRule, FileMark, Gate
from tunerd.ledger.matching import Absence, Free, Standing
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
    'row, source, key, id, url, started_at_ms, expires_at, duration_s, origin_source, path, "offset", mtime_ns, admitted_at, '
    "known_at, taken_by"
)
_WANT: Final = "call, position, source, key, started_at_ms, ended_at_ms, within_ms, near_ms, answered_at, expired"
_BARE: Final = "substr(url, 1, instr(url || '?', '?') - 1)"
"""A URL without its query, which is signed anew for each telling."""
_STANDING: Final = """CASE WHEN seeking = 1 AND (answered_at IS NULL OR expired = 1) THEN 'open' WHEN EXISTS (
    SELECT 1 FROM recording AS own WHERE own.taken_by = want.call AND own.source = want.source AND own.key = want.key
) THEN 'served' ELSE 'closed' END"""
_IS_OPEN: Final = "seeking = 1 AND (answered_at IS NULL OR expired = 1)"


Touched: TypeAlias = tuple[str, str, int | None]
"""Source, key and start of a recording or call with which something happened that may concern its neighbours."""


class JoinTables(CallTables):
    touched: dict[Touched, None]
    """In the order they came; commands/join.py looks at what is around them."""
    far: FarRule

    def load_joins(self) -> None:
        self._last_recording: int = self.db.execute("SELECT coalesce(max(row), 0) FROM recording").fetchone()[0]
        self._gates: dict[str, tuple[Gate, PauseClock]] = {
            name: (gate_of(gate), clock_of(clock))
            for name, gate, clock in self.db.execute("SELECT name, gate, clock FROM destination")
        }
        self.touched: dict[Touched, None] = {}
        self.far = FarRule()

    # Recordings.

    def add_recording(self, recording: KeptRecording) -> int:
        self._last_recording += 1
        self._write_recording("INSERT", replace(recording, row=self._last_recording))
        return self._last_recording

    def change_recording(self, recording: KeptRecording) -> None:
        self._touch_recordings("row = ?", recording.row)  # what stood there until now
        self._write_recording("REPLACE", recording)

    def _write_recording(self, how: str, r: KeptRecording) -> None:
        self.db.execute(
            f"{how} INTO recording ({_RECORDING}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(r.row, r.source, r.key, r.id, r.url, r.started_at_ms, r.expires_at, r.duration_s),
                *(r.origin_source, to_text(r.path), r.offset, r.mtime_ns, r.admitted_at, r.known_at, r.taken_by),
            ),
        )
        self.touched[r.source, r.key, r.started_at_ms] = None

    def _touch_recordings(self, where: str, value: int) -> None:
        found = self.db.execute(f"SELECT source, key, started_at_ms FROM recording WHERE {where}", (value,))
        self.touched.update(dict.fromkeys(found.fetchall()))

    def same_recording(self, r: KeptRecording, apart_ms: int) -> KeptRecording | None:
        """The recording that this one is told of again: by its id; where one of the two has none, by key and start, or
        without a start by key and URL."""
        if r.id and (same := self._recordings("WHERE source = ? AND id = ? AND id <> '' LIMIT 1", (r.source, r.id))):
            return same[0]
        alike, values = "WHERE source = ? AND key = ?", [r.source, r.key]
        if r.id:
            alike += " AND id = ''"
        if r.started_at_ms is not None:
            where = f"{alike} AND started_at_ms BETWEEN ? AND ? ORDER BY abs(started_at_ms - ?), row LIMIT 1"
            start = r.started_at_ms
            if same := self._recordings(where, (*values, start - apart_ms, start + apart_ms, start)):
                return same[0]
            alike += " AND started_at_ms IS NULL"
        bare = None if r.url is None else r.url.partition("?")[0]
        same = self._recordings(f"{alike} AND {_BARE} IS ? ORDER BY row LIMIT 1", (*values, bare))
        return same[0] if same else None

    def taken(self, call: int) -> Sequence[KeptRecording]:
        """What the call has taken."""
        return self._recordings("WHERE taken_by = ? ORDER BY row", (call,))

    def _recordings(self, where: str, values: Sequence[object]) -> list[KeptRecording]:
        return [_recording_of(columns) for columns in self.db.execute(f"SELECT {_RECORDING} FROM recording {where}", values)]

    def take(self, recording: int, call: int) -> None:
        self._touch_recordings("row = ?", recording)
        self.db.execute("UPDATE recording SET taken_by = ? WHERE row = ?", (call, recording))

    def give_back(self, call: int) -> None:
        """Free every recording that the call has taken."""
        self._touch_recordings("taken_by = ?", call)
        self.db.execute("UPDATE recording SET taken_by = NULL WHERE taken_by = ?", (call,))

    def drop_taken(self, call: int) -> None:
        self._touch_recordings("taken_by = ?", call)
        self.db.execute("DELETE FROM recording WHERE taken_by = ?", (call,))

    def free_near(self, source: str, key: str, started_at_ms: int) -> Sequence[Free]:
        """Free recordings with the key: up to NEAR on each side of the start, and up to NEAR without a start."""
        columns = "row, url, started_at_ms, expires_at, known_at, path"
        select = f"SELECT {columns} FROM recording WHERE taken_by IS NULL AND source = ? AND key = ?"
        found: list[tuple[Any, ...]] = []
        for side, order in ((">=", ""), ("<", " DESC")):
            sql = f"{select} AND started_at_ms {side} ? ORDER BY started_at_ms{order}, row{order} LIMIT {NEAR}"
            found += self.db.execute(sql, (source, key, started_at_ms))
        found += self.db.execute(f"{select} AND started_at_ms IS NULL ORDER BY row LIMIT {NEAR}", (source, key))
        return [
            Free(row=row, url=url, started_at_ms=at, expires_at=expires, known_at=known, path=from_text(path))
            for row, url, at, expires, known, path in found
        ]

    # Wants.

    def seekers_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """Open wants with the key: up to NEAR on each side of the start; without a start NEAR of those without a window."""
        select = f"SELECT {_WANT}, 'open' FROM want INDEXED BY want_open WHERE {_IS_OPEN} AND"
        return self._wants_near(select, source, key, started_at_ms)

    def rivals_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """As `seekers_near`, of all calls that are still known, each with how it stands."""
        return self._wants_near(f"SELECT {_WANT}, {_STANDING} FROM want WHERE", source, key, started_at_ms)

    def _wants_near(self, which: str, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        select = f"{which} source = ? AND key = ?"
        if started_at_ms is None:
            sql = f"{select} AND within_ms IS NULL ORDER BY call DESC, position LIMIT {NEAR}"
            return [_want_of(columns) for columns in self.db.execute(sql, (source, key))]
        found: list[tuple[Any, ...]] = []
        for side, order in ((">=", ""), ("<", " DESC")):
            sql = f"{select} AND started_at_ms {side} ? ORDER BY started_at_ms{order}, call{order}, position{order} LIMIT {NEAR}"
            found += self.db.execute(sql, (source, key, started_at_ms))
        return [_want_of(columns) for columns in found]

    def wants(self, call: int) -> Sequence[Want]:
        sql = f"SELECT {_WANT}, {_STANDING} FROM want WHERE call = ? ORDER BY position"
        return [_want_of(columns) for columns in self.db.execute(sql, (call,))]

    def set_wants(self, call: int, wants: Sequence[Want]) -> None:
        """Put these (open) wants in place of the call's."""
        self._touch_wants(call)
        self.db.execute("DELETE FROM want WHERE call = ?", (call,))
        self.db.executemany(
            f"INSERT INTO want ({_WANT}, seeking) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, 1)",
            [(call, w.position, w.source, w.key, w.started_at_ms, w.ended_at_ms, w.within_ms, w.near_ms) for w in wants],
        )
        self.touched.update(dict.fromkeys((want.source, want.key, want.started_at_ms) for want in wants))

    def _touch_wants(self, call: int) -> None:
        found = self.db.execute("SELECT source, key, started_at_ms FROM want WHERE call = ?", (call,))
        self.touched.update(dict.fromkeys(found.fetchall()))

    def _delete(self, row: Row) -> None:
        super()._delete(row)
        if row.seeks:
            self._touch_wants(row.row)
            self.db.execute("DELETE FROM want WHERE call = ?", (row.row,))

    def answer_want(self, call: int, position: int, answer: Absence | None) -> None:
        """Keep a strategy's answer. "Absent" closes the want for good; "expired" leaves it open for a fresh URL."""
        values = (None, False) if answer is None else (answer.at, answer.expired)
        self.db.execute("UPDATE want SET answered_at = ?, expired = ? WHERE call = ? AND position = ?", (*values, call, position))

    def look_again(self, call: int, position: int, at: float | None) -> None:
        """When the want may be answered by a recording that is not near."""
        sql = "UPDATE want SET look_at = ?1 WHERE call = ?2 AND position = ?3 AND look_at IS NOT ?1"
        self.db.execute(sql, (at, call, position))

    def far_due(self, now: float, limit: int) -> Sequence[int]:
        """Calls that may take one now."""
        if self.far.not_before > now:
            return ()
        which = "look_at IS NOT NULL" if self.far.at_once else "look_at IS NOT NULL AND look_at <= ?1"
        sql = f"SELECT DISTINCT call FROM want WHERE {which} ORDER BY look_at, call LIMIT ?2"
        return [call for (call,) in self.db.execute(sql, (now, limit))]

    def next_far(self) -> float | None:
        found: float | None = self.db.execute("SELECT min(look_at) FROM want WHERE look_at IS NOT NULL").fetchone()[0]
        if found is None or self.far.not_before == math.inf:
            return None
        return self.far.not_before if self.far.at_once else max(found, self.far.not_before)

    def open_wants(self, call: int, is_open: bool) -> None:
        """Whether the call looks for recordings now (not for what was answered "absent")."""
        self._touch_wants(call)
        look_at = "" if is_open else ", look_at = NULL"
        self.db.execute(f"UPDATE want SET seeking = ?{look_at} WHERE call = ?", (is_open, call))

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
        if mark.is_there:
            sql = "UPDATE file SET vanished_at = ? WHERE source = ? AND path = ? AND log <> ? AND vanished_at IS NULL"
            self.db.execute(sql, (now, mark.source, path, mark.log))
        columns = f"{MARK_COLUMNS}, changed_at, vanished_at, disposed, held"
        sql = f"INSERT OR REPLACE INTO file ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)"
        vanished_at = None if mark.is_there else now
        self.db.execute(sql, (*mark_values(mark), now, vanished_at, was_held is not None and was_held[0]))

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
        self.db.execute("UPDATE want SET answered_at = answered_at + ?1, look_at = look_at + ?1", (seconds,))
        self.db.execute("UPDATE recording SET known_at = known_at + ? WHERE taken_by IS NULL", (seconds,))
        for name, (gate, clock) in list(self._gates.items()):
            self.set_gate(name, shifted(gate, seconds), replace(clock, at=clock.at + seconds))
            self.woken[name] += 1


def _recording_of(columns: Sequence[Any]) -> KeptRecording:
    (
        row, source, key, recording_id, url, started_at_ms, expires_at, duration_s, origin_source, path, offset, mtime_ns,
        admitted_at, known_at, taken_by,
    ) = columns  # fmt: skip
    return KeptRecording(
        row=row,
        source=source,
        key=key,
        id=recording_id,
        url=url,
        started_at_ms=started_at_ms,
        expires_at=expires_at,
        duration_s=duration_s,
        origin_source=origin_source,
        path=from_text(path),
        offset=offset,
        mtime_ns=mtime_ns,
        admitted_at=admitted_at,
        known_at=known_at,
        taken_by=taken_by,
    )


def _want_of(columns: Sequence[Any]) -> Want:
    call, position, source, key, started_at_ms, ended_at_ms, within_ms, near_ms, answered_at, expired, standing = columns
    return Want(
        call=call,
        position=position,
        source=source,
        key=key,
        started_at_ms=started_at_ms,
        within_ms=within_ms,
        near_ms=near_ms,
        ended_at_ms=ended_at_ms,
        standing=Standing(standing),
        answer=None if answered_at is None else Absence(at=answered_at, expired=bool(expired)),
    )
