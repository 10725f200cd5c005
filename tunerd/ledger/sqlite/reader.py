"""Questions to the ledger, on a connection and a thread of their own: positions of files, lists, stories. Bounded: no
question lasts over a second, no list is longer than 1,000 rows."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from tunerd.call import State
from tunerd.ledger import FileMark, Filter, LedgerUnavailable, StoredCall, StoredEvent, Story
from tunerd.ledger.commands.join import look
from tunerd.ledger.rows import Row, waits_for
from tunerd.ledger.sql.codec import COLUMNS, MARK_COLUMNS, from_text, mark_of, row_of, to_signed, to_text
from tunerd.ledger.sql.gather_tables import GatherTables
from tunerd.ledger.sqlite.errors import is_damage

T = TypeVar("T")

MOST_ROWS: Final = 1000
_LONGEST_S: Final = 1.0
_STEPS: Final = 10_000
"""Of SQLite's machine between two looks at the clock."""


class AnswersQuestions(Protocol):
    """What a ledger needs of a reader."""

    async def ask(self, question: Callable[[GatherTables], T]) -> T: ...
    async def close(self) -> None: ...


class ReaderThread:
    """`suspect` is called, in the reader's thread, when what was read is damaged: the next open rebuilds the ledger."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], suspect: Callable[[], None]) -> None:
        self._connect, self._suspect = connect, suspect
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._tables: GatherTables | None = None

    async def ask(self, question: Callable[[GatherTables], T]) -> T:
        """Run a question in the thread. Raises LedgerUnavailable where it takes too long or the disk does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    # The thread.

    def _answer(self, question: Callable[[GatherTables], T]) -> T:
        try:
            if self._tables is None:
                self._tables = GatherTables(self._connect())
            until = time.monotonic() + _LONGEST_S
            self._tables.db.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            return question(self._tables)
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
                raise LedgerUnavailable(
                    "the question took longer than a second; ask for less (a call id, a state, a time)"
                ) from exc
            self._close()
            if is_damage(exc):
                self._suspect()
                raise LedgerUnavailable("the ledger is damaged; tunerd rebuilds it at its next start") from None
            name = getattr(exc, "sqlite_errorname", "unknown")
            raise LedgerUnavailable(f"the ledger cannot be read now ({name})") from None  # its words may quote a row

    def _close(self) -> None:
        if self._tables is not None:
            self._tables.db.close()
            self._tables = None


# Files.


def mark(t: GatherTables, source: str, path: str) -> tuple[FileMark, bool] | None:
    """The mark, and whether it counts as vanished (though not as disposed)."""
    which = f"{MARK_COLUMNS}, vanished_at IS NOT NULL AND whole = 1 AND NOT disposed"
    sql = f"SELECT {which} FROM file WHERE source = ? AND path = ? ORDER BY vanished_at IS NULL DESC, log DESC LIMIT 1"
    found = t.db.execute(sql, (source, to_text(path))).fetchone()
    return None if found is None else (mark_of(found[:-1]), bool(found[-1]))


def marks(t: GatherTables, source: str, after_path: str, limit: int, vanished: bool) -> Sequence[FileMark]:
    which = "vanished_at IS NOT NULL AND whole = 1 AND NOT disposed" if vanished else "vanished_at IS NULL"
    sql = f"SELECT {MARK_COLUMNS} FROM file WHERE source = ? AND path > ? AND {which} ORDER BY path LIMIT ?"
    return [mark_of(columns) for columns in t.db.execute(sql, (source, to_text(after_path), min(limit, MOST_ROWS)))]


def moved_logs(t: GatherTables, source: str, limit: int) -> tuple[Sequence[FileMark], int]:
    sql = f"SELECT {MARK_COLUMNS} FROM file WHERE source = ? AND log > 0 AND vanished_at IS NOT NULL ORDER BY log DESC LIMIT ?"
    marks = [mark_of(columns) for columns in t.db.execute(sql, (source, min(limit, MOST_ROWS)))]
    greatest = t.db.execute("SELECT max(log) FROM file WHERE source = ? AND log > 0", (source,)).fetchone()[0]
    return marks, greatest or 0


def logs_like(t: GatherTables, source: str, inode: int, head: bytes, limit: int) -> Sequence[FileMark]:
    by_inode = f"SELECT {MARK_COLUMNS} FROM file WHERE source = ?1 AND log > 0 AND inode = ?2"
    by_head = f"SELECT {MARK_COLUMNS} FROM file WHERE source = ?1 AND log > 0 AND substr(content, 1, 8) = ?3"
    sql = f"{by_inode} UNION {by_head} ORDER BY log DESC LIMIT ?4"
    return [mark_of(columns) for columns in t.db.execute(sql, (source, to_signed(inode), head, min(limit, MOST_ROWS)))]


