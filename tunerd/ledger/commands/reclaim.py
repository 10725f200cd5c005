"""Calls that are `sending` while no worker holds them: after a start, after the disk failed, after a defect."""

from collections.abc import Mapping
from typing import Final

from tunerd.call import State
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move, may

_ENDED: Final = "the process ended while it was being sent"
_FAILED: Final = "the ledger's disk failed while it was being sent"
_UNHELD: Final = "it was marked as being sent, but no worker held it"


def reclaim(store: Store, row: LedgerRow, now: float, why: str = _ENDED) -> None:
    """A call that was being sent is due again, with its body: no worker holds it, and nobody knows whether it arrived. One
    without a body (its URL was being signed) was not sent."""
    if may(row.state, Move.RELEASE):
        arrived = row.may_have_arrived or row.form is not None
        store.move(row, Move.RELEASE, State.DUE, now, due_at=row.due_at, may_have_arrived=arrived, frozen_by_claim=False)
        store.history.add(row, now, "interrupted", detail=f"attempt {row.attempts + 1}: {why}")


def reclaim_all(store: Store, now: float) -> None:
    """At a start: every call that was being sent when the last process ended."""
    for row in store.calls.sending(store.db.holder):
        reclaim(store, row, now)


def sending(store: Store) -> dict[int, float]:
    """See WritePath.sending. In a fleet the table is asked: a commit that the server finished late may have claimed calls of
    which nothing is known here."""
    if store.db.holder:
        rows = store.calls.sending(store.db.holder)
    else:
        found = map(store.claimed_row, store.claimed)
        rows = [row for row in found if row is not None and row.state is State.SENDING]
    return {row.row: row.claimed_at or 0.0 for row in rows}


def reclaim_lost(store: Store, claims: Mapping[int, float], now: float) -> int:
    """See WritePath.reclaim."""
    found = [(row, at) for number, at in claims.items() if (row := store.calls.get(number)) is not None]
    ours = [(row, at) for row, at in found if row.state is State.SENDING and row.holder == store.db.holder]
    lost = [row for row, at in ours if (row.claimed_at or 0.0) == at]
    for row in lost:
        reclaim(store, row, now, _UNHELD)
    return len(lost)


def take_over(store: Store, before: Store, now: float) -> None:
    """Continue where another connection to the same file broke down. After a failed write nobody knows which of the last
    transactions are on disk. A call that is `sending` there and that no worker holds is due again, as one that may have arrived;
    a call that a worker holds is `sending`, until its settlement is written; in a fleet only if no other instance has it."""
    store.fleet_claims.restore(before.fleet_claims.snapshot())
    store.replace_touched(before.touched)
    store.wants.far = before.wants.far
    for row in store.calls.sending(store.db.holder):
        if row.row in before.claimed:
            store.claimed[row.row] = row
        else:
            reclaim(store, row, now, _FAILED)
    for number in before.claimed:
        known = None if number in store.claimed else store.calls.get(number)
        if known is not None and known.state is State.DUE and not store.db.holder:
            store.move(known, Move.CLAIM, State.SENDING, now, claimed_at=now, frozen_by_claim=False)
