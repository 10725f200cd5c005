"""The file that a ledger holds open: its lock, its inode, and another connection to it when the first one broke down."""

import asyncio
from functools import partial
from pathlib import Path

from tunerd.events import Emit, LedgerRolledBack
from tunerd.ledger import lock as locks
from tunerd.ledger.sql.store import Store
from tunerd.ledger.sqlite.damage import mark_suspect, open_sound, refuse_other_files
from tunerd.ledger.sqlite.directory import check_directory
from tunerd.ledger.sqlite.inode_watch import InodeWatch
from tunerd.ledger.sqlite.sqlite_database import sqlite_of


class OpenFile:
    def __init__(self, path: Path, lock: locks.Lock | None, now: float, keep_sent_s: float) -> None:
        self.path = path
        self._lock = lock
        self._now = now
        self._keep_sent_s = keep_sent_s
        self._watch = InodeWatch(path)
        self._unreported = 0
        """Commits that the file lacks and that were not reported. The lock file counts them too, so the next start reports
        them."""

    def missing_commits(self, store: Store) -> int:
        """How many commits the file lacked when this store opened it: it has fewer than the lock file says. What the open itself
        committed (calls that were being sent are due again) must not make up for them."""
        return 0 if self._lock is None else max(0, self._lock.commits - sqlite_of(store).commits_found)

    def writes_through(self, store: Store, *, unreported: int) -> None:
        """This store is the one that writes from now on."""
        self._unreported = unreported
        self._note_commits(sqlite_of(store).commits)
        sqlite_of(store).committed = self._note_commits
        self._watch.remember()

    def _note_commits(self, count: int) -> None:
        if self._lock is not None:
            self._lock.note_commits(count + self._unreported)

    def reopen(self) -> Store:
        """Another connection to the file. Raises sqlite3.Error."""
        store, _ = open_sound(self.path, self._now, self._keep_sent_s, is_reopened=True)
        self.writes_through(store, unreported=self.missing_commits(store))
        return store

    def mark_suspect(self) -> None:
        """Damage was found: the next start rebuilds the ledger."""
        mark_suspect(self.path)

    def is_replaced(self) -> bool:
        """The path no longer names this file."""
        return self._watch.is_replaced()

    def close(self) -> None:
        self._watch.forget()
        if self._lock is not None:
            self._lock.release()


async def open_file(
    path: Path, *, now: float, wait_for_lock_s: float, create: bool, keep_sent_s: float, emit: Emit, reports: bool
) -> tuple[OpenFile, Store]:
    """See SqliteLedger.open."""
    check_directory(path, create)
    await asyncio.to_thread(refuse_other_files, path)
    lock = await locks.hold(path, now, wait_for_lock_s)
    is_new = not await asyncio.to_thread(path.exists)
    try:
        store, rebuilt = await asyncio.to_thread(partial(open_sound, path, now, keep_sent_s, may_rebuild=reports))
    except BaseException:
        lock.release()
        raise
    file = OpenFile(path, lock, now, keep_sent_s)
    missing = file.missing_commits(store) if rebuilt is None and not is_new else 0
    if reports:
        if rebuilt is not None:
            emit(rebuilt)
        if missing:
            emit(LedgerRolledBack(commits=missing))
    # Only now: a process that is killed before it has reported them leaves that to the next one.
    file.writes_through(store, unreported=0 if reports else missing)
    return file, store
