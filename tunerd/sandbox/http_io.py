"""The sandbox's part of HTTP: reading a request, answering it, cutting a connection. What is answered is decided elsewhere."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from tunerd.sandbox.accounts import CallRequest, Response, credentials, error
from tunerd.sandbox.faults import Hang, HoldAnswer, LoseAnswer, Planned, Reset


class Listener(web.Server):
    """Tells of each connection that is opened; and a client that leaves cancels its handler."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], on_connection: Callable[[], None]
    ) -> None:
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._on_connection = on_connection

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._on_connection()
        super().connection_made(handler, transport)


def asked_by(request: web.BaseRequest) -> CallRequest:
    """What Tuner looks at of a POST, but its body."""
    form, key = credentials(request.headers)
    return CallRequest(
        form=form,
        key=key,
        workspace=request.query.get("workspace_id", ""),
        agent=request.query.get("agent_remote_identifier", ""),
        content_type=request.content_type,
    )


async def read_body(request: web.BaseRequest, most_bytes: int) -> tuple[bytes, Response | None]:
    """The body, decompressed; with the end of the request where it could not be read."""
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await request.content.readany():
            size += len(chunk)
            if size > most_bytes:
                why = error(f"the body is longer than {most_bytes} bytes")
                return b"", Response(413, "too large", why, headers={"Connection": "close"})
            chunks.append(chunk)
    except (ContentEncodingError, web.RequestPayloadError):
        return b"", Response(400, "refused", error("the body does not fit its Content-Encoding"))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks), None


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json", headers=headers)


def html_response(text: str) -> web.Response:
    """A page that loads nothing, runs nothing, and plays audio of this server only."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'"
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
    return web.Response(text=text, content_type="text/html", headers=headers)


async def carry_out(request: web.BaseRequest, planned: Planned, end: Response) -> web.StreamResponse:
    """Answer with `end`, or do what is planned instead."""
    match planned:
        case Hang(until):
            await (until or asyncio.Event()).wait()
            return _dropped(request)
        case LoseAnswer():
            return _dropped(request)
        case Reset():
            return _dropped(request, reset=True)
        case HoldAnswer(release):
            await release.wait()
        case _:
            pass
    if end.status in (204, 304):
        return web.Response(status=end.status, headers=end.headers)
    return web.Response(status=end.status, body=end.body, headers={**(end.headers or {}), "Content-Type": end.content_type})


def _dropped(request: web.BaseRequest, *, reset: bool = False) -> web.Response:
    """Ends the connection without a byte; the response given goes nowhere."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()
