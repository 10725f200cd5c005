"""The HTTP server: /metrics, /healthz, /readyz, /status.json, and a line of text that names them. It reads; it changes nothing.

A client may be slow, silent or hostile: none of that affects delivery.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, Protocol, TypeAlias

from aiohttp import web

from tunerd.ledger import LedgerUnavailable
from tunerd.ops.connection_guard import FIRST_REQUEST_S, SWEEP_S, ConnectionGuard
from tunerd.ops.encoding import encoded
from tunerd.ops.hosts import is_answered
from tunerd.ops.listening import GuardedSocket
from tunerd.ops.probe_pages import probe_pages

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

KEPT_SHARE: Final = 0.25
"""The share of file descriptors that the port never takes: they are for files and uploads."""
_BACKLOG: Final = 16
_ANSWER_S: Final = 5.0


class ListenError(Exception):
    """The address cannot be opened; one line for an operator."""


class StatusPage(Protocol):
    """What is shown."""

    def ready(self) -> bool: ...
    async def document(self) -> object: ...


class HttpServer:
    """`start` binds the address and serves until `close`."""

    def __init__(
        self,
        shown: StatusPage,
        ailment: Callable[[], Awaitable[str | None]],
        render: Callable[[str], tuple[Callable[[], bytes], str]],
        version: str,
        *,
        hosts: Callable[[], Collection[str]] = tuple,
        first_request_s: float = FIRST_REQUEST_S,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._shown = shown
        self._ailment = ailment
        self._render = render
        self._version = version
        self._hosts = hosts
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._guard = ConnectionGuard(first_request_s, sweep_s)

    async def start(self, listen: str) -> tuple[str, int]:
        """Listen on `host:port` (`[::1]:9464`, `:9464` for every address, port 0 for a free one); gives the address and port.
        Raises ListenError."""
        host, port = split_address(listen)
        app = web.Application(client_max_size=4096, middlewares=[self._guard.middleware])
        app.add_routes([
            web.get("/", self._index), web.get("/status.json", self._for_known_hosts(self._status)),
            web.get("/metrics", self._metrics), *probe_pages(self._ailment, self._shown.ready),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0, max_line_size=4096, max_field_size=4096,
                                     shutdown_timeout=1.0)  # fmt: skip
        await self._runner.setup()
        serve = self._runner.server
        assert serve is not None  # noqa: S101 - setup() made it
        loop = asyncio.get_running_loop()
        try:
            for listener in await _listeners(host, port):
                self._servers.append(await loop.create_server(self._guard.around(serve), sock=listener, backlog=_BACKLOG))
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
        """What is in the ledger is shown only under an IP address, a loopback name, or a name in `http.hosts`."""

        async def handle(request: web.Request) -> web.StreamResponse:
            given = request.headers.getall("Host", [])
            if len(given) == 1 and is_answered(given[0], self._hosts()):
                return await handler(request)
            why = "unknown host name: use an IP address or localhost, or add the name to http.hosts"
            return web.Response(body=encoded({"error": why}) + b"\n", status=403, content_type="application/json")

        return handle

    async def _index(self, _: web.Request) -> web.Response:
        paths = "/metrics for Prometheus, /healthz and /readyz for supervisors, /status.json for scripts"
        return web.Response(text=f"tunerd {self._version}: {paths}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        write, content_type = self._render(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(write)  # it takes some milliseconds, which the event loop has better uses for
        return web.Response(body=body, headers={"Content-Type": content_type})

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
    """Close the server, but first give a connection that was accepted at this moment its protocol, so that it is closed with
    the others: asyncio fails on a connection that meets a closed server, and leaves its socket open."""
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


async def _listeners(host: str, port: int) -> list[GuardedSocket]:
    """A bound socket for each address of the host (empty: every address of this machine, IPv4 and IPv6, whichever of the two it
    has). Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[GuardedSocket] = []
    absent: OSError | None = None
    try:
        for family, _, _, _, (name, _, *scope) in dict.fromkeys(found):
            try:
                listeners.append(_bound(family, (name, port, *scope)))
            except OSError as exc:
                if exc.errno != errno.EAFNOSUPPORT and (exc.errno != errno.EADDRNOTAVAIL or family != socket.AF_INET6):
                    raise
                absent = exc  # this machine has no IPv6
            else:
                port = listeners[-1].getsockname()[1]  # port 0: the second family listens on the same port as the first
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if absent is not None and not listeners:
        raise absent
    return listeners


def _bound(family: int, address: tuple[object, ...]) -> GuardedSocket:
    listener = GuardedSocket(family, keep=KEPT_SHARE)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _why_not(listen: str, exc: OSError) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return f"http.listen: {listen} is in use by another process: choose another port, or stop that process"
        case errno.EACCES:
            return f"http.listen: {listen} may not be opened by this user: choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"http.listen: {listen} is not an address of this machine"
        case _:
            return f"http.listen: cannot listen on {listen}: {exc.strerror or type(exc).__name__}"
