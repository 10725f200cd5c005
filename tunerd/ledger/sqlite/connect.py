"""Opening the SQLite file: pragmas, whose file it is, migrations. Blocking; it looks at no rows."""

import os
import sqlite3
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from tunerd.ledger import LedgerRefused
from tunerd.ledger.copying import moved_to

APPLICATION_ID: Final = 0x74756E72
"""`tunr`, in the file's header: another program's database is never changed."""
_CACHE_KIB: Final = 4096
_PAGE_BYTES: Final = 4096
_WAL_PAGES: Final = 4000
"""Checkpoint after this many pages (16 MiB). On a small disk after fewer, because what is in the log needs the same room in the
file before the log gives its room back."""
_WAL_SHARE: Final = 8
"""The log takes at most one part in this many of the disk."""


@cache
def scripts() -> Sequence[str]:
    """The schema's versions in order: the n-th leads from version n-1 to n. Read once in a process."""
    folder = resources.files("tunerd.ledger") / "schema"
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return tuple(entry.read_text() for entry in entries if entry.name.endswith(".sql"))


def connect(path: Path) -> sqlite3.Connection:
    """A connection that writes, for one thread at a time. An empty file that it creates is readable by its owner alone."""
    if str(path) != ":memory:" and not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=1.0)
    wal_pages = _wal_pages(path)
    try:
        for pragma in (
            f"cache_size = -{_CACHE_KIB}",
            "temp_store = MEMORY",
            "secure_delete = FAST",
            "trusted_schema = OFF",
            f"wal_autocheckpoint = {wal_pages}",
            f"journal_size_limit = {wal_pages * _PAGE_BYTES}",
        ):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def _wal_pages(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return _WAL_PAGES
    return max(64, min(_WAL_PAGES, disk.f_blocks * disk.f_frsize // _WAL_SHARE // _PAGE_BYTES))


def connect_reader(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=1.0
    )
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA cache_size = -1024")
    return db


def prepare(db: sqlite3.Connection, path: Path, now: float, versions: Sequence[str]) -> None:
    """Bring the schema to the newest version, keep a copy of the file as it was, and turn WAL on. Raises LedgerRefused for a
    newer schema or another program's file, and sqlite3.DatabaseError for a damaged file."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    owner: int = db.execute("PRAGMA application_id").fetchone()[0]
    tables: int = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and owner != APPLICATION_ID:
        raise LedgerRefused(f"{path} is a database of another program; give the ledger a file of its own (ledger.url)")
    if version > len(versions):
        raise LedgerRefused(
            f"{path} was written by a newer tunerd (schema {version}, this one knows {len(versions)}); "
            "install that version again, or restore the copy that it kept beside the ledger"
        )
    moved = db.execute("SELECT name FROM meta WHERE name LIKE 'moved:%'").fetchone() if version else None
    if moved is not None:
        raise moved_to(moved[0])
    if not tables:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if tables and version < len(versions):
        keep_copy(db, path, version, now)
    for number in range(version, len(versions)):
        db.executescript(
            f"BEGIN IMMEDIATE;\n{versions[number]}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {number + 1};\nCOMMIT;"
        )


def keep_copy(db: sqlite3.Connection, path: Path, version: int, now: float) -> Path:
    """A whole copy of the file as it is before a migration."""
    copy = path.with_name(f"{path.name}.v{version}-{now:.0f}")
    os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    target = sqlite3.connect(copy)
    try:
        db.backup(target)
    finally:
        target.close()
    return copy
