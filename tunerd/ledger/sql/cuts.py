"""Tables cut, torn and key_style: where a gathered call may lack a part."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from tunerd.call import Cut, CutBy, KeyStyle, Origin
from tunerd.ledger.sql.columns import from_text, to_text
from tunerd.ledger.sql.database import Database

_CUT: Final = 'source, log, path, "offset", cause'

FIRST_OF_CALL: Final = f'SELECT {_CUT} FROM cut WHERE row = ? ORDER BY cause DESC, log, path, "offset" LIMIT 1'
ADD: Final = f"INSERT INTO cut (row, volume, {_CUT}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
DELETE_OF_CALL: Final = "DELETE FROM cut WHERE row = ?"
LIFT_AT: Final = (
    'DELETE FROM cut WHERE volume = ? AND source = ? AND log = ? AND "offset" = ? AND (log > 0 OR path = ?) '
    "AND cause = 'unreadable' RETURNING row"
)
LIFT_LOG_END: Final = "DELETE FROM cut WHERE volume = ? AND source = ? AND log = ? AND cause = 'log_end' RETURNING row"
OF_FILE: Final = 'SELECT row, "offset" FROM cut WHERE volume = ? AND source = ? AND log = 0 AND path = ?'
LIFT_IN_FILE: Final = 'DELETE FROM cut WHERE row = ? AND volume = ? AND source = ? AND log = 0 AND path = ? AND "offset" = ?'
ROWS_OF_SOURCE: Final = "SELECT DISTINCT row FROM cut WHERE source = ?"
TEAR: Final = (
    "INSERT INTO torn (volume, source, log, lost) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (volume, source, log) DO UPDATE SET lost = CASE WHEN excluded.lost = 0 THEN 0 ELSE torn.lost END"
)
IS_TORN: Final = "SELECT 1 FROM torn WHERE volume = ? AND source = ? AND log = ?"
FOUND_AGAIN: Final = "DELETE FROM torn WHERE volume = ? AND source = ? AND log = ? AND lost = 1"
KEY_STYLE: Final = "SELECT keyless, own FROM key_style WHERE source = ?"
SET_KEY_STYLE: Final = (
    "INSERT INTO key_style (source, keyless, own) VALUES (?, ?, ?) "
    "ON CONFLICT (source) DO UPDATE SET keyless = excluded.keyless, own = excluded.own"
)


class Cuts:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._execute, self._volumes = db.execute, db.volumes

    def of(self, row: int) -> Cut | None:
        """The call's first cut; one that cannot be read comes before the end of a log."""
        found = self._execute(FIRST_OF_CALL, (row,)).fetchone()
        return None if found is None else _cut_of(found)

    def add(self, row: int, cut: Cut) -> None:
        o = cut.origin
        self._execute(ADD, (row, *self._at(cut.source), o.log, to_text(o.path), o.offset, str(cut.by)))

    def lift_all(self, row: int) -> None:
        self._execute(DELETE_OF_CALL, (row,))

    def lift_at(self, origin: Origin) -> Sequence[int]:
        """The document at the place can be read now. Returns the rows that were cut there."""
        return self._rows(LIFT_AT, (*self._at(origin.source), origin.log, origin.offset, to_text(origin.path)))

    def lift_in_file(self, source: str, path: str, but: Collection[int]) -> Sequence[int]:
        """A whole file was read anew, and cuts only at the offsets `but`. Returns the rows that were cut elsewhere in it."""
        found = self._execute(OF_FILE, (*self._at(source), to_text(path))).fetchall()
        lifted = [(row, offset) for row, offset in found if offset not in but]
        for row, offset in lifted:
            self._execute(LIFT_IN_FILE, (row, *self._at(source), to_text(path), offset))
        return [row for row, _ in lifted]

    def lift_log_end(self, source: str, log: int) -> Sequence[int]:
        """More of a log was read than its last known end."""
        return self._rows(LIFT_LOG_END, (*self._at(source), log))

    def rows_of(self, source: str) -> Sequence[int]:
        return self._rows(ROWS_OF_SOURCE, (source,))

    def _at(self, source: str) -> tuple[int, str]:
        return self._volumes.of(source), source

    def _rows(self, sql: str, values: Sequence[object]) -> Sequence[int]:
        return [row for (row,) in self._execute(sql, values).fetchall()]

    # Logs whose end is not known: the call that is carried there is cut.

    def tear(self, source: str, log: int, *, is_lost: bool) -> None:
        """The end of a log is not known. `is_lost`: the log cannot be found anywhere; a log that was truncated is not found
        again."""
        self._execute(TEAR, (*self._at(source), log, int(is_lost)))

    def is_torn(self, source: str, log: int) -> bool:
        return self._execute(IS_TORN, (*self._at(source), log)).fetchone() is not None

    def found_again(self, source: str, log: int) -> None:
        """A log that was lost is at its place."""
        self._execute(FOUND_AGAIN, (*self._at(source), log))

    # Whether the documents of a source have keys of their own, as far as they were read.

    def key_style(self, source: str, *, hold: bool = False) -> KeyStyle:
        """`hold`: it stays as it is until the transaction ends. It only ever grows."""
        if hold:
            self._db.hold(("key_style", source))
        found = self._execute(KEY_STYLE, (source,)).fetchone()
        return KeyStyle() if found is None else KeyStyle(keyless=found[0] == 1, own=found[1] == 1)

    def set_key_style(self, source: str, style: KeyStyle) -> None:
        self._execute(SET_KEY_STYLE, (source, int(style.keyless), int(style.own)))


def _cut_of(columns: Sequence[Any]) -> Cut:
    source, log, path, offset, by = columns
    origin = Origin(source=source, path=from_text(path), offset=offset, log=log)
    return Cut(source=source, key="", by=CutBy(by), origin=origin)
