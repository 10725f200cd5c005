"""One attempt to upload audio to the storage that Tuner named: a multipart form, streamed, every field first and the file last.

What an attempt came to is a value, and says nothing about the destination: a storage that answers 403 pauses no call.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

import aiohttp
from yarl import URL

from tunerd import __version__
from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioUnreadable
from tunerd.clock import Clock
from tunerd.delivery.proxy import proxy_for
from tunerd.delivery.upload_target import PresignedPost
from tunerd.record import positional_record

IDLE_S: Final = 60.0
"""An upload ends when no byte moves for this long. It may take as long as it needs otherwise."""
BYTES_PER_S: Final = 32e6
"""Of all uploads together: 250 Mbit/s."""
BURST_BYTES: Final = 1e6
"""...but for so much after a rest: many recordings are smaller."""
_DONE: Final = frozenset({200, 201, 204})


@positional_record
class Stored:
    """The storage has the audio, all of it."""


@positional_record
class NotStored:
    detail: str
    """In words without anything of the target."""
    hangs: bool = False
    """The storage was not asked: the directory of the audio does not answer."""


class _Pace:
    """How fast all uploads together may go: the event loop copies every byte, and the other calls wait for it meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._never = asyncio.Event()
        self._paid_until = 0.0

    async def pay(self, size: int) -> None:
        """So many bytes were sent: wait until the next may go."""
        now = self._clock.monotonic()
        self._paid_until = max(self._paid_until, now - BURST_BYTES / BYTES_PER_S) + size / BYTES_PER_S
        if self._paid_until > now:
            await self._clock.wait(self._never, self._paid_until - now)


class StorageUploader:
    """Uploads to any target; the destinations share it. `uploader(target, audio)` is one attempt."""

    def __init__(self, session: aiohttp.ClientSession, environ: Mapping[str, str], clock: Clock, idle_s: float = IDLE_S) -> None:
        self._session = session
        self._environ = environ
        self._idle_s = idle_s
        self._pace = _Pace(clock)

    async def __call__(self, target: PresignedPost, audio: AudioBytes) -> Stored | NotStored:
        """Raises AudioChanged and AudioUnreadable, and then the storage did not get it whole. Raises nothing that a server or a
        network can cause."""
        form = _Form(target, await audio.size())
        loop = asyncio.get_running_loop()
        broken: list[AudioChanged | AudioUnreadable] = []
        try:
            async with asyncio.timeout(self._idle_s) as limit:

                async def body() -> AsyncIterator[bytes]:
                    yield form.head
                    async with aclosing(audio.chunks()) as chunks:  # type: ignore[type-var]
                        try:
                            async for chunk in chunks:
                                yield chunk
                                await self._pace.pay(len(chunk))
                                limit.reschedule(loop.time() + self._idle_s)
                        except (AudioChanged, AudioUnreadable) as exc:
                            broken.append(exc)
                            raise
                    yield form.tail

                return await self._post(URL(target.url, encoded=True), body(), form)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if broken:
                raise broken[0] from None
            return NotStored(_words(error, self._idle_s))
        except (AudioChanged, AudioUnreadable):
            raise

    async def _post(self, url: URL, body: AsyncIterator[bytes], form: "_Form") -> Stored | NotStored:
        proxy = proxy_for(url, self._environ)
        async with self._session.post(
            url,
            data=body,
            headers={
                "Content-Type": f"multipart/form-data; boundary={form.boundary}",
                "Content-Length": str(form.length),
                "User-Agent": f"tunerd/{__version__}",
            },
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30.0),
            proxy=proxy.url if proxy else None,
            proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else None,
        ) as response:
            if response.status in _DONE:
                return Stored()
            return NotStored(f"the storage answered {response.status}")


class _Form:
    """What is before and behind the file, and how long all of it is."""

    def __init__(self, target: PresignedPost, size: int) -> None:
        self.boundary = f"tunerd-{secrets.token_hex(16)}"
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
            for name, value in target.fields
        ]
        parts.append(
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="file"; filename="{target.file_name}"\r\n'
            f"Content-Type: {target.content_type}\r\n\r\n"
        )
        self.head = "".join(parts).encode()
        self.tail = f"\r\n--{self.boundary}--\r\n".encode()
        self.length = len(self.head) + size + len(self.tail)


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _words(error: Exception, idle_s: float) -> str:
    """Never the exception's own: it may hold the URL."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "no connection to the storage within 30 s"
    if isinstance(error, TimeoutError):
        return f"nothing moved between tunerd and the storage for {idle_s:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "the certificate of the storage is not trusted"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name of the storage cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "the storage cannot be reached"
    return "the storage closed the connection before it had answered"
