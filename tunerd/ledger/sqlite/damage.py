"""A ledger file that cannot be trusted: found when it is opened, set aside, and rebuilt from what can be read of it."""

import errno
import os
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunerd.events import LedgerRebuilt
from tunerd.ledger import LedgerRefused
from tunerd.ledger.commands.reclaim import reclaim_all
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.columns import Unsound
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.connect import connect, prepare, scripts
from tunerd.ledger.sqlite.errors import LedgerDamaged, is_trouble, words_for
from tunerd.ledger.sqlite.salvage import SIDES, Salvaged, repair, salvage
from tunerd.ledger.sqlite.sqlite_database import SqliteDatabase

_CHECK_S: Final = 5.0
_CHECK_STEPS: Final = 100_000
_HEADER: Final = b"SQLite format 3\0"
_OURS: Final = (".lock", ".reserve", ".suspect", "-wal")
"""What an earlier run leaves beside its ledger."""


def open_sound(
    path: Path, now: float, keep_sent_s: float, *, is_reopened: bool = False, may_rebuild: bool = True
) -> tuple[Store, LedgerRebuilt | None]:
    """A store on a sound file. A damaged file is set aside first; without `may_rebuild` it is refused and left as it is.
    Raises LedgerRefused with one line. With `is_reopened` (the process continues, and its workers hold claims) it raises
    sqlite3.Error instead, and claims are not taken back."""
    try:
        if is_reopened and not path.exists():
            raise FileNotFoundError(errno.ENOENT, "the file is gone", str(path))
        if not is_reopened and _is_known_bad(path):
            return _rebuild(path, now, keep_sent_s, may_rebuild)
        try:
            return _open(path, now, is_reopened), None
        except (sqlite3.Error, Unsound, UnicodeDecodeError, ValueError, TypeError) as exc:
            if is_trouble(exc):
                raise
            if is_reopened:
                mark_suspect(path)
                raise LedgerDamaged from None
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


def refuse_other_files(path: Path) -> None:
    """Raises LedgerRefused for a file that does not begin as a database and never was a ledger: nothing of an earlier run is
    beside it. Call it before the lock is taken, which leaves such a file. Empty and unreadable files are left to the open."""
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
        store = Store(SqliteDatabase(db))
        store.load()
        if not is_reopened:
            store.begin(full=True)
            store.db.execute(meta.END_COPY)
            reclaim_all(store, now)
            store.commit()
    except BaseException:
        db.close()
        raise
    return store


def _check(db: sqlite3.Connection) -> None:
    """quick_check, for 5 s at most: a large ledger must not delay the start."""
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
    """Damage was found while tunerd ran: the next start rebuilds the ledger, whatever a quick check says."""
    try:
        _note_suspect(path, "")
    except OSError:
        pass


def _is_known_bad(path: Path) -> bool:
    """The file is empty, suspect since it was last open, or set aside already by a rebuild that was interrupted."""
    if _suspect_note(path).exists():
        kept = _interrupted(path)
        if (kept is None or not kept.exists()) == path.exists():
            return True  # the file is suspect, or it is set aside and no new one is in its place
        _suspect_note(path).unlink()  # of a file that is gone, or of a rebuild that was interrupted just before this
    return path.exists() and path.stat().st_size == 0


def _suspect_note(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")


def _note_suspect(path: Path, kept: str) -> None:
    """Note durably that the file is suspect, and under which name it is set aside."""
    fd = os.open(_suspect_note(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, kept.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync(path.parent)


def _interrupted(path: Path) -> Path | None:
    """Where an interrupted rebuild keeps the damaged file."""
    name = _suspect_note(path).read_text(errors="replace")
    return path.with_name(name) if name.startswith(f"{path.name}.corrupt-") and "/" not in name else None


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Setting aside, and rebuilding.


def _rebuild(path: Path, now: float, keep_sent_s: float, may_rebuild: bool) -> tuple[Store, LedgerRebuilt]:
    """In steps that can be interrupted anywhere: the next start continues. The new file is made under another name, so that
    `path` is either the damaged file or a whole new one, which notes in itself that it is rebuilt."""
    if not may_rebuild:
        raise LedgerRefused(
            f"{path} is damaged; `tunerd run` sets it aside, takes over what can be read of it, and reads the rest again"
        )
    kept = (_interrupted(path) if _suspect_note(path).exists() else None) or _free_name(path, now)
    _note_suspect(path, kept.name)
    _set_aside(path, kept)
    fresh = path.with_name(path.name + ".rebuilt")
    for side in ("", *SIDES):
        fresh.with_name(fresh.name + side).unlink(missing_ok=True)
    found = _make(fresh, kept, now, keep_sent_s)
    os.replace(fresh, path)
    _sync(path.parent)
    _suspect_note(path).unlink()
    _sync(path.parent)
    rebuilt = LedgerRebuilt(
        kept_as=str(kept),
        salvaged=found.calls,
        documents_lost=found.documents_lost,
        unread=found.unread,
        is_readable=found.is_readable,
    )
    return _open(path, now, False), rebuilt


def _make(fresh: Path, kept: Path, now: float, keep_sent_s: float) -> Salvaged:
    """The new file."""
    db = connect(fresh)
    try:
        prepare(db, fresh, now, scripts())
        found = salvage(db, kept, now - keep_sent_s)
        store = Store(SqliteDatabase(db))
        store.load()
        store.begin(full=True)
        found.documents_lost, found.unread = repair(store, now)
        reclaim_all(store, now)
        store.note_rebuilt()
        store.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()  # this removes the log beside it
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
    """The log is moved first: once the file itself is there, all of it is."""
    if kept.exists():
        return
    for side in SIDES:
        if (there := path.with_name(path.name + side)).exists():
            os.replace(there, kept.with_name(kept.name + side))
    os.replace(path, kept)
