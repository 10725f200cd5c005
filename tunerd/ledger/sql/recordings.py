"""Table recording: what manifests described, and which call took it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from tunerd.file_pattern import FILES, held_name, is_files_source
from tunerd.ledger.matching import Free
from tunerd.ledger.rows import KeptRecording
from tunerd.ledger.sql.audios import MAY_UPLOAD
from tunerd.ledger.sql.columns import RecordColumns, from_text
from tunerd.ledger.sql.database import Database, RunAgain
from tunerd.location import LocationKind, bare, stored_location

NEAR: Final = 8
"""How many recordings, or calls, on each side of a start are looked at."""
MANY: Final = 64
"""From so many recordings a call chooses; where there are more it chooses none."""
RECORDING: Final = RecordColumns("recording", KeptRecording, key=("row",))
_RECORDING: Final = f"SELECT {RECORDING.listed} FROM recording"
_FREE: Final = (
    "SELECT row, location, started_at_ms, expires_at, duration_s, known_at, mtime_ns, path, identity, owner FROM recording "
    "WHERE taken_by IS NULL AND source = ? AND key = ? AND started_at_ms"
)
_TOUCHED: Final = 'SELECT source, key, "match", started_at_ms FROM recording WHERE'

FREE_FROM: Final = f"{_FREE} >= ? ORDER BY started_at_ms, row LIMIT {NEAR}"
FREE_BEFORE: Final = f"{_FREE} < ? ORDER BY started_at_ms DESC, row DESC LIMIT {NEAR}"
FREE_FILES: Final = f"""
    SELECT own.row, own.location, own.started_at_ms, own.expires_at, own.duration_s, own.known_at, own.mtime_ns, own.path,
        own.identity, own.owner
    FROM recording AS own WHERE own.taken_by IS NULL AND own.source = ? AND own.key = ?
    AND own.started_at_ms BETWEEN ? AND ? AND NOT EXISTS (
        SELECT 1 FROM recording AS other WHERE other.source = own.source AND other.id = own.id AND other.taken_by IS NOT NULL
    ) ORDER BY own.started_at_ms, own.row LIMIT {MANY + 1}
