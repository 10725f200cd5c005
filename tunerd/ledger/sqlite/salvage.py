"""What can still be read of a damaged ledger goes into a new one, and is made consistent there."""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunerd.call import AudioState, State
from tunerd.ledger.commands.join import first_wants
from tunerd.ledger.commands.locate_audio import located
from tunerd.ledger.rows import LedgerRow, RowKind
from tunerd.ledger.sql.bodies import matching_of
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sql.columns import Unsound, quoted
from tunerd.ledger.sql.store import Store
from tunerd.outcome import AudioReason, FailReason

SIDES: Final = ("-wal", "-shm")
"""SQLite's files beside the database."""
_NUMBERED: Final = ("body", "frozen", "recording")
"""Tables, beside call, that are read by row number, around pages that cannot be read."""
_GAP: Final = 1 << 40
"""Rows that a damaged page may hide are skipped in growing steps, at most this far."""


@dataclass(slots=True)
class Salvaged:
    """What of a damaged file could be read, in numbers."""

    calls: int = 0
    documents_lost: int = 0
    unread: int = 0
    is_readable: bool = True


def salvage(new: sqlite3.Connection, kept: Path, read_again_from: float) -> Salvaged:
    """Copy what can be read, table by table. Works on a copy of the file, since SQLite would change it by opening it. Files that
    were changed at or after `read_again_from` get no mark: they are read again."""
    copy = kept.with_name(kept.name + ".tmp")
    try:
        for side in ("", "-wal"):
            if (there := kept.with_name(kept.name + side)).exists():
                shutil.copyfile(there, copy.with_name(copy.name + side))
        return Salvaged(calls=_copy_tables(new, copy, read_again_from))
    except (sqlite3.Error, OSError, UnicodeDecodeError):
        return Salvaged(is_readable=False)  # nothing in it can be read: everything is read from the files again
    finally:
        for side in ("", *SIDES):
            copy.with_name(copy.name + side).unlink(missing_ok=True)


def _copy_tables(new: sqlite3.Connection, copy: Path, read_again_from: float) -> int:
    old = sqlite3.connect(copy, isolation_level=None)
    old.execute("PRAGMA cell_size_check = ON")
    count = 0
    try:
        old.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # raises where nothing at all can be read
        new.execute("BEGIN IMMEDIATE")
        for columns in _rows(old, "call", CALL.listed):
            count += _put(new, "call", CALL.listed, columns) if _is_sane(columns) else 0
        for table, names in _tables(new):
            if table in ("call", "meta"):  # the numbers in meta are about the old file
                continue
            if table in _NUMBERED:
                found = _rows(old, table, names)
            elif table == "file":
                # A file whose calls may be among the lost ones is read again; what was sent is known by its id. Older files
                # keep their marks, because their sent rows may have been removed.
                found = _readable(old, f"SELECT {names} FROM file WHERE mtime_ns < ?", (int(read_again_from * 1e9),))
            else:
                found = _readable(old, f"SELECT {names} FROM {table}", ())
            for columns in found:
                if table != "body" or _is_sane_body(dict(zip(names.split(", "), columns, strict=True))):
                    _put(new, table, names, columns)
        new.execute("COMMIT")
    except BaseException:
        if new.in_transaction:
            new.execute("ROLLBACK")
        raise
    finally:
        old.close()
    return count


