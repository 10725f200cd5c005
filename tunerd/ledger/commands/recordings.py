"""What a manifest tells: a recording that is new, or one that is known and told again. The path of a manifest says nothing
about which recording it is: a file that is rewritten for the next call tells of another one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tunerd.call import Recording, State
from tunerd.ledger import FailedCall, Matched
from tunerd.ledger.commands.join import is_revivable, resolve
from tunerd.ledger.matching import Absence
from tunerd.ledger.rows import KeptRecording, Row, Want
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

SAME_START_MS: Final = 1000
"""Without an id: recordings with the same key that started this close together are one."""


def keep(store: Store, recording: Recording, now: float) -> Matched | FailedCall | None:
    """Keep a recording, or what a newer telling says of a known one. Whom a new one belongs to is found out by `match`;
    what is given is what became of a call that had the known one."""
    told = _kept(recording, now)
    old = store.same_recording(told, SAME_START_MS)
    if old is None:
        store.add_recording(told)
        return None
    if (told.version, told.expires_at or 0.0) < (old.version, old.expires_at or 0.0):
        return None  # an older telling that was read later
    is_unmoved = told.key == old.key and _apart_ms(told, old) <= SAME_START_MS
    told = replace(told, row=old.row, taken_by=old.taken_by, known_at=old.known_at if is_unmoved else now)
    if told.id == "":
        told = replace(told, id=old.id)
    store.change_recording(told)
    row = None if old.taken_by is None else store.get(old.taken_by)
    if row is None or (told.url, told.expires_at) == (old.url, old.expires_at):
        return None
    return _tell_again(store, row, old, told, now)


def _kept(recording: Recording, now: float) -> KeptRecording:
    origin = recording.origin
    return KeptRecording(
        source=recording.source,
        key=recording.key,
        id=recording.id,
        url=recording.url,
        started_at_ms=None if recording.started_at is None else round(recording.started_at * 1000),
        expires_at=recording.expires_at,
        duration_s=recording.duration_s,
        origin_source=origin.source,
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        known_at=now,
    )


def _apart_ms(one: KeptRecording, other: KeptRecording) -> float:
    if one.started_at_ms is None or other.started_at_ms is None:
        return 0.0 if one.started_at_ms is other.started_at_ms else float("inf")
    return abs(one.started_at_ms - other.started_at_ms)


def _tell_again(store: Store, row: Row, old: KeptRecording, told: KeptRecording, now: float) -> Matched | FailedCall | None:
    """The call that has the recording keeps it, and what is newly told counts until its body is made."""
    wants = [want for want in store.wants(row.row) if (want.source, want.key) == (old.source, old.key)]
    joined = next((want for want in wants if want.position == row.joined), None)
    if joined is not None and row.state is State.DUE and row.form is None:
        if told.url is not None:
            store.change(row, recording_url=told.url, recording_expires_at=told.expires_at)
            return None
        store.answer_want(row.row, joined.position, Absence(at=now))  # there is none after all
        store.open_wants(row.row, True)
        store.change(row, recording_url=None, recording_expires_at=None, joined=None)
        return resolve(store, row, now)
    if told.url is None or not (row.state is State.WAITING or is_revivable(row)):
        return None
    if old.url is None:
        _reopen(store, row, wants, told)
        return None
    expired = next((want for want in wants if want.answer is not None and want.answer.expired), None)
    if expired is None or (told.expires_at is not None and told.expires_at <= now):
        return None
    if row.state is State.FAILED and row.reason != FailReason.RECORDING_EXPIRED:
        return None
    return _renew(store, row, expired, told, now)


def _reopen(store: Store, row: Row, wants: Sequence[Want], told: KeptRecording) -> None:
    """The manifest that said "there will never be one" says something else now: it is looked at anew by `match`."""
    for want in wants:
        store.answer_want(row.row, want.position, None)
    store.change_recording(replace(told, taken_by=None))


def _renew(store: Store, row: Row, want: Want, told: KeptRecording, now: float) -> Matched:
    """A fresh URL for a call whose recording had expired."""
    store.move(
        row,
        Move.DECIDE,
        State.DUE,
        now,
        due_at=now,
        recording_url=told.url,
        recording_expires_at=told.expires_at,
        joined=want.position,
        reason=None,
        place="",
        detail="",
    )
    store.answer_want(row.row, want.position, None)
    store.open_wants(row.row, False)
    store.tell(row, now, "matched")
    return Matched(source=row.source, call_id=row.call_id or "", waited_s=max(0.0, now - row.waits_from))
