"""A call becomes a row, or changes the row that has its id already."""

from collections.abc import Sequence
from typing import Final

from tunerd.call import AudioState, Call, Refusal, State
from tunerd.ledger import AdmitVerdict, FailedCall, StoredPauses
from tunerd.ledger.commands.join import fail, first_wants
from tunerd.ledger.commands.locate_audio import add_first, first_state, owner_of
from tunerd.ledger.commands.refuse import is_superseded
from tunerd.ledger.decision import CheckedUrls, Use, brings_location, decide, wants_of
from tunerd.ledger.pause_clock import PauseClock
from tunerd.ledger.rows import Body, LedgerRow, RowKind, Want
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

SAME_START_MS: Final = 1000
"""Two documents with one call id are the same call if they started this close together."""


def place(store: Store, call: Call, now: float, is_log: bool) -> tuple[AdmitVerdict, LedgerRow]:
    """Find or make the row of a call. One that is waiting still has to be matched."""
    origin = call.origin
    if not is_log:  # the same place of a log that rotated is another document
        for refused in store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.REFUSED):
            if is_superseded(store, refused, [call.document], call.call_id):
                store.drop(refused)
        for ignored in store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.IGNORED):
            store.drop(ignored)
    for refused in store.calls.refused_as(origin.source, call.call_id):
        store.drop(refused)
    namesakes = store.calls.with_id(call.workspace, call.agent, call.call_id)
    for row in namesakes:
        if row.started_at_ms is not None and abs(row.started_at_ms - call.started_at_ms) <= SAME_START_MS:
            return again(store, row, call, now, store.db.volumes.of(origin.source))
    row = _new_row(call, now, store.db.volumes.of(origin.source))
    body = body_of(call)
    _know_destination(store, call.destination, now)
    holder = next((namesake for namesake in namesakes if namesake.kind is RowKind.CALL), None)
    if holder is not None:
        row.kind, row.state, row.due_at = RowKind.CONFLICT, State.FAILED, None
        row.reason, row.place, row.detail = FailReason.ID_CONFLICT.value, "call_id", _conflict_words(holder, call)
    else:
        row.seeks = bool(wants_of(call.strategies))
        if not row.seeks or brings_location(call.strategies, now):
            _decide_before(store, row, call, now)
    store.add(row, body)
    add_first(store, row, call.audio, now)
    if holder is not None:
        store.history.add(row, now, "failed", detail=f"{row.reason}: {row.detail}")
        return AdmitVerdict.CONFLICT, row
    if row.state is State.DUE:
        _note_wants(store, row, body)
    else:
        store.wants.add(_wants(store, row, body))
    return AdmitVerdict.NEW, row


def _note_wants(store: Store, row: LedgerRow, body: Body) -> None:
    """Of a call that looks for no recording, because its document brings the URL: the recording that a manifest tells of it
    is nobody else's, and if the URL expires before it is sent, the call looks for it after all."""
    if row.seeks:
        store.wants.note_closed(_wants(store, row, body, is_seeking=False))


def _decide_before(store: Store, row: LedgerRow, call: Call, now: float) -> None:
    """Most calls bring their URL: they are written once, as due, and not first as waiting."""
    checks = None if call.verify_s is None else CheckedUrls(wait_s=call.verify_s)
    decision = decide(call.strategies, call.on_missing, offers={}, answers={}, waits_from=now, now=now, checks=checks)
    if isinstance(decision, Use):
        row.state, row.recording_location, row.recording_expires_at = State.DUE, decision.location, decision.expires_at
        row.audio = first_state(decision.location, call.audio)
        if row.audio is AudioState.PENDING:
            row.owner = owner_of(store, decision.location, row.volume)


def again(store: Store, row: LedgerRow, call: Call, now: float, volume: int) -> tuple[AdmitVerdict, LedgerRow]:
    """The same call from another document, which is on this volume. It replaces the first document if that surely did not arrive
    and is older; then the call is waiting, and has to be matched."""
    origin = call.origin
    store.note_origin(row, volume, origin.source, origin.path, origin.offset)
    if row.reason == FailReason.DOCUMENT_LOST and row.state is State.FAILED:  # what it was made of is back
        rewrite(store, row, call, now, volume=volume)
        store.history.add(row, now, "revived", detail="its document was read again")
        return AdmitVerdict.REVIVED, row
    is_newer = (origin.mtime_ns, origin.offset) > row.version
    if not is_newer or row.may_have_arrived or row.kind is not RowKind.CALL or row.state in (State.SENDING, State.SENT):
        if row.state is State.SENT:
            store.disposable.add((origin.source, origin.path))
        return AdmitVerdict.DUPLICATE, row
    was_failed = row.state is State.FAILED
    rewrite(store, row, call, now, volume=volume)
    store.history.add(row, now, "revived" if was_failed else "replaced", detail="by a newer document")
    return (AdmitVerdict.REVIVED if was_failed else AdmitVerdict.REPLACED), row


