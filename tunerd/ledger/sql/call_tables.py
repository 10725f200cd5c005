"""Tables call, body, frozen, origin and event: the first part of the store."""

import sqlite3
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunerd.call import Form, OnMissing, State, Strategy
from tunerd.ledger import Pick
from tunerd.ledger.rows import EVENTS_KEPT, Body, Row, RowKind, Tally
from tunerd.ledger.sql.codec import (
    COLUMNS,
    FORMS,
    body_of,
    from_text,
    matching_of,
    row_of,
    to_text,
)
from tunerd.ledger.sql.write_buffer import BODY, WriteBuffer
from tunerd.ledger.states import Move, check

_SELECT: Final = f"SELECT {COLUMNS} FROM call"
_PICKED: Final = (Pick.NEWEST, Pick.EXPIRING, Pick.OLDEST)
_PICK_MANY: Final = f"""
WITH
newest AS MATERIALIZED (
    SELECT row FROM (
        SELECT row, due_at FROM call WHERE state = 'due' AND destination = :destination ORDER BY row DESC LIMIT :look_at)
    WHERE due_at <= :due_by LIMIT :newest),
soon AS MATERIALIZED (
    SELECT row FROM (
        SELECT row, due_at FROM call WHERE state = 'due' AND destination = :destination
        AND recording_expires_at IS NOT NULL AND recording_expires_at <= :soon
        ORDER BY recording_expires_at, row LIMIT :look_at)
    WHERE due_at <= :due_by AND row NOT IN (SELECT row FROM newest) LIMIT :expiring),
oldest AS MATERIALIZED (
    SELECT row FROM call WHERE state = 'due' AND destination = :destination AND due_at <= :due_by
    AND row NOT IN (SELECT row FROM newest UNION ALL SELECT row FROM soon)
    ORDER BY due_at, row LIMIT :count - (SELECT count(*) FROM newest) - (SELECT count(*) FROM soon)),
picked (pick, row) AS MATERIALIZED (
    SELECT 0, row FROM newest UNION ALL SELECT 1, row FROM soon UNION ALL SELECT 2, row FROM oldest)
SELECT picked.pick, payload, checked_for, {COLUMNS.replace('"row"', 'call."row"')}
FROM picked CROSS JOIN call ON call.row = picked.row LEFT JOIN body ON body.row = picked.row
"""
"""Each kind of pick in its order, no row twice, payloads with them; all in one statement."""
EXPIRING_WITHIN_S: Final = 3600.0
_LET_GO: Final = 32
_IDS: Final = 256
_LOOK_AT: Final = 256
"""How many of the newest, or the soonest expiring, calls are looked at for one that may go now."""

_COUNTED: Final = frozenset({"state", "size", "dismissed", "kind"})
"""Columns that the tally goes by."""


