"""The oldest open calls, and since when calls are due, for the gauges: a step of an index for each, and nothing is counted."""

from typing import Final

from tunerd.call import AudioState, State
from tunerd.ledger.sql import calls as call_table
from tunerd.ledger.sql.audios import Audios
from tunerd.ledger.sql.database import Execute
from tunerd.ledger.sql.due_calls import DueCalls
from tunerd.ledger.tally import Tally

_FIRST: Final = ((State.WAITING, call_table.FIRST_WAITING), (State.GATHERING, call_table.FIRST_GATHERING))


class OldestCalls:
    """The tally says what need not be asked for. (In a fleet it may be a moment behind the tables.)"""

    def __init__(self, ask: Execute, due: DueCalls, audios: Audios) -> None:
        self._ask = ask
        self._due = due
        self._audios = audios

    def admitted_at(self, tally: Tally) -> dict[State, float]:
        """Of each open state the admission of its first row; not of calls that are being sent."""
        oldest: dict[State, float] = {}
        for state, sql in _FIRST:
            if tally.calls[state] and (found := self._ask(sql).fetchone()) is not None:
                oldest[state] = found[0]
        destinations = self._destinations(tally)
        firsts = [self._ask(call_table.FIRST_DUE, (destination,)).fetchone() for destination in destinations]
        if tally.audio[AudioState.PENDING]:
            firsts += [self._audios.first_due(destination) for destination in destinations]
        if due := [first for first in firsts if first is not None]:
            oldest[State.DUE] = min(due)[1]
        return oldest

    def due_since(self, tally: Tally) -> dict[str, float]:
        """The earliest due time of each destination that has a due call."""
        found = {destination: [self._due.next_due(destination, frozenset())] for destination in self._destinations(tally)}
        if tally.audio[AudioState.PENDING]:
            for destination, times in found.items():
                if (first := self._audios.next_due(destination)) is not None:
                    times.append(first[0])
        earliest = {name: min((at for at in times if at is not None), default=None) for name, times in found.items()}
        return {destination: at for destination, at in earliest.items() if at is not None}

    def _destinations(self, tally: Tally) -> list[str]:
        found = self._due.destinations() if tally.calls[State.DUE] else []
        return sorted({*found, *self._audios.destinations()}) if tally.audio[AudioState.PENDING] else found