_REWRITTEN: Final = (
    "source", "destination", "workspace", "agent", "call_id", "path", "offset", "mtime_ns", "started_at_ms", "ended_at_ms",
    "settled_at", "due_at", "waits_from", "attempts", "first_attempt_at", "status", "reason", "place", "detail",
    "recording_location", "recording_expires_at", "joined", "dismissed", "audio", "owner",
    "volume",
)  # fmt: skip
"""Columns that a row has from its document, or that begin anew with another one."""


def rewrite(
    store: Store, row: LedgerRow, call: Call, now: float, kind: RowKind = RowKind.CALL, *, volume: int | None = None
) -> None:
    """Put the call in the row, unfrozen and waiting: its recordings are free again, and it has to be matched anew. Of its audio
    the ledger remembers what was seen, in case the same location is found again (locate_audio.py). `volume`: of a document that
    was read now; without it the call was mapped from what the row has, perhaps on another instance than the one that read it."""
    store.recordings.give_back(row.row)
    store.checks.delete(row.row)
    store.set_body(row, body_of(call))
    _know_destination(store, call.destination, now)
    place = (row.volume, row.source, row.path, row.offset)
    if volume is None:
        volume = next(iter(store.history.volumes_of(row, call.origin)), row.volume)
    new = _new_row(call, now, volume)
    store.move(row, Move.REWRITE, State.WAITING, now, kind=kind, **{name: getattr(new, name) for name in _REWRITTEN})
    store.note_origin(row, *place)
    _set_wants(store, row, body_of(call))


def _new_row(call: Call, now: float, volume: int) -> LedgerRow:
    return LedgerRow(
        kind=RowKind.CALL,
        state=State.WAITING,
        source=call.origin.source,
        volume=volume,
        destination=call.destination,
        workspace=call.workspace,
        agent=call.agent,
        call_id=call.call_id,
        path=call.origin.path,
        offset=call.origin.offset,
        mtime_ns=call.origin.mtime_ns,
        started_at_ms=call.started_at_ms,
        ended_at_ms=call.ended_at_ms,
        admitted_at=now,
        settled_at=call.settled_at,
        changed_at=now,
        due_at=now,
        waits_from=now,
    )


def body_of(call: Call) -> Body:
    return Body(
        document=call.document,
        payload=call.payload,
        strategies=call.strategies,
        on_missing=call.on_missing,
        audio=call.audio,
        verify_s=call.verify_s,
        checked_for=call.checked_for,
    )


def _conflict_words(holder: LedgerRow, call: Call) -> str:
    apart_s = abs((holder.started_at_ms or 0) - call.started_at_ms) / 1000
    return (
        f"the call of {holder.path} has the same id, but started {apart_s:.0f} s apart from this one; "
        "check the call_id rule, then `tunerd retry`"
    )


def conflict_into(store: Store, row: LedgerRow, holder: LedgerRow, call: Call, now: float) -> FailedCall:
    """A row that was mapped again has an id that another call holds."""
    rewrite(store, row, call, now, RowKind.CONFLICT)
    refusal = Refusal(reason=FailReason.ID_CONFLICT, where="call_id", what=_conflict_words(holder, call))
    return fail(store, row, refusal, now, Move.DECIDE)


def _wants(store: Store, row: LedgerRow, body: Body, *, is_seeking: bool = True) -> Sequence[Want]:
    return first_wants(row, body.strategies, is_seeking=is_seeking, owner=store.db.volumes.owner(row.volume, store.db.execute))


def _set_wants(store: Store, row: LedgerRow, body: Body) -> None:
    wants = _wants(store, row, body)
    if wants or row.seeks:
        store.wants.set(row.row, wants)
        if row.seeks != bool(wants):
            store.change(row, seeks=bool(wants))


def _know_destination(store: Store, destination: str, now: float) -> None:
    if destination and store.destinations.get(destination) is None:
        store.destinations.set(destination, StoredPauses(), PauseClock(at=now))
