"""A worker for calls whose audio is uploaded with them. The worker is the slot: it looks at the audio, sends the call, and
uploads the audio, one call after the other, so that a target which Tuner names never waits.

Beside the other workers of a destination, with the same permits, so that calls without audio do not wait for uploads.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from tunerd.audio.audio_bytes import AudioChanged, AudioHangs, AudioMissing, AudioUnreadable, Settled, Unsettled
from tunerd.audio_events import AudioFailed
from tunerd.call import AudioState, Form
from tunerd.delivery.audio_delivery import AudioDelivery
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.permits import Blocked
from tunerd.delivery.ports import Ports
from tunerd.delivery.upload_target import BadTarget, read_target, refuse_target
from tunerd.delivery.worker import LOOK_AGAIN_S, Settling, Worker
from tunerd.ledger import (
    AudioEnded,
    Delivered,
    FailedCall,
    LedgerUnavailable,
    PendingAudio,
    PreparedAudio,
    Settlement,
    UploadTarget,
)
from tunerd.outcome import AudioReason, Sent

SLOTS: Final = 4
"""Uploads at a time, for each destination."""
ABSENT_S: Final = 600.0
"""How long audio may be missing that a call names: whoever records may write it after the call's document."""
UNSETTLED_S: Final = 86_400.0
"""How long audio may still be written, or be out of reach for no fault of its own (a mount, a bucket)."""
_AGAIN_S: Final = 1.0
_ABSENT_AGAIN_S: Final = 10.0
_HANGING_AGAIN_S: Final = 60.0


