"""Objects in buckets as a place of audio: streamed from the bucket to Tuner's storage, without touching the disk.

Importing this module costs nothing: objects.py and its library are loaded with the first object.
"""

from posixpath import basename
from typing import Any

from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioUnreadable, NotDisposed, Settled, Unsettled
from tunerd.call import AudioPlan
from tunerd.clock import Clock

_NO_LIBRARY = "objects in buckets need the package obstore: install tunerd[cloud], restart tunerd, then `tunerd retry`"


class ObjectPlace:
    """See AudioPlace. An object is whole from the moment that it is there."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loaded: tuple[Any, Any] | None = None
        """The module, and the buckets that it has opened."""

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
        objects, stores = self._load()
        found, header = await objects.look_at(stores, location)
        if identity and str(found) != identity:
            raise AudioChanged(f"{location} is not the object that belongs to the call any more: it was replaced")
        return Settled(
            identity=str(found), extension=header.extension(basename(location)), size=found.size, channels=header.channels
        )

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        objects, stores = self._load()
        audio: AudioBytes = objects.ObjectAudio(stores, location, objects.ObjectIdentity.parse(identity))
        return audio

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> NotDisposed | None:
        """tunerd changes nothing in a bucket: its life cycle rules delete what is old."""
        return None

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            try:
                from tunerd.audio import objects  # here, because it takes memory that only buckets need
            except ImportError:
                raise AudioUnreadable(_NO_LIBRARY) from None
            self._loaded = objects, objects.ObjectStores(self._clock)
        return self._loaded
