"""What the rules of each source ignore: rows whose role is in no table, and sources whose documents are all ignored.
It listens to the events, emits each finding once as an event of its own, and `status` reads it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunerd import events as e

IGNORED_IN_A_ROW: Final = 20
"""After this many documents that only a false `when:` ignores, without a call or a recording, the rules may be wrong."""
_MOST_ROLES: Final = 50


@dataclass(slots=True)
class SourceCoverage:
    """One source, since the start."""

    admitted: int = 0
    """Calls and recordings; those of earlier runs count as one."""
    ignored: int = 0
    ignored_in_a_row: int = 0
    """Since the last document that was not ignored, or that `not_call:` recognised."""
    is_reported: bool = False
    rows_dropped: Counter[str] = field(default_factory=Counter)
    unknown_roles: dict[str, None] = field(default_factory=dict)

    @property
    def only_ignored(self) -> int:
        """Documents ignored in a row, if they are enough to report; else 0."""
        return self.ignored_in_a_row if not self.admitted and self.ignored_in_a_row >= IGNORED_IN_A_ROW else 0


class Coverage:
    """Call it with each event. `emit` gets the findings, for all listeners."""

    def __init__(self, emit: e.Emit) -> None:
        self._emit = emit
        self._sources: dict[str, SourceCoverage] = {}

    def of(self, source: str) -> SourceCoverage:
        return self._sources.setdefault(source, SourceCoverage())

    def has_admitted(self, sources: Iterable[str]) -> None:
        """These sources had calls in an earlier run."""
        for source in sources:
            self.of(source).admitted += 1

    @property
    def admitted(self) -> int:
        return sum(one.admitted for one in self._sources.values())

    @property
    def ignored(self) -> int:
        return sum(one.ignored for one in self._sources.values())

    def __call__(self, event: e.Event) -> None:
        match event:
            case e.DocumentMapped() if event.notes.rows_dropped or event.notes.unknown_roles:
                self._rows(event)
            case e.DocumentIgnored():
                self._ignored(event)
            case e.CallAdmitted() | e.CallDuplicate() | e.RecordingAdmitted():
                source = self.of(event.source)
                source.admitted += 1
                source.ignored_in_a_row = 0
                if source.is_reported:
                    source.is_reported = False
                    self._emit(e.OnlyIgnored(source=event.source, count=0))
            case e.CallFailed():
                self.of(event.source).ignored_in_a_row = 0
            case _:
                pass

    def _rows(self, event: e.DocumentMapped) -> None:
        source = self.of(event.source)
        source.rows_dropped.update(event.notes.rows_dropped)
        for role in event.notes.unknown_roles:
            if role not in source.unknown_roles and len(source.unknown_roles) < _MOST_ROLES:
                source.unknown_roles[role] = None
                self._emit(e.RoleUnknown(source=event.source, role=role, dropped=bool(event.notes.rows_dropped)))

    def _ignored(self, event: e.DocumentIgnored) -> None:
        source = self.of(event.source)
        source.ignored += 1
        source.ignored_in_a_row = 0 if event.known else source.ignored_in_a_row + 1
        if source.only_ignored and not source.is_reported:
            source.is_reported = True
            self._emit(e.OnlyIgnored(source=event.source, count=source.only_ignored))

    def roles(self, source: str) -> Sequence[str]:
        return tuple(self.of(source).unknown_roles)
