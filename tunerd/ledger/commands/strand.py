"""Calls whose destination is in no configuration any more: found, and moved to the destination that is meant now."""

from collections.abc import Collection, Sequence
from typing import Final

from tunerd.call import State
from tunerd.ledger import Stranded
from tunerd.ledger.rows import RowKind
from tunerd.ledger.sql.codec import from_text
from tunerd.ledger.sql.store import Store

_AT_ONCE: Final = 200


def stranded(store: Store, configured: Collection[str], sources: Collection[str]) -> Sequence[Stranded]:
    """See Stranding.stranded."""
    sql = (
        "SELECT destination, workspace, sum(state = 'waiting'), sum(state = 'due'), sum(state = 'sending'), "
        "sum(may_have_arrived) FROM call WHERE state IN ('waiting', 'due', 'sending') GROUP BY destination, workspace"
    )
    found = [
        Stranded(destination=name, workspace=workspace, waiting=waiting, due=due, sending=sending, may_have_arrived=arrived,
                 has_accepted=has_accepted(store, base_url_of(workspace)))
        for name, workspace, waiting, due, sending, arrived in store.asked(sql)
        if name not in configured
    ]  # fmt: skip
    looks = (
        "SELECT want.source, count(DISTINCT call) FROM want JOIN call ON call.row = want.call "
        "WHERE seeking = 1 AND answered_at IS NULL AND call.state = 'waiting' GROUP BY want.source"
    )
    found += [Stranded(manifest=from_text(name), waiting=count) for name, count in store.asked(looks) if name not in sources]
    return found


def base_url_of(workspace: str) -> str:
    return workspace.rpartition("/")[0]


def has_accepted(store: Store, base_url: str) -> bool:
    """Whether any call was accepted there, as far back as the ledger reaches."""
    kept = "SELECT 1 FROM accepted WHERE base_url = ?"
    if store.asked(kept, (base_url,)):
        return True
    begins = f"{base_url}/"
    sent = "SELECT 1 FROM call WHERE state = 'sent' AND substr(workspace, 1, ?) = ? LIMIT 1"
    return bool(store.asked(sent, (len(begins), begins)))


def follow(store: Store, old: str, new: str, workspace: str, now: float, after_row: int) -> tuple[int, int | None]:
    """See Stranding.follow."""
    sql = (
        "SELECT row FROM call WHERE destination = ? AND state IN ('waiting', 'due') AND row > ? AND may_have_arrived = 0 "
        "ORDER BY row LIMIT ?"
    )
    numbers = [number for (number,) in store.asked(sql, (old, after_row, _AT_ONCE))]
    moved = 0
    for number in numbers:
        row = store.get(number)
        if row is None or row.destination != old or row.state not in (State.WAITING, State.DUE) or row.may_have_arrived:
            continue
        if row.workspace != workspace and any(
            one.kind is RowKind.CALL for one in store.with_id(workspace, row.agent, row.call_id or "")
        ):
            continue  # the same call came anew; what is there stays, and this one stays stranded
        store.thaw(row)
        columns: dict[str, object] = {"destination": new, "workspace": workspace}
        if row.state is State.DUE:
            columns["due_at"] = now
            store.woken[new] += 1
            store.agents.setdefault(new, set()).add(row.agent)
        store.change(row, **columns)
        store.tell(row, now, "moved", detail=f"from {old}, which is no longer configured and never accepted a call, to {new}")
        moved += 1
    return moved, numbers[-1] if len(numbers) == _AT_ONCE else None
