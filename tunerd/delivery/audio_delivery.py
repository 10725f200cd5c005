"""Uploads whose target is stored: each is tried until the storage has the audio, or until its target expires.

The call itself is sent by then (audio_worker.py). Nothing here touches a destination: a storage that fails pauses no call.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tunerd.audio.audio_bytes import (
    AudioChanged,
    AudioHangs,
    AudioMissing,
    AudioPlace,
    AudioUnreadable,
    NotDisposed,
    Settled,
    Unsettled,
)
from tunerd.audio_events import AudioFailed, AudioNotDisposed, AudioRetried, AudioUploaded
from tunerd.call import AudioState
from tunerd.delivery.audio_upload import NotStored, Stored
from tunerd.delivery.ports import AudioTools, Ports
from tunerd.delivery.retry import backoff_s
from tunerd.delivery.signing import PAUSE_S
from tunerd.delivery.upload_target import BadTarget, read_target
from tunerd.events import BucketPaused, BucketResumed
from tunerd.ledger import AudioEnded, AudioUpload, LedgerUnavailable, Leftover, PendingAudio
from tunerd.location import bucket_of, stored_location
from tunerd.outcome import AudioReason
from tunerd.record import positional_record

_AGAIN_AT_MOST_S: Final = 30.0
"""Between two attempts: a target lives for an hour or less."""
_LEDGER_AGAIN_S: Final = 1.0
_UNSEEN_AGAIN_S: Final = 2.0
DISPOSE_AGAIN_S: Final = 300.0
_PAGE: Final = 64


@positional_record
class _BucketTrouble:
    since: float
    until: float
    what: str


class AudioDelivery:
    """All destinations share it."""

    def __init__(self, ports: Ports, tools: AudioTools) -> None:
        self._tools, self._chance = tools, ports.chance
        self._ledger, self._clock, self._emit = ports.ledger, ports.clock, ports.emit
        self._open: set[int] = set()
        self._troubles: dict[str, _BucketTrouble] = {}
        """By scheme and bucket."""
        self._kept: set[int] = set()
        """Rows whose `after_upload` could not be carried out yet; each is reported once."""
        self._noticed = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None

    def start(self, group: asyncio.TaskGroup, stop: asyncio.Event, upload_stop: asyncio.Event) -> None:
        """The tasks beside the workers. `upload_stop`: when uploads are no longer tried again."""
        self._group = group
        for work in (self.resume(upload_stop), self.watch(stop), self.tidy(stop)):
            group.create_task(work)

    def is_idle(self) -> bool:
        """No upload is open."""
        return not self._open and not self._ledger.gauges().audio.get(AudioState.UPLOADING)

    def place_of(self, location: str) -> AudioPlace | None:
        return self._tools.places.get(stored_location(location).kind)

    async def look(self, pending: PendingAudio, place: AudioPlace, identity: str) -> Settled | Unsettled:
        """As AudioPlace.look. Trouble of a whole bucket is reported once; while it lasts, few objects are asked for."""
        bucket, now = bucket_of(pending.location), self._clock.now()
        trouble = self._troubles.get(bucket)
        if trouble is not None and now < trouble.until:
            raise AudioUnreadable(trouble.what, may_pass=True)
        try:
            looked = await place.look(pending.location, pending.plan, identity, now)
        except AudioUnreadable as exc:
            if exc.bucket:
                if exc.bucket not in self._troubles:
                    self._emit(BucketPaused(bucket=exc.bucket, what=str(exc)))
                since = now if trouble is None else trouble.since
                self._troubles[bucket] = _BucketTrouble(since, self._clock.now() + PAUSE_S, str(exc))
            raise
        if self._troubles.pop(bucket, None) is not None and trouble is not None:
            self._emit(BucketResumed(bucket=bucket, lasted_s=self._clock.now() - trouble.since))
        return looked

    async def resume(self, stop: asyncio.Event) -> None:
        """What the last process did not end: uploads (all at once, since no more were open than there are slots), and files that
        are still to be deleted or moved."""
        while True:
            try:
                uploads, leftovers = await self._ledger.open_uploads(), await self._ledger.leftovers()
                break
            except LedgerUnavailable:
                if await self._clock.wait(stop, _LEDGER_AGAIN_S):
                    return
        async with asyncio.TaskGroup() as group:
            for upload in uploads:
                group.create_task(self.finish(upload, stop, has_slot=False))
            for left in leftovers:  # one after the other: they may be many
                await self._dispose(left)

    async def tidy(self, stop: asyncio.Event) -> None:
        """Try again and again to delete or move what could not be."""
        while not await self._clock.wait(stop, DISPOSE_AGAIN_S):
            with suppress(LedgerUnavailable):
                for left in await self._ledger.leftovers() if self._kept else ():
                    if left.row in self._kept:
                        await self._dispose(left)

    def notice(self) -> None:
        """A call may have come whose audio nobody has looked at."""
        self._noticed.set()

    async def watch(self, stop: asyncio.Event) -> None:
        """Look at the audio of each call as soon as the call is known, whether it may be sent now or not: what is in its place
        after an outage may be the audio of a later call. (`notice` has to follow `stop`.)"""
        while not stop.is_set():
            self._noticed.clear()
            left = await self._see_all() if self._ledger.gauges().audio.get(AudioState.PENDING) else 0
            await self._clock.wait(self._noticed, _UNSEEN_AGAIN_S if left else None)

    async def _see_all(self) -> int:
        """How many are not there yet, or not settled."""
        after_row, left = 0, 0
        with suppress(LedgerUnavailable):
            while found := await self._ledger.unseen_audio(after_row, _PAGE):
                for pending in found:
                    left += not await self._is_seen(pending)
                after_row = found[-1].row
        return left

    async def _is_seen(self, pending: PendingAudio) -> bool:
        place = self.place_of(pending.location)
        if place is None:
            return True
        try:
            looked = await self.look(pending, place, "")
        except (AudioMissing, AudioHangs):
            return False
        except (AudioUnreadable, AudioChanged):
            return True  # the one who is to send the call looks again, and decides
        if isinstance(looked, Unsettled):
            return False
        await self._ledger.audio_seen(pending.row, pending.location, looked.identity)
        return True

    async def finish(self, upload: AudioUpload, stop: asyncio.Event, *, has_slot: bool = True) -> None:
        """Until it is uploaded or failed; or, once `stop` is set, until the next attempt would have to be waited for. Cancelled,
        it stays `uploading`. Where the directory of the audio hangs, a slot is given back at once and the upload goes on beside
        it: there are not many of these, since nobody gets a slot for that directory any more."""
        self._open.add(upload.row)
        attempts = upload.attempts
        try:
            while True:
                ended = await self._attempt(upload)
                attempts += 1
                if not isinstance(ended, NotStored):
                    break
                wait_s = min(_AGAIN_AT_MOST_S, backoff_s(attempts, self._chance()))
                if self._clock.now() + wait_s >= upload.expires_at:
                    detail = f"its target expired after {attempts} attempts; at last: {ended.detail}"
                    ended = AudioEnded(reason=AudioReason.UPLOAD_EXPIRED, detail=detail)
                    break
                self._emit(AudioRetried(source=upload.source, call_id=upload.call_id, detail=ended.detail, attempts=attempts))
                self._ledger.upload_tried(upload.row, ended.detail)
                if ended.hangs and has_slot and self._group is not None:
                    self._group.create_task(self.finish(replace(upload, attempts=attempts), stop, has_slot=False))
                    return
                if await self._clock.wait(stop, wait_s):
                    return
            await self._end(upload, ended, attempts)
        except LedgerUnavailable:
            return  # the ledger closes; the next start sees what was written
        finally:
            self._open.discard(upload.row)

    async def _attempt(self, upload: AudioUpload) -> NotStored | AudioEnded | None:
        """None: it is stored."""
        if self._clock.now() >= upload.expires_at:
            detail = "its target had expired before it could be uploaded"
            return AudioEnded(reason=AudioReason.UPLOAD_EXPIRED, detail=detail)
        place = self.place_of(upload.location)
        if place is None:
            return NotStored("this tunerd cannot read recordings of that kind")
        try:
            target = read_target(upload.offer, now=self._clock.now())
            result = await self._tools.upload(target, place.bytes_of(upload.location, upload.plan, upload.identity))
        except BadTarget as exc:
            return AudioEnded(reason=AudioReason.UPLOAD_NOT_OFFERED, detail=str(exc))
        except AudioChanged as exc:
            return AudioEnded(reason=AudioReason.AUDIO_CHANGED, detail=str(exc))
        except AudioUnreadable as exc:
            if exc.may_pass:
                return NotStored(str(exc), hangs=isinstance(exc, AudioHangs))
            return AudioEnded(reason=AudioReason.AUDIO_UNREADABLE, detail=str(exc))
        return None if isinstance(result, Stored) else result

    async def _end(self, upload: AudioUpload, ended: AudioEnded | None, attempts: int) -> None:
        await self._ledger.upload_ended(upload.row, ended, self._clock.now())
        if ended is not None:
            self._emit(AudioFailed(source=upload.source, call_id=upload.call_id, reason=ended.reason, what=ended.detail,
                                   path=upload.path))  # fmt: skip
            return
        self._emit(AudioUploaded(source=upload.source, call_id=upload.call_id, size=upload.size, attempts=attempts))
        await self._dispose(
            Leftover(row=upload.row, source=upload.source, location=upload.location, plan=upload.plan, identity=upload.identity)
        )

    async def _dispose(self, left: Leftover) -> None:
        place = self.place_of(left.location)
        if place is None:
            return
        try:
            kept = await place.dispose(left.location, left.plan, left.identity)
        except AudioUnreadable as exc:
            kept = NotDisposed(why=str(exc))
        if kept is not None and left.row not in self._kept:
            self._emit(AudioNotDisposed(source=left.source, why=kept.why))
        if kept is None or kept.is_final:
            self._kept.discard(left.row)
            self._ledger.leftover_done(left.row)
        else:
            self._kept.add(left.row)
