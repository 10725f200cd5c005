"""Whether tunerd uploads a call's audio follows from where its recording is: whoever sets the location of a row asks here."""

from dataclasses import replace
from typing import Final

from tunerd.call import AudioPlan, AudioState, Publish
from tunerd.ledger.rows import KeptAudio, LedgerRow
from tunerd.ledger.sql.bodies import plan_text
from tunerd.ledger.sql.store import Store
from tunerd.location import LocationKind, stored_location
from tunerd.outcome import AudioReason

_STILL_MEANT: Final = frozenset({None, AudioReason.AUDIO_CHANGED.value})
"""Reasons after which what was seen first is looked for again. Audio that took its place is perhaps another customer's."""


def located(
    store: Store,
    row: LedgerRow,
    location: str | None,
    expires_at: float | None,
    now: float,
    *,
    identity: str = "",
    by_hand: bool = False,
    owner: int | None = None,
) -> dict[str, object]:
    """The columns of a row whose recording is at `location` from now on (None: nowhere). Audio that tunerd uploads begins anew;
    what was seen there first stays the audio that is meant, unless that could not be used. `identity`: of the file that was found
    there. `by_hand`: a person says that what is there now is the call's. `owner`: of a recording (KeptRecording.owner); None: the
    document names the location, or it stays where it was."""
    plan = None if location is None or _is_url(location) else store.bodies.audio_plan(row.row)
    if location is not None and plan is not None and plan.publish is Publish.UPLOAD:
        known = store.audios.get(row.row)
        if known is not None and known.location == location:
            if not by_hand and known.reason in _STILL_MEANT:
                identity = identity or known.identity
            by_hand |= known.by_hand
            owner = row.owner if owner is None and row.audio is not AudioState.NONE else owner
        store.audios.put(replace(_begun(row, location, plan, identity, now), by_hand=by_hand))
        state, owner = AudioState.PENDING, owner_of(store, location, row.volume) if owner is None else owner
    else:
        state, owner = AudioState.NONE, 0
        if row.audio is not AudioState.NONE:
            store.audios.delete(row.row)
    columns: dict[str, object] = {"recording_location": location, "recording_expires_at": expires_at, "audio": state}
    return columns if owner == row.owner else {**columns, "owner": owner}


def owner_of(store: Store, location: str, volume: int) -> int:
    """The instance that alone can open what is at a location, which a document on this volume names. 0: any."""
    is_local = volume != 0 and stored_location(location).kind in (LocationKind.FILE, LocationKind.EMBEDDED)
    return store.db.volumes.owner(volume, store.db.execute) if is_local else 0


def first_state(location: str, plan: AudioPlan | None) -> AudioState:
    """With which a new call begins that brings this location; `add_first` has to follow."""
    is_uploaded = plan is not None and plan.publish is Publish.UPLOAD and not _is_url(location)
    return AudioState.PENDING if is_uploaded else AudioState.NONE


def add_first(store: Store, row: LedgerRow, plan: AudioPlan | None, now: float) -> None:
    """Of a new row, once it has its number."""
    if row.audio is AudioState.PENDING and row.recording_location is not None and plan is not None:
        store.audios.put(_begun(row, row.recording_location, plan, "", now))


def _begun(row: LedgerRow, location: str, plan: AudioPlan, identity: str, now: float) -> KeptAudio:
    return KeptAudio(row=row.row, location=location, plan=plan_text(plan), identity=identity, looked_from=now)


def _is_url(location: str) -> bool:
    return stored_location(location).kind is LocationKind.URL
