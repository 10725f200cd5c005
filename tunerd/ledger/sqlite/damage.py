"""A ledger file that cannot be trusted: found at open, set aside, and what can still be read of it taken over."""

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tunerd.call import State
from tunerd.events import LedgerRebuilt
from tunerd.ledger import LedgerRefused
from tunerd.ledger.commands.join import first_wants
from tunerd.ledger.commands.send import reclaim_all
from tunerd.ledger.rows import Row, RowKind
from tunerd.ledger.sql.codec import COLUMNS, MARK_COLUMNS, Unsound, row_of, to_text
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import connect, prepare, scripts
from tunerd.ledger.sqlite.errors import is_trouble, words_for
from tunerd.outcome import FailReason

_CHECK_S: Final = 5.0
_CHECK_STEPS: Final = 100_000
_SIDES: Final = ("-wal", "-shm")
_HEADER: Final = b"SQLite format 3\0"
_OURS: Final = (".lock", ".reserve", ".suspect", "-wal")
"""What an earlier run leaves beside its ledger."""
_GAP: Final = 1 << 40
"""Rows that a damaged page may hide are skipped in growing steps, at most so far."""


def open_sound(
    path: Path, now: float, keep_sent_s: float, *, is_reopened: bool = False, may_rebuild: bool = True
) -> tuple[Store, LedgerRebuilt | None]:
    """A store on a sound file. A damaged one is set aside first, or, without `may_rebuild`, refused and left as it is.
    Raises LedgerRefused with one line; with `is_reopened` (the process goes on, and claims stand) sqlite3.Error
    instead, and claims are not taken back."""
    try:
        if is_reopened and not path.exists():
            raise FileNotFoundError(errno.ENOENT, "the file is gone", str(path))
        if not is_reopened and _is_known_bad(path):
            return _rebuild(path, now, keep_sent_s, may_rebuild)
        try:
            return _open(path, now, is_reopened), None
        except (sqlite3.Error, UnicodeDecodeError, ValueError, TypeError) as exc:
            if isinstance(exc, sqlite3.Error) and is_trouble(exc):
                raise
            if is_reopened:
                mark_suspect(path)
                raise Unsound("damaged") from None
            return _rebuild(path, now, keep_sent_s, may_rebuild)
    except sqlite3.Error as exc:
        if is_reopened:
            raise
        raise LedgerRefused(f"{path} cannot be opened: {words_for(exc)}") from exc
    except OSError as exc:
        if is_reopened:
            trouble = sqlite3.OperationalError(str(exc.strerror))
            trouble.sqlite_errorcode, trouble.sqlite_errorname = sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN"
            raise trouble from exc
        raise LedgerRefused(f"{path} cannot be opened: {exc.strerror}") from exc


