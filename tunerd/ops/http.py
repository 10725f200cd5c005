"""An HTTP server on an address, with bounds on what a client may take: one for the scraped port, one for the status page.

A client may be slow, silent or hostile: none of that affects delivery. What the paths answer is in scraped_pages.py and page/.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from tunerd.ops.connection_guard import FIRST_REQUEST_S, SWEEP_S, ConnectionGuard
from tunerd.ops.listening import GuardedSocket

KEPT_SHARE: Final = 0.25
"""The share of file descriptors that the port never takes: they are for files and uploads."""
_BACKLOG: Final = 16
_MAX_BODY_BYTES: Final = 16 * 1024


class ListenError(Exception):
    """The address cannot be opened; one line for an operator."""


class HttpServer:
    """`start` binds the address and serves until `close`."""

    def __init__(
        self,
        routes: Sequence[web.RouteDef],
        *,
        key: str = "http.listen",
        middlewares: Sequence[Middleware] = (),
        first_request_s: float = FIRST_REQUEST_S,
        sweep_s: float = SWEEP_S,
    ) -> None:
        """`key`: of the configuration, for messages about the address."""
        self._routes = routes
        self._key = key
        self._middlewares = middlewares
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._guard = ConnectionGuard(first_request_s, sweep_s)

    async def start(self, listen: str) -> tuple[str, int]:
        """Listen on `host:port` (`[::1]:9464`, `:9464` for every address, port 0 for a free one); gives the address and port.
        Raises ListenError."""
        host, port = split_address(listen, self._key)
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._guard.middleware, *self._middlewares])
        app.add_routes(self._routes)
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
            raise ListenError(f"{self._key}: {_why_not(listen, exc)}") from exc
        self._guard.watch()
        name = self._servers[0].sockets[0].getsockname()
        return name[0], name[1]

    async def close(self) -> None:
        self._guard.close()
        for server in self._servers:
            await stop_accepting(server)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        bound = [sock.getsockname()[0] for server in self._servers for sock in server.sockets]
        # Without a socket the port is being closed, and requests that have already arrived are still answered.
        return bool(bound) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in bound)


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


def split_address(listen: str, key: str = "http.listen") -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `:port` -> host (empty: every address) and port. Raises ListenError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and host[0] != "["):
        raise ListenError(f"{key}: {listen!r} is not host:port; write 127.0.0.1:9464, [::1]:9464 or :9464")
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
            return f"{listen} is in use by another process: choose another port, or stop that process"
        case errno.EACCES:
            return f"{listen} may not be opened by this user: choose a port above 1023"
        case errno.EADDRNOTAVAIL:
            return f"{listen} is not an address of this machine"
        case _:
            return f"cannot listen on {listen}: {exc.strerror or type(exc).__name__}"
