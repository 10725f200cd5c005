"""Table file: how far each file has been read, whether its path is there, and whether it may be disposed of.

A log has one row. While it is at no known path (it was moved, and not found yet) its row is kept as vanished under its last
path, beside the row of the file that is there now.
"""

from collections.abc import Sequence
from typing import Any, Final

from tunerd.ledger import FileMark
from tunerd.ledger.sql.columns import RecordColumns, from_text, to_signed, to_text
from tunerd.ledger.sql.database import Execute
from tunerd.ledger.sql.other_instances import OtherInstances
from tunerd.ledger.sql.volumes import Volumes

MARK: Final = RecordColumns("file", FileMark, without=("is_there",))
_MARK: Final = f"SELECT {MARK.listed} FROM file"
_IN: Final = "volume = ? AND source = ?"
_STATE: Final = "vanished_at, disposed, kept"
"""Columns that say something of the path, and are no part of the mark."""
_GONE: Final = "vanished_at IS NOT NULL AND whole = 1 AND disposed = 0"
_OPEN_OR_FAILED: Final = (
    "(c.state NOT IN ('sent', 'ignored') OR (c.state = 'sent' AND c.fragments_size > 0) "
    "OR (c.audio NOT IN ('none', 'uploaded') AND c.dismissed = 0))"
)
"""Or sent, and documents of it came since that nobody has looked at, or its audio has not reached Tuner."""
_IS_DISPOSABLE: Final = (
    "whole = 1 AND vanished_at IS NULL AND kept = 0 "
    f"AND NOT EXISTS (SELECT 1 FROM call c "
    f"WHERE c.volume = f.volume AND c.source = f.source AND c.path = f.path AND {_OPEN_OR_FAILED}) "
    "AND NOT EXISTS (SELECT 1 FROM origin o JOIN call c ON c.row = o.row "
    f"WHERE o.volume = f.volume AND o.source = f.source AND o.path = f.path AND {_OPEN_OR_FAILED})"
)

AT_PATH: Final = (
    f"SELECT {MARK.listed}, {_GONE} FROM file WHERE {_IN} AND path = ? ORDER BY vanished_at IS NULL DESC, log DESC LIMIT 1"
)
"""What is at a path, or was last; and whether it counts as vanished."""
THERE: Final = f"{_MARK} WHERE {_IN} AND path > ? AND vanished_at IS NULL ORDER BY path LIMIT ?"
GONE: Final = f"{_MARK} WHERE {_IN} AND path > ? AND {_GONE} ORDER BY path LIMIT ?"
MOVED_LOGS: Final = f"{_MARK} WHERE {_IN} AND log <> 0 AND vanished_at IS NOT NULL ORDER BY log DESC LIMIT ?"
GREATEST_LOG: Final = f"SELECT max(log) FROM file WHERE {_IN} AND log <> 0"
LOGS_OF_INODE: Final = f"{_MARK} WHERE {_IN} AND log <> 0 AND inode = ? ORDER BY log DESC LIMIT ?"
LOGS_THAT_BEGIN: Final = f"{_MARK} WHERE {_IN} AND log <> 0 AND substr(content, 1, 8) = ? ORDER BY log DESC LIMIT ?"
"""Logs that had this inode, and logs whose content begins like this."""
OF_LOG: Final = f"{_MARK} WHERE {_IN} AND log = ? AND log <> 0"
DISPOSABLE: Final = f"{_MARK} f WHERE {_IN} AND path = ? AND {_IS_DISPOSABLE}"
DISPOSABLE_BETWEEN: Final = f"{_MARK} f WHERE {_IN} AND path > ? AND path <= ? AND {_IS_DISPOSABLE} ORDER BY path LIMIT ?"
PAGE_END: Final = (
    f"SELECT max(path), count(*) FROM (SELECT path FROM file WHERE {_IN} AND path > ? ORDER BY path LIMIT ?) AS page"
)
"""Where a page of files ends, in path order."""
IS_KEPT: Final = f"SELECT kept FROM file WHERE {_IN} AND path = ? AND log = ?"
SET_MARK: Final = (
    f"INSERT INTO file (volume, {MARK.listed}, {_STATE}) VALUES (?, {', '.join('?' * len(MARK.names))}, ?, 0, ?) "
    "ON CONFLICT (volume, source, path, log) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in MARK.names if name not in ("source", "path", "log"))
    + ", vanished_at = excluded.vanished_at, disposed = 0, kept = excluded.kept"
)
FORGET_OTHER_PATHS: Final = f"DELETE FROM file WHERE {_IN} AND log = ? AND log <> 0 AND path <> ?"
"""A log has one mark."""
OTHERS_VANISHED: Final = f"UPDATE file SET vanished_at = ? WHERE {_IN} AND path = ? AND log <> ? AND vanished_at IS NULL"
VANISHED: Final = f"UPDATE file SET vanished_at = ? WHERE {_IN} AND path = ? AND vanished_at IS NULL"
CAME_BACK: Final = f"UPDATE file SET vanished_at = NULL WHERE {_IN} AND path = ? AND whole = 1 AND disposed = 0"
DISPOSED: Final = f"UPDATE file SET vanished_at = ?, disposed = 1 WHERE {_IN} AND path = ? AND whole = 1"
KEEP: Final = f"UPDATE file SET kept = 1 WHERE {_IN} AND path = ?"
DELETE: Final = f"DELETE FROM file WHERE {_IN} AND path = ?"
DELETE_VANISHED: Final = (
    "DELETE FROM file WHERE (volume, source, path, log) IN (SELECT volume, source, path, log FROM file f "
    "WHERE vanished_at IS NOT NULL AND vanished_at <= ? "
    "AND (log = 0 OR log < (SELECT max(log) FROM file g "
    "WHERE g.volume = f.volume AND g.source = f.source AND g.log <> 0)) LIMIT ?) "
    "RETURNING log"
)
"""The newest log of a source keeps its row: the next log gets a greater number."""

