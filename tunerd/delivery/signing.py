"""Signs the URL of a recording in a bucket just before its call is sent, so that the URL is as young as it can be.

What all objects of a bucket have in common (credentials, region, clock, network) pauses the bucket: meanwhile its storage is
asked for none of them. What is an object's own is decided for its call. Nothing was sent in either case.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.signed_url import SignedUrl
from tunerd.audio_events import AudioFailed
from tunerd.clock import Clock
from tunerd.events import BucketPaused, BucketResumed, Emit
from tunerd.ledger import AudioEnded, Claimed, Deferred, Ended, UrlToSign
from tunerd.location import bucket_of
from tunerd.outcome import FailReason, RetryReason
from tunerd.record import positional_record

PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_PATIENCE_S: Final = {FaultKind.MISSING: 1800.0, FaultKind.DENIED: 86_400.0}
"""How long after its document was read a call waits for an object that may not be there yet. Of a missing object S3, too, says
"denied" to those who may not list the bucket."""
_LOOK_AGAIN_S: Final = (10.0, 600.0)
_REASONS: Final = {FaultKind.TOO_LONG: FailReason.RECORDING_TOO_LONG, FaultKind.ADDRESS: FailReason.INVALID}

SignUrl: TypeAlias = Callable[[str, float], Awaitable[SignedUrl]]
"""(location, validity in seconds). Raises ObjectFault."""


@positional_record
class _BucketPause:
    since: float
    until: float
    length_s: float
    fault: ObjectFault


class UrlSigner:
    """One for all destinations: they share the buckets, and the credentials of the process."""

    def __init__(self, clock: Clock, emit: Emit, sign: SignUrl | None = None) -> None:
        """`sign`: None, and the storage of each bucket is asked."""
        self._clock, self._emit, self._sign = clock, emit, sign
        self._pauses: dict[str, _BucketPause] = {}
        """By scheme and bucket."""

    async def sign(self, wanted: UrlToSign, settled_at: float) -> SignedUrl | Deferred | Ended:
        """The URL, or what becomes of the call without one. `settled_at`: when its document was read."""
        bucket = bucket_of(wanted.location)
        pause = self._pauses.get(bucket)
        if pause is not None and self._clock.now() < pause.until:
            return _later(pause.until, pause.fault)
        if self._sign is None:
            from tunerd.audio.objects import ObjectStores  # here, because it takes memory that only buckets need

            self._sign = ObjectStores(self._clock).sign
        try:
            signed = await self._sign(wanted.location, wanted.expires_s)
        except ObjectFault as fault:
            now = self._clock.now()
            if fault.is_its_own or fault.kind is FaultKind.DENIED:
                return _decided(fault, now, settled_at)
            if self._pauses.get(bucket) is pause:  # otherwise another call has just found the same
                length_s = PAUSE_S if pause is None else min(2 * pause.length_s, _LONGEST_PAUSE_S)
                self._pauses[bucket] = _BucketPause(now if pause is None else pause.since, now + length_s, length_s, fault)
                if pause is None or pause.fault.kind is not fault.kind:
                    self._emit(BucketPaused(bucket=bucket, what=str(fault)))
            return _later(self._pauses[bucket].until, fault)
        if (over := self._pauses.pop(bucket, None)) is not None:
            self._emit(BucketResumed(bucket=bucket, lasted_s=self._clock.now() - over.since))
        return signed

    def report_without_audio(self, claimed: Claimed, ended: AudioEnded) -> None:
        """The call goes out with the placeholder (`on_error: send`)."""
        self._emit(
            AudioFailed(source=claimed.source, call_id=claimed.call_id, reason=ended.reason, what=ended.detail,
                        path=claimed.read_from)
        )  # fmt: skip


def _decided(fault: ObjectFault, now: float, settled_at: float) -> Deferred | Ended:
    age_s = max(0.0, now - settled_at)
    if age_s < _PATIENCE_S.get(fault.kind, 0.0):
        soon, late = _LOOK_AGAIN_S
        return _later(now + min(max(age_s / 4, soon), late), fault)
    return Ended(reason=_REASONS.get(fault.kind, FailReason.RECORDING_MISSING), status=None, detail=str(fault))


def _later(due_at: float, fault: ObjectFault) -> Deferred:
    return Deferred(
        due_at=due_at, reason=RetryReason.UNSIGNED, status=None, detail=str(fault), counts=False, surely_not_arrived=True
    )
