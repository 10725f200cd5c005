"""Which proxy a destination is reached through: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, read once. Pure.

aiohttp's own `trust_env` stays off: it looks things up (netrc, in a thread) for each request.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    url: URL
    """Without user and password."""
    authorization: str | None
    """Value of Proxy-Authorization."""

    def __repr__(self) -> str:
        return f"Proxy({self.url.host}:{self.url.port})"


def proxy_for(target: URL, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL, None for a direct connection. Lower case names win, as with curl.
    Raises ValueError for a proxy that is no http:// or https:// URL."""
    name = f"{target.scheme}_proxy"
    given = _first(environ, name, "all_proxy")
    if not given or target.host is None or _is_excepted(target.host, target.port, _first(environ, "no_proxy")):
        return None
    url = URL(given if "://" in given else f"http://{given}")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{name.upper()} is not an http:// or https:// URL (the proxy's value is not shown)")
    authorization = None
    if url.user is not None:
        authorization = "Basic " + b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return Proxy(url=url.with_user(None).origin(), authorization=authorization)


def _first(environ: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := environ.get(name) or environ.get(name.upper()):
            return value.strip()
    return ""


def _is_excepted(host: str, port: int | None, no_proxy: str) -> bool:
    """NO_PROXY: `*`, names with all that ends in them, addresses, networks; each may have a port behind it."""
    return any(_fits(entry.strip().lower(), host.lower().rstrip("."), port) for entry in no_proxy.split(",") if entry.strip())


def _fits(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.endswith("]")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        suffix = entry.lstrip("*").lstrip(".")
        return bool(suffix) and (host == suffix or host.endswith("." + suffix))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
