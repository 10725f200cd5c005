"""Which due call is claimed next: each question walks one index, however many calls are due.

On an engine that several processes share, these statements lock what they pick: they are the only ones that decide who sends a
call.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tunerd.call import AudioState, Form, State
from tunerd.ledger import Pick
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.bodies import FORMS
from tunerd.ledger.sql.calls import CALL
from tunerd.ledger.sql.database import Execute

EXPIRING_WITHIN_S: Final = 3600.0
LOOK_AT: Final = 256
"""How many of the newest, or the soonest expiring, calls are looked at for one that may be sent now."""
_CALL: Final = f"SELECT {CALL.listed} FROM call"
_DUE: Final = "state = 'due' AND audio <> 'pending' AND destination"
COLUMNS: Final = ", ".join(f'call."{name}"' for name in CALL.names)

PICK_MANY: Final = f"""WITH
newest AS MATERIALIZED (
    SELECT row FROM (
        SELECT row, due_at FROM call WHERE {_DUE} = :destination ORDER BY row DESC LIMIT :look_at) AS looked
    WHERE due_at <= :due_by LIMIT :newest),
soon AS MATERIALIZED (
    SELECT row FROM (
        SELECT row, due_at FROM call WHERE {_DUE} = :destination
        AND recording_expires_at IS NOT NULL AND recording_expires_at <= :soon
        ORDER BY recording_expires_at, row LIMIT :look_at) AS looked
    WHERE due_at <= :due_by AND row NOT IN (SELECT row FROM newest) LIMIT :expiring),
oldest AS MATERIALIZED (
    SELECT row FROM call WHERE {_DUE} = :destination AND due_at <= :due_by
    AND row NOT IN (SELECT row FROM newest UNION ALL SELECT row FROM soon)
    ORDER BY due_at, row LIMIT :count - (SELECT count(*) FROM newest) - (SELECT count(*) FROM soon)),
picked (pick, row) AS MATERIALIZED (
    SELECT 0, row FROM newest UNION ALL SELECT 1, row FROM soon UNION ALL SELECT 2, row FROM oldest)