def refuse_what_is_none(path: Path) -> None:
    """LedgerRefused for a file that does not begin as a database and never was a ledger: nothing of an earlier run stands
    beside it. Ask before the lock is taken, which leaves such a file. An empty or unreadable one is left to the open."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_HEADER))
    except OSError:
        return
    if head != _HEADER[: len(head)] and not any(path.with_name(path.name + end).exists() for end in _OURS):
        raise LedgerRefused(f"{path} is no ledger; it is left untouched: give the ledger a file of its own (ledger.url)")


def _open(path: Path, now: float, is_reopened: bool) -> Store:
    db = connect(path)
    try:
        prepare(db, path, now, scripts())
        _check(db)
        store = Store(db)
        if not is_reopened:
            store.begin(full=True)
            reclaim_all(store, now)
            store.commit()
    except BaseException:
        db.close()
        raise
    return store


def _check(db: sqlite3.Connection) -> None:
    """quick_check, for 5 s at most: a large ledger must not hold up the start."""
    until = time.monotonic() + _CHECK_S
    db.set_progress_handler(lambda: time.monotonic() > until, _CHECK_STEPS)
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as exc:
        if getattr(exc, "sqlite_errorname", "") != "SQLITE_INTERRUPT":
            raise
        return
    finally:
        db.set_progress_handler(None, 0)
    if found != "ok":
        raise Unsound("quick_check found damage")


def mark_suspect(path: Path) -> None:
    """Damage was met while running: the next open rebuilds the ledger, whatever a quick check says."""
    try:
        _note(path, "")
    except OSError:
        pass


def _is_known_bad(path: Path) -> bool:
    """Empty, suspect since it was last open, or set aside already by a rebuild that was broken off."""
    if _suspicion(path).exists():
        kept = _broken_off(path)
        if (kept is None or not kept.exists()) == path.exists():
            return True  # the file is suspect, or it is set aside and nothing stands in its place
        _suspicion(path).unlink()  # of a file that is gone, or of a rebuild that was done but for this
    return path.exists() and path.stat().st_size == 0


def _suspicion(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")


def _note(path: Path, kept: str) -> None:
    """That the file is suspect, and under which name it is set aside."""
    fd = os.open(_suspicion(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, kept.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync(path.parent)


def _broken_off(path: Path) -> Path | None:
    """Where the rebuild whose end nobody noted keeps the damaged file."""
    name = _suspicion(path).read_text(errors="replace")
    return path.with_name(name) if name.startswith(f"{path.name}.corrupt-") and "/" not in name else None


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Setting aside, and taking over.


def _rebuild(path: Path, now: float, keep_sent_s: float, may_rebuild: bool) -> tuple[Store, LedgerRebuilt]:
    """In steps that can be broken off anywhere: the next open goes on. The new file is made under another name, so that
    what stands at `path` is either the damaged file or a whole new one, which says of itself that it is rebuilt."""
    if not may_rebuild:
        raise LedgerRefused(
            f"{path} is damaged; `tunerd run` sets it aside, takes over what can be read of it, and reads the rest again"
        )
    kept = (_broken_off(path) if _suspicion(path).exists() else None) or _free_name(path, now)
    _note(path, kept.name)
    _set_aside(path, kept)
    fresh = path.with_name(path.name + ".rebuilt")
    for side in ("", *_SIDES):
        fresh.with_name(fresh.name + side).unlink(missing_ok=True)
    found = _make(fresh, kept, now, keep_sent_s)
    os.replace(fresh, path)
    _sync(path.parent)
    _suspicion(path).unlink()
    _sync(path.parent)
    told = LedgerRebuilt(
        kept_as=str(kept),
        salvaged=found.calls,
        documents_lost=found.documents_lost,
        unread=found.unread,
        is_readable=found.is_readable,
    )
    return _open(path, now, False), told


@dataclass(slots=True)
class _Found:
    """What of a damaged file could be read, in numbers."""

    calls: int = 0
    documents_lost: int = 0
    unread: int = 0
    is_readable: bool = True


def _make(fresh: Path, kept: Path, now: float, keep_sent_s: float) -> _Found:
    """The new file."""
    db = connect(fresh)
    try:
        prepare(db, fresh, now, scripts())
        found = _take_over(db, kept, now - keep_sent_s)
        store = Store(db)
        store.begin(full=True)
        found.documents_lost, found.unread = _mend(store, now)
        reclaim_all(store, now)
        store.note_rebuilt()
        store.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()  # the log beside it is gone by that
    return found


def _free_name(path: Path, now: float) -> Path:
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    return kept


def _set_aside(path: Path, kept: Path) -> None:
    """The log goes first: once the file itself is there, all of it is."""
    if kept.exists():
        return
    for side in _SIDES:
        if (there := path.with_name(path.name + side)).exists():
            os.replace(there, kept.with_name(kept.name + side))
    os.replace(path, kept)


def _take_over(db: sqlite3.Connection, kept: Path, read_again_from: float) -> _Found:
    """Copy what can be read, table by table. Works on a copy: SQLite would change the kept file by opening it."""
    copy = kept.with_name(kept.name + ".tmp")
    try:
        for side in ("", "-wal"):
            if (there := kept.with_name(kept.name + side)).exists():
                shutil.copyfile(there, copy.with_name(copy.name + side))
        return _Found(calls=_salvage(db, copy, read_again_from))
    except (sqlite3.Error, OSError, UnicodeDecodeError):
        return _Found(is_readable=False)  # nothing in it can be read: everything is read from the files again
    finally:
        for side in ("", *_SIDES):
            copy.with_name(copy.name + side).unlink(missing_ok=True)


def _salvage(db: sqlite3.Connection, copy: Path, read_again_from: float) -> int:
    old = sqlite3.connect(copy, isolation_level=None)
    old.execute("PRAGMA cell_size_check = ON")
    count = 0
    try:
        old.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # raises where nothing at all can be read
        db.execute("BEGIN IMMEDIATE")
        for columns in _rows(old, "call", COLUMNS):
            count += _put(db, "call", COLUMNS, columns) if _is_sane(columns) else 0
        for table in ("body", "frozen", "recording"):
            names = _columns(db, table)
            for columns in _rows(old, table, names):
                _put(db, table, names, columns)
        for table in ("origin", "event", "want", "destination", "gathering", "fragment", "cut", "torn", "key_style"):
            names = _columns(db, table)
            for columns in _readable(old, f"SELECT {names} FROM {table}", ()):
                _put(db, table, names, columns)
        # A file whose calls may be among the lost ones is read again; what was sent is known by its id. Older files
        # keep their marks: their sent rows may be gone for good.
        names = f"{MARK_COLUMNS}, changed_at, vanished_at, disposed, held"
        for columns in _readable(old, f"SELECT {names} FROM file WHERE mtime_ns < ?", (int(read_again_from * 1e9),)):
            _put(db, "file", names, columns)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    finally:
        old.close()
    return count


def _columns(db: sqlite3.Connection, table: str) -> str:
    return ", ".join(f'"{name}"' for (name,) in db.execute(f"SELECT name FROM pragma_table_info('{table}')"))


def _readable(old: sqlite3.Connection, sql: str, values: Sequence[object]) -> Iterator[Sequence[Any]]:
    """Rows until the first that cannot be read."""
    try:
        yield from old.execute(sql, values)
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _rows(old: sqlite3.Connection, table: str, names: str) -> Iterator[Sequence[Any]]:
    """Rows of a table with row numbers, around pages that cannot be read: behind each the walk goes on in growing steps,
    and what a gap may hide is looked for from the other end."""
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
        row = row_of(columns)
    except (Unsound, TypeError, ValueError, AttributeError):
        return False
    return row.kind is not RowKind.CALL or bool(row.call_id)


def _put(db: sqlite3.Connection, table: str, names: str, columns: Sequence[Any]) -> int:
    try:
        return db.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})", columns).rowcount
    except sqlite3.IntegrityError:
        return 0  # the wrong type: flipped bits


_LOST: Final = (
    "the ledger was damaged and the call's document could not be read from it; the call goes on by itself once its file is read "
    "again: put the file back into the source's directory, or `tunerd dismiss` this"
)


def _mend(store: Store, now: float) -> tuple[int, int]:
    """Make what was taken over consistent: an open call without its body stands as failed(document_lost), and its files are
    read again, if they are there; a waiting one looks for its recording anew. Gives how many calls lost their document,
    and how many more lost their row."""
    one = store.db.execute
    is_open = "state IN ('gathering', 'waiting', 'due', 'sending')"
    hollow = (
        f"{is_open} AND row NOT IN (SELECT row FROM body WHERE payload IS NOT NULL) AND row NOT IN "
        "(SELECT g.row FROM gathering g JOIN fragment f ON f.row = g.row WHERE f.document IS NOT NULL) "
        # what it was gathered from so far stood in its body: what came since is not the whole call
        f"OR {is_open} AND gathers AND row NOT IN (SELECT row FROM body WHERE document IS NOT NULL) "
        "AND row IN (SELECT row FROM fragment WHERE document IS NULL)"
    )
    lost = [row for (row_id,) in one(f"SELECT row FROM call WHERE {hollow}").fetchall() if (row := store.get(row_id)) is not None]
    for row in lost:
        _lose(store, row, now)
    with_traces = ("body", "frozen", "origin", "event", "gathering", "fragment")
    traces = " UNION ".join(f"SELECT row FROM {table}" for table in with_traces)
    unread: int = one(f"SELECT count(*) FROM ({traces}) WHERE row NOT IN (SELECT row FROM call)").fetchone()[0]
    for table in ("body", "frozen", "origin", "event"):
        one(f"DELETE FROM {table} WHERE row NOT IN (SELECT row FROM call)")
    one("DELETE FROM want WHERE call NOT IN (SELECT row FROM call)")
    one("DELETE FROM gathering WHERE row NOT IN (SELECT row FROM call WHERE gathers)")
    one("DELETE FROM fragment WHERE row NOT IN (SELECT row FROM gathering)")
    one("DELETE FROM cut WHERE row NOT IN (SELECT row FROM gathering)")
    one("UPDATE call SET gathers = 0, fragments_size = 0 WHERE gathers AND row NOT IN (SELECT row FROM gathering)")
    for (row_id,) in one("SELECT row FROM call WHERE seeks AND state IN ('waiting', 'failed')").fetchall():
        row, body = store.get(row_id), store.body(row_id)
        if row is not None and body is not None and not store.wants(row_id):
            store.set_wants(row_id, first_wants(row, body.strategies))
            store.open_wants(row_id, row.due_at is not None)
    for (row_id,) in one(
        "SELECT row FROM call WHERE form IS NOT NULL AND patch IS NULL AND row NOT IN (SELECT row FROM frozen)"
    ).fetchall():
        row = store.get(row_id)
        if row is not None:
            store.change(row, form=None)
    return len(lost), unread


def _lose(store: Store, row: Row, now: float) -> None:
    for source, path, _ in store.places(row):
        store.db.execute("DELETE FROM file WHERE source = ? AND path = ?", (source, to_text(path)))
    store.db.execute("DELETE FROM fragment WHERE row = ? AND document IS NULL", (row.row,))  # or it would count as known
    store.thaw(row)
    if row.seeks:
        store.set_wants(row.row, ())
    was_sent_out = row.may_have_arrived or row.state is State.SENDING
    store.change(
        row, state=State.FAILED, changed_at=now, due_at=None, reason=FailReason.DOCUMENT_LOST.value, place="ledger", detail=_LOST,
        seeks=False, size=row.fragments_size, may_have_arrived=was_sent_out,
    )  # fmt: skip
    store.tell(row, now, "failed", detail=f"{FailReason.DOCUMENT_LOST.value}: the ledger was damaged")
