"""What an operator changes: a row is mapped again, sent again, dismissed, or erased."""

from collections.abc import Mapping, Sequence
from typing import Final

from tunerd.call import AudioState, Call, Choice, RefusedDocument, State
from tunerd.ledger.commands.join import resolve
from tunerd.ledger.commands.locate_audio import located, owner_of
from tunerd.ledger.commands.place_call import SAME_START_MS, conflict_into, rewrite
from tunerd.ledger.commands.refuse import refuse_into
from tunerd.ledger.matching import Free
from tunerd.ledger.rows import LedgerRow, RowKind
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import REVIVABLE, Move, may
from tunerd.location import bare
from tunerd.outcome import FailReason

_ANEW: Final[Mapping[str, object]] = {
    "attempts": 0,
    "first_attempt_at": None,
    "status": None,
    "reason": None,
    "place": "",
    "detail": "",
    "dismissed": False,
}
"""Columns of a call that a person sends again."""
_WITHOUT_RECORDING: Final = REVIVABLE | {
    FailReason.RECORDING_TOO_LONG,
    FailReason.AUDIO_UNREADABLE,
    FailReason.AUDIO_CHANGED,
    FailReason.AUDIO_TOO_LARGE,
    FailReason.AUDIO_HOST_LOST,
}
"""A person may give a call that failed for these another recording."""


def replace(store: Store, row_id: int, mapped: Call | RefusedDocument, now: float) -> State:
    """See OperatorActions.replace."""
    row = store.calls.get(row_id)
    if row is None:
        raise LookupError(f"the ledger has no row {row_id} (any more)")
    if not may(row.state, Move.REWRITE):
        return row.state
    if isinstance(mapped, RefusedDocument):
        refuse_into(store, row, mapped, now, note=True)
        return row.state
    if row.gathers:
        store.cuts.lift_all(row.row)  # a person asks for what is there to be sent
    others = [r for r in store.calls.with_id(mapped.workspace, mapped.agent, mapped.call_id) if r.row != row_id]
    holder = next((r for r in others if r.kind is RowKind.CALL), None)
    if holder is None:
        rewrite(store, row, mapped, now)
        store.history.add(row, now, "remapped")
        resolve(store, row, now)
        return row.state
    if holder.started_at_ms is not None and abs(holder.started_at_ms - mapped.started_at_ms) <= SAME_START_MS:
        # The call is in the ledger already: this row was another copy of it.
        store.note_origin(holder, row.volume, mapped.origin.source, mapped.origin.path, mapped.origin.offset)
        store.recordings.give_back(row.row)
        store.drop(row)
        return holder.state
    conflict_into(store, row, holder, mapped, now)
    return row.state


def requeue(store: Store, row_id: int, now: float) -> State:
    """See OperatorActions.requeue."""
    row = store.calls.get(row_id)
    if row is None:
        raise LookupError(f"the ledger has no row {row_id} (any more)")
    if row.kind is not RowKind.CALL or not may(row.state, Move.REQUEUE) or store.bodies.payload(row_id)[0] is None:
        return row.state
    store.thaw(row)
    fresh: dict[str, object] = {**_ANEW, "waits_from": now}
    is_served = row.recording_expires_at is None or row.recording_expires_at > now
    if row.recording_location is not None and is_served:
        again = located(store, row, row.recording_location, row.recording_expires_at, now)
        store.move(row, Move.REQUEUE, State.DUE, now, due_at=now, **fresh, **again)
    else:
        unserved = located(store, row, None, None, now)
        store.move(row, Move.REQUEUE, State.WAITING, now, due_at=now, **fresh, **unserved)
        if row.seeks:
            store.wants.seek(row.row, True)
        resolve(store, row, now)
    store.history.add(row, now, "requeued")
    return row.state


def use_recording(store: Store, row_id: int, location: str, now: float) -> State:
    """See OperatorActions.use_recording."""
    row = store.calls.get(row_id)
    if row is None:
        raise LookupError(f"the ledger has no row {row_id} (any more)")
    is_open = row.state is State.WAITING or (row.state is State.FAILED and row.reason in _WITHOUT_RECORDING)
    if row.kind is not RowKind.CALL or not is_open or store.bodies.payload(row_id)[0] is None:
        return row.state
    position, known = _known_as(store, row, location)
    if known is not None:
        store.recordings.take(known.row, row.row)
    expires_at, identity = (None, "") if known is None else (known.expires_at, known.identity)
    owner = owner_of(store, location, row.volume) if known is None else known.owner
    if known is not None and known.location is not None and location == bare(location):
        location = known.location  # with its signature
    store.thaw(row)
    store.checks.delete(row.row)
    found = located(store, row, location, expires_at, now, identity=identity, by_hand=True, owner=owner)
    store.move(row, Move.REQUEUE, State.DUE, now, due_at=now, joined=position, **_ANEW, waits_from=now, **found)
    if row.seeks:
        store.wants.seek(row.row, False)
    store.history.add(row, now, "matched", detail="by hand")
    return row.state


def _known_as(store: Store, row: LedgerRow, location: str) -> tuple[int | None, Free | None]:
    """The recording that a person means, if it is among those that may belong to the call, and the strategy that looks for it."""
    for want in store.wants.of(row.row) if row.seeks else ():
        if want.choice is Choice.ONLY:
            free, _ = store.recordings.alike_near(want.source, want.key, want.started_at_ms)
        else:
            free = store.recordings.free_within(want.source, want.key, want.started_at_ms, want.within_ms)
        for one in free:
            if one.location is not None and bare(one.location) == bare(location):
                return want.position, one
    return None, None


def dismiss(store: Store, rows: Sequence[int], now: float) -> int:
    """See OperatorActions.dismiss."""
    count = 0
    for row_id in rows:
        row = store.calls.get(row_id)
        if row is None or not (row.state is State.FAILED or row.audio is AudioState.FAILED) or row.dismissed:
            continue
        store.change(row, dismissed=True)
        if row.state is State.SENT:
            store.may_be_disposable(row)
        if row.seeks:
            store.wants.seek(row.row, False)
        store.history.add(row, now, "dismissed")
        count += 1
    return count


def forget(store: Store, call_id: str) -> int:
    """See OperatorActions.forget (the rows; making it unrecoverable is the ledger's)."""
    rows = store.calls.named(call_id)
    if any(row.state is State.SENDING for row in rows):
        raise ValueError("the call is being sent right now; try again in a moment")
    for row in rows:
        if row.state not in (State.SENT, State.IGNORED):
            store.keep_files(row)
        store.recordings.delete_taken(row.row)
        store.drop(row)
    return len(rows)
