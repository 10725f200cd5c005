"""Table call: its rows by number, call id, place and time. Changes go through Store, which keeps the tally with them."""

from collections.abc import Collection, Sequence
from typing import Final

from tunerd.call import State
from tunerd.ledger.rows import LedgerRow, RowKind
from tunerd.ledger.sql.columns import RecordColumns, to_text
from tunerd.ledger.sql.database import Database, Execute

CALL: Final = RecordColumns("call", LedgerRow, without=("event_count",))
_CALL: Final = f"SELECT {CALL.listed} FROM call"

BY_ROW: Final = f"{_CALL} WHERE row = ?"
HOLDER: Final = f"{_CALL} WHERE call_id = ? AND agent = ? AND workspace = ? AND kind = 'call'"
"""The call that holds an id: at most one."""
CONFLICTS: Final = (
    f"{_CALL} WHERE call_id = ? AND kind <> 'call' AND kind = 'conflict' AND agent = ? AND workspace = ? ORDER BY row"
)
"""Rows that wanted the id."""
HOLDERS: Final = f"{_CALL} WHERE call_id = ? AND kind = 'call'"
"""Calls with the id, of every agent and workspace."""
OTHERS_NAMED: Final = f"{_CALL} WHERE call_id = ? AND kind <> 'call'"
"""Rows with the id that are no calls, or no longer."""
REFUSED_AS: Final = f"{_CALL} WHERE call_id = ? AND kind <> 'call' AND kind = 'refused' AND source = ?"
"""Refused documents of which the mapping knew the call id."""
AT_ORIGIN: Final = f'{_CALL} WHERE volume = ? AND source = ? AND path = ? AND "offset" = ? AND kind = ? ORDER BY row'
REFUSED_UNNAMED: Final = (
    f"{_CALL} WHERE volume = ? AND source = ? AND path = ? AND kind = 'refused' AND call_id IS NULL ORDER BY row"
)
"""Refused documents of a file of which nothing is known but their place."""
UNDECIDED: Final = f"{_CALL} WHERE state = 'waiting' AND due_at <= ? ORDER BY due_at, row LIMIT ?"
"""Waiting calls whose time has come, earliest first."""
NEXT_UNDECIDED: Final = "SELECT min(due_at) FROM call WHERE state = 'waiting'"
SENDING: Final = f"{_CALL} WHERE state = 'sending' AND holder = ? ORDER BY row LIMIT ?"
"""Only after a start or another connection: walks the whole table."""
STALE: Final = (
    f"{_CALL} WHERE state = ? AND state IN ('sent', 'failed', 'ignored') AND changed_at <= ? "
    "AND (state <> 'sent' OR audio IN ('none', 'uploaded') OR dismissed = 1) ORDER BY changed_at, row LIMIT ?"
)
"""Rows that ended in a state long ago, oldest first. A sent call stays until its audio is uploaded, or a person dismisses it."""
FAILED_WITH_BODY: Final = (
    f"{_CALL} WHERE state = 'failed' AND size > 0 AND (kind = 'call' OR dismissed = 1) ORDER BY changed_at, row LIMIT ?"
)
"""Failed rows that still have a body and may lose it, oldest first; documents that no rule could map keep theirs."""
FIRST_WAITING: Final = "SELECT admitted_at FROM call WHERE state = 'waiting' ORDER BY row LIMIT 1"
FIRST_GATHERING: Final = "SELECT admitted_at FROM call WHERE state = 'gathering' ORDER BY row LIMIT 1"
FIRST_DUE: Final = (
    "SELECT row, admitted_at FROM call WHERE state = 'due' AND audio <> 'pending' AND destination = ? ORDER BY row LIMIT 1"
)
"""The admission of the first call in each open state: for the gauges."""
MOVABLE: Final = (
    "SELECT row FROM call WHERE destination = ? AND state IN ('waiting', 'due') AND row > ? AND may_have_arrived = 0 "
    "ORDER BY row LIMIT ?"
)
"""Calls that may go to another destination. Asked after a start with a changed configuration."""
OPEN_BY_DESTINATION: Final = (
    "SELECT destination, workspace, count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'due'), "
    "count(*) FILTER (WHERE state = 'sending'), sum(may_have_arrived) "
    "FROM call WHERE state IN ('waiting', 'due', 'sending') GROUP BY destination, workspace"
)
"""For what is stranded; asked now and then."""
SENT_TO: Final = "SELECT 1 FROM call WHERE state = 'sent' AND substr(workspace, 1, ?) = ? LIMIT 1"
"""Whether a call was accepted under a base_url."""
_NAMED: Final = "SELECT 1 FROM call WHERE kind <> 'call' AND call_id IS NOT NULL AND kind"
KINDS: Final = (
    f"SELECT CASE WHEN EXISTS ({_NAMED} = 'conflict') THEN 1 ELSE 0 END, "
    f"CASE WHEN EXISTS ({_NAMED} = 'refused') THEN 1 ELSE 0 END"
)
"""Whether there are conflicts, and refused documents with a call id."""
DELETE: Final = "DELETE FROM call WHERE row = ?"
SHIFT: Final = (
    "UPDATE call SET due_at = due_at + :seconds, waits_from = waits_from + :seconds, "
    "first_attempt_at = first_attempt_at + :seconds WHERE state IN ('gathering', 'waiting', 'due', 'sending')"
)

