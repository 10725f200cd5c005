"""The spool as a place of audio: an entry is whole as soon as it is there, and goes when it is uploaded."""

from tunerd.audio.audio_bytes import AudioBytes, NotDisposed, Settled, Unsettled
from tunerd.audio.directory_threads import DirectoryThreads
from tunerd.audio.local import AudioDirectories, LocalAudio
from tunerd.audio.spool import AudioSpool
from tunerd.call import AudioPlan
from tunerd.file_identity import FileIdentity


class SpoolPlace:
    """See AudioPlace."""

    def __init__(self, spool: AudioSpool, threads: DirectoryThreads) -> None:
        self._spool, self._threads = spool, threads
        self._directories = AudioDirectories([spool.directory])

    async def look(self, location: str, plan: AudioPlan, identity: str, now: float) -> Settled | Unsettled:
        return await self._threads.run(self._spool.directory, lambda: self._look(location, identity))

    def _look(self, location: str, identity: str) -> Settled:
        path = self._spool.path_of(location)
        with self._directories.opened(path, FileIdentity.parse(identity) if identity else None) as audio:
            header = audio.header()
            return Settled(
                identity=str(audio.identity),
                extension=header.extension(""),
                size=audio.identity.size,
                channels=header.channels,
            )

    def bytes_of(self, location: str, plan: AudioPlan, identity: str) -> AudioBytes:
        return LocalAudio(self._directories, self._spool.path_of(location), FileIdentity.parse(identity), self._threads)

    async def dispose(self, location: str, plan: AudioPlan, identity: str) -> NotDisposed | None:
        """Whatever `after_upload` says: the spool is nobody's archive."""
        try:
            await self._threads.run(self._spool.directory, lambda: self._spool.remove(location))
        except OSError as exc:
            path, why = self._spool.path_of(location), exc.strerror or type(exc).__name__
            return NotDisposed(why=f"{path} stays: {why}; give tunerd the right to write in its spool directory")
        return None
