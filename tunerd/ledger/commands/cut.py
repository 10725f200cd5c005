"""Cuts: gathered calls that may lack a part, because a document that may be one cannot be read, or because the end of a log is
not known. They are looked at again, and are failed(incomplete) until a person sends them or the part is read after all."""

from collections.abc import Iterable
from dataclasses import replace

from tunerd.call import Cut, CutBy, KeyStyle, Origin, State
from tunerd.ledger import Admission, FileMark, PossibleGap
from tunerd.ledger.commands.collect import is_replaceable, take_back
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import REVIVABLE
from tunerd.outcome import FailReason


def cut(store: Store, admission: Admission, now: float) -> None:
    """What an admission says of calls that may lack a part. Its fragments are collected already."""
    mark, lifted = admission.mark, list[int]()
    if mark is not None and mark.whole and admission.cut_offsets is not None:
        lifted += store.cuts.lift_in_file(mark.source, mark.path, admission.cut_offsets)
    if admission.continued is not None and mark is not None:
        line = admission.continued
        lifted += store.cuts.lift_at(Origin(source=line.source, path=line.path, offset=line.offset, log=mark.log))
    cuts = list(admission.cuts)
    torn = [_tear(store, source, log, is_lost=False) for source, log in admission.torn]
    torn += [_tear(store, source, log, is_lost=True) for source, log in admission.lost]
    if mark is not None and mark.log:
        lifted += store.cuts.lift_log_end(mark.source, mark.log)
        if mark.path == mark.home and mark.is_there:
            store.cuts.found_again(mark.source, mark.log)
        if store.cuts.is_torn(mark.source, mark.log):
            cuts += _end_of(mark)
    for other in torn:
        cuts += _end_of(other) if other is not None and (mark is None or other.log != mark.log) else ()
    is_cut = [row for one in cuts if (row := _add(store, one)) is not None]
    origins = [one.origin for one in admission.fragments] + [one.origin for one in admission.refused]
    for source in {origin.source for origin in origins}:
        if _note_style(store, source, admission.key_style):
            is_cut += store.cuts.rows_of(source)
    _look_at(store, is_cut, now)
    _look_at(store, set(lifted) - set(is_cut), now, only_incomplete=True)


def cut_of(store: Store, row: LedgerRow) -> PossibleGap | None:
    """Whether the call may lack a part, as far as the documents of its source are known."""
    found = store.cuts.of(row.row)
    if found is None:
        return None
    style = store.cuts.key_style(found.source, hold=True)
    if style.own and not style.keyless:
        return None
    return PossibleGap(by=found.by, place=str(found.origin), is_sure=style.keyless)


def _tear(store: Store, source: str, log: int, *, is_lost: bool) -> FileMark | None:
    store.cuts.tear(source, log, is_lost=is_lost)
    return store.files.of_log(source, log)


def _end_of(mark: FileMark | None) -> list[Cut]:
    if mark is None or not mark.carry:
        return []
    origin = Origin(source=mark.source, path=mark.path, offset=mark.offset, log=mark.log)
    return [Cut(source=mark.source, key=mark.carry, by=CutBy.LOG_END, origin=origin)]


def _add(store: Store, one: Cut) -> int | None:
    group = store.groups.get(one.source, one.key)
    row = store.calls.get(group.row) if group is not None else None
    if row is None or row.state is State.SENT:
        return None  # nothing can be done for a call that is sent
    store.cuts.add(row.row, one)
    return row.row


def _note_style(store: Store, source: str, style: KeyStyle) -> bool:
    """True: it is not the one that was known."""
    known = store.cuts.key_style(source)
    if known | style == known:
        return False
    store.cuts.set_key_style(source, store.cuts.key_style(source, hold=True) | style)
    return True


def _look_at(store: Store, rows: Iterable[int], now: float, *, only_incomplete: bool = False) -> None:
    """Look at these calls at once. One that waits or is due cannot be sent before that."""
    numbers = sorted(set(rows))
    if store.db.holder:
        store.db.hold(*store.groups.names(numbers))
    for number in numbers:
        group, row = store.groups.of(number), store.calls.get(number)
        if group is None or row is None or row.state in (State.SENT, State.IGNORED):
            continue
        is_incomplete = row.state is State.FAILED and row.reason == FailReason.INCOMPLETE
        if only_incomplete and not is_incomplete:
            continue
        if row.state is State.FAILED and (row.dismissed or not (is_incomplete or row.reason in REVIVABLE)):
            continue  # it is not sent unless a person says so
        found = cut_of(store, row)
        if found is not None and found.is_sure and row.state in (State.WAITING, State.DUE) and is_replaceable(row):
            take_back(store, row, now, "a part of it may be missing")
        store.groups.set(replace(group, version=group.version + 1, look_at=now))
