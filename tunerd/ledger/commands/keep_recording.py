"""What a manifest describes: a recording that is new, or a known one again. The path of a manifest does not say which recording
it is: a file that is rewritten for the next call describes another one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tunerd.call import Recording, State
from tunerd.file_pattern import FILES, files_source, is_files_source
from tunerd.ledger import FailedCall, Matched
from tunerd.ledger.commands.join import is_revivable, resolve
from tunerd.ledger.commands.locate_audio import located, owner_of
from tunerd.ledger.decision import Absence
from tunerd.ledger.rows import KeptRecording, LedgerRow, Want
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import FailReason

SAME_START_MS: Final = 1000
"""Recordings without an id that have the same key and started this close together are one."""


def keep(store: Store, recording: Recording, now: float) -> Matched | FailedCall | None:
    """Keep a recording, or what a newer manifest says of a known one. `match` finds out to which call a new one belongs; returned
    is what became of a call that had the known one."""
    if recording.embedded:
        raise ValueError("the audio of a recording has to be in the spool before the ledger takes it")
    described = _kept(store, recording, now)
    old = store.recordings.same(described, SAME_START_MS)
    if old is None:
        store.recordings.add(described)
        return None
    if (described.version, described.expires_at or 0.0) < (old.version, old.expires_at or 0.0):
        return None  # an older description that was read later
    is_file = is_files_source(described.source)
    if is_file and old.taken_by is not None:
        return None  # it was found again
    is_unmoved = _is_unmoved(described, old) and not (is_file and described.id != old.id)
    described = replace(described, row=old.row, taken_by=old.taken_by, known_at=old.known_at if is_unmoved else now)
    if described.id == "":
        described = replace(described, id=old.id)
    store.recordings.change(described)
    row = None if old.taken_by is None else store.calls.get(old.taken_by)
    if row is None:
        return None
    is_due_with_it = row.joined is not None and row.state is State.DUE and row.form is None
    if is_due_with_it and not (is_unmoved and described.duration_s == old.duration_s):
        return _match_anew(store, row, described, now)
    if (described.location, described.expires_at) == (old.location, old.expires_at):
        return None
    return _describe_again(store, row, old, described, now)


def _kept(store: Store, recording: Recording, now: float) -> KeptRecording:
    origin = recording.origin
    volume = store.db.volumes.of(origin.source)
    is_file = recording.source == FILES
    return KeptRecording(
        source=files_source(store.db.volumes.owner(volume, store.db.execute)) if is_file else recording.source,
        key=recording.key,
        match=recording.match,
        id=recording.id,
        location=recording.location,
        started_at_ms=None if recording.started_at is None else round(recording.started_at * 1000),
        expires_at=recording.expires_at,
        duration_s=recording.duration_s,
        path=origin.path,
        offset=origin.offset,
        mtime_ns=origin.mtime_ns,
        admitted_at=now,
        known_at=now,
        identity=recording.identity,
        owner=0 if recording.location is None else owner_of(store, recording.location, volume),
    )


def _is_unmoved(one: KeptRecording, other: KeptRecording) -> bool:
    return (one.key, one.match) == (other.key, other.match) and _apart_ms(one, other) <= SAME_START_MS


def _apart_ms(one: KeptRecording, other: KeptRecording) -> float:
    if one.started_at_ms is None or other.started_at_ms is None:
        return 0.0 if one.started_at_ms is other.started_at_ms else float("inf")
    return abs(one.started_at_ms - other.started_at_ms)


def _describe_again(
    store: Store, row: LedgerRow, old: KeptRecording, described: KeptRecording, now: float
) -> Matched | FailedCall | None:
    """The call that has the recording keeps it; the new description counts until the call's body is made."""
    wants = [want for want in store.wants.of(row.row) if want.source == old.source and want.key in (old.key, old.match)]
    joined = next((want for want in wants if want.position == row.joined), None)
    if joined is not None and row.state is State.DUE and row.form is None:
        if described.location is not None:
            store.change(
                row,
                **located(
                    store, row, described.location, described.expires_at, now, identity=described.identity, owner=described.owner
                ),
            )
            return None
        store.wants.answer(row.row, joined.position, Absence(at=now))  # there is none after all
        store.wants.seek(row.row, True)
        store.change(row, joined=None, **located(store, row, None, None, now))
        return resolve(store, row, now)
    if described.location is None or not (row.state is State.WAITING or is_revivable(row)):
        return None
    if old.location is None:
        _reopen(store, row, wants, described)
        return None
    expired = next((want for want in wants if want.absence is not None and want.absence.expired), None)
    if expired is None or (described.expires_at is not None and described.expires_at <= now):
        return None
    if row.state is State.FAILED and row.reason != FailReason.RECORDING_EXPIRED:
        return None
    return _renew(store, row, expired, described, now)


def _match_anew(store: Store, row: LedgerRow, described: KeptRecording, now: float) -> Matched | FailedCall | None:
    """A newer manifest says another key or time, so the recording may belong to another call. A call whose body is not made yet
    gives it back and is matched as if it had never had it."""
    store.recordings.change(replace(described, taken_by=None))
    store.wants.seek(row.row, True)
    store.change(row, joined=None, **located(store, row, None, None, now))
    return resolve(store, row, now)


def _reopen(store: Store, row: LedgerRow, wants: Sequence[Want], described: KeptRecording) -> None:
    """The manifest had said that there will never be a recording, and now describes one: `match` looks at it again."""
    for want in wants:
        store.wants.answer(row.row, want.position, None)
    store.recordings.change(replace(described, taken_by=None))


def _renew(store: Store, row: LedgerRow, want: Want, described: KeptRecording, now: float) -> Matched:
    """A fresh URL for a call whose recording had expired."""
    store.move(
        row,
        Move.DECIDE,
        State.DUE,
        now,
        due_at=now,
        joined=want.position,
        reason=None,
        place="",
        detail="",
        **located(store, row, described.location, described.expires_at, now, identity=described.identity, owner=described.owner),
    )
    store.wants.answer(row.row, want.position, None)
    store.wants.seek(row.row, False)
    store.history.add(row, now, "matched")
    return Matched(source=row.source, call_id=row.call_id or "", waited_s=max(0.0, now - row.waits_from))
