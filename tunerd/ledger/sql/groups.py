"""Tables gathering and fragment: calls that are gathered from several documents, and those documents.

A line of a log is known by the number of its log, whatever the log is called by then; number 0 is a whole file, known by its
path.
"""

from collections.abc import Sequence
from typing import Any, Final

from tunerd.call import Fragment, Origin
from tunerd.ledger.rows import KeptGroup
from tunerd.ledger.sql.columns import RecordColumns, from_text, to_text
from tunerd.ledger.sql.database import Database

GROUP: Final = RecordColumns("gathering", KeptGroup, key=("row",), text=("key",))
_GROUP: Final = f"SELECT {GROUP.listed} FROM gathering"
_AT: Final = 'row = ? AND volume = ? AND log = ? AND "offset" = ? AND (log > 0 OR path = ?)'
"""A place: of a log by its number, of a whole file by its path."""
_FRAGMENT: Final = 'path, log, "offset", length, mtime_ns, settled_at, part, newest'
_EMPTY: Final = "row = :row AND whole = 0 AND document IS NULL"
_FILE: Final = "CASE WHEN log > 0 THEN '' ELSE path END"

BY_KEY: Final = f"{_GROUP} WHERE source = ? AND key = ?"
BY_ROW: Final = f"{_GROUP} WHERE row = ?"
_IS_OURS: Final = (
    "(owner IN (0, :own) OR owner NOT IN (SELECT number FROM instance WHERE is_over = 0 AND heartbeat_at >= :alive_since))"
)
"""Only its own instance knows whether files are unread that belong to a group; if that is gone, nobody reads them."""
TO_LOOK_AT: Final = (
    f"{_GROUP} WHERE source = :source AND look_at <= :now AND (look_at < last_at + wait_s OR last_at + wait_s <= :ended_by) "
    f"AND {_IS_OURS} ORDER BY look_at, row LIMIT :count"
)
"""Groups to look at, earliest first; of those whose wait ended, those of which it ended early enough."""
NEXT_LOOK: Final = f"SELECT min(look_at) FROM gathering WHERE source = :source AND look_at IS NOT NULL AND {_IS_OURS}"
NEXT_SOURCE: Final = (
    "SELECT min(source) FROM gathering WHERE look_at IS NOT NULL AND source > :after AND (:is_alone = 1 OR owner = :own)"
)
DELETE: Final = "DELETE FROM gathering WHERE row = ?"
SHIFT: Final = "UPDATE gathering SET look_at = look_at + :seconds, last_at = last_at + :seconds"

