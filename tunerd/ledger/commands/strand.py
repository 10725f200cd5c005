"""Calls whose destination is no longer configured: found, and moved to the destination that is configured now."""

from collections.abc import Collection, Sequence
from typing import Final

from tunerd.call import State
from tunerd.ledger import Stranded
from tunerd.ledger.rows import RowKind
from tunerd.ledger.sql.store import Store

_AT_ONCE: Final = 200


def stranded(store: Store, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
    """See Stranding.stranded."""
    found = [
        Stranded(destination=name, workspace=workspace, waiting=waiting, due=due, sending=sending, may_have_arrived=arrived,
                 has_accepted=store.has_accepted(base_url_of(workspace)))
        for name, workspace, waiting, due, sending, arrived in store.open_by_destination()
        if name not in configured
    ]  # fmt: skip
    return found + [Stranded(manifest=name, waiting=count) for name, count in store.wants.looked_for() if name not in sources]


def base_url_of(workspace: str) -> str:
    return workspace.rpartition("/")[0]


def follow(store: Store, old: str, new: str, workspace: str, now: float, after_row: int) -> tuple[int, int | None]:
    """A part of Stranding.follow, from a row on: how many calls were moved, and the row after which the next part begins (None:
    there is none). While another instance lives nothing is moved: its configuration may have the old destination."""
    if not store.db.others.is_alone():
        return 0, None
    numbers = store.calls.movable(old, after_row, _AT_ONCE)
    moved = 0
    for number in numbers:
        row = store.calls.get(number)
        if row is None or row.destination != old or row.state not in (State.WAITING, State.DUE) or row.may_have_arrived:
            continue
        if row.workspace != workspace and any(
            one.kind is RowKind.CALL for one in store.calls.with_id(workspace, row.agent, row.call_id or "")
        ):
            continue  # the same call was admitted anew: that one is sent, and this one stays stranded
        store.thaw(row)
        columns: dict[str, object] = {"destination": new, "workspace": workspace}
        if row.state is State.DUE:
            columns["due_at"] = now
            store.woken[new] += 1
        store.change(row, **columns)
        store.history.add(
            row, now, "moved", detail=f"from {old}, which is no longer configured and never accepted a call, to {new}"
        )
        moved += 1
    return moved, numbers[-1] if len(numbers) == _AT_ONCE else None
