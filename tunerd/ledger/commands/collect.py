"""Collect: a document of a gathered call becomes a fragment of its group, and the group is looked at now or later."""

from dataclasses import replace
from hashlib import blake2b
from typing import Final

from tunerd.call import Fragment, State
from tunerd.ledger.rows import Body, KeptGroup, LedgerRow, RowKind
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

LEFT_OUT_KEPT_S: Final = 86_400.0
"""How long the documents of a call that was left out are kept: call_started may come long before anything is said."""
LEFT_OUT_MOST_BYTES: Final = 128 * 1024 * 1024
"""Of all calls together that were left out; beyond it their documents are not kept."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one group: mapping refuses more, and the ledger keeps no more."""
_PER_DOCUMENT_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 2.0
"""The larger a group, the more rarely it is looked at: each look reads all of it."""


def collect(store: Store, fragment: Fragment, now: float, is_log: bool) -> bool:
    """Keep a document of a gathered call. True: it is not kept, since its call failed because of its size. The same content at
    the same place adds nothing; other content at the same place of a whole file replaces the older one. A call that is not sent
    yet is gathered again with it, unless it may have arrived."""
    origin = fragment.origin
    if not is_log:  # as for calls: the place holds another document now
        for kind in (RowKind.REFUSED, RowKind.IGNORED):
            for stale in store.calls.at_origin(origin.source, origin.path, origin.offset, kind):
                store.drop(stale)
    digest = blake2b(fragment.document, digest_size=8).digest()
    group = store.groups.get(fragment.source, fragment.key)
    row = store.calls.get(group.row) if group is not None else None
    if group is None or row is None:
        row = _open(store, fragment, now)
        owner = store.db.volumes.owner(row.volume, store.db.execute)
        group = KeptGroup(row=row.row, source=fragment.source, key=fragment.key, version=0, look_at=None, last_at=now,
                          wait_s=fragment.wait_s, count=0, owner=owner)  # fmt: skip
    elif _was_seen(store, row, fragment, digest, is_log):
        if row.state is State.SENT:
            store.disposable.add((origin.source, origin.path))
        return False
    if row.state is State.FAILED and row.reason == FailReason.TOO_LARGE:
        store.note_origin(row, store.db.volumes.of(origin.source), origin.source, origin.path, 0)  # its file stays
        return True  # the call stays visible as too large; any number of documents may still come
    _note_file(store, row, fragment)
    gone = 0 if is_log else store.groups.delete_fragments_at(row.row, origin)
    is_kept = row.state in _NOT_MAPPED or fragment.matters
    store.groups.add_fragment(row.row, fragment, digest, whole=not is_log, with_document=is_kept)
    if more := (len(fragment.document) if is_kept else 0) - gone:
        store.change(row, fragments_size=row.fragments_size + more, size=row.size + more)
    if row.state is State.SENT and not is_kept:
        store.disposable.add((origin.source, origin.path))
    if is_kept:
        was_taken_back = row.state in _TAKEN_BACK and take_back(store, row, now)
        group = _with(group, row, fragment, now)
        store.groups.set(replace(group, look_at=now) if was_taken_back else group)  # it may be complete with what is there
    return False


_NOT_MAPPED: Final = (State.GATHERING, State.FAILED, State.IGNORED)
"""Today's rules may be wrong about what matters: `retry` with better ones needs every document."""
_TAKEN_BACK: Final = (State.WAITING, State.DUE, State.IGNORED)
"""Calls in these states are gathered again with another document, before they can be sent without it. Failed ones are looked at
first."""


def is_replaceable(row: LedgerRow) -> bool:
    return row.state not in (State.SENDING, State.SENT) and not row.may_have_arrived


def take_back(store: Store, row: LedgerRow, now: float, why: str = "more of it came") -> bool:
    """Gather the call again. False: it may have arrived, or the documents that it was made of are not kept, so that nothing can
    be joined with them. It keeps its recording, and looks for one again when it is mapped again."""
    if not is_replaceable(row):
        return False
    body = store.bodies.get(row.row)
    if row.state is not State.IGNORED and (body is None or body.document is None):
        return False
    store.move(row, Move.REOPEN, State.GATHERING, now, due_at=None, reason=None, place="", detail="", dismissed=False)
    store.history.add(row, now, "reopened", detail=why)
    return True


def note_late(store: Store, row: LedgerRow, count: int, now: float) -> None:
    parts, count_no_more = ("a part", "counts no more") if count == 1 else (f"{count} parts", "count no more")
    store.history.add(
        row,
        now,
        "late",
        detail=f"{parts} of it came after it was {'sent' if row.state is State.SENT else 'mapped'} and {count_no_more}",
    )


def _open(store: Store, fragment: Fragment, now: float) -> LedgerRow:
    origin = fragment.origin
    row = LedgerRow(
        kind=RowKind.GROUP,
        state=State.GATHERING,
        source=fragment.source,
        call_id=fragment.key,
        volume=store.db.volumes.of(origin.source),
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        settled_at=fragment.settled_at,
        changed_at=now,
        gathers=True,
    )
    store.add(row, Body())
    return row


def _was_seen(store: Store, row: LedgerRow, fragment: Fragment, digest: bytes, is_log: bool) -> bool:
    origin = fragment.origin
    if digest in store.groups.digests(row.row, origin):
        return True
    if origin.log and store.groups.was_in_lost_log(row.row, origin, digest):
        return True
    if not is_log or row.state is not State.SENT:
        return False
    last = store.groups.last_log_offset(row.row, origin)  # of a sent call's lines only the last one is still known
    return last is not None and origin.offset <= last


def _note_file(store: Store, row: LedgerRow, fragment: Fragment) -> None:
    """Once for each file, because a log may give thousands of documents."""
    origin = fragment.origin
    file = (store.db.volumes.of(origin.source), origin.source, origin.path)
    if not any(place[:3] == file for place in store.history.origins(row)):
        store.note_origin(row, *file, origin.offset)


def _with(group: KeptGroup, row: LedgerRow, fragment: Fragment, now: float) -> KeptGroup:
    """The group after one more document, and when to look at it."""
    look_at = now + fragment.wait_s
    if row.state is not State.GATHERING or row.fragments_size > MOST_BYTES:
        look_at = now  # it was mapped before, and may be sent at any moment
    elif fragment.decides:
        look_at = min(look_at, now + min(_LONGEST_PAUSE_S, group.count * _PER_DOCUMENT_S))
    if group.look_at is not None and group.look_at < group.wait_ends_at:
        look_at = min(look_at, group.look_at)  # an earlier document may have completed it
    return replace(group, version=group.version + 1, look_at=look_at, last_at=now, wait_s=fragment.wait_s, count=group.count + 1)
