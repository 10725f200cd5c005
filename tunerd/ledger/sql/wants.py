"""Table want: what calls look for, or looked for. The wants of a call are kept as long as the call is, since a recording that is
nearer to a call that was sent than to any other is given to nobody.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tunerd.file_pattern import FILES, FilePattern, escaped, files_source, held_name, is_files_source, stems_of
from tunerd.ledger import FAR_NOT_YET, FarRule, WantedFile
from tunerd.ledger.decision import Absence
from tunerd.ledger.rows import Want
from tunerd.ledger.sql.columns import RecordColumns, to_text
from tunerd.ledger.sql.database import Cursor, Database
from tunerd.ledger.sql.recordings import NEAR, Touched

WANT: Final = RecordColumns("want", Want, key=("call", "position"), without=("standing",))
_READ: Final = RecordColumns("want", Want)
"""With the standing, which a question works out."""
_IS_OPEN: Final = "seeking = 1 AND (answered_at IS NULL OR expired = 1)"
_STANDING: Final = f"""CASE WHEN {_IS_OPEN} THEN 'open' WHEN EXISTS (
    SELECT 1 FROM recording AS own WHERE own.taken_by = want.call AND own.source = want.source AND own.key = want.key
) THEN 'served' ELSE 'closed' END"""
_SEEKERS: Final = f"SELECT {WANT.listed}, 'open' FROM want WHERE {_IS_OPEN} AND source = ? AND key = ? AND"
_RIVALS: Final = f"SELECT {WANT.listed}, {_STANDING} FROM want WHERE source = ? AND key = ? AND"
_FROM: Final = f"started_at_ms >= ? ORDER BY started_at_ms, call, position LIMIT {NEAR}"
_BEFORE: Final = f"started_at_ms < ? ORDER BY started_at_ms DESC, call DESC, position DESC LIMIT {NEAR}"
_WITHOUT_WINDOW: Final = f"within_ms IS NULL ORDER BY call DESC, position LIMIT {NEAR}"

SEEKERS_FROM: Final = f"{_SEEKERS} {_FROM}"
SEEKERS_BEFORE: Final = f"{_SEEKERS} {_BEFORE}"
SEEKERS_WITHOUT_WINDOW: Final = f"{_SEEKERS} {_WITHOUT_WINDOW}"
"""Open wants with a key: the next ones on each side of a start; for a recording without a start, those that take any."""
RIVALS_FROM: Final = f"{_RIVALS} {_FROM}"
RIVALS_BEFORE: Final = f"{_RIVALS} {_BEFORE}"
RIVALS_WITHOUT_WINDOW: Final = f"{_RIVALS} {_WITHOUT_WINDOW}"
"""The same of all calls that are still known, with the standing of each."""
OF_CALL: Final = f"SELECT {WANT.listed}, {_STANDING} FROM want WHERE call = ? ORDER BY position"
TOUCHED: Final = "SELECT source, key, started_at_ms FROM want WHERE call = ?"
DELETE: Final = "DELETE FROM want WHERE call = ?"
ANSWER: Final = "UPDATE want SET answered_at = ?, expired = ? WHERE call = ? AND position = ?"
LOOK_AT: Final = "UPDATE want SET look_at = ? WHERE call = ? AND position = ?"
OPEN: Final = "UPDATE want SET seeking = 1 WHERE call = ?"
CLOSE: Final = "UPDATE want SET seeking = 0, look_at = NULL WHERE call = ?"
FAR_DUE: Final = (
    "SELECT call FROM want WHERE look_at IS NOT NULL AND look_at <= ? GROUP BY call ORDER BY min(look_at), call LIMIT ?"
)
"""Calls that may take a recording that is not near."""
LOOK_NOW: Final = "UPDATE want SET look_at = 0 WHERE look_at > 0"
NEXT_FAR: Final = "SELECT min(look_at) FROM want WHERE look_at IS NOT NULL"
LOOKED_FOR: Final = (
    "SELECT want.source, count(DISTINCT call.row) FROM want JOIN call ON call.row = want.call "
    "WHERE seeking = 1 AND answered_at IS NULL AND call.state = 'waiting' GROUP BY want.source"
)
"""For what is stranded; asked now and then."""
WANTED_FILES: Final = (
    "SELECT key, max(note), min(started_at_ms - within_ms), max(started_at_ms + within_ms), "
    "max(CASE WHEN within_ms IS NULL THEN 1 ELSE 0 END) "
    f"FROM want WHERE {_IS_OPEN} AND source = ? AND key > ? GROUP BY key ORDER BY key LIMIT ?"
)
"""Of the files that are looked for; at last, whether a call does not compare times."""
_STEMS: Final = 64
LIKE_STEMS: Final = f"SELECT key FROM want WHERE stem <> '' AND stem IN ({', '.join('?' * _STEMS)})"
"""Names of files with `*` and the like that begin with one of these texts."""
NOTE: Final = "UPDATE want SET note = ? WHERE source = ? AND key = ? AND note <> ?"
SHIFT: Final = "UPDATE want SET answered_at = answered_at + :seconds, look_at = look_at + :seconds"


class Wants:
    """`touched` as in recordings.py. New wants are written together: call `write` before the commit, or `forget` to undo."""

    def __init__(self, db: Database, touched: dict[Touched, None]) -> None:
        self._db = db
        self._touched = touched
        self._new: list[Want] = []
        self.far = FarRule()
        self._files = sorted({files_source(0), files_source(db.volumes.own)})

    def write(self) -> None:
        if self._new:
            new, self._new = self._new, []
            self._db.insert("want", WANT.names, [WANT.values(want) for want in new])

    def forget(self) -> None:
        """The transaction is rolled back."""
        self._new = []

    def _execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = (), /) -> Cursor:
        """Run a statement that needs the table as it is by now."""
        self.write()
        return self._db.execute(sql, values)

    def seekers_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """Open wants with the key: up to NEAR on each side of the start; without a start NEAR of those without a window."""
        self._db.hold(held_name(source, key))
        if started_at_ms is None:
            return self._wants(SEEKERS_WITHOUT_WINDOW, (source, key))
        near = (source, key, started_at_ms)
        return self._wants(SEEKERS_FROM, near) + self._wants(SEEKERS_BEFORE, near)

    def rivals_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """As `seekers_near`, of all calls that are still known."""
        self._db.hold(held_name(source, key))
        if started_at_ms is None:
            return self._wants(RIVALS_WITHOUT_WINDOW, (source, key))
        near = (source, key, started_at_ms)
        return self._wants(RIVALS_FROM, near) + self._wants(RIVALS_BEFORE, near)

    # In a fleet what is near to a want is read while nobody else changes it. Many at once are cheaper than one after the other.

    def hold(self, wants: Sequence[Want]) -> None:
        self._db.hold(*[held_name(want.source, want.key) for want in wants])

    def hold_touched(self) -> None:
        self._db.hold(*[held_name(source, key) for source, key, _ in self._touched])

    def hold_of(self, calls: Sequence[int]) -> None:
        if self._db.holder and calls:
            found = self._execute(f"SELECT DISTINCT source, key FROM want WHERE call IN ({', '.join('?' * len(calls))})", calls)
            self._db.hold(*[held_name(source, key) for source, key in found])

    # What calls look for.

    def of(self, call: int) -> Sequence[Want]:
        return self._wants(OF_CALL, (call,))

    def set(self, call: int, wants: Sequence[Want]) -> None:
        """Put these (open) wants in place of the call's."""
        self.delete(call)
        self.add(wants)

    def add(self, wants: Sequence[Want]) -> None:
        """Those (open) of a call that had none."""
        if wants:
            self._new += wants
            self._note([(want.source, want.key, want.started_at_ms) for want in wants])

    def note_closed(self, wants: Sequence[Want]) -> None:
        """Those (not seeking) of a new call that looks for nothing: what is nearest to it is given to nobody else, and nobody has
        to be looked at for it."""
        self.hold(wants)
        self._new += wants

    def delete(self, call: int) -> None:
        self._touch(call)
        self._execute(DELETE, (call,))

    def answer(self, call: int, position: int, absence: Absence | None) -> None:
        """Keep a strategy's answer. "Absent" closes the want for good; "expired" leaves it open for a fresh URL."""
        values = (None, 0) if absence is None else (absence.at, int(absence.expired))
        self._execute(ANSWER, (*values, call, position))

    def look_at(self, want: Want, at: float | None) -> None:
        """When the want may be answered by a recording that is not near."""
        if want.look_at != at:
            self._execute(LOOK_AT, (at, want.call, want.position))

    def seek(self, call: int, is_seeking: bool) -> None:
        """Whether the call looks for recordings now (not for what was answered "absent")."""
        self._touch(call)
        self._execute(OPEN if is_seeking else CLOSE, (call,))

    # Files: intake looks for them, and says here what it sees.

    def files(self, after: str, limit: int) -> Sequence[WantedFile]:
        """What open wants look for on this instance's disks and on shared ones, by name."""
        found = {
            key: WantedFile(name=key, note=note, times=None if is_own else (first / 1000, last / 1000))
            for source in self._files
            for key, note, first, last, is_own in self._execute(WANTED_FILES, (source, after, limit))
        }
        return [found[key] for key in sorted(found)[:limit]]

    def names_of(self, path: str) -> Sequence[str]:
        """Every name that this file fits and that a known call looks for, or looked for; the file's own name is the first."""
        stems = stems_of(to_text(path))
        found: dict[str, None] = {}
        for at in range(0, len(stems), _STEMS):
            some = [*stems[at : at + _STEMS], *[""] * _STEMS][:_STEMS]
            found |= dict.fromkeys(key for (key,) in self._execute(LIKE_STEMS, some))
        return [to_text(escaped(path)), *(name for name in found if FilePattern.parse(name).matches(path))]

    def note_file(self, key: str, note: str) -> None:
        for source in self._files:
            self._execute(NOTE, (note, source, key, note))

    # Time.

    def far_rule(self) -> FarRule:
        """When far recordings may be taken: not while any instance reads what was there when it started."""
        return FAR_NOT_YET if self._db.others.is_reading() else self.far

    def far_due(self, now: float, limit: int) -> Sequence[int]:
        """Calls that may take a recording now that is not near."""
        far = self.far_rule()
        if far.not_before > now:
            return ()
        return [call for (call,) in self._execute(FAR_DUE, (now, limit))]

    def next_far(self) -> float | None:
        found: float | None = self._execute(NEXT_FAR).fetchone()[0]
        if found is None or self.far.not_before == math.inf:
            return None
        return max(found, self.far.not_before)

    def look_now(self) -> None:
        """What waits for a better recording is looked at with the next tick, by the rule of that time."""
        self._execute(LOOK_NOW)

    def looked_for(self) -> Sequence[tuple[str, int]]:
        """Manifest sources, and how many waiting calls look for recordings of each."""
        found: Counter[str] = Counter()
        for source, count in self._execute(LOOKED_FOR):
            found[FILES if is_files_source(source) else source] += count
        return list(found.items())

    def shift(self, seconds: float) -> None:
        self._execute(SHIFT, {"seconds": seconds})

    def _touch(self, call: int) -> None:
        self._note(self._execute(TOUCHED, (call,)).fetchall())

    def _note(self, touched: Sequence[Touched]) -> None:
        self._db.hold(*[held_name(source, key) for source, key, _ in touched])
        self._touched.update(dict.fromkeys(touched))

    def _wants(self, sql: str, values: Sequence[object]) -> list[Want]:
        return [_READ.record(columns) for columns in self._execute(sql, values)]