PAGE: Final = 1000


class Files:
    def __init__(self, execute: Execute, volumes: Volumes, others: OtherInstances) -> None:
        self._execute, self._volumes, self._others = execute, volumes, others

    # What is known of files.

    def mark(self, source: str, path: str) -> tuple[FileMark, bool] | None:
        """The mark, and whether it counts as vanished (and not as disposed)."""
        found = self._execute(AT_PATH, (*self._at(source), to_text(path))).fetchone()
        return None if found is None else (MARK.record(found[:-1]), bool(found[-1]))

    def marks(self, source: str, after_path: str, limit: int, vanished: bool) -> Sequence[FileMark]:
        return self._marks(GONE if vanished else THERE, (*self._at(source), to_text(after_path), min(limit, PAGE)))

    def moved_logs(self, source: str, limit: int) -> tuple[Sequence[FileMark], int]:
        greatest = self._execute(GREATEST_LOG, self._at(source)).fetchone()[0]
        return self._marks(MOVED_LOGS, (*self._at(source), min(limit, PAGE))), greatest or 0

    def logs_like(self, source: str, inode: int, head: bytes, limit: int) -> Sequence[FileMark]:
        at, most = self._at(source), min(limit, PAGE)
        found = self._marks(LOGS_OF_INODE, (*at, to_signed(inode), most)) + self._marks(LOGS_THAT_BEGIN, (*at, head, most))
        return sorted({mark.log: mark for mark in found}.values(), key=lambda mark: -mark.log)[:most]

    def of_log(self, source: str, log: int) -> FileMark | None:
        return next(iter(self._marks(OF_LOG, (*self._at(source), log))), None)

    def disposable_among(self, source: str, paths: Sequence[str]) -> Sequence[FileMark]:
        """Which of these files may be disposed of."""
        return [mark for path in paths for mark in self._marks(DISPOSABLE, (*self._at(source), to_text(path)))[:1]]

    def disposable_after(self, source: str, after_path: str, limit: int) -> tuple[Sequence[FileMark], str | None]:
        """Look through the next page of files in path order: those that may be disposed of, and where the next page begins
        (None: there is none)."""
        last, count = self._execute(PAGE_END, (*self._at(source), to_text(after_path), PAGE)).fetchone()
        if last is None:
            return (), None
        found = self._marks(DISPOSABLE_BETWEEN, (*self._at(source), to_text(after_path), last, limit))
        if len(found) == limit:
            return found, found[-1].path
        return found, from_text(last) if count == PAGE else None

    def _at(self, source: str) -> tuple[int, str]:
        return self._volumes.of(source), source

    def _marks(self, sql: str, values: Any) -> list[FileMark]:
        return [MARK.record(columns) for columns in self._execute(sql, values)]

    # What changes. The first four, which tell what was read, raise NotTheReader.

    def set_mark(self, mark: FileMark, now: float, *, is_as_read: bool = False) -> None:
        """The path is there: it is neither vanished nor disposed. What else was at this path is not; a log has one mark.
        `is_as_read`: the file is the one that was read, so it stays kept if it was."""
        self._others.check_reader(mark.source)
        path, at = to_text(mark.path), self._at(mark.source)
        was_kept = self._execute(IS_KEPT, (*at, path, mark.log)).fetchone() if is_as_read else None
        if mark.log:
            self._execute(FORGET_OTHER_PATHS, (*at, mark.log, path))
        if mark.is_there:
            self._execute(OTHERS_VANISHED, (now, *at, path, mark.log))
        vanished_at = None if mark.is_there else now
        self._execute(SET_MARK, (at[0], *MARK.values(mark), vanished_at, 0 if was_kept is None else was_kept[0]))

    def vanish(self, source: str, paths: Sequence[str], now: float) -> None:
        self._others.check_reader(source)
        for path in paths:
            self._execute(VANISHED, (now, *self._at(source), to_text(path)))

    def come_back(self, source: str, path: str) -> None:
        self._others.check_reader(source)
        self._execute(CAME_BACK, (*self._at(source), to_text(path)))

    def dispose(self, source: str, path: str, now: float) -> None:
        self._others.check_reader(source)
        self._execute(DISPOSED, (now, *self._at(source), to_text(path)))

    def keep(self, volume: int, source: str, path: str) -> None:
        """The file is never disposable again: a call of it is removed without having been sent."""
        self._execute(KEEP, (volume, source, to_text(path)))

    def delete(self, source: str, path: str) -> None:
        """The file is read again."""
        self._execute(DELETE, (*self._at(source), to_text(path)))

    def delete_vanished(self, before: float, limit: int) -> int:
        return len(self._execute(DELETE_VANISHED, (before, limit)).fetchall())
