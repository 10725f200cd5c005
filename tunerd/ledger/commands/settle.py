"""Settle and release: a worker gives a call back; and the pauses of its destination are stored."""

from tunerd.call import AudioState, State
from tunerd.ledger import Deferred, Delivered, Ended, Settlement, StoredPauses
from tunerd.ledger.commands.audio_life import delivered
from tunerd.ledger.commands.claim import frozen_body
from tunerd.ledger.pause_clock import PauseClock
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.shared_pauses import merged
from tunerd.ledger.sql.fleet_claims import digest_of
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.location import without_secrets
from tunerd.outcome import FailReason


def settle(store: Store, row_id: int, settlement: Settlement, now: float) -> None:
    """See WritePath.settle. A row that is not `sending` was settled before, or is gone: nothing happens. The same if another
    instance gave this one up and has the call now; but what Tuner took is not sent again."""
    row = store.claimed_row(row_id)
    if row is None and isinstance(settlement, Delivered):
        row = _taken_over(store, row_id)
    elif row is not None and row.state is not State.SENDING:
        row = None
    if row is None:
        return
    match settlement:
        case Delivered():
            _deliver(store, row, settlement, now)
        case Deferred():
            _defer(store, row, settlement, now)
        case Ended():
            _end(store, row, settlement, now)


def _taken_over(store: Store, row_id: int) -> LedgerRow | None:
    """The call of a claim that this instance lost, if it still holds the bytes that were posted."""
    row, digest = store.calls.get(row_id), store.fleet_claims.end(row_id)
    if row is None or row.state not in (State.DUE, State.SENDING) or row.form is None:
        return None
    body = frozen_body(store, row)
    return row if body is not None and digest_of(body) == digest else None


def _attempted(row: LedgerRow) -> dict[str, object]:
    """Columns of a row that has one more attempt behind it."""
    return {
        "attempts": row.attempts + 1,
        "first_attempt_at": row.claimed_at if row.first_attempt_at is None else row.first_attempt_at,
    }


def _deliver(store: Store, row: LedgerRow, done: Delivered, now: float) -> None:
    if row.form is not None and row.patch is None:
        store.bodies.drop_frozen(row.row)
    failed = store.audios.get(row.row) if row.audio is AudioState.FAILED else None  # it was sent without its audio
    store.move(
        row,
        Move.DELIVER,
        State.SENT,
        now,
        due_at=None,
        status=done.status,
        tuner_call_id=done.tuner_call_id,
        reason=None if failed is None else failed.reason,
        detail=failed.detail if failed is not None else "Tuner already had it" if done.already_there else "",
        recording_location=None if row.recording_location is None else without_secrets(row.recording_location),
        form=None,
        patch=None,
        **_attempted(row),
    )
    if done.audio is not None and row.audio is AudioState.PENDING:
        delivered(store, row, done.audio, now)
    store.bodies.note_sent(row.row)
    if row.gathers:
        store.groups.compact(row.row)


def _defer(store: Store, row: LedgerRow, done: Deferred, now: float) -> None:
    store.move(
        row,
        Move.DEFER,
        State.DUE,
        now,
        due_at=done.due_at,
        status=done.status,
        reason=done.reason.value,
        detail=done.detail,
        may_have_arrived=row.may_have_arrived or not done.surely_not_arrived,
        frozen_by_claim=False,
        **(_attempted(row) if done.counts else {}),
    )
    tried = f"attempt {row.attempts}, " if done.counts else ""
    why = f"{tried}{done.reason.value}: {done.detail}"
    store.history.add(row, now, "retried" if done.counts else "refused", done.status, why)


def _end(store: Store, row: LedgerRow, done: Ended, now: float) -> None:
    was_sent = row.form is not None  # without a body its URL could not be signed
    store.move(
        row,
        Move.END,
        State.FAILED,
        now,
        due_at=None,
        status=done.status,
        reason=done.reason.value,
        detail=done.detail,
        may_have_arrived=row.may_have_arrived or (was_sent and done.reason is not FailReason.REJECTED),
        frozen_by_claim=False,
        **(_attempted(row) if was_sent else {}),
    )
    tried = f"attempt {row.attempts}, " if was_sent else ""
    why = f"{tried}{done.reason.value}: {done.detail}"
    store.history.add(row, now, "failed", done.status, why)


def release(store: Store, row_id: int, now: float) -> None:
    """See WritePath.release."""
    row = store.claimed_row(row_id)
    if row is None or row.state is not State.SENDING:
        return
    if row.frozen_by_claim:
        store.thaw(row)
    store.move(row, Move.RELEASE, State.DUE, now, due_at=row.due_at)


def store_pauses(store: Store, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None) -> None:
    """See WritePath.store_pauses."""
    known = store.destinations.get(destination)
    if before is not None and store.db.holder and known is not None:
        pauses = merged(known[0], before, pauses)
    clock = PauseClock(at=now) if known is None else known[1].advance(known[0], now)
    store.destinations.set(destination, pauses, clock)
