"""The file that a ledger holds open: its lock, its inode, and another connection to it when the first one broke down."""

import asyncio
from functools import partial
from pathlib import Path

from tunerd.events import Event, LedgerRolledBack
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

    def writes_through(self, store: Store) -> None:
        """This store is the one that writes from now on."""
        if self._lock is not None:
            sqlite_of(store).committed = self._lock.note_commits
        self._watch.remember()

    def reopen(self) -> Store:
        """Another connection to the file. Raises sqlite3.Error."""
        store, _ = open_sound(self.path, self._now, self._keep_sent_s, is_reopened=True)
        self.writes_through(store)
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
    path: Path, *, now: float, wait_for_lock_s: float, create: bool, keep_sent_s: float, may_rebuild: bool
) -> tuple[OpenFile, Store, list[Event]]:
    """See SqliteLedger.open. Gives besides what was found on the way."""
    check_directory(path, create)
    await asyncio.to_thread(refuse_other_files, path)
    lock = await locks.hold(path, now, wait_for_lock_s)
    is_new = not await asyncio.to_thread(path.exists)
    try:
        store, rebuilt = await asyncio.to_thread(partial(open_sound, path, now, keep_sent_s, may_rebuild=may_rebuild))
    except BaseException:
        lock.release()
        raise
    # The open itself may have committed what the last process had claimed: that is no change of that process.
    commits = sqlite_of(store).commits
    rolled_back = max(0, lock.commits - commits) if rebuilt is None and not is_new else 0
    lock.note_commits(commits)
    file = OpenFile(path, lock, now, keep_sent_s)
    file.writes_through(store)
    found: list[Event] = [] if rebuilt is None else [rebuilt]
    return file, store, [*found, *([LedgerRolledBack(commits=rolled_back)] if rolled_back else [])]
