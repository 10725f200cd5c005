"""A stand-in for S3 that checks every signature itself (SigV4, in headers and in the query), since moto takes any.

It has one region, its own clock, keys, and objects by name, and answers as S3 does: codes in XML, 206 for ranges, 412.
"""

import asyncio
import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

from aiohttp import web

BUCKET = "calls"
KEY_ID = "AKIATEST"
SECRET = "sEcReT-canary-key"


@dataclass
class S3Stub:
    region: str = "eu-central-1"
    ahead: timedelta = timedelta(0)
    """How far its clock is ahead of this machine's."""
    tokens: tuple[str, ...] = ()
    """Session tokens that it takes; with none, only requests without one."""
    objects: dict[str, bytes] = field(default_factory=dict)
    forbidden: tuple[str, ...] = ()
    requests: list[web.Request] = field(default_factory=list)
    after: dict[str, bytes] = field(default_factory=dict)
    """What replaces an object once it was asked for."""
    hold: asyncio.Event | None = None
    """Answers come when it is set."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            **more,
        }

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if (refused := self._refused(request)) is not None:
            return refused
        bucket, _, key = request.path.removeprefix("/").partition("/")
        if bucket != BUCKET:
            return _error(404, "NoSuchBucket")
        if key in self.forbidden:
            return _error(403, "AccessDenied")
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        content = self.objects[key]
        if key in self.after:
            self.objects[key] = self.after.pop(key)
        return _content(request, content)

    # Signatures

    def _refused(self, request: web.Request) -> web.Response | None:
        query = dict(parse_qsl(urlsplit(request.raw_path).query, keep_blank_values=True))
        now = datetime.now(UTC) + self.ahead
        if "X-Amz-Signature" in query:
            scope, signed, given = query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], query.pop("X-Amz-Signature")
            stamp, token, body = query["X-Amz-Date"], query.get("X-Amz-Security-Token"), "UNSIGNED-PAYLOAD"
        else:
            found = re.fullmatch(
                r"AWS4-HMAC-SHA256 Credential=(\S+), ?SignedHeaders=(\S+), ?Signature=(\S+)",
                request.headers.get("Authorization", ""),
            )
            if found is None:
                return _error(403, "AccessDenied")
            scope, signed, given = found.groups()
            stamp, token = request.headers["X-Amz-Date"], request.headers.get("X-Amz-Security-Token")
            body = request.headers["X-Amz-Content-Sha256"]
        key_id, day, region, service, end = scope.split("/")
        made = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if key_id != KEY_ID:
            return _error(403, "InvalidAccessKeyId")
        if region != self.region:
            say = f"the region '{region}' is wrong; expecting '{self.region}'"
            return _error(400, "AuthorizationHeaderMalformed", f"<Message>{say}</Message><Region>{self.region}</Region>")
        if "X-Amz-Expires" in query:
            if now < made - timedelta(minutes=15):
                return _error(403, "AccessDenied", "<Message>Request is not yet valid</Message>")
            if now > made + timedelta(seconds=int(query["X-Amz-Expires"])):
                return _error(403, "AccessDenied", "<Message>Request has expired</Message>")
        elif abs(now - made) > timedelta(minutes=15):
            times = f"<RequestTime>{stamp}</RequestTime><ServerTime>{now:%Y-%m-%dT%H:%M:%SZ}</ServerTime>"
            return _error(403, "RequestTimeTooSkewed", times)
        if token != (token if token in self.tokens else None) or (self.tokens and token is None):
            return _error(400, "InvalidToken", f"<Token-0>{token}</Token-0>")
        canonical = _canonical(request, query, signed, body)
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/{service}/{end}", _sha(canonical)])
        key = f"AWS4{SECRET}".encode()
        for part in (day, region, service, end):
            key = hmac.digest(key, part.encode(), "sha256")
        if hmac.digest(key, text.encode(), "sha256").hex() != given:
            return _error(403, "SignatureDoesNotMatch", f"<StringToSign>{text}</StringToSign>")
        return None


def _canonical(request: web.Request, query: Mapping[str, str], signed: str, body: str) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed.split(";"))
    path = urlsplit(request.raw_path).path
    return "\n".join([request.method, path, "&".join("=".join(pair) for pair in pairs), headers, signed, body])


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _error(status: int, code: str, more: str = "") -> web.Response:
    return web.Response(status=status, content_type="application/xml", text=f"<Error><Code>{code}</Code>{more}</Error>")


def _content(request: web.Request, content: bytes) -> web.Response:
    headers = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT"}
    if request.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
        return _error(412, "PreconditionFailed")
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    if asked is None:
        return web.Response(body=content, headers=headers)
    start, end = int(asked[1]), min(int(asked[2]), len(content) - 1)
    if start > end:
        return _error(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    return web.Response(status=206, body=content[start : end + 1], headers=headers)


@asynccontextmanager
async def s3_stub(stub: S3Stub) -> AsyncIterator[S3Stub]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stub.url = site.name
    try:
        yield stub
    finally:
        await runner.cleanup()