_IDS: Final = 256
"""Call ids that one statement asks for."""


class Calls:
    """Questions to the table. `ask` runs a statement after what the transaction has changed is written."""

    def __init__(self, ask: Execute, db: Database) -> None:
        self._ask = ask
        self._db = db
        self._expected: dict[tuple[str, str, str], list[LedgerRow]] = {}
        self._has_conflicts = self._has_named_refusals = True
        """False while the table surely has no such row: most ledgers have none, and then nothing is asked."""

    def load(self) -> None:
        conflicts, refusals = self._ask(KINDS).fetchone()
        self._has_conflicts, self._has_named_refusals = conflicts == 1, refusals == 1

    def note(self, row: LedgerRow) -> None:
        """The row is new or was changed."""
        if row.kind is RowKind.CONFLICT:
            self._has_conflicts = True
        elif row.kind is RowKind.REFUSED and row.call_id is not None:
            self._has_named_refusals = True

    def forget_expected(self) -> None:
        self._expected = {}

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[LedgerRow]:
        return [_row_of(columns) for columns in self._ask(f"{sql}{self._db.row_lock}", values)]

    def _free_rows(self, sql: str, values: Sequence[object]) -> list[LedgerRow]:
        """Those that nobody else is changing now; the others are asked for again later."""
        return [_row_of(columns) for columns in self._ask(f"{sql}{self._db.skip_locked}", values)]

    def get(self, row: int) -> LedgerRow | None:
        columns = self._ask(f"{BY_ROW}{self._db.row_lock}", (row,)).fetchone()
        return None if columns is None else _row_of(columns)

    def among(self, rows: Sequence[int]) -> list[LedgerRow]:
        return self._rows(f"{_CALL} WHERE row IN ({', '.join('?' * len(rows))}) ORDER BY row", rows)

    def expect(self, calls: Collection[tuple[str, str, str]]) -> None:
        """`with_id` will be asked for these (workspace, agent, call id) before anything else is done to rows that have them: they
        are read together."""
        self._db.hold(*[("call", *call) for call in calls])
        self._expected = {call: [] for call in calls}
        names = list({call_id for _, _, call_id in calls})
        for at in range(0, len(names), _IDS):
            some = names[at : at + _IDS]
            some += [some[0]] * ((1 << (len(some) - 1).bit_length()) - len(some))  # few statements to prepare
            for row in self._rows(f"{_CALL} WHERE call_id IN ({', '.join('?' * len(some))}) AND kind = 'call'", some):
                known = self._expected.get((row.workspace, row.agent, row.call_id or ""))
                if known is not None:
                    known.append(row)

    def with_id(self, workspace: str, agent: str, call_id: str) -> Sequence[LedgerRow]:
        """Rows of kind CALL or CONFLICT with the id, the holder first."""
        found = self._expected.pop((workspace, agent, call_id), None)
        names = (call_id, agent, workspace)
        if found is None:
            self._db.hold(("call", workspace, agent, call_id))
            found = self._rows(HOLDER, names)
        return found + self._rows(CONFLICTS, names) if self._has_conflicts else found

    def named(self, call_id: str) -> Sequence[LedgerRow]:
        """Every row with the call id, whatever its kind, in row order."""
        found = self._rows(HOLDERS, (call_id,)) + self._rows(OTHERS_NAMED, (call_id,))
        return sorted(found, key=lambda row: row.row)

    def at_origin(self, source: str, path: str, offset: int, kind: RowKind) -> Sequence[LedgerRow]:
        """Rows of a kind whose document is at this place of our own volume, in row order."""
        return self._rows(AT_ORIGIN, (self._db.volumes.of(source), source, to_text(path), offset, str(kind)))

    def refused_unnamed(self, source: str, path: str) -> Sequence[LedgerRow]:
        return self._rows(REFUSED_UNNAMED, (self._db.volumes.of(source), source, to_text(path)))

    def refused_as(self, source: str, call_id: str) -> Sequence[LedgerRow]:
        return self._rows(REFUSED_AS, (call_id, source)) if self._has_named_refusals else ()

    # Time.

    def undecided(self, now: float, limit: int) -> Sequence[LedgerRow]:
        return self._free_rows(UNDECIDED, (now, limit))

    def next_undecided(self) -> float | None:
        return self._ask(NEXT_UNDECIDED).fetchone()[0]  # type: ignore[no-any-return]

    def sending(self, holder: int, limit: int = 1 << 62) -> Sequence[LedgerRow]:
        return self._rows(SENDING, (holder, limit))

    def stale(self, states: Sequence[State], before: float, limit: int) -> Sequence[LedgerRow]:
        """Rows in these states since `before` or longer, oldest first."""
        found = [row for state in states for row in self._free_rows(STALE, (str(state), before, limit))]
        return sorted(found, key=lambda row: (row.changed_at, row.row))[:limit]

    def failed_with_body(self, limit: int) -> Sequence[LedgerRow]:
        return self._free_rows(FAILED_WITH_BODY, (limit,))

    def movable(self, destination: str, after_row: int, limit: int) -> Sequence[int]:
        return [row for (row,) in self._ask(MOVABLE, (destination, after_row, limit))]

    def shift(self, seconds: float) -> None:
        self._ask(SHIFT, {"seconds": seconds})


_row_of: Final = CALL.record
