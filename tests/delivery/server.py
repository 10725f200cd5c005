"""A real HTTP server on a real socket that answers as it is told, byte by byte where that matters."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import orjson

OK = b'{"success": true, "callId": "x", "tunerCallId": "tc_1", "message": "Call data received successfully."}'


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def call_id(self) -> str:
        return str(orjson.loads(self.body)["call_id"])


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = OK
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """These bytes, and then the connection ends."""

    content: bytes


class Hang:
    """No answer until the server closes."""


Answer = Reply | Raw | Hang
Behaviour = Callable[[Request], Answer | Awaitable[Answer]]


class Server:
    """`answers` are given in order, the last one for ever; or `behave` decides. `requests` is what came."""

    def __init__(self, *answers: Answer, behave: Behaviour | None = None) -> None:
        self.answers = list(answers) or [Reply()]
        self.behave = behave
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.port = 0
        self._at_once = 0
        self.connections = 0
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call_ids(self) -> list[str]:
        return [request.call_id for request in self.requests]

    async def arrived(self, count: int) -> list[Request]:
        """Wait until so many requests came; TimeoutError after 10 s."""
        async with asyncio.timeout(10):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while (request := await _read(reader, number)) is not None:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                self.requests.append(request)
                self._arrived.set()
                answer = self.behave(request) if self.behave else self._next()
                if not isinstance(answer, Reply | Raw | Hang):
                    answer = await answer
                self._at_once -= 1
                if isinstance(answer, Hang):
                    await self._closing.wait()
                    return
                if isinstance(answer, Raw):
                    writer.write(answer.content)
                    await writer.drain()
                    return
                headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}
                head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(f"HTTP/1.1 {answer.status} Told\r\n{head}\r\n".encode() + answer.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    def _next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def close(self) -> None:
        self._closing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, connection: int) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    line, *rest = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest if row)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    return Request(method, parts.path or target, parse_qs(parts.query), headers, body, connection)


@asynccontextmanager
async def serving(*answers: Answer, behave: Behaviour | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """The server, listening until the end of the block."""
    server = Server(*answers, behave=behave)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, limit=8 * 1024 * 1024)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.close()
