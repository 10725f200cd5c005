"""The control socket: HTTP and JSON over a Unix socket that only the daemon's own user may open. The server side;
client.py is the other end, protocol.py what both know. Its routes are made from the table of orders (api.py).
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

from aiohttp import web

from tunerd.admin.api import ORDERS, Admin, Order, OrderRefused
from tunerd.admin.protocol import ControlError, socket_places
from tunerd.admin.socket_names import BOUND_AS, address_of
from tunerd.admin.typed_json import from_json
from tunerd.ledger import LedgerUnavailable
from tunerd.ops.encoding import decoded, encoded
from tunerd.ops.http import stop_accepting
from tunerd.ops.listening import GuardedSocket
from tunerd.record import record

_MAX_BODY_BYTES: Final = 1024 * 1024


@record
class SocketPlaces:
    """Where a daemon may listen."""

    ledger: str
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    configured: str | None = None
    """The key `control_socket`: only there."""
    refused: Callable[[str], None] = lambda _: None
    """Told why a place could not be used, where another one is used instead."""


@asynccontextmanager
async def serve_orders(service: Admin, places: SocketPlaces, pages: Sequence[web.RouteDef] = ()) -> AsyncIterator[Path]:
    """Serve orders, and `pages` beside them, while open; gives the socket's path. Call it only while holding the ledger: it
    replaces a socket that a dead daemon left. Raises ControlError where no place can be used."""
    *places_of_daemon, _ = socket_places(places.ledger, places.env)
    beside = places_of_daemon[-1]
    runner = web.AppRunner(_app(service, pages), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        path, sock = _listen_at_first([Path(places.configured)] if places.configured else places_of_daemon, places.refused)
        mine = path.stat()
        linked = path != beside and _link(beside, path)
        serve = runner.server
        assert serve is not None  # noqa: S101 - setup() made it
        server = await asyncio.get_running_loop().create_unix_server(serve, sock=sock)
        try:
            yield path
        finally:
            await stop_accepting(server)
            with suppress(OSError):
                if os.path.samestat(path.stat(), mine):
                    path.unlink()
                    if linked:
                        beside.unlink()
    finally:
        await runner.cleanup()


def _listen_at_first(places: Sequence[Path], refused: Callable[[str], None]) -> tuple[Path, socket.socket]:
    """Listen at the first of the places that can be used."""
    whys: list[str] = []
    for path in places:
        try:
            sock = _listen(path)
        except ControlError as exc:
            whys.append(str(exc))
            continue
        for why in whys:
            refused(f"{why}; it is {path} instead")
        return path, sock
    raise ControlError("; ".join(whys))


def _listen(path: Path) -> socket.socket:
    """Bind under another name, make it private, listen, and only then rename it into place: nobody ever finds a socket with
    wrong permissions, or one that does not answer."""
    fresh = path.with_name(f"{BOUND_AS}{os.getpid()}")
    sock = GuardedSocket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()
        with address_of(str(fresh)) as address:
            sock.bind(address)
        fresh.chmod(0o600)
        sock.listen(16)
        sock.setblocking(False)
        fresh.replace(path)
    except OSError as exc:
        sock.close()
        with suppress(OSError):
            fresh.unlink()
        raise ControlError(f"cannot open the control socket {path}: {exc.strerror or exc}") from exc
    return sock


def _link(beside: Path, path: Path) -> bool:
    """A command does not know the service's RUNTIME_DIRECTORY; it looks beside the ledger."""
    try:
        with suppress(FileNotFoundError):
            beside.unlink()
        beside.symlink_to(path)
    except OSError:
        return False
    return True


def _app(service: Admin, pages: Sequence[web.RouteDef]) -> web.Application:
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.add_routes(pages)
    for order in ORDERS:
        app.router.add_post(f"/v1/{order.name}", _handler(service, order, _from_body))
        if not order.changes:
            app.router.add_get(f"/v1/{order.name}", _handler(service, order, _from_query))
    return app


def _handler(
    service: Admin, kind: type[Order[Any]], arguments: Callable[[web.Request, type[Order[Any]]], Awaitable[object]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answers in JSON; an error is `{"error": one line}`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer: object
        try:
            status, answer = 200, await service.ask(_order(kind, await arguments(request, kind)))
        except OrderRefused as exc:
            status, answer = 400, {"error": str(exc)}
        except LedgerUnavailable as exc:
            status, answer = 503, {"error": f"the ledger cannot be written now: {exc}"}
        return web.Response(body=encoded(answer, exact=True), status=status, content_type="application/json")

    return handle


def _order(kind: type[Order[Any]], arguments: object) -> Order[Any]:
    try:
        return from_json(kind, arguments)
    except ValueError as exc:
        raise OrderRefused(str(exc)) from exc


async def _from_body(request: web.Request, _: type[Order[Any]]) -> object:
    try:
        return decoded(await request.read() or b"{}")
    except JSONDecodeError as exc:
        raise OrderRefused("the request is not JSON") from exc


async def _from_query(request: web.Request, kind: type[Order[Any]]) -> object:
    hints = get_type_hints(kind)
    found: dict[str, object] = {}
    for name in request.query:
        texts = request.query.getall(name)
        found[name] = texts if get_origin(hints.get(name)) is frozenset else _scalar(texts[0], hints.get(name))
    return found


def _scalar(text: str, kind: Any) -> object:
    if kind is str or str in get_args(kind):
        return text
    words = {"true": True, "false": False, "any": None}
    try:
        return words[text] if text in words else json.loads(text)
    except ValueError:
        return text  # from_json says what it must be
