"""Asks the host of a recording's URL for the first byte (`verify: get`). One request: without redirects, cookies or credentials,
directly and not through a proxy, to an address that was looked up once and may be asked.
"""

import asyncio
import contextlib
import ipaddress
import socket
import string
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tunerd import __version__
from tunerd.config import AllowedHosts
from tunerd.location import host_of
from tunerd.record import positional_record

TIMEOUT_S: Final = 10.0
_THREADS: Final = 16
_ASCII: Final = string.punctuation
"""Stays as it is; all other characters than these, letters and digits are escaped."""
_EMPTY: Final = 416
_REFUSES_CREDENTIALS: Final = (401, 407)

Lookup = Callable[[str, int], Sequence[str]]
"""The addresses of a host, in the order in which they are tried (blocking). Raises OSError."""


class UrlAnswer(StrEnum):
    """What came of asking. Closed: a metric label."""

    THERE = "there"
    ABSENT = "absent"
    """The host answered, and has no recording there (yet)."""
    UNREACHABLE = "unreachable"
    """It did not answer, or not as itself: all of its URLs would fare alike."""
    REFUSED = "refused"
    """Its address is private, and `verify.allow` does not name it: it was not asked."""


@positional_record
class UrlFinding:
    found: UrlAnswer
    detail: str = ""
    """Why it is not there, without anything of the URL but its host."""


class UrlAsker:
    """For all sources. `change` says which hosts the documents of each may have asked."""

    def __init__(self, lookup: Lookup | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._lookup = lookup or _addresses
        self._timeout_s = timeout_s
        self._allowed: dict[str, AllowedHosts] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "tunerd-names")
        """Of its own: names that are not answered keep them, and in the loop's threads the hosts of destinations are resolved."""

    def change(self, allow: Mapping[str, Sequence[str]]) -> None:
        """At a start and at a reload: `verify.allow` of each source."""
        self._allowed = {source: AllowedHosts.parse(texts) for source, texts in allow.items()}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, url: str, source: str) -> UrlFinding:
        """Raises nothing that a document, a host or a network can cause."""
        host, port = host_of(url)
        try:
            target = _target(url)
            host = target.raw_host or ""
            async with asyncio.timeout(self._timeout_s):
                known = await self._addresses_of(host, port)
                addresses = [one for one in known if self._allowed.get(source, AllowedHosts()).permit(host, one)]
                if not addresses:
                    what = f"{host} is {known[0] if known else 'no address'}, which is not public"
                    return UrlFinding(UrlAnswer.REFUSED, f"{what}: if it may be asked, name it under `verify.allow`")
                return await _ask(target, _FixedAddresses(addresses))
        except TimeoutError:
            return UrlFinding(UrlAnswer.UNREACHABLE, f"{host} did not answer within {self._timeout_s:g} s")
        except socket.gaierror:
            return UrlFinding(UrlAnswer.UNREACHABLE, f"the name {host} cannot be resolved")
        except aiohttp.ClientConnectorCertificateError:
            return UrlFinding(UrlAnswer.UNREACHABLE, f"the certificate of {host} is not trusted")
        except (aiohttp.ClientError, OSError, ValueError):
            return UrlFinding(UrlAnswer.UNREACHABLE, f"{host} cannot be reached, or did not answer as HTTP asks for")

    async def _addresses_of(self, host: str, port: int) -> Sequence[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port)


def _target(url: str) -> URL:
    """What is asked: the host by its name in the DNS, no user, and nothing escaped twice. Raises ValueError if the host can be no
    name."""
    parts, (name, port) = urlsplit(url), host_of(url)
    host = URL.build(scheme=parts.scheme, host=name).raw_host or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = f"[{host}]" if ":" in host else host
    return URL(f"{parts.scheme}://{authority}:{port}{quote(target, safe=_ASCII)}", encoded=True)


def _addresses(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


class _FixedAddresses(AbstractResolver):
    """The addresses that were looked at: whatever the name means a moment later, these are connected to."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=one, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
            )
            for one in self._addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """There is nothing to close."""


async def _ask(target: URL, resolver: AbstractResolver) -> UrlFinding:
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
    ) as session:
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity", "User-Agent": f"tunerd/{__version__}"}
        async with session.get(target, headers=headers, allow_redirects=False) as response:
            if response.status in (200, 206):
                if await response.content.read(1):
                    return UrlFinding(UrlAnswer.THERE)
                return UrlFinding(UrlAnswer.ABSENT, f"{target.raw_host} has an empty file there")
            return _answer(str(target.raw_host), response.status)


def _answer(host: str, status: int) -> UrlFinding:
    said = f"{host} answered {status}"
    if status >= 500 or status == 429:
        return UrlFinding(UrlAnswer.UNREACHABLE, said)
    if 300 <= status < 400:
        return UrlFinding(UrlAnswer.ABSENT, f"{said}, a redirect, which is not followed: let the rule give the final URL")
    if status in _REFUSES_CREDENTIALS:
        return UrlFinding(UrlAnswer.ABSENT, f"{said}: it asks for credentials, and Tuner has none either")
    if status == _EMPTY:
        return UrlFinding(UrlAnswer.ABSENT, f"{host} has an empty file there")
    return UrlFinding(UrlAnswer.ABSENT, said)
