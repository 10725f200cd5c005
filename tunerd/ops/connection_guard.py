"""Bounds on the connections of the HTTP port: how many there are, and how long one may be idle."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from tunerd.ops.listening import descriptor_limit

MAX_CONNECTIONS: Final = 64
"""At the same time; fewer where the process may open few files (`most_connections`)."""
FIRST_REQUEST_S: Final = 10.0
"""A connection that has not sent one whole request by then is closed."""
IDLE_S: Final = 90.0
"""A connection without a new request for this long is closed, too (slow readers, half requests)."""
SWEEP_S: Final = 5.0


def most_connections() -> int:
    """An eighth of the descriptors that the process may have, at most MAX_CONNECTIONS."""
    return max(4, min(MAX_CONNECTIONS, descriptor_limit() // 8))


class ConnectionGuard:
    """Limits the number of connections (the one idle longest is closed for a new one), and closes idle ones.

    aiohttp limits the size of headers, but not the time that a client takes to send them."""

    def __init__(self, first_request_s: float, sweep_s: float) -> None:
        self._first_request_s = first_request_s
        self._sweep_s = sweep_s
        self._open: dict[asyncio.BaseTransport, _ConnectionState] = {}
        self._timer: asyncio.TimerHandle | None = None

    def around(self, factory: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        return lambda: _Guarded(factory(), self)

    def watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def opened(self, transport: asyncio.BaseTransport) -> None:
        if len(self._open) >= most_connections():
            _abort(min(self._open, key=lambda t: self._open[t].moved_at))
        self._open[transport] = _ConnectionState()

    def closed(self, transport: asyncio.BaseTransport) -> None:
        self._open.pop(transport, None)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        connection = self._open.get(request.transport) if request.transport else None
        if connection is not None:
            connection.moved_at = time.monotonic()
            connection.asked = True
        return await handler(request)

    def _sweep(self) -> None:
        now = time.monotonic()
        for transport, connection in list(self._open.items()):
            if now - connection.moved_at > (IDLE_S if connection.asked else self._first_request_s):
                _abort(transport)
        self.watch()


class _ConnectionState:
    __slots__ = ("asked", "moved_at")

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self.asked = False


def _abort(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.Transport):
        transport.abort()


class _Guarded(asyncio.Protocol):
    """Passes everything to aiohttp's protocol, and reports the opening and closing of the connection to the guard."""

    def __init__(self, inner: asyncio.Protocol, guard: ConnectionGuard) -> None:
        self._inner = inner
        self._guard = guard
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._guard.opened(transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._guard.closed(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
