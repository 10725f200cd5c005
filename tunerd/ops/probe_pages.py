"""`/healthz` and `/readyz`: the http port and the control socket serve them alike."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web


def probe_pages(ailment: Callable[[], Awaitable[str | None]], ready: Callable[[], bool]) -> Sequence[web.RouteDef]:
    """`ailment`: why the process should be restarted; None: it is healthy."""

    async def healthz(_: web.Request) -> web.Response:
        ill = await ailment()
        return web.Response(text=f"{ill or 'ok'}\n", status=503 if ill else 200)

    async def readyz(_: web.Request) -> web.Response:
        is_ready = ready()
        return web.Response(text="ok\n" if is_ready else "not ready: starting or stopping\n", status=200 if is_ready else 503)

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]
