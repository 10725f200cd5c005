"""The life of audio that tunerd uploads: looked at before its call is sent, uploading once Tuner has named a target, then
uploaded or failed. How it begins is said in locate_audio.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from tunerd.call import AfterUpload, AudioState, Refusal, State
from tunerd.ledger import (
    AudioEnded,
    AudioUpload,
    FailedCall,
    Leftover,
    PendingAudio,
    PreparedAudio,
    UploadRequest,
    UploadTarget,
)
from tunerd.ledger.commands.join import fail
from tunerd.ledger.rows import KeptAudio, LedgerRow
from tunerd.ledger.sql.bodies import plan_of, plan_text
from tunerd.ledger.sql.store import Store
from tunerd.ledger.states import Move
from tunerd.outcome import AudioReason, FailReason

_TOOK_NOTHING: Final = 503
"""Of all answers but "too many requests" only this one says plainly that Tuner did not take the call."""


# Before the call is sent.


def next_pending(
    store: Store, destination: str, now: float, busy: Collection[int], not_agents: Collection[str], first: int | None = None
) -> tuple[PendingAudio | None, float | None]:
    """See AudioPath.next_audio."""
    wanted = None if first is None or first in busy else store.calls.get(first)
    is_there = wanted is not None and wanted.destination == destination and _is_waiting(wanted) and wanted.agent not in not_agents
    if wanted is not None and is_there and store.audios.may_upload(wanted) and (wanted.due_at or 0.0) <= now:
        found: tuple[float, int] | None = (wanted.due_at or 0.0, wanted.row)
    else:
        found = store.audios.next_due(destination, busy, not_agents)
    if found is None:
        return None, None
    due_at, number = found
    row, audio = store.calls.get(number), store.audios.get(number)
    return (_pending(row, audio), None) if due_at <= now and row is not None and audio is not None else (None, due_at)


def _pending(row: LedgerRow, audio: KeptAudio) -> PendingAudio:
    return PendingAudio(
        row=row.row, source=row.source, call_id=row.call_id or "", agent=row.agent, path=row.read_from, location=audio.location,
        plan=plan_of(audio.plan), identity=audio.identity, looked_from=audio.looked_from,
        may_be_sent=row.may_have_arrived and row.form is not None and row.status != _TOOK_NOTHING,
    )  # fmt: skip


def postpone(store: Store, row_id: int, due_at: float, detail: str) -> None:
    """See AudioPath.audio_later."""
    row, audio = store.calls.get(row_id), store.audios.get(row_id)
    if row is not None and audio is not None and _is_waiting(row) and store.audios.may_upload(row):
        store.change(row, due_at=due_at)
        store.audios.put(replace(audio, detail=detail))


def unusable(store: Store, row_id: int, ended: AudioEnded, now: float) -> FailedCall | None:
    """See AudioPath.audio_unusable. What is at that path on another machine says nothing of the audio."""
    row = store.calls.get(row_id)
    return lost(store, row, ended, now) if row is not None and store.audios.may_upload(row) else None


def lost(store: Store, row: LedgerRow, ended: AudioEnded, now: float) -> FailedCall | None:
    """The audio of a call that is not sent yet cannot be used, wherever it is."""
    audio = store.audios.get(row.row)
    if audio is None or not _is_waiting(row):
        return None
    _end(store, row, audio, ended, now)
    if ended.reason is not AudioReason.AUDIO_FORM and plan_of(audio.plan).sends_on_error:
        store.thaw(row)  # its body would ask for a target
        store.woken[row.destination] += 1
        return None
    refusal = Refusal(reason=FailReason(ended.reason.value), where="audio", what=ended.detail)
    return fail(store, row, refusal, now, Move.END)


def _is_waiting(row: LedgerRow) -> bool:
    return row.state is State.DUE and row.audio is AudioState.PENDING


def unseen(store: Store, after_row: int, limit: int) -> Sequence[PendingAudio]:
    """See AudioPath.unseen_audio."""
    found = ((store.calls.get(audio.row), audio) for audio in store.audios.unseen(after_row, limit))
    return [_pending(row, audio) for row, audio in found if row is not None]


def seen(store: Store, row_id: int, location: str, identity: str) -> str | None:
    """See AudioPath.audio_seen."""
    row, audio = store.calls.get(row_id), store.audios.get(row_id)
    if row is None or audio is None or audio.location != location or row.audio is not AudioState.PENDING:
        return None
    if not store.audios.may_upload(row):
        return None
    if not audio.identity:
        store.audios.put(replace(audio, identity=identity))
    return _rival(store, row, audio, identity)


def _rival(store: Store, row: LedgerRow, audio: KeptAudio, identity: str) -> str | None:
    """Another call that names the same audio. A call with a frozen body was claimed with its audio, and keeps it."""
    return None if audio.by_hand or row.form is not None else store.audios.rival(row, audio.location, identity)


def prepare(store: Store, row: LedgerRow, prepared: PreparedAudio) -> bool:
    """The call is claimed with this audio. False: its audio is elsewhere, or other audio, by now; or another call names it."""
    audio = store.audios.get(row.row)
    if audio is None or audio.location != prepared.location or audio.identity not in ("", prepared.identity):
        return False
    if _rival(store, row, audio, prepared.identity) is not None:
        return False
    if prepared.unusable is not None:
        return True
    store.audios.put(
        replace(audio, identity=prepared.identity, extension=prepared.extension, size=prepared.size,
                channels=prepared.channels, detail="")
    )  # fmt: skip
    return True


def give_up(store: Store, row: LedgerRow, ended: AudioEnded, now: float) -> None:
    """The URL of an object cannot be signed, and the call is sent without its audio."""
    plan = store.bodies.audio_plan(row.row)
    if plan is not None and row.recording_location is not None:
        audio = KeptAudio(row=row.row, location=row.recording_location, plan=plan_text(plan), looked_from=now)
        _end(store, row, audio, ended, now)


def body_parts(store: Store, row: LedgerRow) -> tuple[str, UploadRequest | None]:
    """What goes into the body of a call: its recording_url, and what asks Tuner for a target."""
    audio = None if row.audio is AudioState.NONE else store.audios.get(row.row)
    if audio is None:
        return row.recording_location or "", None
    asks = UploadRequest(extension=audio.extension, channels=audio.channels) if row.audio is AudioState.PENDING else None
    return plan_of(audio.plan).placeholder, asks


# When it is sent, and after.


def delivered(store: Store, row: LedgerRow, result: UploadTarget | AudioEnded, now: float) -> None:
    """Tuner has the call, which was claimed with its audio."""
    audio = store.audios.get(row.row)
    if audio is None:
        return
    if isinstance(result, AudioEnded):
        _end(store, row, audio, result, now)
        return
    store.audios.put(replace(audio, target=result.offer, expires_at=result.expires_at, max_bytes=result.max_bytes, attempts=0))
    store.change(row, audio=AudioState.UPLOADING)


def uploads(store: Store) -> Sequence[AudioUpload]:
    """See AudioPath.open_uploads. In a fleet they are this instance's from now on."""
    found = [upload for number in store.audios.uploading() if (upload := upload_of(store, number)) is not None]
    for upload in found if store.db.holder else ():
        if (row := store.calls.get(upload.row)) is not None:
            store.change(row, holder=store.db.holder)
    return found


