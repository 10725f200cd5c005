"""The HTTP side: /metrics, /healthz, /readyz, /status.json and a plain page with links. Read only; changes nothing.

Whoever connects here may be slow, silent or rude; none of it reaches the delivery beside it.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

from aiohttp import web

from tunerd.ledger import LedgerUnavailable
from tunerd.ops.answers import StatusDocument
from tunerd.ops.doors import Door, descriptor_limit
from tunerd.ops.encoding import encoded
from tunerd.ops.hosts import is_answered

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_CONNECTIONS: Final = 100
"""At a time; fewer where the process may open few files (`most_connections`)."""
KEPT_SHARE: Final = 0.25
"""Of the descriptors that the process may have: the port never takes these, they are for files and uploads."""
_BACKLOG: Final = 16
FIRST_REQUEST_S: Final = 10.0
"""A connection that has not brought one whole request by then is closed."""
IDLE_S: Final = 90.0
"""No request began or ended for so long: closed too (slow readers, half requests)."""
_SWEEP_S: Final = 5.0
_ANSWER_S: Final = 5.0
_PAGE: Final = """<!doctype html><meta charset="utf-8"><title>tunerd</title>
<style>body{{font:16px/1.5 sans-serif;margin:3em auto;max-width:40em;padding:0 1em}}</style>
<h1>tunerd {version}</h1><p>{short}</p><ul>
<li><a href="/status.json">/status.json</a>: where everything stands
<li><a href="/metrics">/metrics</a>: for Prometheus
<li><a href="/healthz">/healthz</a>: does the process make progress?
<li><a href="/readyz">/readyz</a>: is it up?</ul>
<p>On this machine: <code>tunerd status</code>, <code>tunerd failed</code>.</p>
"""


class ListenError(Exception):
    """The address cannot be listened on; one line for an operator."""


class Shown(Protocol):
    def ready(self) -> bool: ...
    def in_short(self) -> str: ...
    async def document(self) -> StatusDocument: ...


class HttpServer:
    """`start` binds and serves until `close`. Everything it shows is asked of what it was given."""

    def __init__(
        self,
        shown: Shown,
        ailment: Callable[[], Awaitable[str | None]],
        render: Callable[[str], tuple[bytes, str]],
        version: str,
        *,
        hosts: Callable[[], Collection[str]] = tuple,
        first_request_s: float = FIRST_REQUEST_S,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        self._shown = shown
        self._ailment = ailment
        self._render = render
        self._version = version
        self._hosts = hosts
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._guard = _Guard(first_request_s, sweep_s)

    async def start(self, listen: str) -> tuple[str, int]:
        """Listen on `host:port` (`[::1]:9464`, `:9464` for every address, port 0 for a free one); gives where.
        Raises ListenError."""
        host, port = split_address(listen)
        app = web.Application(client_max_size=4096, middlewares=[self._guard.middleware])
        app.add_routes([
            web.get("/", self._for_known_hosts(self._page)), web.get("/status.json", self._for_known_hosts(self._status)),
            web.get("/metrics", self._metrics), web.get("/healthz", self._healthz), web.get("/readyz", self._readyz),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, max_line_size=4096, max_field_size=4096,
                                     shutdown_timeout=1.0)  # fmt: skip
        await self._runner.setup()
        serve = self._runner.server
        assert serve is not None  # noqa: S101 - setup() made it
        loop = asyncio.get_running_loop()
        try:
            for door in await _doors(host, port):
                self._servers.append(await loop.create_server(self._guard.around(serve), sock=door, backlog=_BACKLOG))
        except OSError as exc:
            await self.close()
            raise ListenError(_why_not(listen, exc)) from exc
        self._guard.watch()
        name = self._servers[0].sockets[0].getsockname()
        return name[0], name[1]

    async def close(self) -> None:
        self._guard.close()
        for server in self._servers:
            await stop_accepting(server)
        if self._runner is not None:
            await self._runner.cleanup()

    def _for_known_hosts(self, handler: Handler) -> Handler:
        """What stands in the ledger is told under an address, a name of the loopback, or a name of `http.hosts` only."""

        async def handle(request: web.Request) -> web.StreamResponse:
            given = request.headers.getall("Host", [])
            if len(given) == 1 and is_answered(given[0], self._hosts()):
                return await handler(request)
            why = "this host name is not known: ask by an address or as localhost, or add the name to http.hosts"
            return web.Response(body=encoded({"error": why}) + b"\n", status=403, content_type="application/json")

        return handle

    async def _page(self, _: web.Request) -> web.Response:
        text = _PAGE.format(version=self._version, short=_escape(self._shown.in_short()))
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": "default-src 'none'; "
                            "style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"})  # fmt: skip

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        ill = await self._ailment()
        return web.Response(text=f"{ill or 'ok'}\n", status=503 if ill else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._shown.ready()
        return web.Response(text="ok\n" if ready else "not ready: starting or stopping\n", status=200 if ready else 503)

    async def _status(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_ANSWER_S):
                document = await self._shown.document()
        except TimeoutError:
            return _unavailable(f"the ledger did not answer within {_ANSWER_S:g} s")
        except LedgerUnavailable as exc:
            return _unavailable(str(exc))
        body = encoded(document, indent=True) + b"\n"
        return web.Response(body=body, content_type="application/json")


def _unavailable(why: str) -> web.Response:
    return web.Response(body=encoded({"error": why}) + b"\n", status=503, content_type="application/json")


async def stop_accepting(server: asyncio.Server) -> None:
    """Close it, but let a connection that was accepted in this very moment get its protocol first, so that it is closed
    with the others: asyncio fails on one that meets a closed server, and leaves its socket open."""
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        with suppress(RuntimeError, NotImplementedError):  # another loop than asyncio's, with readers of its own
            loop.remove_reader(sock.fileno())
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()


def split_address(listen: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `:port` -> host (empty: every address) and port. Raises ListenError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and host[0] != "["):
        raise ListenError(f"http.listen: {listen!r} is not host:port; write 127.0.0.1:9464, [::1]:9464 or :9464")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _doors(host: str, port: int) -> list[Door]:
    """A bound socket for each address of the host (none: every address of this machine). Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    doors: list[Door] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                door = Door(family, keep=KEPT_SHARE)
            except OSError as exc:
                if exc.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue
                raise
            doors.append(door)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(address)
    except BaseException:
        for door in doors:
            door.close()
        raise
    return doors


