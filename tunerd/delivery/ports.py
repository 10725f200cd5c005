"""What delivery needs from outside, the same for all destinations: the ledger, the network, time, and where events go."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from tunerd.audio.audio_bytes import AudioBytes, AudioPlace
from tunerd.call import Form, Refusal
from tunerd.clock import Clock
from tunerd.config import Delivery as Settings
from tunerd.config import Destination
from tunerd.delivery.audio_upload import NotStored, Stored
from tunerd.delivery.key import Key
from tunerd.delivery.signing import UrlSigner
from tunerd.delivery.upload_target import PresignedPost
from tunerd.delivery.url_verifier import AskUrl
from tunerd.events import Emit
from tunerd.ledger import (
    ALONE,
    AudioPath,
    Claimed,
    Fleet,
    Freeze,
    Gauges,
    Maintenance,
    Unfrozen,
    UrlCheckPath,
    WritePath,
)
from tunerd.location import LocationKind
from tunerd.outcome import Outcome
from tunerd.record import record

Upload: TypeAlias = Callable[[Claimed], Awaitable[Outcome]]
"""Exactly one attempt; raises nothing that a server or a network can cause. Raises MayNotSend before anything is sent."""

StoreAudio: TypeAlias = Callable[[PresignedPost, AudioBytes], Awaitable[Stored | NotStored]]
"""One attempt to upload audio to its target. Raises AudioChanged and AudioUnreadable: then the storage did not get it whole."""

Connect: TypeAlias = Callable[[Destination, Key, Settings], Upload]
"""Makes the Upload of a destination; called again for each reload."""


class MayNotSend(Exception):
    """No byte of the request was sent: another instance may send the call by now."""


class FreezeBody(Protocol):
    """mapping's freeze_body: the exact bytes to post in a form, or why the form does not take the call. Pure."""

    def __call__(
        self,
        payload: bytes,
        recording_url: str,
        checked_for: Form | None,
        form: Form,
        *,
        url_rule: str = "",
        uploads: tuple[str, int] | None = None,
        is_placeholder: bool = False,
    ) -> bytes | Refusal: ...


class CheckedLedger(Protocol):
    """What the self-check asks."""

    async def sending(self) -> Mapping[int, float]:
        """Rows of the calls that are `sending`, and when they were claimed."""
        ...

    def unsettled(self) -> frozenset[int]:
        """Rows whose settlement or release is queued."""
        ...

    async def reclaim(self, claims: Mapping[int, float], now: float) -> int:
        """Those that are still `sending` from this very claim are due again, as ones that may have arrived; how many."""
        ...


class DeliveryLedger(WritePath, AudioPath, UrlCheckPath, Maintenance, CheckedLedger, Protocol):
    """What delivery needs of the ledger."""

    def gauges(self) -> Gauges: ...


@record
class AudioTools:
    """What uploads of audio need: a place for each kind of location, and the way to a storage."""

    places: Mapping[LocationKind, AudioPlace]
    upload: StoreAudio


@record
class Ports:
    ledger: DeliveryLedger
    connect: Connect
    freeze: FreezeBody
    signer: UrlSigner
    clock: Clock
    emit: Emit
    chance: Callable[[], float]
    """Numbers in [0, 1), as random.random."""
    fleet: Fleet = ALONE
    audio: AudioTools | None = None
    """What uploads of audio need; None: no call's audio is uploaded."""
    ask_url: AskUrl | None = None
    """Asks the host of a recording for it (`verify: get`); None: nobody is asked."""


def freezer(freeze: FreezeBody, form: Form) -> Freeze:
    def frozen(call: Unfrozen) -> bytes | Refusal:
        asks = None if call.upload is None else (call.upload.extension, call.upload.channels)
        return freeze(call.payload, call.recording_url, call.checked_for, form, url_rule=call.url_rule, uploads=asks,
                      is_placeholder=call.with_placeholder)  # fmt: skip

    return frozen
