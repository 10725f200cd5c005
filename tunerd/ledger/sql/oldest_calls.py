"""The oldest open calls, and since when calls are due, for the gauges: a step of an index for each, and nothing is counted."""

from collections.abc import Sequence
from typing import Final

from tunerd.call import State
from tunerd.ledger.sql.calls import FIRST_GATHERING, FIRST_WAITING
from tunerd.ledger.sql.database import Cursor, Execute
from tunerd.ledger.sql.volumes import Volumes


def _of_destinations(due: str, order: str) -> str:
    """Destinations that have due calls, the earliest due time of each, and the admission of its first call."""
    first = f"FROM call WHERE {due} = found.destination ORDER BY"
    return (
        f"WITH RECURSIVE found (destination) AS (SELECT min(destination) FROM call WHERE {due} > '' UNION ALL "
        f"SELECT (SELECT min(destination) FROM call WHERE {due} > found.destination) FROM found "
        "WHERE found.destination IS NOT NULL) "
        f"SELECT destination, (SELECT due_at {first} due_at LIMIT 1), (SELECT admitted_at {first} {order} LIMIT 1) "
        "FROM found WHERE destination IS NOT NULL"
    )


DUE: Final = _of_destinations("state = 'due' AND audio <> 'pending' AND destination", "row")
DUE_WITH_AUDIO: Final = _of_destinations("state = 'due' AND audio = 'pending' AND owner = :owner AND destination", "due_at, row")
"""Of audio that one instance can open. The call that is due first is nearly always the one that was admitted first."""


class OldestCalls:
    def __init__(self, ask: Execute, volumes: Volumes) -> None:
        self._ask = ask
        self._owners = sorted({0, volumes.own})

    def ask(self) -> Sequence[Cursor]:
        """What `read` takes; it is read last, so that other questions go out with it."""
        asked = [self._ask(sql) for sql in (FIRST_WAITING, FIRST_GATHERING, DUE)]
        return [*asked, *[self._ask(DUE_WITH_AUDIO, {"owner": owner}) for owner in self._owners]]


def read(asked: Sequence[Cursor]) -> tuple[dict[State, float], dict[str, float]]:
    """Of each open state the admission of its first row (not of calls that are being sent), and of each destination with a due
    call the earliest due time."""
    waiting, gathering, *due = asked
    oldest: dict[State, float] = {}
    for state, first in ((State.WAITING, waiting), (State.GATHERING, gathering)):
        if (found := first.fetchone()) is not None:
            oldest[state] = found[0]
    due_since: dict[str, float] = {}
    for destination, due_at, admitted_at in [columns for one in due for columns in one.fetchall()]:
        due_since[destination] = min(due_at, due_since.get(destination, due_at))
        oldest[State.DUE] = min(admitted_at, oldest.get(State.DUE, admitted_at))
    return oldest, due_since
