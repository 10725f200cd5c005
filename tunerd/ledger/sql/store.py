"""Store, the tables of a ledger over one connection, in one class because they change in the same transactions.

It answers narrow questions and makes narrow changes inside one open transaction, and decides nothing: what a command means is
said in commands/. Questions about one table are asked of its part (`store.recordings`); what concerns several tables is a method
here. One thread uses a store at a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunerd.call import State
from tunerd.ledger import Gauges
from tunerd.ledger.rows import Body, LedgerRow
from tunerd.ledger.sql import calls as call_table
from tunerd.ledger.sql import meta
from tunerd.ledger.sql.audios import Audios
from tunerd.ledger.sql.bodies import Bodies
from tunerd.ledger.sql.call_history import CallHistory
from tunerd.ledger.sql.calls import Calls
from tunerd.ledger.sql.cuts import Cuts
from tunerd.ledger.sql.database import Cursor, Database
from tunerd.ledger.sql.destinations import DestinationTable
from tunerd.ledger.sql.due_calls import DueCalls
from tunerd.ledger.sql.files import Files
from tunerd.ledger.sql.fleet_claims import FleetClaims
from tunerd.ledger.sql.fleet_counts import FleetCounts
from tunerd.ledger.sql.groups import Groups
from tunerd.ledger.sql.oldest_calls import OldestCalls, read
from tunerd.ledger.sql.recordings import Recordings, Touched
from tunerd.ledger.sql.url_checks import UrlCheckTable
from tunerd.ledger.sql.wants import Wants
from tunerd.ledger.sql.write_buffer import WriteBuffer
from tunerd.ledger.states import Move, check
from tunerd.ledger.tally import Tally

TALLY: Final = (
    "SELECT state, dismissed, kind = 'call', audio, count(*), coalesce(sum(size), 0) FROM call "
    "GROUP BY state, dismissed, kind = 'call', audio"
)
"""Only at a start."""
RESENDS_QUARANTINED: Final = "DELETE FROM meta WHERE name = 'rebuilt'"

_COUNTED: Final = frozenset({"state", "size", "dismissed", "kind", "audio"})
"""Columns that the tally goes by."""


class Store:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.buffer = WriteBuffer(db)
        self.tally = Tally()
        self.woken: Counter[str] = Counter()
        """Destinations of which a call was made due in this transaction."""
        self.disposable: set[tuple[str, str]] = set()
        """(source, path) of files that may have become disposable in this transaction."""
        self.claimed: dict[int, LedgerRow | None] = {}
        """Rows that workers of this process hold, as they were handed out (None: to be read again)."""
        self.touched: dict[Touched, None] = {}
        """Recordings and calls that changed, in that order; commands/join.py looks at what is near to them."""
        self.calls = Calls(self.ask, db)
        self.fleet_claims = FleetClaims(db, self.calls)
        self.bodies = Bodies(self.ask, db.execute, self.buffer.drop_body)
        self.due = DueCalls(self.ask, self._pick_due, db.skip_locked, self.calls.get, self.bodies.payload_is)
        self.history = CallHistory(db.execute)
        self.recordings = Recordings(db, self.touched)
        self.wants = Wants(db, self.touched)
        self.destinations = DestinationTable(db)
        self.files = Files(db.execute, db.volumes, db.others)
        self.groups = Groups(db)
        self.cuts = Cuts(db)
        self.counts = FleetCounts(db)
        self.audios = Audios(self.ask, db)
        self.oldest = OldestCalls(self.ask, db.volumes)
        self.checks = UrlCheckTable(db, lambda: self.tally)

    def load(self) -> None:
        """Read what is kept in memory besides the tables. A store that only answers questions does without."""
        self.calls.load()
        self.bodies.load()
        self.destinations.load()
        if self.db.holder:
            self.tally = Tally()
            self.tally.set(self.counts.sums())
        else:
            self.tally = self.counted()

    def counted(self) -> Tally:
        """The tally, from the rows themselves."""
        tally = Tally.of(self.ask(TALLY))
        tally.url_checks, tally.unasked_urls = self.checks.count()
        return tally

    def ask(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> Cursor:
        """Run a statement that needs the tables call and body as they are by now."""
        self.buffer.write()
        return self.db.execute(sql, values)

    def _pick_due(self, values: Mapping[str, object]) -> Sequence[Any]:
        self.buffer.write()
        return self.db.pick_due(values)

    # Rows. These keep the tally, and what a claim holds, in step with the table.

    def add(self, row: LedgerRow, body: Body) -> None:
        """A new row; `row.row` is set."""
        row.row = self.db.next_number("call")
        row.size = body.size + row.fragments_size
        row.event_count = 0
        self.buffer.add(row, body)
        self.calls.note(row)
        self.tally.add(row)
        if row.state is State.DUE:
            self.woken[row.destination] += 1

    def change(self, row: LedgerRow, **columns: object) -> None:
        """Set columns of a row, in `row` and in what is stored. The state changes by `move`."""
        self.fleet_claims.changed(row.row)
        self.calls.forget(row)
        is_counted = not _COUNTED.isdisjoint(columns)
        if is_counted:
            self.tally.add(row, -1)
        for name, value in columns.items():
            setattr(row, name, value)
        self.buffer.change(row, columns)
        self.calls.note(row)
        if is_counted:
            self.tally.add(row)
        if row.state is State.SENDING:
            self.claimed[row.row] = row

    def move(self, row: LedgerRow, move: Move, after: State, now: float, **columns: object) -> None:
        """As `change`, to a state that the table of states.py allows."""
        check(row.state, move, after)
        self.claimed.pop(row.row, None)
        if after is not State.SENDING:
            self.fleet_claims.end(row.row)
        self.change(row, state=after, changed_at=now, **columns)
        if after is State.DUE:
            self.woken[row.destination] += 1
        elif after in (State.SENT, State.IGNORED):
            self.may_be_disposable(row)

    def claimed_row(self, row: int) -> LedgerRow | None:
        """A row that a worker gives back; where one process owns the ledger, nothing has to be read as a rule. In a fleet None if
        the claim is no longer this worker's: another instance gave this one up."""
        if not self.db.holder:
            return self.claimed.get(row) or self.calls.get(row)
        if (found := self.fleet_claims.row(row)) is None:
            self.claimed.pop(row, None)
        return found

    def drop(self, row: LedgerRow) -> None:
        """Remove a row with all that belongs to it. The recordings that it took stay."""
        self.calls.forget(row)
        self.tally.add(row, -1)
        if row.state is State.SENT:
            self.destinations.note_accepted(row.workspace.rpartition("/")[0])
        self.ask(call_table.DELETE, (row.row,))
        self.bodies.delete(row.row)
        self.history.delete(row.row)
        self.db.retire_number("call", row.row)
        if row.seeks:
            self.wants.delete(row.row)
        if row.state is not State.SENT:  # a sent call has none
            self.checks.delete(row.row)
        self.audios.delete(row.row)  # a row may have had audio before it was rewritten
        if row.gathers:
            self.groups.delete(row.row)
            self.cuts.lift_all(row.row)

    # Bodies.

    def set_body(self, row: LedgerRow, body: Body) -> None:
        """Put another body in place of the row's; a frozen one is thawed."""
        self.thaw(row)
        self.buffer.set_body(row.row, body)
        size = body.size + row.fragments_size
        if row.size != size:
            self.change(row, size=size)

    def thaw(self, row: LedgerRow) -> None:
        """Forget the frozen body: the next claim makes it anew."""
        if row.form is not None:
            if row.patch is None:
                self.bodies.drop_frozen(row.row)
            self.change(row, form=None, patch=None, frozen_by_claim=False)

    # Places.

    def note_origin(self, row: LedgerRow, volume: int, source: str, path: str, offset: int) -> None:
        """Another place at which the call's document was read; the place in the row itself needs no note."""
        if (volume, source, path, offset) != (row.volume, row.source, row.path, row.offset):
            self.history.add_origin(row, volume, source, path, offset)
            if not row.copies:
                self.change(row, copies=True)

    def may_be_disposable(self, row: LedgerRow) -> None:
        """The row no longer keeps the files that it was read from. Those of another instance that instance finds."""
        places = self.history.origins(row)
        self.disposable |= {(source, path) for volume, source, path, _ in places if volume == self.db.volumes.of(source)}

    def keep_files(self, row: LedgerRow) -> None:
        """The files that the row was read from are never disposable again: it is removed without having been sent."""
        for volume, source, path, _ in self.history.origins(row):
            self.files.keep(volume, source, path)

    # The ledger as a whole.

    def gauges(self) -> Gauges:
        """In a fleet those of all instances."""
        asked = self.oldest.ask()
        sending = self.counts.first_sending() if self.db.holder else self._first_claimed()
        if self.db.holder:
            self.tally.set(self.counts.sums())
        oldest, due_since = read(asked)
        if sending is not None:
            oldest[State.SENDING] = sending
        return self.tally.gauges(oldest, due_since)

    def _first_claimed(self) -> float | None:
        row = self.claimed_row(min(self.claimed)) if self.claimed else None
        return None if row is None else row.admitted_at

    def has_accepted(self, base_url: str) -> bool:
        """Whether any call was accepted there, as far back as the ledger reaches."""
        begins = f"{base_url}/"
        sent = (len(begins), begins)
        return self.destinations.has_accepted(base_url) or self.ask(call_table.SENT_TO, sent).fetchone() is not None

    def open_by_destination(self) -> list[Any]:
        """Rows of (destination, workspace, waiting, due, sending, may have arrived)."""
        return self.ask(call_table.OPEN_BY_DESTINATION).fetchall()

    def shift(self, seconds: float) -> None:
        """The wall clock jumped: what is due, and what waits, stays as far away as it was."""
        self.calls.shift(seconds)
        self.wants.shift(seconds)
        self.recordings.shift(seconds)
        self.groups.shift(seconds)
        self.audios.shift(seconds)
        self.checks.shift(seconds)
        self.destinations.shift(seconds)
        self.woken.update(list(self.destinations.stored_pauses()))

    def probe_write(self) -> None:
        """Write something that nobody reads: proves that the disk takes a commit, and syncs those before it."""
        self.db.execute(meta.PROBE)

    # After damage: whether calls that may be sent twice were looked at since.

    def note_rebuilt(self) -> None:
        self.db.execute(meta.SET, ("rebuilt", 1))

    def is_rebuilt(self) -> bool:
        return meta.number(self.db.execute, "rebuilt", 0) == 1

    def resends_quarantined(self) -> None:
        self.db.execute(RESENDS_QUARANTINED)

    # Transactions.

    def begin(self, *, full: bool) -> None:
        """Open a transaction that is synced on commit (`full`), or with the next one that is."""
        self._before = (self.tally.copy(), self.bodies.snapshot(), self.destinations.snapshot(), list(self.claimed),
                        dict(self.touched), self.fleet_claims.snapshot())  # fmt: skip
        self.db.begin(durable=full)
        if self.db.holder:  # others may have changed what is kept in memory
            self.destinations.ask()
            self.db.others.begin()

    def commit(self) -> tuple[set[str], set[tuple[str, str]]]:
        """Commit; gives the destinations that were woken and the files that may be disposable now."""
        self.buffer.write()
        self.wants.write()
        if self.db.holder:
            self.counts.add(self.tally.since(self._before[0]))
        self._forget_hints()
        self.db.commit()
        done = ({name for name, calls in self.woken.items() if calls > 0}, self.disposable)
        self.woken, self.disposable = Counter(), set()
        return done

    def rollback(self) -> bool:
        """Undo the transaction, in memory too. Never raises. False: the connection has to be replaced."""
        self.buffer.forget()
        self.wants.forget()
        self._forget_hints()
        is_undone = self.db.rollback()
        tally, bodies, pauses, claimed, touched, fleet_claims = self._before
        self.fleet_claims.restore(fleet_claims)
        self.tally = tally
        self.bodies.restore(bodies)
        self.destinations.restore(pauses)
        self.claimed = dict.fromkeys(claimed)  # the rows may have been changed: read them again
        self.replace_touched(touched)
        self.woken, self.disposable = Counter(), set()
        return is_undone

    def replace_touched(self, touched: Mapping[Touched, None]) -> None:
        kept = dict(touched)
        self.touched.clear()
        self.touched.update(kept)

    def _forget_hints(self) -> None:
        self.fleet_claims.forget_read()
        self.calls.forget_expected()
        self.bodies.forget_payloads()
