"""One upload to a storage, byte for byte on the wire: order of the form, its length, how it may end, and what the outcome says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tunerd.audio.audio_bytes import AudioChanged
from tunerd.clock import SystemClock
from tunerd.delivery.audio_upload import NotStored, StorageUploader, Stored
from tunerd.delivery.upload import open_session
from tunerd.delivery.upload_target import PresignedPost

FIELDS = (("key", "rec/a.wav"), ("X-Amz-Signature", "canary"), ("odd", "ü\r\n--x"))


@dataclass
class Pieces:
    """Audio in memory; `breaks` raises behind the pieces."""

    pieces: list[bytes]
    breaks: bool = False
    turn: asyncio.Event | None = None
    given: list[int] = field(default_factory=list)

    async def size(self) -> int:
        return sum(map(len, self.pieces)) + (5 if self.breaks else 0)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.given.append(len(piece))
            yield piece
        if self.turn is not None:
            await self.turn.wait()
        if self.breaks:
            raise AudioChanged("another file is there")


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def storage(serve: Serve) -> AsyncIterator[PresignedPost]:
    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield PresignedPost(
            url=f"http://127.0.0.1:{port}/b?q=%2F", fields=FIELDS, file_name="a.wav", content_type="audio/wav", expires_at=0.0,
            max_bytes=None,
        )  # fmt: skip


async def read_form(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    return head, await reader.readexactly(length)


async def answer(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:1/\r\n\r\n".encode())
    await writer.drain()


async def upload(target: PresignedPost, audio: Pieces, idle_s: float = 30.0) -> Stored | NotStored:
    async with open_session() as session, asyncio.timeout(20):
        return await StorageUploader(session, {}, SystemClock(), idle_s)(target, audio)


async def test_every_field_goes_first_and_as_it_is_and_the_file_last() -> None:
    """S3 reads the form in order and ignores what follows the file; the request says its length before the body."""
    seen: list[tuple[bytes, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_form(reader))
        await answer(writer, 204)

    async with storage(serve) as target:
        assert await upload(target, Pieces([b"RIFF", b"\0" * 300_000, b"end"])) == Stored()
    ((head, body),) = seen
    assert head.startswith(b"POST /b?q=%2F HTTP/1.1\r\n")
    assert b"chunked" not in head.lower()
    boundary = b"--" + head.split(b"boundary=")[1].split(b"\r\n")[0]
    first, *parts, last = body.split(boundary)
    assert (first, last) == (b"", b"--\r\n")
    names = [part.split(b'name="')[1].split(b'"')[0] for part in parts]
    assert names == [b"key", b"X-Amz-Signature", b"odd", b"file"]
    assert parts[2] == '\r\nContent-Disposition: form-data; name="odd"\r\n\r\nü\r\n--x\r\n'.encode()
    assert parts[3].partition(b"\r\n\r\n")[2] == b"RIFF" + b"\0" * 300_000 + b"end\r\n"


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_what_means_done(status: int) -> None:
    """S3 answers one of these."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_form(reader)
        await answer(writer, status)

    async with storage(serve) as target:
        assert await upload(target, Pieces([b"x"])) == Stored()


@pytest.mark.parametrize("status", [202, 301, 307, 400, 403, 500, 503])
async def test_every_other_answer_is_tried_again(status: int) -> None:
    """A redirect is not followed, and the outcome names the status and nothing else of the answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_form(reader)
        await answer(writer, status)

    async with storage(serve) as target:
        assert await upload(target, Pieces([b"x"])) == NotStored(f"the storage answered {status}")


async def test_an_answer_before_the_end_counts() -> None:
    """S3 refuses a form by its policy and closes, long before it has read 500 MB."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer, 403)

    async with storage(serve) as target:
        result = await upload(target, Pieces([b"\0" * 262_144] * 200))
    assert isinstance(result, NotStored)
    assert result.detail in ("the storage answered 403", "the storage closed the connection before it had answered")


async def test_audio_that_changes_breaks_the_form() -> None:
    """The storage gets less than was announced, and so nothing; the one who uploads learns why."""
    broke_off = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await read_form(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            broke_off.set()

    async with storage(serve) as target:
        with pytest.raises(AudioChanged):
            await upload(target, Pieces([b"x" * 100_000], breaks=True))
        async with asyncio.timeout(10):
            await broke_off.wait()


async def test_a_storage_that_reads_nothing_more_is_given_up() -> None:
    """No byte moves for the idle time: the attempt ends, and is tried again. There is no limit for the whole upload."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with storage(serve) as target:
        result = await upload(target, Pieces([b"\0" * 262_144] * 400), idle_s=0.3)
        release.set()
    assert result == NotStored("nothing moved between tunerd and the storage for 0.3 s")


async def test_a_storage_that_is_not_there() -> None:
    """The words name neither the host nor the URL."""
    target = PresignedPost(
        url="http://127.0.0.1:1/b?X-Amz-Signature=canary", fields=FIELDS, file_name="a", content_type="audio/wav", expires_at=0.0,
        max_bytes=None,
    )  # fmt: skip
    assert await upload(target, Pieces([b"x"])) == NotStored("the storage cannot be reached")
