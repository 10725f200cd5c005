"""What time does: waits end, and what is past its retention is removed."""

import math
from collections.abc import Sequence
from typing import Final

from tunerd.call import State
from tunerd.ledger import FailedCall, FarRule, Matched, Retention
from tunerd.ledger.commands.join import is_revivable, match, resolve
from tunerd.ledger.sql.other_instances import UPKEEP
from tunerd.ledger.sql.store import Store

VANISHED_KEPT_S: Final = 7 * 86_400.0
_AT_ONCE: Final = 256
_TRIM_AT_ONCE: Final = 1000


def tick(store: Store, now: float) -> tuple[Sequence[FailedCall], float | None]:
    """See Maintenance.tick. At most 256 calls at once; if more are due, the next tick is due now. What commands of this process
    touched only this process knows, whoever does the upkeep."""
    ended: list[Matched | FailedCall | None] = [*match(store, now)[0]]
    if not store.db.others.acts_for_all(UPKEEP):
        return tuple(one for one in ended if isinstance(one, FailedCall)), None
    undecided = store.calls.undecided(now, _AT_ONCE)
    store.wants.hold_of([row.row for row in undecided])
    ended += [resolve(store, row, now) for row in undecided]
    for call in store.wants.far_due(now, _AT_ONCE):
        row = store.calls.get(call)
        if row is not None and (row.state is State.WAITING or is_revivable(row)):
            ended.append(resolve(store, row, now))
        else:
            store.wants.seek(call, False)
    ended += match(store, now)[0]
    times = [at for at in (store.calls.next_undecided(), store.wants.next_far()) if at is not None]
    return tuple(one for one in ended if isinstance(one, FailedCall)), min(times, default=None)


def set_far_rule(store: Store, rule: FarRule) -> None:
    """See Maintenance.set_far_rule."""
    store.wants.far = rule
    store.db.others.note_reading(rule.not_before == math.inf)


def shift(store: Store, seconds: float) -> None:
    """See Maintenance.shift. Where others live the times are theirs, too, and their clocks did not jump."""
    if store.db.others.is_alone():
        store.shift(seconds)


def trim(store: Store, keep: Retention, now: float) -> int:
    """See Maintenance.trim."""
    store.bodies.keep(keep.documents)
    if not store.db.others.acts_for_all(UPKEEP):
        return 0
    left = _TRIM_AT_ONCE
    if store.db.holder and not keep.documents:
        store.bodies.sweep(now)
    for states, kept_s in (((State.SENT, State.IGNORED), keep.sent_s), ((State.FAILED,), keep.failed_s)):
        for row in store.calls.stale(states, now - kept_s, left):
            if row.state is State.FAILED:
                store.keep_files(row)
            store.drop(row)
            left -= 1
    while left and store.tally.failed_bytes > keep.max_failed_bytes and (failed := store.calls.failed_with_body(min(left, 50))):
        for row in failed:
            if store.tally.failed_bytes <= keep.max_failed_bytes:
                break
            store.bodies.remove(row.row)
            store.change(row, size=0, fragments_size=0)
            if row.gathers:
                store.groups.empty_fragments(row.row)
            left -= 1
    left -= store.recordings.delete_old(now - keep.recordings_s, left) if left else 0
    left -= store.files.delete_vanished(now - VANISHED_KEPT_S, left) if left else 0
    return _TRIM_AT_ONCE - left