def _why_not(listen: str, exc: OSError) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return f"http.listen: {listen} is in use by another process; choose another port, or stop that process"
        case errno.EACCES:
            return f"http.listen: {listen} needs rights that this user lacks; choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"http.listen: {listen} is no address of this machine"
        case _:
            return f"http.listen: cannot listen on {listen}: {exc.strerror or type(exc).__name__}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def most_connections() -> int:
    """An eighth of the descriptors that the process may have, at most MAX_CONNECTIONS."""
    return max(4, min(MAX_CONNECTIONS, descriptor_limit() // 8))


class _Guard:
    """Keeps count of connections: at most so many (the quietest goes), and none that only sits there.

    aiohttp bounds the size of headers, not how long a client may take over them."""

    def __init__(self, first_request_s: float, sweep_s: float) -> None:
        self._first_request_s = first_request_s
        self._sweep_s = sweep_s
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
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
        self._open[transport] = _Connection()

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


class _Connection:
    __slots__ = ("asked", "moved_at")

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self.asked = False


def _abort(transport: asyncio.BaseTransport) -> None:
    if isinstance(transport, asyncio.Transport):
        transport.abort()


class _Guarded(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, and tells the guard when the connection opens and closes."""

    def __init__(self, inner: asyncio.Protocol, guard: _Guard) -> None:
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
