"""What a ledger promises about calls, written a second time and as simply as it can be: lists, scans, no SQL, none of its code.

Left out here, as suites of their own have them: manifests (test_joins.py), gathered calls, documents that became no call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunerd.call import Call, Fail, Hold, State, UrlStrategy
from tunerd.ledger import AdmitVerdict, Deferred, Delivered, Ended, Pick, Retention, Settlement
from tunerd.outcome import FailReason

OPEN = (State.WAITING, State.DUE, State.SENDING)


@dataclass
class Entry:
    row: int
    call: Call
    is_conflict: bool
    changed_at: float
    waits_from: float
    state: State = State.WAITING
    due_at: float | None = None
    attempts: int = 0
    first_attempt_at: float | None = None
    claimed_at: float | None = None
    may_have_arrived: bool = False
    reason: str | None = None
    url: str | None = None
    expires_at: float | None = None
    dismissed: bool = False

    def become(self, state: State, now: float, due_at: float | None = None, reason: str | None = None) -> None:
        self.state, self.changed_at, self.due_at, self.reason = state, now, due_at, reason

    def decide(self, now: float) -> None:
        """The first URL that is still served; else what `on_missing` says."""
        on_missing, had_one = self.call.on_missing, False
        self.url = self.expires_at = None
        for strategy in self.call.strategies:
            assert isinstance(strategy, UrlStrategy)
            if strategy.location is not None and (strategy.expires_at is None or strategy.expires_at > now):
                self.url, self.expires_at = strategy.location, strategy.expires_at
                break
            had_one |= strategy.location is not None
        if self.url is None and not isinstance(on_missing, Hold | Fail):
            self.url = on_missing.url
        if self.url is not None:
            self.become(State.DUE, now, now)
        elif had_one:
            self.become(State.FAILED, now, reason=FailReason.RECORDING_EXPIRED)
        elif isinstance(on_missing, Hold) and self.waits_from + on_missing.hold_s > now:
            self.become(State.WAITING, now, self.waits_from + on_missing.hold_s)
        else:
            self.become(State.FAILED, now, reason=FailReason.RECORDING_MISSING)

    def rewrite(self, call: Call, now: float) -> None:
        self.call, self.waits_from, self.attempts, self.first_attempt_at = call, now, 0, None
        self.dismissed, self.url, self.expires_at = False, None, None
        self.become(State.WAITING, now, now)

    def is_same_call(self, call: Call) -> bool:
        return abs(self.call.started_at_ms - call.started_at_ms) <= 1000

    def seen(self) -> tuple[object, ...]:
        place = (self.call.origin.path, self.call.origin.offset)
        due_at = self.due_at if self.state in (State.WAITING, State.DUE) else None
        return (self.row, self.state, self.call.call_id, self.call.agent, *place, self.attempts, due_at, self.reason, self.url,
                self.dismissed)  # fmt: skip


class Model:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._last = 0

    def seen(self) -> list[tuple[object, ...]]:
        return [entry.seen() for entry in self.entries]

    def counts(self) -> dict[State, int]:
        shown = [entry.state for entry in self.entries if not (entry.state is State.FAILED and entry.dismissed)]
        return {state: shown.count(state) for state in State}

    def _get(self, row: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.row == row), None)

    def _namesakes(self, call: Call) -> list[Entry]:
        """Whoever holds the id comes first."""
        found = [e for e in self.entries if (e.call.agent, e.call.call_id) == (call.agent, call.call_id)]
        return sorted(found, key=lambda entry: entry.is_conflict)

    def admit(self, calls: Sequence[Call], now: float) -> list[tuple[AdmitVerdict, Entry]]:
        """All become rows first; then those that are new, or written anew, are decided."""
        placed = [self._place(call, now) for call in calls]
        for verdict, entry in placed:
            if entry.state is State.WAITING and verdict is not AdmitVerdict.DUPLICATE:
                entry.decide(now)
        return placed

    def _place(self, call: Call, now: float) -> tuple[AdmitVerdict, Entry]:
        namesakes = self._namesakes(call)
        if (same := next((entry for entry in namesakes if entry.is_same_call(call)), None)) is not None:
            return self._again(same, call, now), same
        self._last += 1
        entry = Entry(self._last, call, bool(namesakes) and not namesakes[0].is_conflict, now, now)
        self.entries.append(entry)
        if entry.is_conflict:
            entry.become(State.FAILED, now, reason=FailReason.ID_CONFLICT)
        return (AdmitVerdict.CONFLICT if entry.is_conflict else AdmitVerdict.NEW), entry

    def _again(self, entry: Entry, call: Call, now: float) -> AdmitVerdict:
        def age(call: Call) -> tuple[int, int]:
            return (call.origin.mtime_ns, call.origin.offset)

        is_in_doubt = entry.may_have_arrived or entry.state in (State.SENDING, State.SENT)
        if entry.is_conflict or is_in_doubt or age(call) <= age(entry.call):
            return AdmitVerdict.DUPLICATE
        verdict = AdmitVerdict.REVIVED if entry.state is State.FAILED else AdmitVerdict.REPLACED
        entry.rewrite(call, now)
        return verdict

    def claim(self, pick: Pick, not_agents: frozenset[str], now: float) -> Entry | None:
        for entry in self._due(pick, not_agents, now):
            if entry.expires_at is not None and entry.expires_at <= now:
                entry.decide(now)
                return self.claim(pick, not_agents, now)
            entry.state, entry.claimed_at, entry.changed_at = State.SENDING, now, now
            return entry
        return None

    def _due(self, pick: Pick, not_agents: frozenset[str], now: float) -> Iterator[Entry]:
        due = [e for e in self.entries if e.state is State.DUE and (e.due_at or 0) <= now and e.call.agent not in not_agents]
        soon = [e for e in due if e.expires_at is not None and e.expires_at <= now + 3600]
        if pick is Pick.NEWEST:
            yield from sorted(due, key=lambda e: -e.row)
        elif pick is Pick.EXPIRING:
            yield from sorted(soon, key=lambda e: (e.expires_at or 0, e.row))
        yield from sorted(due, key=lambda e: (e.due_at or 0, e.row))

    def settle(self, row: int, settlement: Settlement, now: float) -> None:
        entry = self._get(row)
        if entry is None or entry.state is not State.SENDING:
            return
        if not isinstance(settlement, Deferred) or settlement.counts:
            entry.attempts += 1
            entry.first_attempt_at = entry.first_attempt_at or entry.claimed_at
        match settlement:
            case Delivered():
                entry.become(State.SENT, now)
            case Deferred():
                entry.become(State.DUE, now, settlement.due_at, settlement.reason)
                entry.may_have_arrived |= not settlement.surely_not_arrived
            case Ended():
                entry.become(State.FAILED, now, reason=settlement.reason)
                entry.may_have_arrived |= settlement.reason is not FailReason.REJECTED

    def release(self, row: int, now: float) -> None:
        if (entry := self._get(row)) is not None and entry.state is State.SENDING:
            entry.state, entry.changed_at = State.DUE, now

    def reopen(self, now: float) -> None:
        """A new process: whatever was being sent is due again, and may have arrived."""
        for entry in self.entries:
            if entry.state is State.SENDING:
                entry.state, entry.changed_at, entry.may_have_arrived = State.DUE, now, True

    def tick(self, now: float) -> tuple[list[int], float | None]:
        waited = [e for e in self.entries if e.state is State.WAITING and e.due_at is not None and e.due_at <= now]
        for entry in waited:
            entry.decide(now)
        failed = [entry.row for entry in waited if entry.state is State.FAILED]
        waits = [entry.due_at for entry in self.entries if entry.state is State.WAITING and entry.due_at is not None]
        return failed, min(waits, default=None)

    def replace(self, row: int, call: Call, now: float) -> State:
        entry = self._get(row)
        if entry is None:
            raise LookupError
        if entry.state in (State.SENDING, State.SENT):
            return entry.state
        holder = next((e for e in self._namesakes(call) if e is not entry and not e.is_conflict), None)
        if holder is not None and holder.is_same_call(call):
            self.entries.remove(entry)
            return holder.state
        entry.is_conflict = holder is not None
        entry.rewrite(call, now)
        if not entry.is_conflict:
            entry.decide(now)
        else:
            entry.become(State.FAILED, now, reason=FailReason.ID_CONFLICT)
        return entry.state

    def requeue(self, row: int, now: float) -> State:
        entry = self._get(row)
        if entry is None:
            raise LookupError
        if not entry.is_conflict and entry.state in (State.WAITING, State.DUE, State.FAILED):
            entry.attempts, entry.first_attempt_at, entry.dismissed, entry.waits_from = 0, None, False, now
            if entry.url is not None and (entry.expires_at is None or entry.expires_at > now):
                entry.become(State.DUE, now, now)
            else:
                entry.decide(now)
        return entry.state

    def dismiss(self, row: int, _: float) -> int:
        entry = self._get(row)
        if entry is None or entry.state is not State.FAILED or entry.dismissed:
            return 0
        entry.dismissed = True
        return 1

    def forget(self, call_id: str, _: float) -> int:
        gone = [entry for entry in self.entries if entry.call.call_id == call_id]
        if any(entry.state is State.SENDING for entry in gone):
            raise ValueError
        self.entries = [entry for entry in self.entries if entry not in gone]
        return len(gone)

    def trim(self, keep: Retention, now: float) -> int:
        kept_s = {State.SENT: keep.sent_s, State.FAILED: keep.failed_s}
        stays = [e for e in self.entries if e.state in OPEN or e.changed_at > now - kept_s[e.state]]
        gone, self.entries = len(self.entries) - len(stays), stays
        return gone

    def shift(self, seconds: float) -> None:
        for entry in self.entries:
            if entry.state in OPEN:
                entry.due_at = None if entry.due_at is None else entry.due_at + seconds
                entry.waits_from += seconds
