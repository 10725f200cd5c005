"""Store: what commands/ work on, over one connection, and its transactions. It lives in the writer thread."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence

from tunerd.ledger import Gauges
from tunerd.ledger.sql.codec import to_text
from tunerd.ledger.sql.gather_tables import GatherTables


class Store(GatherTables):
    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self._full: bool | None = None
        self.committed: Callable[[int], None] = lambda count: None
        """Told after each commit how many there were in the ledger's life."""
        self.load()

    def load(self) -> None:
        """Everything that is kept in memory beside the tables, read anew."""
        self.load_calls()
        self.load_joins()
        self.woken, self.ripe = Counter(), set()
        found = self.db.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
        self.commits: int = 0 if found is None else found[0]

    def begin(self, *, full: bool) -> None:
        """Open a transaction that is synced on commit (`full`), or with the next one that is."""
        self._before = (self.tally.copy(), self._last_row, self._last_recording, dict(self._gates))
        self._sets_before = (self.retired.copy(), self.bodies_kept, list(self.in_hand))
        self._touched_before = dict(self.touched)
        if full is not self._full:
            self.db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full
        self._changes_before = self.db.total_changes
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> tuple[set[str], set[tuple[str, str]]]:
        """Commit; gives the destinations that were woken and the files that may be disposable now."""
        self._unwritten.write()
        self._expected = {}
        self._payloads = {}
        has_changed = self.db.total_changes != self._changes_before  # a commit of nothing is not synced, and leaves no trace
        if has_changed:
            self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('commits', ?)", (self.commits + 1,))
        self.db.execute("COMMIT")
        if has_changed:
            self.commits += 1
            self.committed(self.commits)
        done = ({name for name, calls in self.woken.items() if calls > 0}, self.ripe)
        self.woken, self.ripe = Counter(), set()
        return done

    def rollback(self) -> bool:
        """Undo the transaction, in memory too. Never raises: SQLite may have undone it by itself. False: the connection
        cannot undo it, and is of no use any more."""
        self._unwritten.forget()
        self._expected = {}
        self._payloads = {}
        if self.db.in_transaction:
            try:
                self.db.execute("ROLLBACK")
            except sqlite3.Error:
                pass
        self.tally, self._last_row, self._last_recording, self._gates = self._before
        self.retired, self.bodies_kept, in_hand = self._sets_before
        self.in_hand = dict.fromkeys(in_hand)  # the rows may have been changed: read them again
        self.touched = self._touched_before
        self.woken, self.ripe = Counter(), set()
        return not self.db.in_transaction

    def gauges(self) -> Gauges:
        return self.tally.gauges(self.oldest_at())

    def touch(self) -> None:
        """A write that changes nothing that anyone reads: proves that the disk takes one."""
        self.db.execute("INSERT INTO meta (name, value) VALUES ('touched', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1")

    # After damage: nobody has yet looked at what may be sent twice.

    def note_rebuilt(self) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('rebuilt', 1)")

    def is_rebuilt(self) -> bool:
        return self.db.execute("SELECT 1 FROM meta WHERE name = 'rebuilt'").fetchone() is not None

    def resends_quarantined(self) -> None:
        self.db.execute("DELETE FROM meta WHERE name = 'rebuilt'")

    # Files whose path is there, or not.

    def come_back(self, source: str, path: str) -> None:
        sql = "UPDATE file SET vanished_at = NULL WHERE source = ? AND path = ? AND whole = 1 AND NOT disposed"
        self.db.execute(sql, (source, to_text(path)))
        self.ripe.add((source, path))

    def vanish(self, source: str, paths: Sequence[str], now: float) -> None:
        sql = "UPDATE file SET vanished_at = ? WHERE source = ? AND path = ? AND vanished_at IS NULL"
        self.db.executemany(sql, [(now, source, to_text(path)) for path in paths])

    def dispose(self, source: str, path: str, now: float) -> None:
        sql = "UPDATE file SET vanished_at = ?, disposed = 1 WHERE source = ? AND path = ? AND whole = 1"
        self.db.execute(sql, (now, source, to_text(path)))

    # Outside of transactions.

    def wipe(self) -> None:
        """Nothing of what was deleted is left in the file: free pages are overwritten by being cut off, the log is
        written back and emptied."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page and stop
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def give_pages_back(self, pages: int) -> None:
        if self.db.execute("PRAGMA freelist_count").fetchone()[0] > pages:
            self.db.executescript(f"PRAGMA incremental_vacuum({pages})")
