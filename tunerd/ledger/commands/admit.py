"""Admit: what one read gave becomes rows, each call matched with its recording on the way in."""

from collections import Counter
from collections.abc import Sequence

from tunerd.call import Call, Refusal, State
from tunerd.ledger import Admission, Admitted, AdmitVerdict, FailedCall, Matched, Reservation
from tunerd.ledger.commands.claim import hand_over
from tunerd.ledger.commands.collect import collect
from tunerd.ledger.commands.cut import cut
from tunerd.ledger.commands.join import match, resolve
from tunerd.ledger.commands.keep_recording import keep
from tunerd.ledger.commands.place_call import place
from tunerd.ledger.commands.refuse import complete, ignore, refuse, supersede
from tunerd.ledger.decision import brings_location
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.store import Store
from tunerd.outcome import FailReason


def admit(store: Store, admission: Admission, now: float, offers: Sequence[Reservation] = ()) -> Admitted:
    """See WritePath.admit. First all recordings and calls become rows, then they are matched: a recording sees every call of its
    own read, and a call sees every rival."""
    for source in _read(admission) if store.db.holder else ():
        store.db.others.check_reader(source)
    is_log = admission.mark is not None and not admission.mark.whole
    found: list[Matched | FailedCall | None] = []
    if admission.replaces_failed:
        supersede(store, admission)
    if admission.continued is not None:
        complete(store, admission.continued, admission.refused)
    found += [keep(store, recording, now) for recording in admission.recordings]
    placed = [place(store, call, now, is_log) for call in admission.calls]
    latest = {row.row: row for _, row in placed}  # one call may come twice in a read
    ended, seen = match(store, now)
    found.extend(ended)
    for verdict, row in placed:
        if latest[row.row].state is State.WAITING:
            latest[row.row] = again = store.calls.get(row.row) or row  # a recording of this read may have found it
            if again.state is State.WAITING and verdict is not AdmitVerdict.DUPLICATE:
                if again.row not in seen:
                    found.append(resolve(store, again, now))
                if again.state is State.WAITING:
                    store.history.add(again, now, "waiting")
        elif verdict is AdmitVerdict.CONFLICT:
            found.append(_failed(row))
    for refused in admission.refused:
        refuse(store, refused, now, is_log)
    for ignored in admission.ignored:
        ignore(store, ignored, now, is_log)
    late = sum(collect(store, fragment, now, is_log) for fragment in admission.fragments)
    cut(store, admission, now)
    if admission.mark is not None:
        store.files.set_mark(admission.mark, now)
        if admission.mark.whole:
            store.disposable.add((admission.mark.source, admission.mark.path))
    verdicts = tuple([(verdict, latest[row.row].state) for verdict, row in placed])
    handed = hand_over(store, _untouched(admission, placed, now), offers, now, found) if offers else ()
    return Admitted(
        verdicts=verdicts,
        handed=handed,
        late=late,
        matched=tuple([one for one in found if isinstance(one, Matched)]),
        failed=tuple([one for one in found if isinstance(one, FailedCall)]),
    )


def _read(admission: Admission) -> set[str]:
    """Sources whose files this came from. What a person orders, and files that calls look for, may come from any instance."""
    read = {source for source, _ in admission.lost} | {one.origin.source for one in admission.refused}
    return read if admission.mark is None else read | {admission.mark.source}


def _untouched(
    admission: Admission, placed: Sequence[tuple[AdmitVerdict, LedgerRow]], now: float
) -> Sequence[tuple[Call, LedgerRow]]:
    """New calls that depend on nothing but their own document: matching has not changed them since they were placed."""
    times = Counter([row.row for _, row in placed])
    return [
        (call, row)
        for call, (verdict, row) in zip(admission.calls, placed, strict=True)
        if verdict is AdmitVerdict.NEW and times[row.row] == 1 and (not row.seeks or brings_location(call.strategies, now))
    ]


def _failed(row: LedgerRow) -> FailedCall:
    refusal = Refusal(reason=FailReason(row.reason or FailReason.UNMAPPABLE), where=row.place, what=row.detail)
    return FailedCall(row=row.row, source=row.source, call_id=row.call_id, path=row.read_from, refusal=refusal)