def upload_of(store: Store, row_id: int) -> AudioUpload | None:
    """See AudioPath.upload."""
    row, audio = store.calls.get(row_id), store.audios.get(row_id)
    if row is None or audio is None or audio.target is None or row.audio is not AudioState.UPLOADING:
        return None
    return AudioUpload(
        row=row.row, source=row.source, call_id=row.call_id or "", path=row.read_from, location=audio.location,
        plan=plan_of(audio.plan), identity=audio.identity, extension=audio.extension, size=audio.size, offer=audio.target,
        expires_at=audio.expires_at or 0.0, attempts=audio.attempts,
    )  # fmt: skip


def tried(store: Store, row_id: int, detail: str) -> None:
    """See AudioPath.upload_tried."""
    row, audio = store.calls.get(row_id), store.audios.get(row_id)
    if row is not None and audio is not None and row.audio is AudioState.UPLOADING:
        store.audios.put(replace(audio, attempts=audio.attempts + 1, detail=detail))


def end(store: Store, row_id: int, ended: AudioEnded | None, now: float) -> None:
    """See AudioPath.upload_ended."""
    row, audio = store.calls.get(row_id), store.audios.get(row_id)
    if row is None or audio is None or row.audio is not AudioState.UPLOADING:
        return
    if ended is not None:
        _end(store, row, audio, ended, now)
        return
    is_left = plan_of(audio.plan).after_upload is not AfterUpload.KEEP or audio.location.startswith("embedded:")
    store.audios.put(
        replace(audio, target=None, expires_at=None, attempts=audio.attempts + 1, detail="", reason=None, leftover=is_left)
    )
    store.change(row, audio=AudioState.UPLOADED)
    store.history.add(row, now, "audio uploaded", detail=f"{audio.size:,} bytes")
    store.may_be_disposable(row)


def _end(store: Store, row: LedgerRow, audio: KeptAudio, ended: AudioEnded, now: float) -> None:
    store.audios.put(
        replace(
            audio, target=None, expires_at=None, reason=ended.reason.value, detail=ended.detail,
            max_bytes=ended.max_bytes or audio.max_bytes,
        )
    )  # fmt: skip
    columns: dict[str, object] = {"audio": AudioState.FAILED}
    if row.state is State.SENT:
        columns |= {"reason": ended.reason.value, "place": "audio", "detail": ended.detail}
    store.change(row, **columns)
    store.history.add(row, now, "audio failed", detail=f"{ended.reason.value}: {ended.detail}")


def leftovers(store: Store) -> Sequence[Leftover]:
    """See AudioPath.leftovers."""
    return [
        Leftover(row=audio.row, source=row.source, location=audio.location, plan=plan_of(audio.plan), identity=audio.identity)
        for audio in store.audios.leftovers()
        if (row := store.calls.get(audio.row)) is not None
    ]


def cleared(store: Store, row_id: int) -> None:
    """See AudioPath.leftover_done."""
    if (audio := store.audios.get(row_id)) is not None:
        store.audios.put(replace(audio, leftover=False))
