"""The audit: documents on disk compared with rows of the ledger, one document at a time: counts, and the places of differences.

The command walks the directories and asks the ledger. Nothing here holds a document's text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tunerd.admin.answer_types import VERSION, CallRow
from tunerd.call import Document, Mapped, RefusedDocument, State
from tunerd.record import record

CallKey: TypeAlias = tuple[str, str, str]
"""Destination, agent, call id."""
_LISTED: Final = 1_000
"""Places listed of each kind; the rest is only counted."""


@record
class PlaceRow:
    source: str
    path: str
    offset: int
    call_id: str | None
    what: str


@dataclass(slots=True, kw_only=True)
class SourceAudit:
    name: str
    files: int = 0
    documents: int = 0
    sent: int = 0
    open: int = 0
    """In the ledger, not sent yet."""
    failed: int = 0
    """In the ledger as failed (also dismissed ones): `tunerd failed` says why."""
    left_out: int = 0
    """Ignored by the rules."""
    left_out_old: int = 0
    """Not in the ledger, in files that `ignore_older` excludes now."""
    recordings: int = 0
    """Manifests: the ledger does not list them, so they are not compared."""
    parts: int = 0
    """Of calls that are gathered from several documents: not compared either."""
    duplicates: int = 0
    """Further documents of a call that another document contains."""
    missing: int = 0
    unreadable: int = 0
    """Files and directories that the audit cannot read: their content is not known."""
    unread: int = 0
    """Not in the ledger, but so new that they may be about to be read."""
    unknown: int = 0
    """Not in the ledger, and older than its rows are kept: they may have been sent and trimmed."""
    other_id: int = 0
    """In the ledger under another call id: the rule has changed since."""


@record
class AuditDocument:
    version: int = VERSION
    generated_at: float
    since: float | None
    sources: list[SourceAudit]
    missing: list[PlaceRow]
    unreadable: list[PlaceRow]
    duplicates: list[PlaceRow]
    failed: list[PlaceRow]
    extra: int
    """Rows whose file is not on disk, or no longer."""
    extra_open: int
    """Of these: calls not sent yet. The ledger holds all they need."""
    gap: bool | None
    """Whether something is missing; null: not known, because something cannot be read."""


class RowsSeen:
    """The rows of the ledger when the audit began."""

    def __init__(self, since: float = 0.0) -> None:
        self._since = since
        self._calls: dict[CallKey, str] = {}
        self._places: dict[tuple[str, int], CallRow] = {}
        self._paths: dict[str, list[str]] = {}

    def add(self, row: CallRow) -> None:
        if row.call_id is not None:
            key = (row.destination, row.agent, row.call_id)
            # Of a call and its conflicts the one that is not failed says more.
            if self._calls.get(key) in (None, State.FAILED.value):
                self._calls[key] = row.state
        self._places[row.path, row.offset] = row
        if row.admitted_at >= self._since:
            self._paths.setdefault(row.path, []).append(row.state)

    def state(self, key: CallKey) -> str | None:
        return self._calls.get(key)

    def at(self, path: str, offset: int) -> CallRow | None:
        return self._places.get((path, offset))

    def not_in(self, paths: frozenset[str]) -> list[str]:
        """States of the rows of all other files."""
        return [state for path, states in self._paths.items() if path not in paths for state in states]


@dataclass(slots=True, kw_only=True)
class Audit:
    rows: RowsSeen
    now: float
    since: float | None
    kept_s: float
    """How long the ledger keeps rows of sent calls."""
    left_out_s: Mapping[str, float] = field(default_factory=dict)
    """Source -> `ignore_older`, where there is one."""
    sources: dict[str, SourceAudit] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    missing: list[PlaceRow] = field(default_factory=list)
    unreadable: list[PlaceRow] = field(default_factory=list)
    duplicates: list[PlaceRow] = field(default_factory=list)
    failed: list[PlaceRow] = field(default_factory=list)
    _seen: dict[CallKey, str] = field(default_factory=dict)

    def source(self, name: str) -> SourceAudit:
        if name not in self.sources:
            self.sources[name] = SourceAudit(name=name)
        return self.sources[name]

    def is_refused(self, path: str, offset: int) -> bool:
        """Whether the document at this place failed without a call id: there is nothing to map."""
        row = self.rows.at(path, offset)
        return row is not None and row.state == State.FAILED.value and row.call_id is None

    def cannot_read(self, source: str, path: str, why: str) -> None:
        """A file or directory that this user cannot read: whether the ledger holds its content is not known."""
        self.source(source).unreadable += 1
        self._list(self.unreadable, source, path, 0, None, why)

    def see(
        self, one: Document | RefusedDocument, mapped: Mapped | None, *, path: str, mtime: float, young: Callable[[], bool]
    ) -> None:
        """A document on disk. `mapped` is None where nothing was mapped; `path`: where it was when it was read;
        `young`: it may be about to be read."""
        of = self.source(one.origin.source)
        of.documents += 1
        offset = one.origin.offset
        if self.is_refused(path, offset):
            self._fail(of, one, None)
        elif mapped is not None and mapped.call is not None:
            call = mapped.call
            self._see_call(of, one, (call.destination, call.agent, call.call_id), path, mtime, young)
        elif mapped is not None and mapped.refused is None and mapped.recording is not None:
            of.recordings += 1
        elif mapped is not None and mapped.refused is None:
            of.left_out += 1
        else:
            call_id = mapped.refused.call_id if mapped is not None and mapped.refused is not None else None
            row = self.rows.at(path, offset)
            if row is not None and row.admitted_at >= mtime:
                self._count(of, row.state, one, row.call_id)
            else:
                self._not_there(of, one, call_id, mtime, young)

    def _see_call(
        self, of: SourceAudit, one: Document | RefusedDocument, key: CallKey, path: str, mtime: float, young: Callable[[], bool]
    ) -> None:
        state, row = self.rows.state(key), self.rows.at(path, one.origin.offset)
        if state is not None and key in self._seen:
            of.duplicates += 1
            self._list(self.duplicates, one.origin.source, one.origin.path, one.origin.offset, key[2], f"as {self._seen[key]}")
        elif state is not None:
            self._seen[key] = str(one.origin)
            self._count(of, state, one, key[2])
        elif row is not None and row.admitted_at >= mtime:
            of.other_id += 1
        else:
            self._not_there(of, one, key[2], mtime, young)

    def _count(self, of: SourceAudit, state: str, one: Document | RefusedDocument, call_id: str | None) -> None:
        match State(state):
            case State.SENT:
                of.sent += 1
            case State.FAILED:
                self._fail(of, one, call_id)
            case State.IGNORED:
                of.left_out += 1
            case _:
                of.open += 1

    def _fail(self, of: SourceAudit, one: Document | RefusedDocument, call_id: str | None) -> None:
        of.failed += 1
        self._list(self.failed, of.name, one.origin.path, one.origin.offset, call_id, "failed")

    def _not_there(
        self, of: SourceAudit, one: Document | RefusedDocument, call_id: str | None, mtime: float, young: Callable[[], bool]
    ) -> None:
        if young():
            of.unread += 1
        elif self.now - mtime > self.left_out_s.get(of.name, float("inf")):
            of.left_out_old += 1
        elif self.now - mtime > self.kept_s:
            of.unknown += 1
        else:
            self._miss(of, one.origin.source, one.origin.path, one.origin.offset, call_id, "not in the ledger")

    def _miss(self, of: SourceAudit, source: str, path: str, offset: int, call_id: str | None, what: str) -> None:
        of.missing += 1
        self._list(self.missing, source, path, offset, call_id, what)

    @staticmethod
    def _list(rows: list[PlaceRow], source: str, path: str, offset: int, call_id: str | None, what: str) -> None:
        if len(rows) < _LISTED:
            rows.append(PlaceRow(source=source, path=path, offset=offset, call_id=call_id, what=what))

    def document(self) -> AuditDocument:
        extra = self.rows.not_in(frozenset(self.paths))
        sources: Sequence[SourceAudit] = list(self.sources.values())
        return AuditDocument(
            generated_at=self.now,
            since=self.since,
            sources=list(sources),
            missing=self.missing,
            unreadable=self.unreadable,
            duplicates=self.duplicates,
            failed=self.failed,
            extra=len(extra),
            extra_open=sum(State(state).is_open for state in extra),
            gap=True if any(source.missing for source in sources) else None if self.unreadable else False,
        )
