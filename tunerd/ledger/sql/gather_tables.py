"""Tables gathering, fragment, cut and key_style: groups, the last part of the store."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from tunerd.call import Cut, CutBy, Fragment, KeyStyle, Origin
from tunerd.ledger import FileMark
from tunerd.ledger.rows import KeptGroup, Row
from tunerd.ledger.sql.codec import MARK_COLUMNS, from_text, mark_of, to_text
from tunerd.ledger.sql.join_tables import JoinTables

_GROUP: Final = "row, source, key, version, look_at, last_at, wait_s, count"
_AT: Final = 'row = ? AND log = ? AND "offset" = ? AND (log > 0 OR path = ?)'
"""A place: of a log by its number, of a whole file by its path."""
_FRAGMENT: Final = 'path, log, "offset", length, mtime_ns, settled_at, part, newest'
_CUT: Final = 'source, log, path, "offset", cause'


class GatherTables(JoinTables):
    def _delete(self, row: Row) -> None:
        super()._delete(row)
        if row.gathers:
            self.db.execute("DELETE FROM gathering WHERE row = ?", (row.row,))
            self.db.execute("DELETE FROM fragment WHERE row = ?", (row.row,))
            self.lift_cuts_of(row.row)

    # Groups.

    def group(self, source: str, key: str) -> KeptGroup | None:
        return self._group("source = ? AND key = ?", (source, to_text(key)))

    def group_of(self, row: int) -> KeptGroup | None:
        return self._group("row = ?", (row,))

    def _group(self, where: str, values: Sequence[object]) -> KeptGroup | None:
        found = self.db.execute(f"SELECT {_GROUP} FROM gathering WHERE {where}", values).fetchone()
        return None if found is None else _group_of(found)

    def set_group(self, group: KeptGroup) -> None:
        """Put it in place of the row's; its fragments stay. `drop` takes both along."""
        g = group
        sql = f"INSERT OR REPLACE INTO gathering ({_GROUP}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, (g.row, g.source, to_text(g.key), g.version, g.look_at, g.last_at, g.wait_s, g.count))

    def wanting(self, source: str, now: float, ended_by: float, limit: int) -> Sequence[KeptGroup]:
        """Groups whose look is due, earliest first; of those that only waited, those whose wait ended by `ended_by`."""
        wants = "source = ? AND look_at <= ? AND (look_at < last_at + wait_s OR last_at + wait_s <= ?)"
        sql = f"SELECT {_GROUP} FROM gathering WHERE {wants} ORDER BY look_at, row LIMIT ?"
        return [_group_of(columns) for columns in self.db.execute(sql, (source, now, ended_by, limit))]

    def next_look(self, source: str) -> float | None:
        sql = "SELECT min(look_at) FROM gathering WHERE source = ? AND look_at IS NOT NULL"
        return self.db.execute(sql, (source,)).fetchone()[0]  # type: ignore[no-any-return]

    def gathering_sources(self) -> Sequence[str]:
        found: list[str] = []
        sql = "SELECT min(source) FROM gathering WHERE look_at IS NOT NULL AND source > ?"  # a step of the index each
        while (source := self.db.execute(sql, (found[-1] if found else "",)).fetchone()[0]) is not None:
            found.append(source)
        return found

    # Fragments.

    def add_fragment(self, row: int, fragment: Fragment, digest: bytes, *, whole: bool, with_document: bool) -> None:
        """The row's next fragment; without its document only the place and digest are known."""
        f, o = fragment, fragment.origin
        self.db.execute(
            f"INSERT INTO fragment (row, seq, {_FRAGMENT}, digest, whole, document) "
            "SELECT ?, coalesce(max(seq), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM fragment WHERE row = ?",
            (
                *(row, to_text(o.path), o.log, o.offset, o.length, o.mtime_ns, f.settled_at, f.part, f.newest),
                *(digest, whole, f.document if with_document else None, row),
            ),
        )

    def drop_fragments_at(self, row: int, origin: Origin) -> int:
        """Gives how many bytes of documents went."""
        sql = f"SELECT coalesce(sum(length(document)), 0) FROM fragment WHERE {_AT}"
        gone: int = self.db.execute(sql, _at(row, origin)).fetchone()[0]
        self.db.execute(f"DELETE FROM fragment WHERE {_AT}", _at(row, origin))
        return gone

    def digests(self, row: int, origin: Origin) -> Sequence[bytes]:
        """Of the fragments at a place, whether their documents are still there or not."""
        return [digest for (digest,) in self.db.execute(f"SELECT digest FROM fragment WHERE {_AT}", _at(row, origin))]

    def was_in_lost_log(self, row: int, origin: Origin, digest: bytes) -> bool:
        """Whether it stood at this offset of a log of which no mark is left (the ledger was damaged): this is that log, under
        another number."""
        of_lost = "NOT EXISTS (SELECT 1 FROM file WHERE file.source = ? AND file.log = fragment.log)"
        sql = (
            f'SELECT 1 FROM fragment WHERE row = ? AND "offset" = ? AND digest = ? AND log > 0 AND log <> ? AND {of_lost} LIMIT 1'
        )
        return self.db.execute(sql, (row, origin.offset, digest, origin.log, origin.source)).fetchone() is not None

    def last_log_offset(self, row: int, origin: Origin) -> int | None:
        """The last place of a log whose document is no longer there."""
        of_log = "row = ? AND log = ? AND (log > 0 OR path = ?) AND whole = 0 AND document IS NULL"
        values = (row, origin.log, to_text(origin.path))
        return self.db.execute(f'SELECT max("offset") FROM fragment WHERE {of_log}', values).fetchone()[0]  # type: ignore[no-any-return]

    def fragments(self, row: int) -> Sequence[Fragment]:
        """Those whose documents are there, in the order they came."""
        group = self.group_of(row)
        if group is None:
            return ()
        sql = f"SELECT {_FRAGMENT}, document FROM fragment WHERE row = ? AND document IS NOT NULL ORDER BY seq"
        return [_fragment_of(columns, group) for columns in self.db.execute(sql, (row,))]

    def empty_fragments(self, row: int) -> None:
        """Their documents go, their places stay."""
        self.db.execute("UPDATE fragment SET document = NULL WHERE row = ? AND document IS NOT NULL", (row,))

    def thin_fragments(self, row: int) -> None:
        """The call is sent: of a log only the last place whose document is gone stays."""
        gone = "row = ?1 AND whole = 0 AND document IS NULL"
        path = "iif(log > 0, '', path)"
        last = f'SELECT log, {path}, max("offset") FROM fragment WHERE {gone} GROUP BY 1, 2'
        self.db.execute(f'DELETE FROM fragment WHERE {gone} AND (log, {path}, "offset") NOT IN ({last})', (row,))

    def hold_file(self, source: str, path: str) -> None:
        """The same for one file."""
        self.db.execute("UPDATE file SET held = 1 WHERE source = ? AND path = ?", (source, to_text(path)))

    # Calls that may lack a part.

    def cut_of(self, row: int) -> Cut | None:
        """The first of them."""
        sql = f'SELECT {_CUT} FROM cut WHERE row = ? ORDER BY cause DESC, log, path, "offset" LIMIT 1'
        found = self.db.execute(sql, (row,)).fetchone()
        return None if found is None else _cut_of(found)

    def add_cut(self, row: int, cut: Cut) -> None:
        o = cut.origin
        sql = f"INSERT OR IGNORE INTO cut (row, {_CUT}) VALUES (?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, (row, cut.source, o.log, to_text(o.path), o.offset, cut.by))

    def lift_cuts_of(self, row: int) -> None:
        self.db.execute("DELETE FROM cut WHERE row = ?", (row,))

    def lift_cut(self, origin: Origin) -> Sequence[int]:
        """What stands at the place can be read now. Gives the rows that were cut there."""
        at = """source = ? AND log = ? AND "offset" = ? AND (log > 0 OR path = ?) AND cause = 'unreadable'"""
        return self._lift(at, (origin.source, origin.log, origin.offset, to_text(origin.path)))

    def lift_cuts_of_file(self, source: str, path: str, but: Collection[int]) -> Sequence[int]:
        """A whole file was read anew, and cuts only at the offsets `but`."""
        at = f'source = ? AND log = 0 AND path = ? AND "offset" NOT IN ({", ".join("?" * len(but))})'
        return self._lift(at, (source, to_text(path), *but))

    def lift_log_end(self, source: str, log: int) -> Sequence[int]:
        """More of a log was read than its last known end."""
        return self._lift("source = ? AND log = ? AND cause = 'log_end'", (source, log))

    def _lift(self, where: str, values: Sequence[object]) -> Sequence[int]:
        return [row for (row,) in self.db.execute(f"DELETE FROM cut WHERE {where} RETURNING row", values).fetchall()]

    def tear(self, source: str, log: int, *, is_lost: bool) -> FileMark | None:
        """The end of a log is not known; gives its mark."""
        sql = "INSERT INTO torn (source, log, lost) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lost = min(lost, excluded.lost)"
        self.db.execute(sql, (source, log, is_lost))
        found = self.db.execute(f"SELECT {MARK_COLUMNS} FROM file WHERE source = ? AND log = ?", (source, log)).fetchone()
        return None if found is None else mark_of(found)

    def find_again(self, source: str, log: int) -> None:
        """A log that was lost is at its place."""
        self.db.execute("DELETE FROM torn WHERE source = ? AND log = ? AND lost = 1", (source, log))

    def is_torn(self, source: str, log: int) -> bool:
        return self.db.execute("SELECT 1 FROM torn WHERE source = ? AND log = ?", (source, log)).fetchone() is not None

    def rows_cut(self, source: str) -> Sequence[int]:
        return [row for (row,) in self.db.execute("SELECT DISTINCT row FROM cut WHERE source = ?", (source,)).fetchall()]

    def key_style(self, source: str) -> KeyStyle:
        found = self.db.execute("SELECT keyless, own FROM key_style WHERE source = ?", (source,)).fetchone()
        return KeyStyle() if found is None else KeyStyle(keyless=bool(found[0]), own=bool(found[1]))

    def set_key_style(self, source: str, style: KeyStyle) -> None:
        sql = "INSERT OR REPLACE INTO key_style (source, keyless, own) VALUES (?, ?, ?)"
        self.db.execute(sql, (source, style.keyless, style.own))

    # Retention.

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self.db.execute("UPDATE gathering SET look_at = look_at + ?1, last_at = last_at + ?1", (seconds,))


def _at(row: int, origin: Origin) -> tuple[object, ...]:
    return (row, origin.log, origin.offset, to_text(origin.path))


def _cut_of(columns: Sequence[Any]) -> Cut:
    source, log, path, offset, by = columns
    origin = Origin(source=source, path=from_text(path), offset=offset, log=log)
    return Cut(source=source, key="", by=CutBy(by), origin=origin)


def _group_of(columns: Sequence[Any]) -> KeptGroup:
    row, source, key, version, look_at, last_at, wait_s, count = columns
    return KeptGroup(
        row=row,
        source=source,
        key=from_text(key),
        version=version,
        look_at=look_at,
        last_at=last_at,
        wait_s=wait_s,
        count=count,
    )


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
