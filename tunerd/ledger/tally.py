"""The gauges of the ledger, kept by adding and taking away rows and never by counting them."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

from tunerd.call import AudioState, State
from tunerd.ledger import Gauges
from tunerd.ledger.rows import LedgerRow, RowKind

_OPEN: Final = frozenset(state for state in State if state.is_open)

_OTHERS: Final = (
    "pending_bytes", "waiting_bytes", "gathering_bytes", "failed_bytes", "unmapped_bytes", "left_out_bytes", "url_checks",
    "unasked_urls",
)  # fmt: skip


class Tally:
    def __init__(self) -> None:
        self.calls = dict.fromkeys(State, 0)
        self.audio = dict.fromkeys(AudioState, 0)
        self.pending_bytes = 0
        self.waiting_bytes = 0
        self.gathering_bytes = 0
        self.failed_bytes = 0
        self.unmapped_bytes = 0
        """Of failed documents that no rule could map, and that nobody has dismissed."""
        self.left_out_bytes = 0
        self.url_checks = 0
        """Rows of table url_check: while there are none, nobody looks for any."""
        self.unasked_urls = 0
        """Of these: not asked for yet."""

    @classmethod
    def of(cls, groups: Iterable[Sequence[Any]]) -> "Tally":
        """Of groups of rows: state, dismissed, whether they are calls, audio, how many, and their size."""
        tally = cls()
        for state, dismissed, is_call, audio, count, size in groups:
            tally.add_rows(State(state), int(size), dismissed == 1, count, is_call=bool(is_call))
            tally.add_audio(AudioState(audio), State(state), dismissed == 1, count)
        return tally

    def copy(self) -> "Tally":
        other = copy(self)
        other.calls = self.calls.copy()
        other.audio = self.audio.copy()
        return other

    def numbers(self) -> dict[str, int]:
        """All of them, by name."""
        return {
            **{f"calls_{state}": count for state, count in self.calls.items()},
            **{f"audio_{state}": count for state, count in self.audio.items()},
            **{name: getattr(self, name) for name in _OTHERS},
        }

    def since(self, before: "Tally") -> dict[str, int]:
        """What has changed since then."""
        old = before.numbers()
        return {name: change for name, number in self.numbers().items() if (change := number - old[name])}

    def set(self, numbers: Mapping[str, int]) -> None:
        """Put these in place of all of them; one that is not named is 0."""
        self.calls = {state: numbers.get(f"calls_{state}", 0) for state in State}
        self.audio = {state: numbers.get(f"audio_{state}", 0) for state in AudioState}
        for name in _OTHERS:
            setattr(self, name, numbers.get(name, 0))

    def add(self, row: LedgerRow, sign: int = 1) -> None:
        """Count a row, or with sign -1 take it away again."""
        self.add_rows(row.state, sign * row.size, row.dismissed, sign, is_call=row.kind is RowKind.CALL)
        if row.audio is not AudioState.NONE:
            self.add_audio(row.audio, row.state, row.dismissed, sign)

    def add_audio(self, audio: AudioState, state: State, dismissed: bool, count: int) -> None:
        """Count rows whose audio is in this state. It is pending only for a call that is to be sent."""
        is_over = (audio is AudioState.FAILED and dismissed) or (audio is AudioState.PENDING and state is State.FAILED)
        if audio is not AudioState.NONE and not is_over:
            self.audio[audio] += count

    def add_rows(self, state: State, size: int, dismissed: bool, count: int, *, is_call: bool) -> None:
        """Count rows that have these in common; `size` is of all of them together."""
        if not (state is State.FAILED and dismissed):
            self.calls[state] += count
        if state in _OPEN:
            self.pending_bytes += size
            if state is State.WAITING:
                self.waiting_bytes += size
            elif state is State.GATHERING:
                self.gathering_bytes += size
        elif state is State.FAILED and (is_call or dismissed):
            self.failed_bytes += size
        elif state is State.FAILED:
            self.unmapped_bytes += size
        elif state is State.IGNORED:
            self.left_out_bytes += size

    def gauges(self, oldest_at: Mapping[State, float], due_since: Mapping[str, float]) -> Gauges:
        return Gauges(
            calls=dict(self.calls),
            oldest_at=dict(oldest_at),
            due_since=dict(due_since),
            audio={state: count for state, count in self.audio.items() if state is not AudioState.NONE},
            pending_bytes=self.pending_bytes,
            waiting_bytes=self.waiting_bytes,
            gathering_bytes=self.gathering_bytes,
            unmapped_bytes=self.unmapped_bytes,
            url_checks=self.url_checks,
            unasked_urls=self.unasked_urls,
        )
