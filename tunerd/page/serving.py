"""Opens the port of the status page, if the configuration has one."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from tunerd import __version__
from tunerd.admin.api import Admin
from tunerd.config import Config
from tunerd.ops.http import HttpServer, ListenError
from tunerd.ops.log_writer import LogWriter
from tunerd.page.doorkeeper import SiteSettings
from tunerd.page.site import Site


async def serve_page(admin: Admin, config: Callable[[], Config], log: LogWriter, stack: AsyncExitStack) -> str:
    """Serve until the stack unwinds; gives the address, empty if there is none. `config`: the one in force. Raises ListenError
    for an address that was configured; where the default one is taken, tunerd runs without the page."""
    listen = config().http.admin_listen
    if not listen:
        return ""
    server: HttpServer
    settings = SiteSettings(
        version=__version__,
        hosts=lambda: config().http.hosts,
        token_file=lambda: config().http.admin_token_file,
        is_on_loopback=lambda: server.is_on_loopback,
    )
    site = Site(admin, settings)
    server = HttpServer(site.routes(), key="http.admin_listen", middlewares=[site.middleware])
    try:
        host, port = await server.start(listen)
    except ListenError as exc:
        if "http.admin_listen" in config().locations:
            raise
        log.warning("running without the status page", detail=str(exc), hint="set http.admin_listen: to another address, or null")
        return ""
    stack.push_async_callback(server.close)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    log.info("status page", address=address, url=f"http://{address}/")
    return address
