"""Admit: what one read gave becomes rows, each call matched with its recording on the way in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tunerd.call import Call, Fragment, IgnoredDocument, Recording, Refusal, RefusedDocument, State
from tunerd.ledger import Admission, Admitted, AdmitVerdict, Continued, FailedCall, Gate, Matched, Reservation
from tunerd.ledger.commands.cuts import cut
from tunerd.ledger.commands.fragments import collect
from tunerd.ledger.commands.join import fail, first_wants, match, resolve
from tunerd.ledger.commands.recordings import keep
from tunerd.ledger.commands.send import hand_over
from tunerd.ledger.matching import Use, decide, wants_of
from tunerd.ledger.rows import Body, PauseClock, Row, RowKind
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

SAME_START_MS: Final = 1000
"""Two documents of one call id are the same call if they started this close together."""


def admit(store: Store, admission: Admission, now: float, offers: Sequence[Reservation] = ()) -> Admitted:
    """See WritePath.admit. Recordings and calls first all become rows, then they are matched: a recording sees every
    call of its own read, and a call every rival."""
    is_log = admission.mark is not None and not admission.mark.whole
    found: list[Matched | FailedCall | None] = []
    if admission.replaces_failed:
        _supersede(store, admission)
    if admission.continued is not None:
        _complete(store, admission.continued, admission.refused)
    found += [keep(store, recording, now) for recording in admission.recordings]
    store.expect([(call.workspace, call.agent, call.call_id) for call in admission.calls])
    placed = [_place(store, call, now, is_log) for call in admission.calls]
    latest = {row.row: row for _, row in placed}  # one call may come twice in a read
    ended, seen = match(store, now)
    found.extend(ended)
    for verdict, row in placed:
        if latest[row.row].state is State.WAITING:
            latest[row.row] = again = store.get(row.row) or row  # a recording of this read may have found it
            if again.state is State.WAITING and verdict is not AdmitVerdict.DUPLICATE:
                if again.row not in seen:
                    found.append(resolve(store, again, now))
                if again.state is State.WAITING:
                    store.tell(again, now, "waiting")
        elif verdict is AdmitVerdict.CONFLICT:
            found.append(_failed(row))
    for refused in admission.refused:
        _refuse(store, refused, now, is_log)
    for ignored in admission.ignored:
        _ignore(store, ignored, now, is_log)
    late = sum(collect(store, fragment, now, is_log) for fragment in admission.fragments)
    cut(store, admission, now)
    if admission.mark is not None:
        store.set_mark(admission.mark, now)
        if admission.mark.whole:
            store.ripe.add((admission.mark.source, admission.mark.path))
    verdicts = tuple((verdict, latest[row.row].state) for verdict, row in placed)
    handed = hand_over(store, _untouched(admission, placed), offers, now, found) if offers else ()
    return Admitted(
        verdicts=verdicts,
        handed=handed,
        late=late,
        matched=tuple(one for one in found if isinstance(one, Matched)),
        failed=tuple(one for one in found if isinstance(one, FailedCall)),
    )


def _untouched(admission: Admission, placed: Sequence[tuple[AdmitVerdict, Row]]) -> Sequence[tuple[Call, Row]]:
    """New calls of which nothing but their own document decides: they stand as they were placed."""
    times = Counter(row.row for _, row in placed)
    return [
        (call, row)
        for call, (verdict, row) in zip(admission.calls, placed, strict=True)
        if verdict is AdmitVerdict.NEW and times[row.row] == 1 and not row.seeks
    ]


FAILURES_OF_A_PLACE: Final = 20
"""Documents that failed at one place of a file that is rewritten again and again; from then on the last row tells of the rest."""


def _is_superseded(store: Store, row: Row, documents: Sequence[bytes | None], call_id: str | None) -> bool:
    """Whether what is read now takes a refusal away: the place could not be read before, or it is the same call, or the very
    same document. Another document at its path does not: a call that no rule could map would vanish with it."""
    if row.call_id is not None and row.call_id == call_id:
        return True
    body = store.body(row.row) or Body()
    if row.reason == FailReason.UNREADABLE or (row.reason == FailReason.CRASHED and body.document is None):
        return True
    there = [document for document in documents if document is not None]
    if body.document is not None:
        return body.document in there
    return bool(body.head) and any(document.startswith(body.head) for document in there)


def _supersede(store: Store, admission: Admission) -> None:
    again = {document.origin.offset for document in admission.refused}
    items: Sequence[Call | Recording | RefusedDocument | IgnoredDocument | Fragment]
    items = (*admission.calls, *admission.recordings, *admission.refused, *admission.ignored, *admission.fragments)
    places = {(item.origin.source, item.origin.path) for item in items}
    if admission.mark is not None:
        places.add((admission.mark.source, admission.mark.path))
    documents = [
        *(call.document for call in admission.calls),
        *(refused.document for refused in admission.refused),
        *(fragment.document for fragment in admission.fragments),
    ]
    for source, path in places:
        for row in store.refused_unnamed(source, path):
            if row.offset not in again and _is_superseded(store, row, documents, None):
                store.drop(row)


def _complete(store: Store, line: Continued, refused: Sequence[RefusedDocument]) -> None:
    """The same bytes refused once more stay the row that they are."""
    again = {one.head for one in refused if one.origin.offset == line.offset}
    for row in store.at_place(line.source, line.path, line.offset, RowKind.REFUSED):
        head = (store.body(row.row) or Body()).head
        if row.call_id is None and line.begins.startswith(head) and head not in again:
            store.drop(row)


# Calls.


def _place(store: Store, call: Call, now: float, is_log: bool) -> tuple[AdmitVerdict, Row]:
    """Find or make the row of a call. One that is waiting still has to be matched."""
    origin = call.origin
    if not is_log:  # the same place of a log that rotated is another document
        for refused in store.at_place(origin.source, origin.path, origin.offset, RowKind.REFUSED):
            if _is_superseded(store, refused, [call.document], call.call_id):
                store.drop(refused)
        for ignored in store.at_place(origin.source, origin.path, origin.offset, RowKind.IGNORED):
            store.drop(ignored)
    for refused in store.refused_as(origin.source, call.call_id):
        store.drop(refused)
    namesakes = store.with_id(call.workspace, call.agent, call.call_id)
    for row in namesakes:
        if row.started_at_ms is not None and abs(row.started_at_ms - call.started_at_ms) <= SAME_START_MS:
            return again(store, row, call, now)
    row = _new_row(call, now)
    body = body_of(call)
    _know(store, call.destination, now)
    holder = next((namesake for namesake in namesakes if namesake.kind is RowKind.CALL), None)
    if holder is not None:
        row.kind, row.state, row.due_at = RowKind.CONFLICT, State.FAILED, None
        row.reason, row.place, row.detail = FailReason.ID_CONFLICT.value, "call_id", _conflict_words(holder, call)
    elif not wants_of(call.strategies):
        _decide_before(row, call, now)
    store.add(row, body)
    if holder is not None:
        store.tell(row, now, "failed", detail=f"{row.reason}: {row.detail}")
        return AdmitVerdict.CONFLICT, row
    _want(store, row, body)
    return AdmitVerdict.NEW, row


def _decide_before(row: Row, call: Call, now: float) -> None:
    """Most calls bring their URL: they are written once, as due, and not first as waiting."""
    decision = decide(call.strategies, call.on_missing, offers={}, answers={}, waits_from=now, now=now)
    if isinstance(decision, Use):
        row.state, row.recording_url, row.recording_expires_at = State.DUE, decision.url, decision.expires_at


def again(store: Store, row: Row, call: Call, now: float) -> tuple[AdmitVerdict, Row]:
    """The same call from another document: it replaces the first if that surely did not arrive and is older. (Then it
    is waiting, and has to be matched.)"""
    origin = call.origin
    store.note_origin(row, origin.source, origin.path, origin.offset)
    if row.reason == FailReason.DOCUMENT_LOST and row.state is State.FAILED:  # what it was made of is back
        rewrite(store, row, call, now)
        store.tell(row, now, "revived", detail="its document was read again")
        return AdmitVerdict.REVIVED, row
    is_newer = (origin.mtime_ns, origin.offset) > row.version
    if not is_newer or row.may_have_arrived or row.kind is not RowKind.CALL or row.state in (State.SENDING, State.SENT):
        if row.state is State.SENT:
            store.ripe.add((origin.source, origin.path))
        return AdmitVerdict.DUPLICATE, row
    was_failed = row.state is State.FAILED
    rewrite(store, row, call, now)
    store.tell(row, now, "revived" if was_failed else "replaced", detail="by a newer document")
    return (AdmitVerdict.REVIVED if was_failed else AdmitVerdict.REPLACED), row


def rewrite(store: Store, row: Row, call: Call, now: float, kind: RowKind = RowKind.CALL) -> None:
    """Put the call in the row, unfrozen and waiting: what it took is free again, and it has to be matched anew."""
    store.give_back(row.row)
    store.set_body(row, body_of(call))
    _know(store, call.destination, now)
    place = (row.source, row.path, row.offset)
    store.move(
        row,
        Move.REWRITE,
        State.WAITING,
        now,
        kind=kind,
        source=call.origin.source,
        destination=call.destination,
        workspace=call.workspace,
        agent=call.agent,
        call_id=call.call_id,
        path=call.origin.path,
        offset=call.origin.offset,
        mtime_ns=call.origin.mtime_ns,
        started_at_ms=call.started_at_ms,
        ended_at_ms=call.ended_at_ms,
        settled_at=call.settled_at,
        due_at=now,
        waits_from=now,
        attempts=0,
        first_attempt_at=None,
        status=None,
        reason=None,
        place="",
        detail="",
        recording_url=None,
        recording_expires_at=None,
        joined=None,
        dismissed=False,
    )
    store.note_origin(row, *place)
    _want(store, row, body_of(call))


def _new_row(call: Call, now: float) -> Row:
    return Row(
        kind=RowKind.CALL,
        state=State.WAITING,
        source=call.origin.source,
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
        checked_for=call.checked_for,
    )


def _conflict_words(holder: Row, call: Call) -> str:
    apart_s = abs((holder.started_at_ms or 0) - call.started_at_ms) / 1000
    return (
        f"the call of {holder.path} has the same id, but started {apart_s:.0f} s apart from this one; "
        "check the call_id rule, then `tunerd retry`"
    )


def _want(store: Store, row: Row, body: Body) -> None:
    wants = first_wants(row, body.strategies)
    if wants or row.seeks:
        store.set_wants(row.row, wants)
        if row.seeks != bool(wants):
            store.change(row, seeks=bool(wants))


def _know(store: Store, destination: str, now: float) -> None:
    if destination and store.gate(destination) is None:
        store.set_gate(destination, Gate(), PauseClock(at=now))


def _failed(row: Row) -> FailedCall:
    refusal = Refusal(reason=FailReason(row.reason or FailReason.UNMAPPABLE), where=row.place, what=row.detail)
    return FailedCall(row=row.row, source=row.source, call_id=row.call_id, path=row.read_from, refusal=refusal)


# Documents that became no call.


def _refuse(store: Store, refused: RefusedDocument, now: float, is_log: bool) -> None:
    origin = refused.origin
    body = Body(document=refused.document, head=refused.head)
    at_place = store.at_place(origin.source, origin.path, origin.offset, RowKind.REFUSED)
    for row in at_place:
        known = store.body(row.row) or Body()
        is_same = (known.document, known.head) == (body.document, body.head)
        # the same place of a log that rotated is another document: both stay visible
        if is_same or (not is_log and _is_superseded(store, row, [refused.document], refused.call_id)):
            refuse_into(store, row, refused, now, tell=not is_same or row.detail != refused.refusal.what)
            return
    if not is_log and len(at_place) >= FAILURES_OF_A_PLACE:
        what = f"{refused.refusal.what} (this path had more than {FAILURES_OF_A_PLACE} documents that failed: this is the last)"
        last = replace(refused, refusal=replace(refused.refusal, what=what))
        refuse_into(store, at_place[-1], last, now, tell=at_place[-1].detail != what)
        return
    if not is_log:
        for row in store.at_place(origin.source, origin.path, origin.offset, RowKind.IGNORED):
            store.drop(row)
    row = Row(
        kind=RowKind.REFUSED,
        state=State.FAILED,
        source=origin.source,
        destination=refused.destination,
        agent=refused.agent,
        call_id=refused.call_id,
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        settled_at=refused.settled_at,
        changed_at=now,
        reason=refused.refusal.reason.value,
        place=refused.refusal.where,
        detail=refused.refusal.what,
    )
    store.add(row, body)
    store.tell(row, now, "failed", detail=f"{row.reason}: {row.detail}")


def refuse_into(store: Store, row: Row, refused: RefusedDocument, now: float, *, tell: bool) -> None:
    """Write what was refused into its row, which stays (or becomes) a failed one."""
    store.give_back(row.row)
    store.set_body(row, Body(document=refused.document, head=refused.head))
    columns: dict[str, object] = {
        "kind": RowKind.GROUP if row.gathers else RowKind.REFUSED,
        "call_id": refused.call_id or (row.call_id if row.gathers else None),
        "destination": refused.destination,
        "agent": refused.agent,
        "mtime_ns": refused.origin.mtime_ns,
        "due_at": None,
        "recording_url": None,
        "recording_expires_at": None,
        "joined": None,
        "reason": refused.refusal.reason.value,
        "place": refused.refusal.where,
        "detail": refused.refusal.what,
    }
    if not tell:
        store.change(row, **columns)
        return
    store.move(row, Move.REWRITE, State.FAILED, now, dismissed=False, **columns)
    if row.seeks:
        store.set_wants(row.row, ())
        store.change(row, seeks=False)
    store.tell(row, now, "failed", detail=f"{row.reason}: {row.detail}")


def _ignore(store: Store, ignored: IgnoredDocument, now: float, is_log: bool) -> None:
    origin = ignored.origin
    if store.at_place(origin.source, origin.path, origin.offset, RowKind.IGNORED):
        return
    if not is_log:
        for row in store.at_place(origin.source, origin.path, origin.offset, RowKind.REFUSED):
            if _is_superseded(store, row, (), ignored.call_id):
                store.drop(row)
    row = Row(
        kind=RowKind.IGNORED,
        state=State.IGNORED,
        source=origin.source,
        call_id=ignored.call_id,
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        changed_at=now,
    )
    store.add(row, Body())
    store.ripe.add((origin.source, origin.path))


def conflict_into(store: Store, row: Row, holder: Row, call: Call, now: float) -> FailedCall:
    """A row that was mapped again has an id that another call holds."""
    rewrite(store, row, call, now, RowKind.CONFLICT)
    refusal = Refusal(reason=FailReason.ID_CONFLICT, where="call_id", what=_conflict_words(holder, call))
    return fail(store, row, refusal, now, Move.DECIDE)