""".strip()
"""Files with a name, last written in some time, that no call has by any name."""
FREE_WITHOUT_START: Final = f"{_FREE} IS NULL ORDER BY row LIMIT {NEAR}"
"""Recordings that no call has taken: the next ones on each side of a start, and some whose start nobody knows."""
FREE_BETWEEN: Final = f"{_FREE} BETWEEN ? AND ? ORDER BY started_at_ms, row LIMIT {MANY + 1}"
FREE_WITH_START: Final = f"{_FREE} IS NOT NULL ORDER BY started_at_ms, row LIMIT {MANY + 1}"
"""Those of which a call chooses one (Choice.FIRST, ...); with `within: any` all of its key."""
_ALIKE: Final = (
    "SELECT row, location, started_at_ms, expires_at, duration_s, known_at, mtime_ns, path, identity, owner, taken_by "
    'FROM recording WHERE "match" <> \'\' AND source = ? AND "match" = ? AND started_at_ms'
)
ALIKE_FROM: Final = f"{_ALIKE} >= ? ORDER BY started_at_ms, row LIMIT {NEAR}"
ALIKE_BEFORE: Final = f"{_ALIKE} < ? ORDER BY started_at_ms DESC, row DESC LIMIT {NEAR}"
"""Recordings with the same values (Choice.ONLY), also those that calls have."""
SAME_ID: Final = f"{_RECORDING} WHERE source = ? AND id = ? AND id <> '' LIMIT 1"
SAME_FILE: Final = f"{_RECORDING} WHERE source = ? AND id = ? AND key = ?"
"""A file is kept once for each name under which it was found."""
OVERWRITTEN: Final = f"{_RECORDING} WHERE source = ? AND key = ? AND location = ? AND taken_by IS NULL LIMIT 1"
"""A file that was at the same place before, and that no call has."""
SAME_START: Final = (
    f"{_RECORDING} WHERE source = :source AND key = :key AND (:any_id = 1 OR id = '') "
    "AND started_at_ms BETWEEN :earliest AND :latest ORDER BY abs(started_at_ms - :start), row LIMIT 1"
)
SAME_LOCATION: Final = (
    f"{_RECORDING} WHERE source = :source AND key = :key AND (:any_id = 1 OR id = '') "
    "AND (:any_start = 1 OR started_at_ms IS NULL) "
    "AND (location = :bare OR substr(location, 1, length(:begins)) = :begins OR (:has_location = 0 AND location IS NULL)) "
    "ORDER BY row LIMIT 1"
)
"""The same recording described again, known by its id, by key and start, or by key and location. A URL counts without its query,
which is signed anew for each description. With an id only those without one are compared."""
SAME_ALIKE: Final = (
    f"{_RECORDING} WHERE \"match\" <> '' AND source = :source AND \"match\" = :match AND key = '' AND (:any_id = 1 OR id = '') "
    "AND started_at_ms BETWEEN :earliest AND :latest "
    "AND (location = :bare OR substr(location, 1, length(:begins)) = :begins OR (:has_location = 0 AND location IS NULL)) "
    "ORDER BY started_at_ms, row LIMIT 1"
)
"""The same of recordings without a key: these values do not tell two recordings of one caller apart, so all has to agree."""
_OTHER_NAMES: Final = "FROM recording AS own JOIN recording AS other ON other.source = own.source AND other.id = own.id"
IS_TAKEN_ELSEWHERE: Final = f"SELECT 1 {_OTHER_NAMES} WHERE own.row = ? AND other.id <> '' AND other.taken_by IS NOT NULL LIMIT 1"
"""Whether a call has this file under another name."""
_OTHER_FREE: Final = (
    f"SELECT other.key, other.started_at_ms {_OTHER_NAMES} WHERE own.source = ? AND own.key = ? AND other.id <> '' "
    "AND other.key <> own.key AND other.taken_by IS NULL AND own."
)
OTHER_NAMES: Final = f"{_OTHER_FREE}taken_by IS NULL"
OTHER_NAMES_AT: Final = f"{_OTHER_FREE}started_at_ms = ?"
"""Of the files with this name that no call has, and of those that were written at this time, taken or not."""
UNMATCHED: Final = "SELECT source, count(*) FROM recording WHERE taken_by IS NULL GROUP BY source"
"""Asked a few times a minute, for the metrics: it walks the index of free recordings."""
IS_AT: Final = (
    "SELECT 1 FROM recording r LEFT JOIN call c ON c.row = r.taken_by WHERE r.location = ? AND r.location LIKE 'embedded:%' "
    f"AND (c.row IS NULL OR {MAY_UPLOAD}) LIMIT 1"
)
"""Of audio in the spool."""
TAKEN: Final = f"{_RECORDING} WHERE taken_by = ? ORDER BY row"
TAKE: Final = "UPDATE recording SET taken_by = ? WHERE row = ? RETURNING row"
GIVE_BACK: Final = "UPDATE recording SET taken_by = NULL WHERE taken_by = ?"
DELETE_TAKEN: Final = "DELETE FROM recording WHERE taken_by = ?"
TOUCHED: Final = f"{_TOUCHED} row = ?"
TOUCHED_TAKEN: Final = f"{_TOUCHED} taken_by = ?"
DELETE_OLD: Final = (
    "DELETE FROM recording WHERE row IN (SELECT row FROM recording WHERE admitted_at <= ? ORDER BY admitted_at LIMIT ?) "
    "RETURNING row"
)
SHIFT: Final = "UPDATE recording SET known_at = known_at + ? WHERE taken_by IS NULL"

_ANY_TIME: Final = (-(2**63), 2**63 - 1)

Touched: TypeAlias = tuple[str, str, int | None]
"""Source, key and start of a recording or call that changed in a way which may concern its neighbours."""


class Recordings:
    """`touched` notes what changed, in that order; commands/join.py looks at what is near to it."""

    def __init__(self, db: Database, touched: dict[Touched, None]) -> None:
        self._db = db
        self._execute = db.execute
        self._touched = touched

    def add(self, recording: KeptRecording) -> None:
        self._write(RECORDING.insert, replace(recording, row=self._db.next_number("recording")))

    def change(self, recording: KeptRecording) -> None:
        self._touch(TOUCHED, recording.row)  # what it was until now
        self._write(RECORDING.upsert, recording)

    def _write(self, sql: str, recording: KeptRecording) -> None:
        self._execute(sql, RECORDING.values(recording))
        self._note_touched(recording.source, recording.key, recording.match, recording.started_at_ms)

    def _touch(self, which: str, value: int) -> None:
        for row in self._execute(which, (value,)).fetchall():
            self._note_touched(*row)

    def _note_touched(self, source: str, key: str, match: str, started_at_ms: int | None) -> None:
        """What looks for its key, and what looks for its values."""
        for wanted in (key, match):
            if wanted:
                self._db.hold(held_name(source, wanted))
                self._touched[source, wanted, started_at_ms] = None

    def same(self, r: KeptRecording, apart_ms: int) -> KeptRecording | None:
        """The recording that this one describes again."""
        names = [held_name(r.source, wanted) for wanted in (r.key, r.match) if wanted]
        self._db.hold(*names, *([("recording", r.source, r.id)] if r.id else []))
        if is_files_source(r.source):
            same = self._rows(SAME_FILE, (r.source, r.id, r.key))
            if not same and not r.match:  # where times decide, what was there before may be another call's
                same = self._rows(OVERWRITTEN, (r.source, r.key, r.location))
            return same[0] if same else None
        if r.id and (same := self._rows(SAME_ID, (r.source, r.id))):
            return same[0]
        named = begins = r.location
        if named is not None and stored_location(named).kind is LocationKind.URL:
            named = bare(named)
            begins = f"{named}?"
        start = r.started_at_ms
        values: dict[str, object] = {"source": r.source, "any_id": int(not r.id)}
        near: dict[str, object] = {}
        if start is not None:
            near = {"earliest": start - apart_ms, "latest": start + apart_ms}
        told = {"bare": named, "begins": begins, "has_location": int(named is not None)}
        if not r.key:
            same = self._rows(SAME_ALIKE, values | near | told | {"match": r.match}) if near else []
            return same[0] if same else None
        values["key"] = r.key
        if near and (same := self._rows(SAME_START, values | near | {"start": start})):
            return same[0]
        same = self._rows(SAME_LOCATION, values | told | {"any_start": int(start is None)})
        return same[0] if same else None

    def is_at(self, location: str) -> bool:
        """Whether a recording is at this location in the spool, and its audio may still be uploaded."""
        return self._execute(IS_AT, (location,)).fetchone() is not None

    def taken(self, call: int) -> Sequence[KeptRecording]:
        """What the call has taken."""
        return self._rows(TAKEN, (call,))

    def take(self, recording: int, call: int) -> None:
        self._touch(TOUCHED, recording)
        if not self._execute(TAKE, (call, recording)).fetchall():
            raise RunAgain  # another instance's retention has removed it

    def give_back(self, call: int) -> None:
        """Free every recording that the call has taken."""
        self._touch(TOUCHED_TAKEN, call)
        self._execute(GIVE_BACK, (call,))

    def delete_taken(self, call: int) -> None:
        self._touch(TOUCHED_TAKEN, call)
        self._execute(DELETE_TAKEN, (call,))

    def free_near(self, source: str, key: str, started_at_ms: int) -> Sequence[Free]:
        """Free recordings with the key: up to NEAR on each side of the start, and up to NEAR without a start."""
        self._db.hold(held_name(source, key))
        found: list[tuple[Any, ...]] = []
        for sql in (FREE_FROM, FREE_BEFORE):
            found += self._execute(sql, (source, key, started_at_ms))
        found += self._execute(FREE_WITHOUT_START, (source, key))
        return list(map(_free, found))

    def free_within(self, source: str, key: str, around_ms: int, within_ms: int | None) -> Sequence[Free]:
        """Free recordings with the key, at most `within_ms` from a start; those without a start too, where that is None. More
        than MANY are not given whole."""
        self._db.hold(held_name(source, key))
        if within_ms is None:
            found = self._execute(FREE_WITH_START, (source, key)).fetchall()
            found += self._execute(FREE_WITHOUT_START, (source, key)).fetchall()
        else:
            found = self._execute(FREE_BETWEEN, (source, key, around_ms - within_ms, around_ms + within_ms)).fetchall()
        return list(map(_free, found))

    def free_files(self, source: str, name: str, time_ms: tuple[int, int] | None) -> Sequence[Free]:
        """Files that were found by this name, were last written in this time, and that no call has. More than MANY are not given
        whole."""
        self._db.hold(held_name(source, name))
        return list(map(_free, self._execute(FREE_FILES, (source, name, *(time_ms or _ANY_TIME)))))

    def alike_near(self, source: str, match: str, started_at_ms: int) -> tuple[Sequence[Free], Sequence[int | None]]:
        """Recordings with the values, up to NEAR on each side of the start: the free ones, and the starts of those that calls
        have."""
        self._db.hold(held_name(source, match))
        found: list[tuple[Any, ...]] = []
        for sql in (ALIKE_FROM, ALIKE_BEFORE):
            found += self._execute(sql, (source, match, started_at_ms))
        free = [_free(columns[:-1]) for columns in found if columns[-1] is None]
        return free, [columns[2] for columns in found if columns[-1] is not None]

    def is_taken_elsewhere(self, recording: int) -> bool:
        """Of a file: whether a call has it, by another name."""
        return self._execute(IS_TAKEN_ELSEWHERE, (recording,)).fetchone() is not None

    def other_names(self, source: str, key: str, started_at_ms: int | None) -> Sequence[tuple[str, int]]:
        """Other names, with the time, of the files that have this one: of the free ones, and of those that were written then."""
        self._db.hold(held_name(source, key))
        found = self._execute(OTHER_NAMES, (source, key)).fetchall()
        return found + self._execute(OTHER_NAMES_AT, (source, key, started_at_ms)).fetchall()

    def unmatched(self) -> dict[str, int]:
        """Source -> recordings that no call has taken."""
        found: Counter[str] = Counter()
        for source, count in self._execute(UNMATCHED, ()):
            found[FILES if is_files_source(source) else source] += count
        return dict(found)

    def delete_old(self, before: float, limit: int) -> int:
        return len(self._execute(DELETE_OLD, (before, limit)).fetchall())

    def shift(self, seconds: float) -> None:
        self._execute(SHIFT, (seconds,))

    def _rows(self, sql: str, values: Any) -> list[KeptRecording]:
        return [RECORDING.record(columns) for columns in self._execute(sql, values)]


def _free(columns: Sequence[Any]) -> Free:
    row, location, at, expires, duration_s, known, mtime_ns, path, identity, owner = columns
    return Free(
        row=row,
        location=location,
        started_at_ms=at,
        expires_at=expires,
        duration_s=duration_s,
        known_at=known,
        written_at=mtime_ns / 1e9,
        path=from_text(path),
        identity=identity,
        owner=owner,
    )
