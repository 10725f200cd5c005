"""Trying a destination without sending a call: an empty object is posted with the key, and the answer tells a good key
from a bad one and Tuner from something else. Used by `tunerd check --online`.

Tuner checks the key before it looks at the body, so `{}` with a good key is answered by a complaint about fields.
"""

import asyncio
import ssl
import urllib.request
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from tunerd.call import Form
from tunerd.config import Destination, form_of_key
from tunerd.config.tuner import KeyUnusable, read_key

_ANSWER_BYTES: Final = 65_536
_BUSY: Final = frozenset({408, 425, 429})
_NOT_HERE: Final = frozenset({404, 405, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the answer says, in one sentence without the key and without the answer's text."""

    good: bool
    says: str


async def try_destination(destination: Destination, agent: str, *, timeout_s: float = 30.0) -> Trial:
    """Post `{}` once. Never raises for what the network or the server does; redirects are not followed."""
    try:
        key = read_key(destination)
    except KeyUnusable as exc:
        return Trial(good=False, says=str(exc))
    form = destination.form or form_of_key(key)
    headers = {"X-API-Key": key} if form is Form.SEND_CALLS else {"Authorization": f"Bearer {key}"}
    query = {"workspace_id": str(destination.workspace_id), "agent_remote_identifier": agent}
    try:
        context = ssl.create_default_context(cafile=destination.ca_file)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.post(
                f"{destination.base_url}/api/v1/public/call",
                params=query,
                data=b"{}",
                headers={**headers, "Content-Type": "application/json"},
                allow_redirects=False,
                proxy=_proxy(destination.base_url),
            ) as answer,
        ):
            body = await answer.content.read(_ANSWER_BYTES)
            return judge(answer.status, body, form)
    except aiohttp.ClientConnectorDNSError:
        return Trial(good=False, says="the host name of base_url cannot be resolved")
    except (aiohttp.ClientSSLError, ssl.SSLError):
        return Trial(good=False, says="no TLS connection: the certificate is not trusted, or this is no TLS port; see `ca_file`")
    except TimeoutError:
        return Trial(good=False, says=f"no answer within {timeout_s:g} s")
    except (aiohttp.ClientConnectorError, OSError) as exc:
        reason = getattr(exc, "strerror", None) or type(exc).__name__
        return Trial(good=False, says=f"cannot be reached: {reason}")
    except (aiohttp.ClientError, asyncio.IncompleteReadError, ValueError) as exc:
        return Trial(good=False, says=f"the connection broke off, or this is no HTTP server ({type(exc).__name__})")


def judge(status: int, body: bytes, form: Form) -> Trial:
    """What the answer to `{}` means."""
    accepted, is_json = _reads(body)
    if status == 401:
        return Trial(good=False, says=f"the key is not accepted (401, sent as {form.value}); see `api_key_file` and `api`")
    if status == 403:
        return Trial(good=False, says="the key may not send for this workspace or agent (403)")
    if status in _BUSY or status >= 500:
        return Trial(good=False, says=f"cannot say now (status {status}): try again later")
    if 300 <= status < 400:
        return Trial(good=False, says=f"answers with a redirect ({status}); write the address it leads to into `base_url`")
    if status in _NOT_HERE or (400 <= status < 500 and not is_json):
        return Trial(good=False, says=f"this is not Tuner's API, or a proxy answers (status {status}); see `base_url`")
    if 400 <= status < 500:
        return Trial(good=True, says=f"the key is good (status {status} to an empty call, as it should be)")
    if 200 <= status < 300 and is_json:
        good = "the key is good" if not accepted else "the key is good, but an empty call was accepted: is this Tuner?"
        return Trial(good=True, says=f"{good} (status {status})")
    return Trial(good=False, says=f"this is not Tuner's API (status {status} without JSON); see `base_url`")


def _reads(body: bytes) -> tuple[bool, bool]:
    """Whether the answer accepts the call, and whether it is a JSON object or list at all."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False, False
    return isinstance(value, dict) and value.get("success") is not False, isinstance(value, dict | list)


def _proxy(base_url: str) -> str | None:
    """From the environment, as it is now; aiohttp's own way would also ask netrc."""
    parts = urlsplit(base_url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies_environment()
    return proxies.get(parts.scheme) or proxies.get("all")
