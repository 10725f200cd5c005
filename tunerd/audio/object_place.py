"""Objects in buckets as a place of audio: streamed from the bucket to Tuner's storage, without touching the disk.

obstore (objects.py) is imported with the first object: it takes memory, and only the extra `cloud` brings it.
"""

from typing import Any

from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioUnreadable, Settled, Unsettled
from tunerd.call import AfterUpload, AudioPlan
from tunerd.clock import Clock


class ObjectPlace:
    """See AudioPlace. An object is whole as soon as it is there, so it never has to settle."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stores: Any = None

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
        objects = self._objects()
        found, header = await objects.look_at(self._stores, location)
        if identity and str(found) != identity:
            raise AudioChanged(f"{location}: the object was replaced. Let each call record to an object of its own")
        return Settled(identity=str(found), extension=header.extension(location), size=found.size, channels=header.channels)

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        objects = self._objects()
        audio: AudioBytes = objects.ObjectAudio(self._stores, location, objects.ObjectIdentity.parse(identity))
        return audio

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> str:
        if plan.after_upload is AfterUpload.KEEP:
            return ""
        return f"{location} stays: tunerd only reads buckets; a lifecycle rule of the bucket can delete what is old"

    def _objects(self) -> Any:
        """The module that needs the library. Raises AudioUnreadable where it is not installed."""
        try:
            from tunerd.audio import objects
        except ImportError:
            what = "reading objects of buckets needs the extra `cloud`: pip install 'tunerd[cloud]', and restart tunerd"
            raise AudioUnreadable(what, may_pass=True) from None
        if self._stores is None:
            self._stores = objects.ObjectStores(self._clock)
        return objects
