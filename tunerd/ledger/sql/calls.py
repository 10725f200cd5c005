"""Table call: its rows by number, call id, place and time. Changes go through Store, which keeps the tally with them."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final, TypeVar

from tunerd.call import State
from tunerd.ledger.rows import LedgerRow, RowKind
from tunerd.ledger.sql.columns import RecordColumns, to_text
from tunerd.ledger.sql.database import Cursor, Database, Execute

T = TypeVar("T")

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
"""Where one process owns the ledger, only after a start or another connection: it walks the whole table there."""
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
"""The admission of the first call in an open state: for the gauges."""
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

_AT_ONCE: Final = 256
"""Call ids, or paths, that one statement asks for."""


class Calls:
    """Questions to the table. `ask` runs a statement after what the transaction has changed is written."""

    def __init__(self, ask: Execute, db: Database) -> None:
        self._ask = ask
        self._db = db
        self._asked: list[Cursor] = []
        """Of `expect`, not read yet."""
        self._of_id: dict[str, list[LedgerRow]] = {}
        self._of_place: dict[tuple[str, str, int], list[LedgerRow]] = {}
        """What `expect` found, as long as nobody has changed it: by call id every row, by place the refused and ignored ones."""
        self._has_conflicts = self._has_named_refusals = True
        """False while the table surely has no such row: most ledgers have none, and then nothing is asked."""

    def load(self) -> None:
        if not self._db.holder:  # otherwise another instance may add one at any time
            conflicts, refusals = self._ask(KINDS).fetchone()
            self._has_conflicts, self._has_named_refusals = conflicts == 1, refusals == 1

    def note(self, row: LedgerRow) -> None:
        """The row is new or was changed."""
        self.forget(row)
        if row.kind is RowKind.CONFLICT:
            self._has_conflicts = True
        elif row.kind is RowKind.REFUSED and row.call_id is not None:
            self._has_named_refusals = True

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[LedgerRow]:
        return [_row_of(columns) for columns in self._ask(f"{sql}{self._db.row_lock}", values)]

    def _free_rows(self, sql: str, values: Sequence[object]) -> list[LedgerRow]:
        """Those that nobody else is changing now; the others are asked for again later."""
        return [_row_of(columns) for columns in self._ask(f"{sql}{self._db.skip_locked}", values)]

    def get(self, row: int) -> LedgerRow | None:
        columns = self._ask(f"{BY_ROW}{self._db.row_lock}", (row,)).fetchone()
        return None if columns is None else _row_of(columns)

    def among(self, rows: Sequence[int]) -> Iterator[LedgerRow]:
        """Asked at once, and read when the first one is wanted."""
        rows = _few_sizes(rows)
        found = self._ask(f"{_CALL} WHERE row IN ({', '.join('?' * len(rows))}) ORDER BY row{self._db.row_lock}", rows)
        return map(_row_of, found)

    # What a batch will ask for is asked together, and read when the first of it is wanted.

    def expect(self, ids: Collection[tuple[str, str, str]], places: Collection[tuple[str, str, int]]) -> None:
        """`with_id` and `refused_as` will be asked for these (workspace, agent, call id), `at_origin` for these (source, path,
        offset)."""
        self._db.hold(*[("call", *call) for call in ids])
        names = list({call_id for _, _, call_id in ids})
        self._of_id = {name: [] for name in names}
        for some in _parts(names):
            named = f"{_CALL} WHERE call_id IN ({', '.join('?' * len(some))}) AND kind"
            self._asked.append(self._ask(f"{named} = 'call'{self._db.row_lock}", some))
            if self._has_conflicts or self._has_named_refusals:
                self._asked.append(self._ask(f"{named} <> 'call'{self._db.row_lock}", some))
        self._of_place = {place: [] for place in places}
        for source in {source for source, _, _ in places}:
            for some in _parts(list({to_text(path) for of, path, _ in places if of == source})):
                there = f"volume = ? AND source = ? AND path IN ({', '.join('?' * len(some))}) AND kind IN ('refused', 'ignored')"
                self._asked.append(
                    self._ask(f"{_CALL} WHERE {there}{self._db.row_lock}", (self._db.volumes.of(source), source, *some))
                )

    def _read_expected(self) -> None:
        asked, self._asked = self._asked, []
        for row in (_row_of(columns) for found in asked for columns in found):
            of_id, of_place = self._of_id.get(row.call_id or ""), self._of_place.get((row.source, row.path, row.offset))
            is_there = of_place is not None and row.kind in (RowKind.REFUSED, RowKind.IGNORED)
            is_there = is_there and row.volume == self._db.volumes.of(row.source)
            for known in (of_id, of_place if is_there else None):
                if known is not None and all(row.row != other.row for other in known):
                    known.append(row)

    def forget(self, row: LedgerRow) -> None:
        """The row changes: what was found before of its call id and its place does not count."""
        if self._of_id or self._of_place:
            self._read_expected()
            self._of_id.pop(row.call_id or "", None)
            self._of_place.pop((row.source, row.path, row.offset), None)

    def forget_expected(self) -> None:
        self._asked, self._of_id, self._of_place = [], {}, {}

    def with_id(self, workspace: str, agent: str, call_id: str) -> Sequence[LedgerRow]:
        """Rows of kind CALL or CONFLICT with the id, the holder first."""
        self._db.hold(("call", workspace, agent, call_id))
        self._read_expected()
        names = (call_id, agent, workspace)
        known = self._of_id.get(call_id)
        if known is not None:
            own = [row for row in known if (row.call_id, row.agent, row.workspace) == names]
            conflicts = sorted((row for row in own if row.kind is RowKind.CONFLICT), key=lambda row: row.row)
            return [row for row in own if row.kind is RowKind.CALL] + conflicts
        found = self._rows(HOLDER, names)
        return found + self._rows(CONFLICTS, names) if self._has_conflicts else found

    def named(self, call_id: str) -> Sequence[LedgerRow]:
        """Every row with the call id, whatever its kind, in row order."""
        found = self._rows(HOLDERS, (call_id,)) + self._rows(OTHERS_NAMED, (call_id,))
        return sorted(found, key=lambda row: row.row)

    def at_origin(self, source: str, path: str, offset: int, kind: RowKind) -> Sequence[LedgerRow]:
        """Rows of a kind whose document is at this place of our own volume, in row order."""
        self._read_expected()
        known = self._of_place.get((source, path, offset))
        if known is not None and kind in (RowKind.REFUSED, RowKind.IGNORED):
            return sorted((row for row in known if row.kind is kind), key=lambda row: row.row)
        return self._rows(AT_ORIGIN, (self._db.volumes.of(source), source, to_text(path), offset, str(kind)))

    def refused_unnamed(self, source: str, path: str) -> Sequence[LedgerRow]:
        return self._rows(REFUSED_UNNAMED, (self._db.volumes.of(source), source, to_text(path)))

    def refused_as(self, source: str, call_id: str) -> Sequence[LedgerRow]:
        self._read_expected()
        known = self._of_id.get(call_id)
        if known is not None:
            return [row for row in known if row.kind is RowKind.REFUSED and row.source == source]
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
        self.forget_expected()
        self._ask(SHIFT, {"seconds": seconds})


def _parts(names: list[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(names), _AT_ONCE):
        yield _few_sizes(names[at : at + _AT_ONCE])


def _few_sizes(values: Sequence[T]) -> Sequence[T]:
    """The values of a list in a statement, some of them twice, so that there are few statements to prepare."""
    return [*values, *[values[0]] * ((1 << (len(values) - 1).bit_length()) - len(values))]


_row_of: Final = CALL.record