SELECT picked.pick, payload, checked_for, {COLUMNS}
FROM picked JOIN call ON call.row = picked.row LEFT JOIN body ON body.row = picked.row
"""
"""Each kind of pick in its order, no row twice, with their payloads; all in one statement."""
_PICKS: Final = (Pick.NEWEST, Pick.EXPIRING, Pick.OLDEST)
"""What the numbers in PICK_MANY mean."""
OLDEST: Final = f"{_CALL} WHERE {_DUE} = ? AND due_at <= ? ORDER BY due_at, row LIMIT 1"
OLDEST_OF_AGENT: Final = f"{_CALL} WHERE {_DUE} = ? AND agent = ? AND due_at <= ? ORDER BY due_at, row LIMIT 1"
NEWEST: Final = f"SELECT row, due_at, agent FROM call WHERE {_DUE} = ? ORDER BY row DESC LIMIT {LOOK_AT}"
EXPIRING: Final = (
    f"SELECT row, due_at, agent FROM call WHERE {_DUE} = ? AND recording_expires_at IS NOT NULL "
    f"AND recording_expires_at <= ? ORDER BY recording_expires_at, row LIMIT {LOOK_AT}"
)
NEXT_DUE: Final = f"SELECT due_at FROM call WHERE {_DUE} = ? ORDER BY due_at LIMIT 1"
NEXT_DUE_OF_AGENT: Final = f"SELECT min(due_at) FROM call WHERE {_DUE} = ? AND agent = ?"


def agents_of(due: str) -> str:
    """The statement that lists the agents with due calls at `:destination`: a step of the index for each."""
    return (
        f"WITH RECURSIVE found (agent) AS (SELECT min(agent) FROM call WHERE {due} = :destination UNION ALL "
        f"SELECT (SELECT min(agent) FROM call WHERE {due} = :destination AND agent > found.agent) FROM found "
        "WHERE found.agent IS NOT NULL) SELECT agent FROM found WHERE agent IS NOT NULL"
    )


AGENTS: Final = agents_of(_DUE)


class DueCalls:
    def __init__(
        self,
        ask: Execute,
        pick_due: Callable[[Mapping[str, object]], Sequence[Any]],
        skip_locked: str,
        get: Callable[[int], LedgerRow | None],
        payload_is: Callable[[int, bytes | None, Form | None], None],
    ) -> None:
        self._ask = ask
        self._pick_due = pick_due
        self._skip_locked = skip_locked
        self._get = get
        self._payload_is = payload_is

    def agents(self, destination: str, but: frozenset[str]) -> set[str]:
        """Agents that have due calls, whenever they are due."""
        return {agent for (agent,) in self._ask(AGENTS, {"destination": destination})} - but

    def pick(self, destination: str, pick: Pick, due_by: float, now: float, not_agents: frozenset[str]) -> LedgerRow | None:
        found: int | None = None
        if pick is Pick.NEWEST:  # they may all be backing off: after a look at some the oldest one is taken
            found = self._first(NEWEST, (destination,), due_by, not_agents)
        elif pick is Pick.EXPIRING:
            found = self._first(EXPIRING, (destination, now + EXPIRING_WITHIN_S), due_by, not_agents)
        if found is not None and (row := self._get(found)) is not None:
            is_due = row.state is State.DUE and row.audio is not AudioState.PENDING and (row.due_at or 0.0) <= due_by
            if is_due and row.destination == destination and row.agent not in not_agents:  # as it is after a wait for its lock
                return row
        if not_agents:
            return self._oldest_among(destination, due_by, not_agents)
        return self._row(OLDEST, (destination, due_by))

    def pick_many(
        self, destination: str, picks: Sequence[Pick], due_by: float, now: float, not_agents: frozenset[str]
    ) -> Sequence[LedgerRow | None]:
        """As many picks at once, no row twice, payloads with them. None proves nothing: `pick` may still find one. What is found
        has to be claimed, or otherwise dealt with, before the next statement."""
        if not_agents:
            return [None] * len(picks)
        wanted = Counter(picks)
        values = {
            "destination": destination, "due_by": due_by, "soon": now + EXPIRING_WITHIN_S, "look_at": LOOK_AT,
            "count": len(picks), "newest": wanted[Pick.NEWEST], "expiring": wanted[Pick.EXPIRING],
        }  # fmt: skip
        found: dict[Pick, deque[LedgerRow]] = {pick: deque() for pick in Pick}
        for pick, payload, checked_for, *columns in self._pick_due(values):
            row = CALL.record(columns)
            self._payload_is(row.row, payload, FORMS[checked_for])
            found[_PICKS[pick]].append(row)
        oldest = found[Pick.OLDEST]
        return [found[pick].popleft() if found[pick] else oldest.popleft() if oldest else None for pick in picks]

    def next_due(self, destination: str, not_agents: frozenset[str]) -> float | None:
        if not not_agents:
            found = self._ask(NEXT_DUE, (destination,)).fetchone()
            return None if found is None else found[0]
        agents = self.agents(destination, not_agents)
        due = [found for agent in agents for (found,) in self._ask(NEXT_DUE_OF_AGENT, (destination, agent)) if found is not None]
        return min(due, default=None)

    def _first(self, sql: str, values: Sequence[object], due_by: float, not_agents: frozenset[str]) -> int | None:
        rows = self._ask(sql, values)
        return next((row for row, due_at, agent in rows if due_at <= due_by and agent not in not_agents), None)

    def _oldest_among(self, destination: str, due_by: float, not_agents: frozenset[str]) -> LedgerRow | None:
        """Some agents are paused and may have thousands of due calls: the others are asked one by one."""
        agents = self.agents(destination, not_agents)
        found = [row for agent in agents if (row := self._row(OLDEST_OF_AGENT, (destination, agent, due_by))) is not None]
        return min(found, key=lambda row: (row.due_at or 0.0, row.row), default=None)

    def _row(self, sql: str, values: Sequence[object]) -> LedgerRow | None:
        columns = self._ask(f"{sql}{self._skip_locked}", values).fetchone()
        return None if columns is None else CALL.record(columns)