def _tables(new: sqlite3.Connection) -> Sequence[tuple[str, str]]:
    """Every table of the schema, and its columns."""
    tables = [name for (name,) in new.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
    return [
        (table, quoted([name for (name,) in new.execute("SELECT name FROM pragma_table_info(?)", (table,))])) for table in tables
    ]


def _readable(old: sqlite3.Connection, sql: str, values: Sequence[object]) -> Iterator[Sequence[Any]]:
    """Rows until the first that cannot be read."""
    try:
        yield from old.execute(sql, values)
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _rows(old: sqlite3.Connection, table: str, names: str) -> Iterator[Sequence[Any]]:
    """Rows of a table with row numbers, around pages that cannot be read: after each, the walk continues in growing steps, and
    what a gap may hide is looked for from the other end."""
    after, step, seen_to = 0, 1, 0
    while step < _GAP:
        try:
            for columns in old.execute(f"SELECT row, {names} FROM {table} WHERE row > ? ORDER BY row", (after,)):
                after, step, seen_to = columns[0], 1, columns[0]
                yield columns[1:]
            return
        except (sqlite3.Error, UnicodeDecodeError):
            after += step
            step *= 2
    before = _GAP
    try:
        sql = f"SELECT row, {names} FROM {table} WHERE row > ? AND row < ? ORDER BY row DESC"
        for columns in old.execute(sql, (seen_to, before)):
            yield columns[1:]
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _is_sane(columns: Sequence[Any]) -> bool:
    """A row whose bytes were flipped may read as nonsense."""
    try:
        row = CALL.record(columns)
    except (Unsound, TypeError, ValueError, AttributeError):
        return False
    return row.kind is not RowKind.CALL or bool(row.call_id)


def _is_sane_body(columns: Mapping[str, Any]) -> bool:
    try:
        matching_of(columns['"matching"'])
    except (TypeError, ValueError, IndexError):
        return False
    return True


def _put(new: sqlite3.Connection, table: str, names: str, columns: Sequence[Any]) -> int:
    try:
        return new.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", columns).rowcount
    except sqlite3.IntegrityError:
        return 0  # the wrong type: flipped bits


# Making it consistent.

_LOST_WORDS: Final = (
    "the ledger was damaged and the call's document could not be read from it; tunerd sends the call once its file is read "
    "again: put the file back into the source's directory, or `tunerd dismiss` this"
)
_OPEN: Final = "state IN ('gathering', 'waiting', 'due', 'sending')"
_WITHOUT_DOCUMENT: Final = (
    f"SELECT row FROM call WHERE {_OPEN} AND row NOT IN (SELECT row FROM body WHERE payload IS NOT NULL) AND row NOT IN "
    "(SELECT g.row FROM gathering g JOIN fragment f ON f.row = g.row WHERE f.document IS NOT NULL) "
    # what it was gathered from until then was in its body: what came since is not the whole call
    f"OR {_OPEN} AND gathers AND row NOT IN (SELECT row FROM body WHERE document IS NOT NULL) "
    "AND row IN (SELECT row FROM fragment WHERE document IS NULL)"
)
"""Open calls whose document could not be read."""
_ROWS_WITH_TRACES: Final = " UNION ".join(
    f"SELECT row FROM {table}" for table in ("body", "frozen", "origin", "event", "gathering", "fragment")
)
_WITHOUT_ROW: Final = f"SELECT count(*) FROM ({_ROWS_WITH_TRACES}) WHERE row NOT IN (SELECT row FROM call)"
"""Calls of which something could be read, but not their row."""
_ORPHANS: Final = (
    *(f"DELETE FROM {table} WHERE row NOT IN (SELECT row FROM call)" for table in ("body", "frozen", "origin", "event", "audio")),
    *(f"DELETE FROM {table} WHERE call NOT IN (SELECT row FROM call)" for table in ("want", "url_check")),
    "DELETE FROM gathering WHERE row NOT IN (SELECT row FROM call WHERE gathers)",
    "DELETE FROM fragment WHERE row NOT IN (SELECT row FROM gathering)",
    "DELETE FROM cut WHERE row NOT IN (SELECT row FROM gathering)",
    "UPDATE call SET gathers = 0, fragments_size = 0 WHERE gathers AND row NOT IN (SELECT row FROM gathering)",
)
_SEEKING: Final = "SELECT row FROM call WHERE seeks AND state IN ('waiting', 'failed')"
_WITHOUT_AUDIO: Final = "SELECT row FROM call WHERE audio IN ('pending', 'uploading') AND row NOT IN (SELECT row FROM audio)"
"""Calls whose audio could not be read: where it is is known, but not the target that Tuner named."""
_TARGET_LOST: Final = "the ledger was damaged, and the target that Tuner had named for the audio is lost"
_WITHOUT_FROZEN: Final = "SELECT row FROM call WHERE form IS NOT NULL AND patch IS NULL AND row NOT IN (SELECT row FROM frozen)"
"""Calls whose frozen body could not be read."""


def repair(store: Store, now: float) -> tuple[int, int]:
    """Make what was copied consistent. An open call without its document becomes failed(document_lost), and its files are read
    again if they are there; a waiting one looks for its recording anew. Returns how many calls lost their document, and how many
    others lost their row."""
    ask = store.ask
    lost = _calls(store, _WITHOUT_DOCUMENT)
    for row in lost:
        _lose(store, row, now)
    unread: int = ask(_WITHOUT_ROW).fetchone()[0]
    for sql in _ORPHANS:
        ask(sql)
    for row in _calls(store, _SEEKING):
        body = store.bodies.get(row.row)
        if body is not None and not store.wants.of(row.row):
            store.wants.set(row.row, first_wants(row, body.strategies))
            store.wants.seek(row.row, row.due_at is not None)
    for row in _calls(store, _WITHOUT_AUDIO):
        if row.audio is AudioState.PENDING:
            store.change(row, **located(store, row, row.recording_location, row.recording_expires_at, now))
        else:
            lost_target = {"reason": AudioReason.UPLOAD_TARGET_LOST.value, "place": "audio", "detail": _TARGET_LOST}
            store.change(row, audio=AudioState.FAILED, **lost_target)
    for row in _calls(store, _WITHOUT_FROZEN):
        store.change(row, form=None)
    return len(lost), unread


def _calls(store: Store, sql: str) -> list[LedgerRow]:
    numbers = store.ask(sql).fetchall()
    return [row for (number,) in numbers if (row := store.calls.get(number)) is not None]


def _lose(store: Store, row: LedgerRow, now: float) -> None:
    for _, source, path, _ in store.history.origins(row):
        store.files.delete(source, path)
    store.groups.delete_empty(row.row)
    store.thaw(row)
    if row.seeks:
        store.wants.set(row.row, ())
    was_sent_out = row.may_have_arrived or row.state is State.SENDING
    store.change(
        row, state=State.FAILED, changed_at=now, due_at=None, reason=FailReason.DOCUMENT_LOST.value, place="ledger",
        detail=_LOST_WORDS, seeks=False, size=row.fragments_size, may_have_arrived=was_sent_out,
    )  # fmt: skip
    store.history.add(row, now, "failed", detail=f"{FailReason.DOCUMENT_LOST.value}: the ledger was damaged")
