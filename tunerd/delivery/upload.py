"""Exactly one HTTP attempt, as a value. The only module that knows aiohttp: its exceptions end here, in one mapping.

What an answer means is retry.py's. Nothing is sent again in here: a kept-alive connection that the server closes under
a request is an ordinary Retry, because nothing tells whether the request was processed, and send-calls would store it
twice.
"""

import asyncio
import errno
import gzip
import io
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tunerd import __version__
from tunerd.call import Form
from tunerd.clock import Clock
from tunerd.config import Delivery, Destination
from tunerd.delivery.decoding import ANSWER_BYTES, TOO_LONG, decode
from tunerd.delivery.key import Key
from tunerd.delivery.ports import MayNotSend
from tunerd.delivery.proxy import proxy_for
from tunerd.delivery.retry import HttpAnswer, judge
from tunerd.ledger import ALONE, Claimed, Fleet
from tunerd.outcome import Outcome, PauseReason, Refused, Retry, RetryReason, Scope

_PATH: Final = "/api/v1/public/call"
_LARGE_BODY: Final = 256 * 1024
_URLS_KEPT: Final = 1000
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


class NoAnswer(Exception):
    """No HTTP answer came; `outcome` says why, and what of it."""

    def __init__(self, outcome: Retry | Refused) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


@asynccontextmanager
async def open_session(timeout_s: float = 30.0, *, asks: bool = False) -> AsyncIterator[aiohttp.ClientSession]:
    """The one session that all destinations share: keep-alive, no cookies, nothing from the environment. The number of
    connections is bounded by the workers. Closes its connections at the end. `asks`: a request may have a condition, which is
    asked when its connection is there, before its first byte."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        trace_configs=[_asking()] if asks else None,
    ) as session:
        yield session


def _asking() -> aiohttp.TraceConfig:
    """aiohttp calls this before it writes the headers: an exception ends the request, and its connection."""

    async def ask(_: aiohttp.ClientSession, request: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams) -> None:
        if not request.trace_request_ctx():
            raise MayNotSend

    config = aiohttp.TraceConfig()
    config.on_request_headers_sent.append(ask)
    return config


class Uploader:
    """Posts the calls of one destination. `uploader(claimed)` is one attempt."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        destination: Destination,
        key: Key,
        settings: Delivery,
        clock: Clock,
        environ: Mapping[str, str],
        fleet: Fleet = ALONE,
    ) -> None:
        """Raises ValueError for a proxy that is no URL. A CA file that cannot be read is no error here: every attempt
        ends as Retry(tls) until a reload finds it. With a shared `fleet`, `session` is one that asks."""
        self._session = session
        self._fleet = fleet
        self._key = key
        self._clock = clock
        self._compress = settings.compress
        self._retry_after_max_s = settings.retry_after_max_s
        self._accept_any = settings.accept == "any"
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_s)
        self._timeout_s = settings.timeout_s
        self._target = URL(destination.base_url.rstrip("/") + _PATH)
        self._host = f"{self._target.host}:{self._target.port}"
        self._workspace = str(destination.workspace_id)
        self._proxy = proxy_for(self._target, environ)
        self._proxy_headers: dict[str, str] = {}
        if self._proxy and self._proxy.authorization:
            self._proxy_headers["Proxy-Authorization"] = self._proxy.authorization
        self._tls, self._no_tls = _trust(destination.ca_file)
        self._urls: dict[str, URL] = {}
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._headers_for: tuple[str | None, Form] = (None, Form.SEND_CALLS)

    async def __call__(self, claimed: Claimed) -> Outcome:
        """One attempt. Raises nothing that an HTTP server, a network or a proxy can cause; raises MayNotSend."""
        may_send = partial(self._fleet.may_send, claimed.lease) if self._fleet.is_shared else None
        try:
            answer = await self.post(claimed.body, claimed.agent, claimed.form, may_send)
        except NoAnswer as error:
            return error.outcome
        return self.judge(answer)

    def judge(self, answer: HttpAnswer) -> Outcome:
        """What the answer means, under the settings of `delivery:`."""
        return judge(answer, now=self._clock.now(), retry_after_max_s=self._retry_after_max_s, accept_any=self._accept_any)

    async def post(self, body: bytes, agent: str, form: Form, may_send: Callable[[], bool] | None = None) -> HttpAnswer:
        """One attempt, as the answer itself (`tunerd send` and `check --online` show it). Raises NoAnswer, and MayNotSend."""
        if self._no_tls:
            raise NoAnswer(_retry(RetryReason.TLS, self._no_tls, sure=True))
        if self._key.value is None:
            raise NoAnswer(_refused(PauseReason.AUTH, 401, self._key.missing))
        if self._compress:
            body = await asyncio.to_thread(_gzip, body) if len(body) > _LARGE_BODY else _gzip(body)
        try:
            async with self._session.post(
                self._url(agent),
                data=io.BytesIO(body) if len(body) > _LARGE_BODY else body,
                headers=self._headers_of(self._key.value, form),
                allow_redirects=False,
                timeout=self._timeout,
                ssl=self._tls,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy_headers if self._proxy else None,
                trace_request_ctx=may_send,
            ) as response:
                content, unread = await _read(response)
                return HttpAnswer(
                    status=response.status,
                    body=content,
                    unread=unread,
                    retry_after=",".join(response.headers.getall("Retry-After", ())) or None,
                    date=response.headers.get("Date"),
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            raise NoAnswer(self._translate(error)) from error

    def _url(self, agent: str) -> URL:
        url = self._urls.get(agent)
        if url is None:
            if len(self._urls) >= _URLS_KEPT:
                self._urls.clear()
            url = self._target.with_query(workspace_id=self._workspace, agent_remote_identifier=agent)
            self._urls[agent] = url
        return url

    def _headers_of(self, key: str, form: Form) -> CIMultiDict[str]:
        if self._headers_for != (key, form):
            headers = CIMultiDict({"Content-Type": "application/json", "User-Agent": f"tunerd/{__version__}"})
            headers["Accept"] = "application/json"
            headers["Accept-Encoding"] = "identity"
            if self._compress:
                headers["Content-Encoding"] = "gzip"
            if form is Form.SEND_CALLS:
                headers["X-API-Key"] = key
            else:
                headers["Authorization"] = f"Bearer {key}"
            if self._proxy_headers and self._target.scheme == "http":
                headers.update(self._proxy_headers)
            self._headers, self._headers_for = headers, (key, form)
        return self._headers

    def _translate(self, error: Exception) -> Retry | Refused:
        """Every way in which no answer can come. Details are our own words: an exception's may hold the URL."""
        host = self._host
        if _is_local(error):
            detail = f"no file descriptor is left for a connection to {host}: raise LimitNOFILE (ulimit -n) of this process"
            return _refused(PauseReason.LOCAL, 0, detail)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            if 400 <= error.status < 500:
                detail = f"the proxy answered {error.status} instead of connecting to {host}: check HTTPS_PROXY"
                return _refused(PauseReason.ENDPOINT, error.status, detail)
            return _retry(RetryReason.UNREACHABLE, f"the proxy could not connect to {host} ({error.status})", sure=True)
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            what = getattr(error.certificate_error, "verify_message", "") or "not valid"
            return _retry(RetryReason.TLS, f"the certificate of {host} is not trusted: {what}; see tuner.ca_file", sure=True)
        if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ServerFingerprintMismatch):
            return _retry(RetryReason.TLS, f"no TLS connection to {host}", sure=isinstance(error, aiohttp.ClientSSLError))
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return _retry(RetryReason.TIMEOUT, f"no connection to {host} within {self._timeout_s:g} s", sure=True)
        if isinstance(error, TimeoutError):
            return _retry(RetryReason.TIMEOUT, f"no answer from {host} within {self._timeout_s:g} s", sure=False)
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return _retry(RetryReason.UNREACHABLE, f"the proxy cannot be reached ({_why(error)})", sure=True)
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return _retry(RetryReason.UNREACHABLE, f"the name of {host} cannot be resolved", sure=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            return _retry(RetryReason.UNREACHABLE, f"{host} cannot be reached ({_why(error)})", sure=True)
        if isinstance(error, aiohttp.ClientResponseError):
            return _retry(RetryReason.BAD_ANSWER, f"{host} does not answer in HTTP", sure=False)
        if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            return _retry(RetryReason.UNREACHABLE, f"{host} closed the connection before its answer was complete", sure=False)
        detail = f"no request can be made for this base_url or proxy ({type(error).__name__})"
        return _refused(PauseReason.ENDPOINT, 0, detail)


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, str]:
    """The body, decompressed, up to ANSWER_BYTES; and why that is not all of it. A longer one costs its connection."""
    parts: list[bytes] = []
    size = 0
    while size <= ANSWER_BYTES and not response.content.at_eof():
        part = await response.content.read(ANSWER_BYTES + 1 - size)
        parts.append(part)
        size += len(part)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    if size <= ANSWER_BYTES:
        return decode(content, ",".join(response.headers.getall("Content-Encoding", ())))
    content, unread = decode(content[:ANSWER_BYTES], ",".join(response.headers.getall("Content-Encoding", ())))
    return content, unread or TOO_LONG


