"""What the commands (ledger/commands/) need from whatever keeps the rows: the seam between the ledger's rules and SQL.

A Store answers narrow questions and makes narrow changes inside one open transaction; it decides nothing. MemoryStore
(memory.py) and SqliteStore (sqlite/store.py) implement it; transactions, threads and faults are the ledgers' own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from tunerd.call import Form, Fragment, State
from tunerd.ledger import FileMark, Gate, Pick
from tunerd.ledger.matching import Answer, Free
from tunerd.ledger.rows import Body, KeptGroup, KeptRecording, Kind, PauseClock, Plain, Row, Tally, Want
from tunerd.ledger.states import Move, check

NEAR: Final = 8
"""How many recordings, or seekers, on each side of a start are looked at."""
EXPIRING_WITHIN_S: Final = 3600.0
VANISHED_KEPT_S: Final = 7 * 86_400.0


class Store(ABC):
    def __init__(self) -> None:
        self.tally = Tally()
        self.woken: set[str] = set()
        """Destinations of which a call was made due in this transaction."""
        self.in_hand: dict[int, Row | Plain | None] = {}
        """Rows that workers of this process hold, as they were handed out (None: to be read again)."""
        self.ripe: set[tuple[str, str]] = set()
        """(source, path) of files that may have become disposable in this transaction."""

    # Calls: these three keep the tally; the rest of the class is bookkeeping below them.

    def add(self, row: Row, body: Body) -> None:
        """A new row; `row.row` is set."""
        row.size = body.size + row.fragments_size
        self._insert(row, body)
        self.tally.add(row.state, row.size, row.dismissed)
        if row.state is State.DUE:
            self.woken.add(row.destination)

    def change(self, row: Row, **columns: object) -> None:
        """Set columns of a row, in `row` and in what is kept. The state goes by `move`."""
        is_counted = "state" in columns or "size" in columns or "dismissed" in columns
        if is_counted:
            self.tally.add(row.state, row.size, row.dismissed, -1)
        for name, value in columns.items():
            setattr(row, name, value)
        self._update(row, columns)
        if is_counted:
            self.tally.add(row.state, row.size, row.dismissed)
        if row.state is State.SENDING:
            self.in_hand[row.row] = row

    def move(self, row: Row, move: Move, after: State, now: float, **columns: object) -> None:
        """As `change`, to a state that the table of states.py allows."""
        check(row.state, move, after)
        self.in_hand.pop(row.row, None)
        self.change(row, state=after, changed_at=now, **columns)
        if after is State.DUE:
            self.woken.add(row.destination)
        elif after in (State.SENT, State.IGNORED):
            self.ripe.update((source, path) for source, path, _ in self.places(row))

    def held(self, row: int) -> Row | None:
        """A row that a worker gives back; mostly known without asking."""
        found = self.in_hand.get(row)
        return found if isinstance(found, Row) else self.get(row)

    # Plain calls, for a store that can do many of them in one statement; the others hand out none.

    def hold(self, plain: Plain, form: Form, patch: bytes, paused_before_s: float, now: float) -> None:
        """What a claim does to a call that `pick_many` gave as plain."""
        raise NotImplementedError

    def deliver(self, row: int, status: int, tuner_call_id: str | None, detail: str, now: float) -> bool:
        """What Delivered does to a call that is held as plain; False where it is not (any more)."""
        return False

    def drop(self, row: Row) -> None:
        """Remove a row with all that hangs on it (body, events, origins, wants; not its recordings)."""
        self.tally.add(row.state, row.size, row.dismissed, -1)
        self._delete(row)

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

    @abstractmethod
    def _insert(self, row: Row, body: Body) -> None: ...
    @abstractmethod
    def _update(self, row: Row, columns: dict[str, object]) -> None: ...
    @abstractmethod
    def _delete(self, row: Row) -> None: ...
    @abstractmethod
    def _write_body(self, row: Row, body: Body) -> None: ...

    @abstractmethod
    def get(self, row: int) -> Row | None: ...
    @abstractmethod
    def with_id(self, workspace: str, agent: str, call_id: str) -> Sequence[Row]:
        """Rows of kind CALL or CONFLICT with the id, the holder first."""

    @abstractmethod
    def expect(self, calls: Sequence[tuple[str, str, str]]) -> None:
        """`with_id` will be asked for these (workspace, agent, call id) before anything else is done to rows that have
        them: a store may read them at once."""

    @abstractmethod
    def named(self, call_id: str) -> Sequence[Row]:
        """Every row with the call id, whatever its kind, in row order."""

    @abstractmethod
    def at_place(self, source: str, path: str, offset: int, kind: Kind) -> Sequence[Row]:
        """Rows of a kind at a place, in row order."""

    @abstractmethod
    def refused_unnamed(self, source: str, path: str) -> Sequence[Row]:
        """Rows of kind REFUSED without a call id whose document is in the file."""

    @abstractmethod
    def body(self, row: int) -> Body | None: ...
    @abstractmethod
    def drop_body(self, row: int) -> None: ...
    @abstractmethod
    def retire_body(self, row: Row) -> None:
        """The call is sent: its wants go, its body when it is no longer among the newest that are kept."""

    @abstractmethod
    def keep_bodies(self, count: int) -> None:
        """How many bodies of sent calls to keep."""

    @abstractmethod
    def payload(self, row: int) -> tuple[bytes | None, Form | None]:
        """The payload and the form it was checked for, without reading the document."""

    @abstractmethod
    def keep_frozen(self, row: int, body: bytes) -> None:
        """Keep a whole frozen body (where `row.patch` would save nothing)."""

    @abstractmethod
    def kept_frozen(self, row: int) -> bytes | None: ...
    @abstractmethod
    def drop_frozen(self, row: int) -> None: ...
    @abstractmethod
    def note_origin(self, row: Row, source: str, path: str, offset: int) -> None:
        """Another place where the call's document stands; the place in the row itself needs no noting."""

    @abstractmethod
    def places(self, row: Row) -> set[tuple[str, str, int]]:
        """Every (source, path, offset) at which the call's document stands or stood."""

    @abstractmethod
    def tell(self, row: Row, at: float, what: str, status: int | None = None, detail: str = "") -> None:
        """One line of the call's story; the last EVENTS_KEPT are kept."""

    # What a claim asks.

    @abstractmethod
    def pick(self, destination: str, pick: Pick, due_by: float, now: float, not_agents: frozenset[str]) -> Row | None: ...
    def pick_many(
        self, destination: str, picks: Sequence[Pick], due_by: float, now: float, not_agents: frozenset[str]
    ) -> Sequence[Row | Plain | None]:
        """As many picks at once, no row twice: in few statements, where a store can. None says nothing: `pick` may yet
        find one. What is found has to be claimed, or otherwise dealt with, before the next statement."""
        return [None] * len(picks)

    @abstractmethod
    def next_due(self, destination: str, not_agents: frozenset[str]) -> float | None: ...

    # What waits.

    @abstractmethod
    def undecided(self, now: float, limit: int) -> Sequence[Row]:
        """Waiting calls whose time has come, earliest first."""

    @abstractmethod
    def next_undecided(self) -> float | None: ...

    # Recordings and wants.

    @abstractmethod
    def add_recording(self, recording: KeptRecording) -> int: ...
    @abstractmethod
    def same_recording(self, source: str, key: str, url: str | None, started_at_ms: int | None) -> KeptRecording | None: ...
    @abstractmethod
    def recordings_at(self, source: str, path: str, offset: int) -> Sequence[KeptRecording]: ...
    @abstractmethod
    def drop_recording(self, row: int) -> None: ...
    @abstractmethod
    def refresh_recording(self, row: int, expires_at: float | None) -> None: ...
    @abstractmethod
    def take(self, recording: int, call: int) -> None: ...
    @abstractmethod
    def give_back(self, call: int) -> None:
        """Free every recording that the call has taken."""

    @abstractmethod
    def drop_taken(self, call: int) -> None: ...
    @abstractmethod
    def free_near(self, source: str, key: str, started_at_ms: int) -> Sequence[Free]:
        """Free recordings with the key: up to NEAR on each side of the start, and up to NEAR without a start."""

    @abstractmethod
    def seekers_near(self, source: str, key: str, started_at_ms: int | None) -> Sequence[Want]:
        """Open wants with the key: up to NEAR on each side of the start; without a start NEAR of those without a window."""

    @abstractmethod
    def wants(self, call: int) -> Sequence[Want]: ...
    @abstractmethod
    def set_wants(self, call: int, wants: Sequence[Want]) -> None:
        """Put these (open) wants in place of the call's."""

    @abstractmethod
    def answer_want(self, call: int, position: int, answer: Answer | None) -> None:
        """Keep a strategy's answer. "Absent" closes the want for good; "expired" leaves it open for a fresh URL."""

    @abstractmethod
    def open_wants(self, call: int, is_open: bool) -> None:
        """Whether the call looks for recordings now (not for what was answered "absent")."""

    # Destinations, files, the rest of an admission.

    @abstractmethod
    def gate(self, destination: str) -> tuple[Gate, PauseClock] | None: ...
    @abstractmethod
    def set_gate(self, destination: str, gate: Gate, clock: PauseClock) -> None: ...
    @abstractmethod
    def set_mark(self, mark: FileMark, now: float) -> None:
        """The path is there: it is neither vanished nor disposed."""

    @abstractmethod
    def hold_files(self, row: Row) -> None:
        """The files that the row came from are never disposable again: it goes without having been sent."""

    @abstractmethod
    def hold_file(self, source: str, path: str) -> None:
        """The same for one file."""

    # Groups and their fragments.

    @abstractmethod
    def group(self, source: str, key: str) -> KeptGroup | None: ...
    @abstractmethod
    def group_of(self, row: int) -> KeptGroup | None: ...
    @abstractmethod
    def set_group(self, group: KeptGroup) -> None:
        """Put it in place of the row's; its fragments stay. `drop` takes both along."""

    @abstractmethod
    def wanting(self, source: str, now: float, ended_by: float, limit: int) -> Sequence[KeptGroup]:
        """Groups whose look is due, earliest first; of those that only waited, those whose wait ended by `ended_by`."""

    @abstractmethod
    def next_look(self, source: str) -> float | None: ...
    @abstractmethod
    def add_fragment(self, row: int, fragment: Fragment, digest: bytes, *, whole: bool, with_document: bool) -> None:
        """The row's next fragment; without its document only the place and digest are known."""

    @abstractmethod
    def drop_fragments_at(self, row: int, path: str, offset: int) -> int:
        """Gives how many bytes of documents went."""

    @abstractmethod
    def digests(self, row: int, path: str, offset: int) -> Sequence[bytes]:
        """Of the fragments at a place, whether their documents are still there or not."""

    @abstractmethod
    def last_log_offset(self, row: int, path: str) -> int | None:
        """The last place of a log whose document is no longer there."""

    @abstractmethod
    def fragments(self, row: int) -> Sequence[Fragment]:
        """Those whose documents are there, in the order they came."""

    @abstractmethod
    def empty_fragments(self, row: int) -> None:
        """Their documents go, their places stay."""

    @abstractmethod
    def thin_fragments(self, row: int) -> None:
        """The call is sent: of a log only the last place whose document is gone stays."""

    # Retention.

    @abstractmethod
    def stale(self, states: Sequence[State], before: float, limit: int) -> Sequence[Row]:
        """Rows in these states since `before` or longer, oldest first."""

    @abstractmethod
    def fattest_failed(self, limit: int) -> Sequence[Row]:
        """Failed rows that still have a body, oldest first."""

    @abstractmethod
    def drop_recordings(self, before: float, limit: int) -> int: ...
    @abstractmethod
    def drop_vanished(self, before: float, limit: int) -> int: ...
    @abstractmethod
    def shift(self, seconds: float) -> None: ...
