"""The control socket: HTTP and JSON over a Unix socket that only the daemon's own user may open. The server side;
client.py is the other end, wire.py what both know.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Final

from aiohttp import web

from tunerd.ledger import LedgerUnavailable
from tunerd.ops.doors import Door
from tunerd.ops.encoding import decoded, encoded
from tunerd.ops.http import stop_accepting
from tunerd.ops.office import Operations, OrderRefused
from tunerd.ops.wire import BOUND_AS, LISTS, ControlError, address_of, choice_of, socket_places

_MAX_BODY_BYTES: Final = 1024 * 1024


@asynccontextmanager
async def serve_control(operations: Operations, ledger: str, env: Mapping[str, str] = os.environ) -> AsyncIterator[Path]:
    """Serve while open; gives the socket's path. Call it only while holding the ledger: a socket that a dead daemon
    left is replaced. Raises ControlError."""
    path, beside = socket_places(ledger, env)[:2]
    runner = web.AppRunner(_app(operations), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        sock = _listen(path)
        mine = path.stat()
        linked = env.get("RUNTIME_DIRECTORY") and _link(beside, path)
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


def _listen(path: Path) -> socket.socket:
    """Bound under another name, made private, listening, and only then renamed into place: nobody ever finds a socket
    with wrong rights, or one that does not answer."""
    fresh = path.with_name(f"{BOUND_AS}{os.getpid()}")
    sock = Door(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            fresh.unlink()
        with address_of(fresh) as address:
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


def _app(operations: Operations) -> web.Application:
    async def status(_: web.Request) -> object:
        return await operations.status()

    async def idle(_: web.Request) -> object:
        return await operations.idle()

    async def calls(request: web.Request) -> object:
        query = request.query
        asked: dict[str, object] = {name: query.getall(name) for name in LISTS if name in query}
        asked |= {name: query[name] for name in ("path",) if name in query}
        for name in ("offset", "since"):
            if name in query:
                asked[name] = _number(query[name], name)
        if "dismissed" in query:
            asked["dismissed"] = {"true": True, "false": False, "any": None}.get(query["dismissed"], "")
        limit, after_row = (
            int(_number(query.get("limit", "100"), "limit")),
            int(_number(query.get("after_row", "0"), "after_row")),
        )
        return await operations.calls(choice_of(asked), after_row=after_row, limit=limit, newest=query.get("newest") == "true")

    async def calls_of_many(request: web.Request) -> object:
        asked = await _body(request)
        after_row, limit, newest = asked.pop("after_row", 0), asked.pop("limit", 100), asked.pop("newest", False)
        if not isinstance(after_row, int) or not isinstance(limit, int):
            raise OrderRefused("after_row and limit must be whole numbers")
        return await operations.calls(choice_of(asked), after_row=after_row, limit=limit, newest=newest is True)

    async def story(request: web.Request) -> object:
        return await operations.story(_call_id(request.query))

    async def documents(request: web.Request) -> object:
        limit = int(_number(request.query.get("limit", "100"), "limit"))
        after_row = int(_number(request.query.get("after_row", "0"), "after_row"))
        return await operations.documents(after_row=after_row, limit=limit)

    async def order(request: web.Request) -> object:
        asked = await _body(request)
        after_row = asked.pop("after_row", 0)
        if not isinstance(after_row, int):
            raise OrderRefused("after_row must be a whole number")
        do = {"retry": operations.retry, "remap": operations.remap, "dismiss": operations.dismiss}[request.match_info["order"]]
        return await do(choice_of(asked), after_row=after_row)

    async def forget(request: web.Request) -> object:
        return await operations.forget(_call_id(await _body(request)))

    async def gate(request: web.Request) -> object:
        name = (await _body(request)).get("destination")
        if name is not None and not isinstance(name, str):
            raise OrderRefused("destination must be a text")
        do = {"pause": operations.pause, "resume": operations.resume}[request.match_info["order"]]
        return {"version": 1, "destinations": list(await do(name))}

    async def reload(_: web.Request) -> object:
        return {"version": 1, "problems": list(await operations.reload())}

    async def look(_: web.Request) -> object:
        return {"version": 1, "look": await operations.look()}

    async def configuration(_: web.Request) -> object:
        return await operations.configuration()

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.add_routes([
        web.get("/v1/status", _json(status)),
        web.get("/v1/idle", _json(idle)),
        web.get("/v1/calls", _json(calls)),
        web.post("/v1/calls", _json(calls_of_many)),
        web.get("/v1/story", _json(story)),
        web.get("/v1/documents", _json(documents)),
        web.post("/v1/{order:retry|remap|dismiss}", _json(order)),
        web.post("/v1/forget", _json(forget)),
        web.post("/v1/{order:pause|resume}", _json(gate)),
        web.post("/v1/reload", _json(reload)),
        web.post("/v1/look", _json(look)),
        web.get("/v1/configuration", _json(configuration)),
    ])  # fmt: skip
    return app


def _json(
    handler: Callable[[web.Request], Awaitable[object]],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answers in JSON; what goes wrong is `{"error": one line}`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            status, answer = 200, await handler(request)
        except OrderRefused as exc:
            status, answer = 400, {"error": str(exc)}
        except LedgerUnavailable as exc:
            status, answer = 503, {"error": f"the ledger cannot be written now: {exc}"}
        return web.Response(body=encoded(answer, exact=True), status=status, content_type="application/json")

    return handle


async def _body(request: web.Request) -> dict[str, object]:
    raw = await request.read()
    try:
        body = decoded(raw or b"{}")
    except JSONDecodeError as exc:
        raise OrderRefused("the request is not JSON") from exc
    if not isinstance(body, dict):
        raise OrderRefused("the request is not a JSON object")
    return body


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise OrderRefused(f"{name} must be a number") from exc


def _call_id(asked: Mapping[str, object]) -> str:
    call_id = asked.get("call_id")
    if not isinstance(call_id, str) or not call_id:
        raise OrderRefused("call_id is missing")
    return call_id