ADD_FRAGMENT: Final = (
    f"INSERT INTO fragment (row, seq, {_FRAGMENT}, digest, whole, document, volume) "
    "VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM fragment WHERE row = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
FRAGMENTS: Final = f"SELECT {_FRAGMENT}, document FROM fragment WHERE row = ? AND document IS NOT NULL ORDER BY seq"
BYTES_AT: Final = f"SELECT coalesce(sum(length(document)), 0) FROM fragment WHERE {_AT}"
DELETE_AT: Final = f"DELETE FROM fragment WHERE {_AT}"
DIGESTS_AT: Final = f"SELECT digest FROM fragment WHERE {_AT}"
IN_LOST_LOG: Final = (
    'SELECT 1 FROM fragment WHERE row = ? AND volume = ? AND "offset" = ? AND digest = ? AND log > 0 AND log <> ? '
    "AND NOT EXISTS (SELECT 1 FROM file WHERE file.volume = fragment.volume AND file.source = ? "
    "AND file.log = fragment.log AND file.log <> 0) LIMIT 1"
)
LAST_IN_LOG: Final = (
    'SELECT max("offset") FROM fragment WHERE row = ? AND volume = ? AND log = ? AND (log > 0 OR path = ?) '
    "AND whole = 0 AND document IS NULL"
)
EMPTY_FRAGMENTS: Final = "UPDATE fragment SET document = NULL WHERE row = ? AND document IS NOT NULL"
DELETE_EMPTY: Final = "DELETE FROM fragment WHERE row = ? AND document IS NULL"
COMPACT: Final = (
    f'DELETE FROM fragment WHERE {_EMPTY} AND (volume, log, {_FILE}, "offset") NOT IN '
    f'(SELECT volume, log, {_FILE}, max("offset") FROM fragment WHERE {_EMPTY} GROUP BY 1, 2, 3)'
)
DELETE_FRAGMENTS: Final = "DELETE FROM fragment WHERE row = ?"


class Groups:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._execute, self._volumes = db.execute, db.volumes

    def get(self, source: str, key: str) -> KeptGroup | None:
        self._db.hold(("group", source, key))
        return self._group(BY_KEY, (source, to_text(key)))

    def of(self, row: int) -> KeptGroup | None:
        found = self._group(BY_ROW, (row,))
        if found is not None:
            self._db.hold(_name(found))
        return found

    def names(self, rows: Sequence[int]) -> Sequence[tuple[str, ...]]:
        """What `of` holds for these rows, to be held together."""
        found = [self._execute(BY_ROW, (row,)) for row in rows]
        return [_name(GROUP.record(columns)) for one in found for columns in one]

    def _group(self, sql: str, values: Sequence[object]) -> KeptGroup | None:
        found = self._execute(sql, values).fetchone()
        return None if found is None else GROUP.record(found)

    def set(self, group: KeptGroup) -> None:
        """Put it in place of the row's; its fragments stay."""
        self._execute(GROUP.upsert, GROUP.values(group))

    def to_look_at(self, source: str, now: float, ended_by: float, limit: int) -> tuple[Sequence[KeptGroup], float | None]:
        """What there is for this instance, and when the earliest look of all is due."""
        ours = {"source": source, "own": self._volumes.own, "alive_since": self._db.others.alive_since()}
        found = self._execute(TO_LOOK_AT, {**ours, "now": now, "ended_by": ended_by, "count": limit})
        next_look = self._execute(NEXT_LOOK, ours)
        return [GROUP.record(columns) for columns in found], next_look.fetchone()[0]

    def sources(self) -> Sequence[str]:
        """Sources that have a group to look at (beside other instances: one of this instance). A step of the index for each."""
        found: list[str] = []
        ours = {"own": self._volumes.own, "is_alone": int(self._db.others.is_alone())}
        while (source := self._execute(NEXT_SOURCE, {**ours, "after": found[-1] if found else ""}).fetchone()[0]) is not None:
            found.append(source)
        return found

    def delete(self, row: int) -> None:
        """With its fragments."""
        self._execute(DELETE, (row,))
        self._execute(DELETE_FRAGMENTS, (row,))

    def shift(self, seconds: float) -> None:
        self._execute(SHIFT, {"seconds": seconds})

    # Fragments.

    def add_fragment(self, row: int, fragment: Fragment, digest: bytes, *, whole: bool, with_document: bool) -> None:
        """The row's next fragment. Without its document only its place and digest are known."""
        f, o = fragment, fragment.origin
        self._execute(
            ADD_FRAGMENT,
            (
                *(row, row, to_text(o.path), o.log, o.offset, o.length, o.mtime_ns, f.settled_at, f.part, f.newest),
                *(digest, int(whole), f.document if with_document else None, self._volumes.of(o.source)),
            ),
        )

    def fragments(self, row: int) -> Sequence[Fragment]:
        """Those whose documents are there, in the order they came."""
        group = self.of(row)
        if group is None:
            return ()
        return [_fragment_of(columns, group) for columns in self._execute(FRAGMENTS, (row,))]

    def delete_fragments_at(self, row: int, origin: Origin) -> int:
        """Returns how many bytes of documents are gone."""
        gone: int = self._execute(BYTES_AT, self._place(row, origin)).fetchone()[0]
        self._execute(DELETE_AT, self._place(row, origin))
        return gone

    def digests(self, row: int, origin: Origin) -> Sequence[bytes]:
        """Of the fragments at a place, whether their documents are still there or not."""
        return [digest for (digest,) in self._execute(DIGESTS_AT, self._place(row, origin))]

    def was_in_lost_log(self, row: int, origin: Origin, digest: bytes) -> bool:
        """Whether it was read at this offset of a log of which no mark is left (the ledger was damaged): this is that log, under
        another number."""
        values = (row, self._volumes.of(origin.source), origin.offset, digest, origin.log, origin.source)
        return self._execute(IN_LOST_LOG, values).fetchone() is not None

    def last_log_offset(self, row: int, origin: Origin) -> int | None:
        """The last place of a log whose document is no longer there."""
        return self._execute(LAST_IN_LOG, (row, self._volumes.of(origin.source), origin.log, to_text(origin.path))).fetchone()[0]  # type: ignore[no-any-return]

    def empty_fragments(self, row: int) -> None:
        """Remove their documents, keep their places."""
        self._execute(EMPTY_FRAGMENTS, (row,))

    def delete_empty(self, row: int) -> None:
        """Forget the places whose documents are gone: documents that are read there again count as new."""
        self._execute(DELETE_EMPTY, (row,))

    def compact(self, row: int) -> None:
        """The call is sent: of each log only the last place whose document is gone is kept."""
        self._execute(COMPACT, {"row": row})

    def _place(self, row: int, origin: Origin) -> tuple[object, ...]:
        return (row, self._volumes.of(origin.source), origin.log, origin.offset, to_text(origin.path))


def _name(group: KeptGroup) -> tuple[str, ...]:
    return ("group", group.source, group.key)


def _fragment_of(columns: Sequence[Any], group: KeptGroup) -> Fragment:
    path, log, offset, length, mtime_ns, settled_at, part, newest, document = columns
    path = from_text(path)
    origin = Origin(source=group.source, path=path, offset=offset, length=length, mtime_ns=mtime_ns, log=log)
    return Fragment(
        origin=origin,
        source=group.source,
        key=group.key,
        part=part,
        newest=newest,
        document=document,
        settled_at=settled_at,
        wait_s=group.wait_s,
    )