def _gzip(body: bytes) -> bytes:
    """The same bytes each time: no time stamp."""
    return gzip.compress(body, compresslevel=6, mtime=0)


def _trust(ca_file: str | None) -> tuple[ssl.SSLContext | bool, str]:
    """What to verify certificates with, or why that is not to be had."""
    if ca_file is None:
        return True, ""
    try:
        return ssl.create_default_context(cafile=ca_file), ""
    except (OSError, ssl.SSLError) as error:
        return True, f"the CA file {ca_file} cannot be used ({getattr(error, 'strerror', None) or 'no certificates in it'})"


def _is_local(error: Exception) -> bool:
    """Out of descriptors: no socket could be made. A resolver only says that it failed, so the table is tried."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as exc:
            return exc.errno in _NO_DESCRIPTORS
        return False
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(inner, OSError) and inner.errno in _NO_DESCRIPTORS


def _why(error: OSError) -> str:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return (inner.strerror or type(inner).__name__).lower()


def _retry(reason: RetryReason, detail: str, *, sure: bool) -> Retry:
    return Retry(reason=reason, status=None, detail=detail, surely_not_arrived=sure)


def _refused(reason: PauseReason, status: int, detail: str) -> Refused:
    return Refused(scope=Scope.DESTINATION, reason=reason, status=status, detail=detail)