_OPEN_OR_FAILED: Final = "(c.state NOT IN ('sent', 'ignored') OR (c.state = 'sent' AND c.fragments_size > 0))"
"""Or sent, and documents of it came since that nobody has looked at."""
_IS_DISPOSABLE: Final = (
    "whole = 1 AND vanished_at IS NULL AND held = 0 "
    f"AND NOT EXISTS (SELECT 1 FROM call c WHERE c.source = f.source AND c.path = f.path AND {_OPEN_OR_FAILED}) "
    "AND NOT EXISTS (SELECT 1 FROM origin o JOIN call c ON c.row = o.row "
    f"WHERE o.source = f.source AND o.path = f.path AND {_OPEN_OR_FAILED})"
)


def disposable_among(t: GatherTables, source: str, paths: Sequence[str]) -> Sequence[FileMark]:
    """Which of these files may go."""
    sql = f"SELECT {MARK_COLUMNS} FROM file f WHERE source = ? AND path = ? AND {_IS_DISPOSABLE}"
    found = (t.db.execute(sql, (source, to_text(path))).fetchone() for path in paths)
    return [mark_of(columns) for columns in found if columns is not None]


def disposable_after(t: GatherTables, source: str, after_path: str, limit: int) -> tuple[Sequence[FileMark], str | None]:
    """Look through the next MOST_ROWS files in path order: those that may go, and where to look on (None: at the end)."""
    last = t.db.execute(
        "SELECT max(path), count(*) FROM (SELECT path FROM file WHERE source = ? AND path > ? ORDER BY path LIMIT ?)",
        (source, to_text(after_path), MOST_ROWS),
    ).fetchone()
    if last[0] is None:
        return (), None
    where = f"source = ? AND path > ? AND path <= ? AND {_IS_DISPOSABLE}"
    sql = f"SELECT {MARK_COLUMNS} FROM file f WHERE {where} ORDER BY path LIMIT ?"
    found = [mark_of(columns) for columns in t.db.execute(sql, (source, to_text(after_path), last[0], limit))]
    if len(found) == limit:
        return found, found[-1].path
    return found, from_text(last[0]) if last[1] == MOST_ROWS else None


# Lists and stories.


def calls(t: GatherTables, where: Filter, after_row: int, limit: int, newest: bool) -> Sequence[StoredCall]:
    terms, values = _terms(where)
    if after_row:
        terms.append("row < ?" if newest else "row > ?")
        values.append(after_row)
    condition = " AND ".join(terms) or "1"
    sql = f"SELECT {COLUMNS} FROM call WHERE {condition} ORDER BY row {'DESC' if newest else 'ASC'} LIMIT ?"
    return [row_of(columns).shown() for columns in t.db.execute(sql, [*values, min(limit, MOST_ROWS)])]


def _terms(where: Filter) -> tuple[list[str], list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    if where.states:
        # Named in the text, so that the small indexes for single states are of use.
        terms.append(" OR ".join(f"state = '{State(state)}'" for state in sorted(where.states)).join("()"))
    for column, wanted in (("reason", where.reasons), ("source", where.sources), ("call_id", where.call_ids)):
        if wanted:
            terms.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += sorted(wanted)
    if where.call_ids:
        terms.append("(kind = 'call' OR (kind <> 'call' AND call_id IS NOT NULL))")
    if where.since is not None:
        terms.append("admitted_at >= ?")
        values.append(where.since)
    if where.dismissed is not None:
        terms.append("dismissed = ?")
        values.append(where.dismissed)
    return terms, values


def story(t: GatherTables, call_id: str) -> Sequence[Story]:
    return [
        Story(
            call=row.shown(),
            origins=_origins(t, row),
            events=_events(t, row),
            waits_for=_waits_for(t, row),
        )
        for row in t.named(call_id)[:MOST_ROWS]
    ]


def _waits_for(t: GatherTables, row: Row) -> Sequence[str]:
    body, wants = t.body(row.row), t.wants(row.row)
    looks = body is not None and row.state in (State.WAITING, State.FAILED)
    return waits_for(row, body, wants, look(t, row, body.strategies, wants, 0.0) if looks and body is not None else {})


def _origins(t: GatherTables, row: Row) -> Sequence[tuple[str, int]]:
    further = (
        () if not row.copies else t.db.execute('SELECT path, "offset" FROM origin WHERE row = ? LIMIT ?', (row.row, MOST_ROWS))
    )
    return sorted({(row.path, row.offset), *((from_text(path), offset) for path, offset in further)})


def _events(t: GatherTables, row: Row) -> Sequence[StoredEvent]:
    sql = "SELECT at, what, status, detail FROM event WHERE row = ? ORDER BY seq"
    found = t.db.execute(sql, (row.row,))
    events = [StoredEvent(at=at, what=what, status=status, detail=from_text(detail)) for at, what, status, detail in found]
    return row.story(events)


def document(t: GatherTables, row: int) -> bytes | None:
    found = t.db.execute("SELECT document FROM body WHERE row = ?", (row,)).fetchone()
    return None if found is None else found[0]
