"""What the scraped port answers, under any host name: /metrics, /healthz, /readyz, and a line of text at /. Nothing of a call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from tunerd.ops.probe_pages import probe_pages

_MOVED = "The status page and /status.json are on the address of http.admin_listen"


def scraped_pages(
    render: Callable[[str], tuple[Callable[[], bytes], str]],
    ailment: Callable[[], Awaitable[str | None]],
    ready: Callable[[], bool],
    version: str,
    admin_address: str,
) -> Sequence[web.RouteDef]:
    """`render`: for an Accept header, what writes the metrics in its format, and the content type. `admin_address`: where the
    status page is; empty: there is none."""

    where = f"{_MOVED}, {admin_address}." if admin_address else f"{_MOVED}, which is not open."

    async def root(_: web.Request) -> web.Response:
        return web.Response(text=f"tunerd {version}: /metrics, /healthz and /readyz are here. {where}\n")

    async def moved(_: web.Request) -> web.Response:
        return web.Response(text=f"{where}\n", status=404)

    async def metrics(request: web.Request) -> web.Response:
        write, content_type = render(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(write)  # it takes some milliseconds, which the event loop has better uses for
        return web.Response(body=body, headers={"Content-Type": content_type})

    return [web.get("/", root), web.get("/status.json", moved), web.get("/metrics", metrics), *probe_pages(ailment, ready)]