class CallTables:
    """The first part of a store: it answers narrow questions and makes narrow changes inside one open transaction, and
    decides nothing. sql/store.py has the transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.tally = Tally()
        self.woken: Counter[str] = Counter()
        """Destinations of which a call was made due in this transaction."""
        self.in_hand: dict[int, Row | None] = {}
        """Rows that workers of this process hold, as they were handed out (None: to be read again)."""
        self.ripe: set[tuple[str, str]] = set()
        """(source, path) of files that may have become disposable in this transaction."""
        self.agents: dict[str, set[str]] = {}
        """Agents that may have due calls, for each destination: learnt as they come, read at open."""
        self.retired: deque[int] = deque()
        self.bodies_kept = 200
        self._last_row = 0
        self._has_conflicts = True
        self._has_named_refusals = True
        self._unwritten = WriteBuffer(db)
        self._expected: dict[tuple[str, str, str], list[Row]] = {}
        self._payloads: dict[int, tuple[bytes | None, Form | None]] = {}
        """Of rows that `pick_many` found: read with them."""

    def load_calls(self) -> None:
        """What is kept in memory besides the tables: the tally, row numbers, agents, kept bodies."""
        one = self.db.execute
        numbers = "SELECT coalesce(max(row), 0) FROM call UNION SELECT value FROM meta WHERE name = 'last_row'"
        self._last_row = max(row for (row,) in one(numbers))
        kept = one("SELECT value FROM meta WHERE name = 'bodies_kept'").fetchone()
        self.bodies_kept = 200 if kept is None else kept[0]
        newest = "SELECT row FROM call WHERE state = 'sent' ORDER BY changed_at DESC, row DESC LIMIT ?"
        self.retired = deque(row for (row,) in reversed(one(newest, (self.bodies_kept,)).fetchall()))
        self.agents = {}
        for destination, agent in one("SELECT DISTINCT destination, agent FROM call WHERE state IN ('due', 'sending')"):
            self.agents.setdefault(destination, set()).add(agent)
        self._has_conflicts = one("SELECT 1 FROM call WHERE kind = 'conflict' LIMIT 1").fetchone() is not None
        named = "SELECT 1 FROM call WHERE kind = 'refused' AND kind <> 'call' AND call_id IS NOT NULL LIMIT 1"
        self._has_named_refusals = one(named).fetchone() is not None
        groups = (
            "SELECT state, dismissed, kind = 'call', count(*), total(size) FROM call GROUP BY state, dismissed, kind = 'call'"
        )
        self.tally = Tally()
        for state, dismissed, is_call, count, size in one(groups):
            self.tally.add_group(State(state), int(size), bool(dismissed), count, is_call=bool(is_call))

    # Calls: these three keep the tally; the rest of the class is bookkeeping below them.

    def add(self, row: Row, body: Body) -> None:
        """A new row; `row.row` is set."""
        row.size = body.size + row.fragments_size
        self._insert(row, body)
        self.tally.add(row)
        if row.state is State.DUE:
            self.woken[row.destination] += 1

    def change(self, row: Row, **columns: object) -> None:
        """Set columns of a row, in `row` and in what is kept. The state goes by `move`."""
        is_counted = not _COUNTED.isdisjoint(columns)
        if is_counted:
            self.tally.add(row, -1)
        for name, value in columns.items():
            setattr(row, name, value)
        self._update(row, columns)
        if is_counted:
            self.tally.add(row)
        if row.state is State.SENDING:
            self.in_hand[row.row] = row

    def move(self, row: Row, move: Move, after: State, now: float, **columns: object) -> None:
        """As `change`, to a state that the table of states.py allows."""
        check(row.state, move, after)
        self.in_hand.pop(row.row, None)
        self.change(row, state=after, changed_at=now, **columns)
        if after is State.DUE:
            self.woken[row.destination] += 1
        elif after in (State.SENT, State.IGNORED):
            self.ripe.update((source, path) for source, path, _ in self.places(row))

    def held(self, row: int) -> Row | None:
        """A row that a worker gives back; mostly known without asking."""
        return self.in_hand.get(row) or self.get(row)

    def drop(self, row: Row) -> None:
        """Remove a row with all that hangs on it (body, events, origins, wants; not its recordings)."""
        self.tally.add(row, -1)
        if row.state is State.SENT:
            self._note_accepted(row.workspace.rpartition("/")[0])
        self._delete(row)

    def _note_accepted(self, base_url: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO accepted (base_url) VALUES (?)", (base_url,))

    def asked(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Rows of a question that only one command asks."""
        return self._ask(sql, values).fetchall()

    def set_body(self, row: Row, body: Body) -> None:
        """Put another body in place of the row's; a frozen one is thawed."""
        self.thaw(row)
        self._write_body(row, body)
        size = body.size + row.fragments_size
        if row.size != size:
            self.change(row, size=size)

    def thaw(self, row: Row) -> None:
        """Forget the frozen body: the next claim makes it anew."""
        if row.form is not None:
            if row.patch is None:
                self.drop_frozen(row.row)
            self.change(row, form=None, patch=None, frozen_by_claim=False)

    def _ask(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        """A statement that needs the tables call and body as they are by now."""
        self._unwritten.write()
        return self.db.execute(sql, values)

    # Rows.

    def _rows(self, where: str, values: Sequence[object]) -> list[Row]:
        return [row_of(columns) for columns in self._ask(f"{_SELECT} {where}", values)]

    def _row(self, where: str, values: Sequence[object]) -> Row | None:
        columns = self._ask(f"{_SELECT} {where}", values).fetchone()
        return None if columns is None else row_of(columns)

    def _insert(self, row: Row, body: Body) -> None:
        self._last_row += 1
        row.row = self._last_row
        self._unwritten.add(row, body)
        self._note(row)

    def _update(self, row: Row, columns: dict[str, object]) -> None:
        self._unwritten.change(row, columns)
        self._note(row)

    def _note(self, row: Row) -> None:
        if row.kind is RowKind.CONFLICT:
            self._has_conflicts = True
        elif row.kind is RowKind.REFUSED and row.call_id is not None:
            self._has_named_refusals = True
        if row.state is State.DUE:
            self.agents.setdefault(row.destination, set()).add(row.agent)

    def _delete(self, row: Row) -> None:
        for table, column in (("call", "row"), ("body", "row"), ("frozen", "row"), ("origin", "row"), ("event", "row")):
            self._ask(f"DELETE FROM {table} WHERE {column} = ?", (row.row,))
        if row.row == self._last_row:  # its number is not given again, whoever still remembers it
            self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('last_row', ?)", (row.row,))

    def get(self, row: int) -> Row | None:
        return self._row("WHERE row = ?", (row,))

    def expect(self, calls: Sequence[tuple[str, str, str]]) -> None:
        """`with_id` will be asked for these (workspace, agent, call id) before anything else is done to rows that have
        them: a store may read them at once."""
        self._expected = {call: [] for call in calls}
        names = list({call_id for _, _, call_id in calls})
        for at in range(0, len(names), _IDS):
            some = names[at : at + _IDS]
            some += [some[0]] * ((1 << (len(some) - 1).bit_length()) - len(some))  # few statements to prepare
            for row in self._rows(f"WHERE call_id IN ({', '.join('?' * len(some))}) AND kind = 'call'", some):
                known = self._expected.get((row.workspace, row.agent, row.call_id or ""))
                if known is not None:
                    known.append(row)

    def with_id(self, workspace: str, agent: str, call_id: str) -> Sequence[Row]:
        """Rows of kind CALL or CONFLICT with the id, the holder first."""
        found = self._expected.pop((workspace, agent, call_id), None)
        names = (call_id, agent, workspace)
        if found is None:
            found = self._rows("WHERE call_id = ? AND agent = ? AND workspace = ? AND kind = 'call'", names)
        if not self._has_conflicts:
            return found
        others = "WHERE call_id = ? AND kind <> 'call' AND kind = 'conflict' AND agent = ? AND workspace = ? ORDER BY row"
        return found + self._rows(others, names)

    def named(self, call_id: str) -> Sequence[Row]:
        """Every row with the call id, whatever its kind, in row order."""
        found = self._rows("WHERE call_id = ? AND kind = 'call'", (call_id,))
        return sorted(found + self._rows("WHERE call_id = ? AND kind <> 'call'", (call_id,)), key=lambda row: row.row)

    def at_place(self, source: str, path: str, offset: int, kind: RowKind) -> Sequence[Row]:
        """Rows of a kind at a place, in row order."""
        where = 'WHERE source = ? AND path = ? AND "offset" = ? AND kind = ? ORDER BY row'
        return self._rows(where, (source, to_text(path), offset, str(kind)))

    def refused_unnamed(self, source: str, path: str) -> Sequence[Row]:
        """Rows of kind REFUSED without a call id whose document is in the file."""
        where = "WHERE source = ? AND path = ? AND kind = 'refused' AND call_id IS NULL ORDER BY row"
        return self._rows(where, (source, to_text(path)))

    def refused_as(self, source: str, call_id: str) -> Sequence[Row]:
        """Rows of kind REFUSED with the call id. Most ledgers have none, so that nothing is asked."""
        if not self._has_named_refusals:
            return ()
        return self._rows("WHERE call_id = ? AND kind <> 'call' AND kind = 'refused' AND source = ?", (call_id, source))

    # Bodies.

    def _write_body(self, row: Row, body: Body) -> None:
        self._unwritten.set_body(row.row, body)

    def body(self, row: int) -> Body | None:
        columns = self._ask(f"SELECT {BODY} FROM body WHERE row = ?", (row,)).fetchone()
        return None if columns is None else body_of(columns)

    def matching(self, row: int) -> tuple[tuple[Strategy, ...], OnMissing] | None:
        """The call's strategies and `on_missing`, without reading documents."""
        columns = self._ask("SELECT matching FROM body WHERE row = ?", (row,)).fetchone()
        return None if columns is None else matching_of(columns[0])

    def payload(self, row: int) -> tuple[bytes | None, Form | None]:
        """The payload and the form it was checked for, without reading the document."""
        known = self._payloads.pop(row, None)
        if known is not None:
            return known
        columns = self._ask("SELECT payload, checked_for FROM body WHERE row = ?", (row,)).fetchone()
        return (None, None) if columns is None else (columns[0], None if columns[1] is None else FORMS[columns[1]])

    def payload_is(self, row: int, payload: bytes | None, checked_for: Form | None) -> None:
        """Known already to whoever asks next for `payload` of this row: nothing has to be read, or written, for it."""
        self._payloads[row] = (payload, checked_for)

    def drop_body(self, row: int) -> None:
        self._unwritten.drop_body(row)

    def retire_body(self, row: Row) -> None:
        """The call is sent: its body goes when it is no longer among the newest that are kept."""
        self.retired.append(row.row)
        self._let_go()

    def keep_bodies(self, count: int) -> None:
        """How many bodies of sent calls to keep."""
        if count != self.bodies_kept:
            self.bodies_kept = count
            self.db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('bodies_kept', ?)", (count,))
            self._let_go()

    def _let_go(self) -> None:
        """Some at a time, where many are kept."""
        if len(self.retired) > self.bodies_kept + min(_LET_GO, self.bodies_kept // 8):
            while len(self.retired) > self.bodies_kept:
                self.drop_body(self.retired.popleft())

    def keep_frozen(self, row: int, body: bytes) -> None:
        """Keep a whole frozen body (where `row.patch` would save nothing)."""
        self.db.execute("INSERT OR REPLACE INTO frozen (row, body) VALUES (?, ?)", (row, body))

    def kept_frozen(self, row: int) -> bytes | None:
        found = self.db.execute("SELECT body FROM frozen WHERE row = ?", (row,)).fetchone()
        return None if found is None else bytes(found[0])

    def drop_frozen(self, row: int) -> None:
        self.db.execute("DELETE FROM frozen WHERE row = ?", (row,))

    # Places and stories.

    def note_origin(self, row: Row, source: str, path: str, offset: int) -> None:
        """Another place where the call's document stands; the place in the row itself needs no noting."""
        if (source, path, offset) != (row.source, row.path, row.offset):
            sql = 'INSERT OR IGNORE INTO origin (row, source, path, "offset") VALUES (?, ?, ?, ?)'
            self.db.execute(sql, (row.row, source, to_text(path), offset))
            if not row.copies:
                self.change(row, copies=True)

    def places(self, row: Row) -> set[tuple[str, str, int]]:
        """Every (source, path, offset) at which the call's document stands or stood."""
        if not row.copies:
            return {(row.source, row.path, row.offset)}
        further = self.db.execute('SELECT source, path, "offset" FROM origin WHERE row = ?', (row.row,))
        return {(row.source, row.path, row.offset), *((source, from_text(path), at) for source, path, at in further)}

    def tell(self, row: Row, at: float, what: str, status: int | None = None, detail: str = "") -> None:
        """One line of the call's story; the last EVENTS_KEPT are kept."""
        if row.told < 0:  # read from the table: how far its story goes is not known yet
            row.told = self.db.execute("SELECT coalesce(max(seq), 0) FROM event WHERE row = ?", (row.row,)).fetchone()[0]
        row.told += 1
        sql = "INSERT INTO event (row, seq, at, what, status, detail) VALUES (?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, (row.row, row.told, at, what, status, to_text(detail)))
        if row.told > EVENTS_KEPT:
            self.db.execute("DELETE FROM event WHERE row = ? AND seq <= ?", (row.row, row.told - EVENTS_KEPT))

    # Claims and waits: each a walk down one index.

    def pick(self, destination: str, pick: Pick, due_by: float, now: float, not_agents: frozenset[str]) -> Row | None:
        found: int | None = None
        if pick is Pick.NEWEST:
            found = self._newest(destination, due_by, not_agents)
        elif pick is Pick.EXPIRING:
            found = self._expiring(destination, due_by, now, not_agents)
        if found is not None:
            return self.get(found)
        if not_agents:
            return self._oldest_among(destination, due_by, not_agents)
        oldest = "WHERE state = 'due' AND destination = ? AND due_at <= ? ORDER BY due_at, row LIMIT 1"
        return self._row(oldest, (destination, due_by))

    def pick_many(
        self, destination: str, picks: Sequence[Pick], due_by: float, now: float, not_agents: frozenset[str]
    ) -> Sequence[Row | None]:
        """As many picks at once, no row twice, payloads with them. None says nothing: `pick` may yet find one. What is found
        has to be claimed, or otherwise dealt with, before the next statement."""
        self._payloads.clear()
        if not_agents:
            return [None] * len(picks)
        wanted = Counter(picks)
        values = {
            "destination": destination, "due_by": due_by, "soon": now + EXPIRING_WITHIN_S, "look_at": _LOOK_AT,
            "count": len(picks), "newest": wanted[Pick.NEWEST], "expiring": wanted[Pick.EXPIRING],
        }  # fmt: skip
        found: dict[Pick, deque[Row]] = {pick: deque() for pick in Pick}
        for pick, payload, checked_for, *columns in self._ask(_PICK_MANY, values).fetchall():
            row = row_of(columns)
            self._payloads[row.row] = (payload, None if checked_for is None else FORMS[checked_for])
            found[_PICKED[pick]].append(row)
        oldest = found[Pick.OLDEST]
        return [found[pick].popleft() if found[pick] else oldest.popleft() if oldest else None for pick in picks]

    def _newest(self, destination: str, due_by: float, not_agents: frozenset[str]) -> int | None:
        """The newest calls may all be backing off, or a paused agent's: after a look at some the oldest due one does."""
        some = "SELECT row, due_at, agent FROM call WHERE state = 'due' AND destination = ? ORDER BY row DESC LIMIT ?"
        rows = self._ask(some, (destination, _LOOK_AT))
        return next((row for row, due_at, agent in rows if due_at <= due_by and agent not in not_agents), None)

    def _expiring(self, destination: str, due_by: float, now: float, not_agents: frozenset[str]) -> int | None:
        some = (
            "SELECT row, due_at, agent FROM call WHERE state = 'due' AND destination = ? AND recording_expires_at IS NOT NULL "
            "AND recording_expires_at <= ? ORDER BY recording_expires_at, row LIMIT ?"
        )
        rows = self._ask(some, (destination, now + EXPIRING_WITHIN_S, _LOOK_AT))
        return next((row for row, due_at, agent in rows if due_at <= due_by and agent not in not_agents), None)

    def _oldest_among(self, destination: str, due_by: float, not_agents: frozenset[str]) -> Row | None:
        """Some agents are paused and may have thousands of due calls: the others are asked one by one."""
        oldest = "WHERE state = 'due' AND destination = ? AND agent = ? AND due_at <= ? ORDER BY due_at, row LIMIT 1"
        agents = self.agents.get(destination, set()) - not_agents
        found = [row for agent in agents if (row := self._row(oldest, (destination, agent, due_by))) is not None]
        return min(found, key=lambda row: (row.due_at or 0.0, row.row), default=None)

    def next_due(self, destination: str, not_agents: frozenset[str]) -> float | None:
        if not not_agents:
            sql = "SELECT due_at FROM call WHERE state = 'due' AND destination = ? ORDER BY due_at LIMIT 1"
            found = self._ask(sql, (destination,)).fetchone()
            return None if found is None else found[0]
        sql = "SELECT min(due_at) FROM call WHERE state = 'due' AND destination = ? AND agent = ?"
        agents = self.agents.get(destination, set()) - not_agents
        due = [found for agent in agents for (found,) in self._ask(sql, (destination, agent)) if found is not None]
        return min(due, default=None)

    def undecided(self, now: float, limit: int) -> Sequence[Row]:
        """Waiting calls whose time has come, earliest first."""
        return self._rows("WHERE state = 'waiting' AND due_at <= ? ORDER BY due_at, row LIMIT ?", (now, limit))

    def next_undecided(self) -> float | None:
        return self._ask("SELECT min(due_at) FROM call WHERE state = 'waiting'").fetchone()[0]  # type: ignore[no-any-return]

    def sending(self) -> Sequence[Row]:
        return self._rows("WHERE state = 'sending' ORDER BY row", ())

    # Retention.

    def stale(self, states: Sequence[State], before: float, limit: int) -> Sequence[Row]:
        """Rows in these states since `before` or longer, oldest first."""
        found: list[Row] = []
        for state in states:
            where = (
                "WHERE state = ? AND state IN ('sent', 'failed', 'ignored') AND changed_at <= ? ORDER BY changed_at, row LIMIT ?"
            )
            found += self._rows(where, (str(state), before, limit))
        return sorted(found, key=lambda row: (row.changed_at, row.row))[:limit]

    def fattest_failed(self, limit: int) -> Sequence[Row]:
        """Failed rows that still have a body and may lose it, oldest first: not those that no rule could map."""
        where = "WHERE state = 'failed' AND size > 0 AND (kind = 'call' OR dismissed) ORDER BY changed_at, row LIMIT ?"
        return self._rows(where, (limit,))

    def oldest_at(self) -> dict[State, float]:
        """Of each open state the admission of its first row."""
        oldest: dict[State, float] = {}
        if self.tally.calls[State.WAITING]:
            sql = "SELECT admitted_at FROM call WHERE state = 'waiting' ORDER BY row LIMIT 1"
            oldest[State.WAITING] = self._ask(sql).fetchone()[0]
        if self.tally.calls[State.GATHERING]:
            sql = "SELECT admitted_at FROM call WHERE state = 'gathering' ORDER BY row LIMIT 1"
            oldest[State.GATHERING] = self._ask(sql).fetchone()[0]
        if self.in_hand:
            oldest_row = min(self.in_hand)
            first = self.in_hand[oldest_row] or self.get(oldest_row)
            if first is not None:
                oldest[State.SENDING] = first.admitted_at
        if self.tally.calls[State.DUE]:
            sql = "SELECT row, admitted_at FROM call WHERE state = 'due' AND destination = ? ORDER BY row LIMIT 1"
            firsts = [found for name in self.agents if (found := self._ask(sql, (name,)).fetchone()) is not None]
            if firsts:
                oldest[State.DUE] = min(firsts)[1]
        return oldest
