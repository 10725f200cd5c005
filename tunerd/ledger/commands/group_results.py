"""What a look at a group of documents came to: its row becomes a call or a refusal, is left out, or is looked at again later."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from tunerd.call import Call, IgnoredDocument, RefusedDocument, State
from tunerd.ledger import AdmitVerdict, CheckAgain, Discard, FailedCall, Gathered, Group, GroupResult, Matched, TooLate
from tunerd.ledger.commands.collect import LEFT_OUT_KEPT_S, LEFT_OUT_MOST_BYTES, MOST_BYTES, is_replaceable, note_late, take_back
from tunerd.ledger.commands.cut import cut_of
from tunerd.ledger.commands.join import match, resolve
from tunerd.ledger.commands.locate_audio import located
from tunerd.ledger.commands.lock_names import hold
from tunerd.ledger.commands.place_call import SAME_START_MS, again, conflict_into, rewrite
from tunerd.ledger.commands.refuse import refuse_into
from tunerd.ledger.rows import Body, KeptGroup, LedgerRow, RowKind
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move

_BUSY_S: Final = 2.0
"""Until the next look at a group whose call is being sent, or may have arrived."""

_Found: TypeAlias = list[Matched | FailedCall | None]


def groups(store: Store, source: str, now: float, limit: int, ended_by: float | None) -> tuple[Sequence[Group], float | None]:
    """See GatherPath.groups. Reads only."""
    found: list[Group] = []
    size = 0
    to_look_at, next_look = store.groups.to_look_at(source, now, now if ended_by is None else ended_by, limit)
    for kept in to_look_at:
        row = store.calls.get(kept.row)
        if row is None:
            continue
        size += row.size
        if found and size > MOST_BYTES:
            break
        body = store.bodies.get(row.row)
        found.append(
            Group(
                row=row.row,
                source=kept.source,
                key=kept.key,
                version=kept.version,
                state=row.state,
                reason=row.reason,
                cut=cut_of(store, row),
                is_replaceable=is_replaceable(row),
                wait_ends_at=kept.wait_ends_at,
                kept=None if body is None else body.document,
                fragments=store.groups.fragments(row.row),
            )
        )
    return found, next_look


def gather(store: Store, results: Sequence[GroupResult], now: float) -> Gathered:
    """See GatherPath.gather."""
    found: _Found = []
    states: list[tuple[AdmitVerdict, State] | None] = []
    late = 0
    hold(store, results)
    for one in results:
        group, row = store.groups.of(one.row), store.calls.get(one.row)
        done = None
        if group is not None and row is not None:
            store.db.others.check_reader(group.source)
            if isinstance(one.result, CheckAgain):
                _look_again(store, group, row, one, one.result.at, now)
            elif isinstance(one.result, TooLate):
                late += _too_late(store, group, row, one, now)
            elif row.state is State.SENT:
                late += _too_late(store, group, row, one, now, changes_nothing=_is_the_same(store, row, one.result))
            elif isinstance(one.result, Discard):
                _discard(store, group, row, one.version)
            elif group.version != one.version or not is_replaceable(row):
                store.groups.set(replace(group, look_at=now if is_replaceable(row) else now + _BUSY_S))
            else:
                done = _write(store, group, row, one.result, found, now)
        states.append(done)
    found += match(store, now)[0]
    return Gathered(
        states=tuple(states),
        late=late,
        matched=tuple(one for one in found if isinstance(one, Matched)),
        failed=tuple(one for one in found if isinstance(one, FailedCall)),
    )


def _look_again(store: Store, group: KeptGroup, row: LedgerRow, one: GroupResult, at: float, now: float) -> None:
    if group.version == one.version:  # otherwise documents came since, and have set their own time
        if row.fragments_size and row.state not in (State.GATHERING, State.SENDING, State.SENT):
            take_back(store, row, now)  # they came while it was being sent, or after it failed
        store.groups.set(replace(group, look_at=at))


def _discard(store: Store, group: KeptGroup, row: LedgerRow, version: int) -> None:
    if group.version == version:
        store.set_body(row, Body())
        _consume(store, row)
        store.groups.set(replace(group, look_at=None))


def _too_late(
    store: Store, group: KeptGroup, row: LedgerRow, one: GroupResult, now: float, *, changes_nothing: bool = False
) -> int:
    """The call was sent before these documents came, or while they waited for its attempt to end; or what it was made of is not
    kept (redaction), so that they cannot be joined with it. Their files stay, unless they change nothing."""
    if row.state in (State.GATHERING, State.SENDING) or group.version != one.version:
        return 0
    fragments = () if changes_nothing else store.groups.fragments(row.row)
    _consume(store, row)
    if row.state is State.SENT:
        store.groups.compact(row.row)
    store.groups.set(replace(group, look_at=None))
    for fragment in fragments:
        for volume in store.history.volumes_of(row, fragment.origin):
            store.files.keep(volume, fragment.origin.source, fragment.origin.path)
    store.may_be_disposable(row)
    if fragments:
        note_late(store, row, len(fragments), now)
    return len(fragments)


def _is_the_same(store: Store, row: LedgerRow, result: object) -> bool:
    """Whether all documents make now what was sent. Of most calls it is no longer known what was sent."""
    body = store.bodies.get(row.row)
    if body is None or not isinstance(result, Call):
        return False
    return (body.payload, body.strategies) == (result.payload, result.strategies)


def _write(
    store: Store, group: KeptGroup, row: LedgerRow, result: Call | RefusedDocument | IgnoredDocument, found: _Found, now: float
) -> tuple[AdmitVerdict, State]:
    """The row becomes what its documents make. From now on they are kept as its document."""
    was = row.state
    verdict = AdmitVerdict.NEW if was is State.GATHERING else AdmitVerdict.REPLACED
    if was is State.FAILED:
        verdict = AdmitVerdict.REVIVED
    elif was is State.GATHERING and row.kind is not RowKind.GROUP:  # it was mapped before, and taken back
        verdict = AdmitVerdict.REPLACED
    if isinstance(result, IgnoredDocument):
        _leave_out(store, group, row, now)
        return verdict, row.state
    store.groups.set(replace(group, look_at=None))
    _consume(store, row)
    match result:
        case RefusedDocument():
            refuse_into(store, row, result, now, note=True)
        case Call():
            return _put(store, row, result, verdict, found, now)
    return verdict, row.state


def _put(
    store: Store, row: LedgerRow, call: Call, verdict: AdmitVerdict, found: _Found, now: float
) -> tuple[AdmitVerdict, State]:
    others = [other for other in store.calls.with_id(call.workspace, call.agent, call.call_id) if other.row != row.row]
    for other in others:
        if other.started_at_ms is not None and abs(other.started_at_ms - call.started_at_ms) <= SAME_START_MS:
            # The call is in the ledger already, read from elsewhere: this was another copy.
            for place in store.history.origins(row):
                store.note_origin(other, *place)
            if other.state is State.SENT:
                store.may_be_disposable(row)
            store.drop(row)
            verdict, kept = again(store, other, call, now, row.volume)
            if verdict is not AdmitVerdict.DUPLICATE:
                found.append(resolve(store, kept, now))
            return verdict, kept.state
    holder = next((other for other in others if other.kind is RowKind.CALL), None)
    if holder is not None:
        found.append(conflict_into(store, row, holder, call, now))
        return AdmitVerdict.CONFLICT, row.state
    rewrite(store, row, call, now)
    is_first = verdict is AdmitVerdict.NEW
    store.history.add(row, now, "gathered" if is_first else "replaced", detail="" if is_first else "with newer parts")
    found.append(resolve(store, row, now))
    return verdict, row.state


def _consume(store: Store, row: LedgerRow) -> None:
    store.groups.empty_fragments(row.row)
    store.change(row, size=row.size - row.fragments_size, fragments_size=0)


def _leave_out(store: Store, group: KeptGroup, row: LedgerRow, now: float) -> None:
    """Its documents are kept for a while: a later one may make a call of them after all."""
    store.recordings.give_back(row.row)
    body = store.bodies.get(row.row)
    is_kept = store.tally.left_out_bytes + row.size <= LEFT_OUT_MOST_BYTES
    store.set_body(row, Body(document=body.document if body is not None and is_kept else None))
    if not is_kept:
        _consume(store, row)
    store.groups.set(replace(group, look_at=now + LEFT_OUT_KEPT_S if is_kept else None))
    if row.seeks:
        store.wants.set(row.row, ())
        store.change(row, seeks=False)
    store.move(row, Move.REWRITE, State.IGNORED, now, kind=RowKind.GROUP, due_at=None, joined=None, reason=None, place="",
               detail="", dismissed=False, **located(store, row, None, None, now))  # fmt: skip
    store.history.add(row, now, "ignored")
