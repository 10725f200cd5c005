"""Which proxy a destination is reached through: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, read once. Pure.

aiohttp's own `trust_env` stays off: it looks things up (netrc, in a thread) for each request.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Mapping

from yarl import URL

from tunerd.config import Config
from tunerd.record import record
from tunerd.yaml_location import ConfigError, Problem, YamlLocation


@record
class Proxy:
    url: URL
    """Without user and password."""
    authorization: str | None
    """Value of Proxy-Authorization."""

    def __repr__(self) -> str:
        return f"Proxy({self.url.host}:{self.url.port})"


def refuse_proxies(config: Config, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if a destination would be reached through a proxy that is not spoken."""
    if problems := proxy_problems(config, environ):
        raise ConfigError(problems)


def proxy_problems(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """A line for each address whose proxy cannot be used."""
    location = config.locations.get("tuner.base_url") or config.locations.get("tuner") or YamlLocation(config.file, 1, 1)
    problems: dict[str, Problem] = {}
    for target in {destination.base_url: URL(destination.base_url) for destination in config.destinations}.values():
        try:
            proxy_for(target, environ)
        except ValueError as exc:
            problems[str(exc)] = Problem(location=location, path="tuner.base_url", message=str(exc))
    return list(problems.values())


def proxy_for(target: URL, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for a URL, None for a direct connection. Lower case names win, as with curl.
    Raises ValueError for a proxy that is no http:// or https:// URL: a line that names the variable, not its value."""
    own = f"{target.scheme}_proxy"
    name, given = _first(environ, own, "all_proxy")
    if not given or target.host is None or _is_excepted(target.host, target.port, _first(environ, "no_proxy")[1]):
        return None
    url = _http_url(given)
    if url is None:
        raise ValueError(
            f"{target.host} would be reached through the proxy of {name} in the environment, which is no http:// or https:// URL "
            f"(SOCKS is not spoken; the value is not shown); set {own.upper()} to an http:// proxy, or NO_PROXY={target.host} "
            "to connect without one"
        )
    authorization = None
    if url.user is not None:
        authorization = "Basic " + b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return Proxy(url=url.with_user(None).origin(), authorization=authorization)


def _http_url(given: str) -> URL | None:
    try:
        url = URL(given if "://" in given else f"http://{given}")
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host else None


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of these variables that is set, as it is written, and its value."""
    for name in names:
        for spelt in (name, name.upper()):
            if value := environ.get(spelt):
                return spelt, value.strip()
    return "", ""


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