class AudioWorker(Worker):
    def __init__(
        self,
        pool: DestinationPool,
        number: int,
        ports: Ports,
        delivery: AudioDelivery,
        tell_failed: Callable[[Sequence[FailedCall]], None],
        is_over: Callable[[DestinationPool], bool],
        stop: asyncio.Event,
    ) -> None:
        super().__init__(pool, number, ports.ledger, ports.clock, tell_failed, is_over)
        self._audio, self._emit, self._delivery, self._stop = ports.ledger, ports.emit, delivery, stop

    async def run(self) -> None:
        """Until the destination is over."""
        pool = self._pool
        try:
            while not self._is_over(pool):
                changes = pool.audio.parking.changes
                try:
                    until = await self._turn(changes)
                except LedgerUnavailable:
                    until = self._clock.now() + _AGAIN_S
                if until is not None and not self._is_over(pool):
                    await pool.audio.parking.park(None if until == math.inf else until, changes)
        finally:
            self._give_back()
            pool.audio.parking.wake_next()  # whoever is parked may have a reason to end, too

    async def _turn(self, changes: int) -> float | None:
        """One call, or until when there is nothing to do (Unix seconds). Raises LedgerUnavailable."""
        pool, now = self._pool, self._clock.now()
        if pool.settings.dry_run or not self._audio.gauges().audio.get(AudioState.PENDING):
            pool.audio.found_nothing(None, changes)
            return math.inf
        resting = pool.pacing.pauses.resting_agents(now)
        pending, next_due_at = await self._audio.next_audio(
            pool.name, now, frozenset(pool.audio.busy), resting, pool.pacing.pauses.only_probe
        )
        if pending is None:
            pool.audio.found_nothing(next_due_at, changes)
            return math.inf if next_due_at is None else max(next_due_at, now + _AGAIN_S / 10)
        if pending.row in pool.audio.busy:  # another worker took it meanwhile
            return None
        pool.audio.busy.add(pending.row)
        try:
            pool.audio.parking.wake_next()
            return await self._serve(pending)
        finally:
            pool.audio.leave(pending.row)

    async def _serve(self, pending: PendingAudio) -> float | None:
        form = self._pool.key.form
        if form is None:
            return self._clock.now() + _AGAIN_S
        if form is Form.SEND_CALLS:
            what = (
                "the key is one for send-calls, which takes no upload; use a create-call key (tr_api_...), or `audio: presign`, "
                "then `tunerd retry`"
            )
            await self._refuse(pending, AudioReason.AUDIO_FORM, what)
            return None
        prepared = await self._look(pending)
        if prepared is None:
            return None
        return await self._send(pending, prepared, form)

    # Looking at the audio.

    async def _look(self, pending: PendingAudio) -> PreparedAudio | None:
        """None: it is not there yet, or cannot be used and its call is not sent. The ledger knows."""
        place, now = self._delivery.place_of(pending.location), self._clock.now()
        if place is None:
            what = "this tunerd cannot read recordings of that kind; install what `tunerd check` names"
            return await self._refuse(pending, AudioReason.AUDIO_UNREADABLE, what)
        try:
            looked = await self._delivery.look(pending, place, pending.identity)
        except AudioChanged as exc:
            return await self._refuse(pending, AudioReason.AUDIO_CHANGED, str(exc))
        except AudioUnreadable as exc:
            patience_s = ABSENT_S if isinstance(exc, AudioMissing) else UNSETTLED_S if exc.may_pass else 0.0
            if now - pending.looked_from >= patience_s:
                return await self._refuse(pending, AudioReason.AUDIO_UNREADABLE, str(exc))
            again_s = _ABSENT_AGAIN_S
            if isinstance(exc, AudioHangs):  # with as many calls as came since it began to hang
                again_s = min(max((now - pending.looked_from) / 4, _ABSENT_AGAIN_S), _HANGING_AGAIN_S)
            await self._audio.audio_later(pending.row, now + again_s, str(exc))
            return None
        if isinstance(looked, Unsettled):
            if now - pending.looked_from >= UNSETTLED_S:
                return await self._refuse(pending, AudioReason.AUDIO_UNREADABLE, f"{looked.why}, and this for a day")
            await self._audio.audio_later(pending.row, now + looked.again_in_s, looked.why)
            return None
        return await self._fits(pending, looked)

    async def _fits(self, pending: PendingAudio, looked: Settled) -> PreparedAudio | None:
        queue = self._pool.audio
        if not queue.is_limit_known:
            queue.limit, queue.is_limit_known = queue.limit or await self._audio.audio_limit(self._pool.name), True
        limit = queue.limit
        if limit is not None and looked.size > limit:
            return await self._refuse(pending, AudioReason.AUDIO_TOO_LARGE, _too_large(looked.size, limit))
        other = await self._audio.audio_seen(pending.row, pending.location, looked.identity)
        if other is not None:
            return await self._refuse(pending, AudioReason.AUDIO_CHANGED, _two_calls(other))
        return PreparedAudio(
            location=pending.location, identity=looked.identity, extension=looked.extension, size=looked.size,
            channels=looked.channels,
        )  # fmt: skip

    async def _refuse(self, pending: PendingAudio, reason: AudioReason, what: str) -> PreparedAudio | None:
        """The audio cannot be used. If Tuner may have the call, that is sent again without it, and the answer ends the
        audio."""
        ended = AudioEnded(reason=reason, detail=what)
        if pending.may_be_sent and reason is not AudioReason.AUDIO_FORM:
            return PreparedAudio(location=pending.location, identity=pending.identity, unusable=ended)
        failed = await self._audio.audio_unusable(pending.row, ended, self._clock.now())
        self._emit_failed(pending, reason, what, holds_call=failed is not None)
        if failed is not None:
            self._tell_failed([failed])
        return None

    # The call, with a slot for its audio.

    async def _send(self, pending: PendingAudio, prepared: PreparedAudio, form: Form) -> float | None:
        pool, now = self._pool, self._clock.now()
        permit = pool.pacing.acquire(now) if pool.may_send() else Blocked()
        if isinstance(permit, Blocked):
            return now + _AGAIN_S
        self.permit = permit
        if permit.row not in (None, pending.row):  # only another call may be the probe
            self._give_back()
            return now + _AGAIN_S
        try:
            claim = await self._ledger.claim(pool.name, form, pool.freeze(form), now, only=pending.row, audio=prepared)
        except BaseException:
            self._give_back()
            raise
        self._tell_failed(claim.failed)
        if claim.claimed is None:
            self._give_back()
            return None
        if not pool.pacing.pauses.takes_agent(claim.claimed.agent, now):
            self._give_back()
            await self._ledger.release(claim.claimed.row, now)
            return now + LOOK_AGAIN_S
        self.claimed = claim.claimed
        if pool.shares_probe(permit, self.claimed.agent) and (wait := await self._share_probe(permit, self.claimed)):
            return wait.until
        settlement = await self._post(prepared)
        await self._see_settled()
        if isinstance(settlement, Delivered):
            await self._after(pending, settlement)
        return None

    async def _post(self, prepared: PreparedAudio) -> Settlement | None:
        """None: no byte was sent, and the call goes back."""
        pool, permit, claimed = self._pool, self.permit, self.claimed
        assert permit is not None and claimed is not None  # noqa: S101, PT018 - see _send
        ended = await self._upload(permit, claimed)
        if ended is None:
            return None
        settlement, outcome = ended
        if isinstance(settlement, Delivered) and isinstance(outcome, Sent):
            settlement = replace(settlement, audio=self._audio_of(outcome, prepared))
        pauses = pool.keep_pauses()
        durable: Awaitable[None] = self._ledger.settle(claimed.row, settlement, self._clock.now())
        self.permit = self.claimed = None
        self.settling = Settling(claimed=claimed, settlement=settlement, pauses=pauses, durable=durable)
        return settlement

    def _audio_of(self, sent: Sent, prepared: PreparedAudio) -> UploadTarget | AudioEnded:
        """What Tuner's answer means for the audio."""
        if sent.offer is None and sent.already_there:
            return _LOST
        if prepared.unusable is not None:
            return prepared.unusable
        if sent.offer is None:
            return _NOT_OFFERED
        try:
            target = read_target(sent.offer, now=self._clock.now())
            refuse_target(target, self._pool.base_url)
        except BadTarget as exc:
            return AudioEnded(reason=AudioReason.UPLOAD_NOT_OFFERED, detail=str(exc))
        if target.max_bytes is not None:
            self._pool.audio.limit = target.max_bytes
            if prepared.size > target.max_bytes:
                what = _too_large(prepared.size, target.max_bytes)
                return AudioEnded(reason=AudioReason.AUDIO_TOO_LARGE, detail=what, max_bytes=target.max_bytes)
        return UploadTarget(offer=sent.offer, expires_at=target.expires_at, max_bytes=target.max_bytes)

    async def _after(self, pending: PendingAudio, delivered: Delivered) -> None:
        """The settlement is durable: upload, or report that there is nothing to upload to."""
        if isinstance(delivered.audio, AudioEnded):
            self._emit_failed(pending, delivered.audio.reason, delivered.audio.detail)
        elif (upload := await self._audio.upload(pending.row)) is not None:
            await self._delivery.finish(upload, self._stop)

    def _emit_failed(self, pending: PendingAudio, reason: AudioReason, what: str, *, holds_call: bool = False) -> None:
        self._emit(
            AudioFailed(source=pending.source, call_id=pending.call_id, reason=reason, what=what, path=pending.path,
                        holds_call=holds_call)
        )  # fmt: skip


_LOST: Final = AudioEnded(
    reason=AudioReason.UPLOAD_TARGET_LOST,
    detail="Tuner already had the call, and names a target for its audio only once: an earlier answer with it was lost. "
    "tunerd cannot upload the audio any more",
)
_NOT_OFFERED: Final = AudioEnded(
    reason=AudioReason.UPLOAD_NOT_OFFERED,
    detail="Tuner took the call but named no target for its audio; ask Tuner whether this workspace may upload recordings",
)


def _two_calls(other: str) -> str:
    return f"the call {other} names the same file, and tunerd cannot know which of the two it belongs to"


def _too_large(size: int, limit: int) -> str:
    return f"it has {size:,} bytes, and Tuner's storage takes {limit:,}; record in a smaller format (mono, Ogg or MP3)"
