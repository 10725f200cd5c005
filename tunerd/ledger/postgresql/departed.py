"""What instances leave behind that are gone: counts of starts that are over, marks of volumes that nobody mounts any more, and
calls whose audio is on a disk that nobody has.

One instance does it for all (sql/other_instances.py). `keep_s`: how long somebody may be away before it counts as gone.
"""

from collections.abc import Sequence
from typing import Final

from tunerd.call import AudioState
from tunerd.ledger import AudioEnded, FailedCall
from tunerd.ledger.commands.audio_life import end, lost
from tunerd.ledger.postgresql.instances import NOW
from tunerd.ledger.sql.other_instances import UPKEEP
from tunerd.ledger.sql.store import Store
from tunerd.outcome import AudioReason

_AT_ONCE: Final = 256
_MARKS_AT_ONCE: Final = 1000
_SEEN_EVERY_S: Final = 3600.0
_LOCAL: Final = "owner <> 0 AND audio IN ('pending', 'uploading')"

OWNERS: Final = (
    f"WITH RECURSIVE found (owner) AS (SELECT min(owner) FROM call WHERE {_LOCAL} UNION ALL "
    f"SELECT (SELECT min(owner) FROM call WHERE {_LOCAL} AND owner > found.owner) FROM found WHERE found.owner IS NOT NULL) "
    f"SELECT owner FROM found WHERE owner IS NOT NULL "
    f"AND NOT EXISTS (SELECT 1 FROM instance WHERE number = owner AND heartbeat_at >= {NOW} - ?)"
)
"""Instances that are gone and have audio: a step of the index for each that has some."""
LOST: Final = (
    f"SELECT row FROM call WHERE {_LOCAL} AND owner = ? AND (audio = 'uploading' OR state = 'due') ORDER BY row LIMIT ? "
    "FOR UPDATE SKIP LOCKED"
)
FOLD: Final = (
    "WITH over AS (DELETE FROM counts WHERE holder <> 0 AND holder NOT IN "
    "(SELECT generation FROM instance WHERE is_over = 0 AND heartbeat_at >= ?) RETURNING name, amount) "
    "INSERT INTO counts (holder, name, amount) SELECT 0, name, sum(amount)::bigint FROM over GROUP BY name "
    "ON CONFLICT (holder, name) DO UPDATE SET amount = counts.amount + excluded.amount"
)
"""A start that comes back after all begins new rows, which are folded again when it is over."""
SEEN: Final = f"UPDATE volume SET seen_at = {NOW} WHERE number = ANY(?) AND seen_at < {NOW} - {_SEEN_EVERY_S}"
UNSEEN: Final = f"SELECT number, source FROM volume WHERE seen_at < {NOW} - ? ORDER BY number LIMIT 1"
DELETE_MARKS: Final = (
    "DELETE FROM file WHERE (volume, source, path, log) IN "
    "(SELECT volume, source, path, log FROM file WHERE volume = ? AND source = ? LIMIT ?) RETURNING 1"
)
DELETE_CUTS: Final = "DELETE FROM cut WHERE source = ? AND volume = ?"
DELETE_TORN: Final = "DELETE FROM torn WHERE source = ? AND volume = ?"
DELETE_VOLUME: Final = "DELETE FROM volume WHERE number = ?"
DELETE_INSTANCES: Final = (
    f"DELETE FROM instance WHERE heartbeat_at < {NOW} - ? AND NOT EXISTS (SELECT 1 FROM volume WHERE owner = instance.number)"
)


def fail_lost_audio(store: Store, keep_s: float, now: float) -> Sequence[FailedCall]:
    """Calls whose audio is on the disk of an instance that is gone: those that were not sent fail (or go without it, where the
    source says so); of the others the audio has failed. At most 256 of each instance."""
    found: list[FailedCall] = []
    if not store.db.others.acts_for_all(UPKEEP):
        return found
    ended = AudioEnded(
        reason=AudioReason.AUDIO_HOST_LOST,
        detail="it is on the disk of an instance that has not been seen for `ledger.keep_marks`; "
        "start an instance of that name with that disk, or name another location by `tunerd retry --recording`",
    )
    for (owner,) in store.ask(OWNERS, (keep_s,)).fetchall():
        for (number,) in store.ask(LOST, (owner, _AT_ONCE)).fetchall():
            row = store.calls.get(number)
            if row is not None and row.audio is AudioState.UPLOADING:
                end(store, number, ended, now)
            elif row is not None and (failed := lost(store, row, ended, now)) is not None:
                found.append(failed)
    return found


def clear(store: Store, keep_s: float, volumes: Sequence[int]) -> int:
    """Fold counts and remove marks, at most 1,000; returns how many marks. `volumes` are in use here."""
    store.db.execute(SEEN, (list(volumes),))
    if not store.db.others.acts_for_all(UPKEEP):
        return 0
    store.db.execute(FOLD, (store.db.others.alive_since(),))
    unseen = store.db.execute(UNSEEN, (keep_s,)).fetchone()
    if unseen is not None:
        number, source = unseen
        if gone := len(store.db.execute(DELETE_MARKS, (number, source, _MARKS_AT_ONCE)).fetchall()):
            return gone
        store.db.execute(DELETE_CUTS, (source, number))
        store.db.execute(DELETE_TORN, (source, number))
        store.db.execute(DELETE_VOLUME, (number,))
        return 1
    store.db.execute(DELETE_INSTANCES, (keep_s,))
    return 0
