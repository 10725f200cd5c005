"""Documents that became no call: each refused or ignored one is a row; and when such a row is removed again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from tunerd.call import Call, Fragment, IgnoredDocument, Recording, RefusedDocument, State
from tunerd.ledger import Admission, Continued
from tunerd.ledger.commands.locate_audio import located
from tunerd.ledger.rows import Body, LedgerRow, RowKind
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

FAILURES_OF_A_PLACE: Final = 20
"""Failed rows of one place, in a file that is rewritten again and again. After that many, the last row is updated."""


def refuse(store: Store, refused: RefusedDocument, now: float, is_log: bool) -> None:
    """Keep a refused document as a failed row, or update the row that it has already."""
    origin = refused.origin
    body = Body(document=refused.document, head=refused.head)
    known_rows = store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.REFUSED)
    for row in known_rows:
        known = store.bodies.get(row.row) or Body()
        is_same = (known.document, known.head) == (body.document, body.head)
        # the same place of a log that rotated is another document: both stay visible
        if is_same or (not is_log and is_superseded(store, row, [refused.document], refused.call_id)):
            refuse_into(store, row, refused, now, note=not is_same or row.detail != refused.refusal.what)
            return
    if not is_log and len(known_rows) >= FAILURES_OF_A_PLACE:
        what = f"{refused.refusal.what} (this path had more than {FAILURES_OF_A_PLACE} documents that failed: this is the last)"
        last = replace(refused, refusal=replace(refused.refusal, what=what))
        refuse_into(store, known_rows[-1], last, now, note=known_rows[-1].detail != what)
        return
    if not is_log:
        for row in store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.IGNORED):
            store.drop(row)
    row = LedgerRow(
        kind=RowKind.REFUSED, state=State.FAILED, source=origin.source, path=origin.path, offset=origin.offset,
        volume=store.db.volumes.of(origin.source), admitted_at=now, changed_at=now, settled_at=refused.settled_at,
        call_id=refused.call_id, **_columns(refused),
    )  # fmt: skip
    store.add(row, body)
    store.history.add(row, now, "failed", detail=f"{row.reason}: {row.detail}")


def refuse_into(store: Store, row: LedgerRow, refused: RefusedDocument, now: float, *, note: bool) -> None:
    """Write what was refused into its row, which stays (or becomes) a failed one. `note`: its story gets an event."""
    store.recordings.give_back(row.row)
    store.set_body(row, Body(document=refused.document, head=refused.head))
    columns = _columns(refused) | {
        "kind": RowKind.GROUP if row.gathers else RowKind.REFUSED,
        "call_id": refused.call_id or (row.call_id if row.gathers else None),
        **dict.fromkeys(("due_at", "joined")),
        **located(store, row, None, None, now),
    }
    if not note:
        store.change(row, **columns)
        return
    store.move(row, Move.REWRITE, State.FAILED, now, dismissed=False, **columns)
    if row.seeks:
        store.wants.set(row.row, ())
        store.change(row, seeks=False)
    store.history.add(row, now, "failed", detail=f"{row.reason}: {row.detail}")


def _columns(refused: RefusedDocument) -> dict[str, Any]:
    """Columns of a failed row that say what was refused, and why."""
    refusal = refused.refusal
    return {
        "destination": refused.destination, "agent": refused.agent, "mtime_ns": refused.origin.mtime_ns,
        "reason": refusal.reason.value, "place": refusal.where, "detail": refusal.what,
    }  # fmt: skip


def ignore(store: Store, ignored: IgnoredDocument, now: float, is_log: bool) -> None:
    """Keep a note of a document that the rules leave out."""
    origin = ignored.origin
    if store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.IGNORED):
        return
    if not is_log:
        for row in store.calls.at_origin(origin.source, origin.path, origin.offset, RowKind.REFUSED):
            if is_superseded(store, row, (), ignored.call_id):
                store.drop(row)
    row = LedgerRow(
        kind=RowKind.IGNORED,
        state=State.IGNORED,
        source=origin.source,
        call_id=ignored.call_id,
        volume=store.db.volumes.of(origin.source),
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        changed_at=now,
    )
    store.add(row, Body())
    store.disposable.add((origin.source, origin.path))


def is_superseded(store: Store, row: LedgerRow, documents: Sequence[bytes | None], call_id: str | None) -> bool:
    """Whether what is read now removes a refusal: its place could not be read before, or this is the same call, or the very same
    document. Another document at its path does not remove it: a call that no rule could map would vanish."""
    if row.call_id is not None and row.call_id == call_id:
        return True
    body = store.bodies.get(row.row) or Body()
    if row.reason == FailReason.UNREADABLE or (row.reason == FailReason.CRASHED and body.document is None):
        return True
    there = [document for document in documents if document is not None]
    if body.document is not None:
        return body.document in there
    return bool(body.head) and any(document.startswith(body.head) for document in there)


def supersede(store: Store, admission: Admission) -> None:
    """See Admission.replaces_failed."""
    again = {document.origin.offset for document in admission.refused}
    items: Sequence[Call | Recording | RefusedDocument | IgnoredDocument | Fragment]
    items = (*admission.calls, *admission.recordings, *admission.refused, *admission.ignored, *admission.fragments)
    places = {(item.origin.source, item.origin.path) for item in items}
    if admission.mark is not None:
        places.add((admission.mark.source, admission.mark.path))
    documents = [
        *[call.document for call in admission.calls],
        *[refused.document for refused in admission.refused],
        *[fragment.document for fragment in admission.fragments],
    ]
    for source, path in places:
        for row in store.calls.refused_unnamed(source, path):
            if row.offset not in again and is_superseded(store, row, documents, None):
                store.drop(row)


def complete(store: Store, line: Continued, refused: Sequence[RefusedDocument]) -> None:
    """See Continued. A line that is refused again with the same bytes keeps its row."""
    again = {one.head for one in refused if one.origin.offset == line.offset}
    for row in store.calls.at_origin(line.source, line.path, line.offset, RowKind.REFUSED):
        head = (store.bodies.get(row.row) or Body()).head
        if row.call_id is None and line.begins.startswith(head) and head not in again:
            store.drop(row)
