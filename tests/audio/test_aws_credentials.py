"""Where AWS credentials come from, and until when they are valid: real servers in the place of STS, a container's endpoint and EC2."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from tunerd.audio.aws_credentials import AwsCredentialChain, AwsCredentials
from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.testing import FakeClock

NOW = datetime(2026, 11, 30, 10, tzinfo=UTC).timestamp()
HOUR = "2026-11-30T11:00:00Z"
JSON = {"AccessKeyId": "ASIA1", "SecretAccessKey": "canary-secret", "Token": "canary-token", "Expiration": HOUR}
XML = (
    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>"
    f"<SecretAccessKey>canary-secret</SecretAccessKey><SessionToken>canary-token</SessionToken><Expiration>{HOUR}</Expiration>"
    "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _serving(answer: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


def _clock() -> FakeClock:
    return FakeClock(now=NOW)


async def _fault(environ: dict[str, str]) -> ObjectFault:
    with pytest.raises(ObjectFault) as found:
        await AwsCredentialChain(environ, _clock()).get()
    assert "canary" not in str(found.value)
    return found.value


def _is_the_answer(found: AwsCredentials) -> bool:
    assert "canary" not in repr(found)
    return found == AwsCredentials(key_id="ASIA1", secret="canary-secret", token="canary-token", expires_at=NOW + 3600)


async def test_web_identity(tmp_path: Path) -> None:
    """The token of the file is exchanged at STS for the role's credentials, whose end is known."""
    asked: list[dict[str, str]] = []

    async def sts(request: web.Request) -> web.Response:
        asked.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(text=XML, content_type="text/xml")

    (tmp_path / "token").write_text("canary-jwt\n")
    async with _serving(sts) as url:
        environ = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/tunerd",
            "AWS_ENDPOINT_URL_STS": url,
        }
        assert _is_the_answer(await AwsCredentialChain(environ, _clock()).get())
    assert asked == [
        {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": "arn:aws:iam::1:role/tunerd",
            "RoleSessionName": "tunerd",
            "WebIdentityToken": "canary-jwt",
        }
    ]


async def test_web_identity_that_sts_refuses(tmp_path: Path) -> None:
    """The line has the code of STS, and neither the token nor what STS says about it."""

    async def sts(request: web.Request) -> web.Response:
        text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>canary-jwt</Message></Error></ErrorResponse>"
        return web.Response(status=403, text=text)

    (tmp_path / "token").write_text("canary-jwt")
    environ = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/tunerd"}
    async with _serving(sts) as url:
        fault = await _fault(environ | {"AWS_ENDPOINT_URL_STS": url})
    assert fault.kind is FaultKind.CREDENTIALS
    assert str(fault) == (
        "no AWS credentials: the web identity (AWS_WEB_IDENTITY_TOKEN_FILE) answered 403 (AccessDenied); "
        "check the role and who may take it"
    )
    fault = await _fault(environ | {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"})
    assert fault.kind is FaultKind.NETWORK
    (tmp_path / "token").unlink()
    fault = await _fault(environ)
    assert "the token file of the web identity (AWS_WEB_IDENTITY_TOKEN_FILE) cannot be read" in str(fault)


async def test_a_container(tmp_path: Path) -> None:
    """ECS and EKS Pod Identity: an endpoint on the host, with a token from a file that is read at each request."""
    tokens: list[str | None] = []

    async def agent(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("Authorization"))
        return web.json_response(JSON)

    (tmp_path / "token").write_text("canary-jwt")
    async with _serving(agent) as url:
        environ = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        }
        assert _is_the_answer(await AwsCredentialChain(environ, _clock()).get())
    assert tokens == ["canary-jwt"]


async def test_a_machine_with_a_role() -> None:
    """EC2: a session with the metadata service, the role's name, its credentials."""

    async def metadata(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(text="session")
        assert request.headers["X-aws-ec2-metadata-token"] == "session"
        return web.json_response(JSON) if request.path.endswith("/my-role") else web.Response(text="my-role")

    async with _serving(metadata) as url:
        assert _is_the_answer(await AwsCredentialChain({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, _clock()).get())


async def test_a_machine_without_a_role() -> None:
    """No metadata service, or one that knows no role, means that there are no credentials: what to set is said."""

    async def metadata(request: web.Request) -> web.Response:
        return web.Response(text="session") if request.method == "PUT" else web.Response(status=404)

    async with _serving(metadata) as url:
        for endpoint in (url, "http://127.0.0.1:9"):
            fault = await _fault({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint})
            assert fault.kind is FaultKind.CREDENTIALS
            assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(fault)


@pytest.mark.parametrize("answer", [{"Code": "Failed"}, {**JSON, "Expiration": "soon"}, ["a"]])
async def test_an_answer_that_has_none(answer: object) -> None:
    """An answer of another shape is a line, not a crash."""

    async def agent(request: web.Request) -> web.Response:
        return web.json_response(answer)

    async with _serving(agent) as url:
        fault = await _fault({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
    assert str(fault) == "no AWS credentials: the container's credentials endpoint gave an answer without them"


async def test_credentials_are_kept_for_half_of_their_life() -> None:
    """So a URL that is signed with them is valid for at least the other half."""
    asked = 0

    async def agent(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response(JSON)

    async with _serving(agent) as url:
        clock = _clock()
        chain = AwsCredentialChain({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}, clock)
        await chain.get()
        await clock.advance(1799)
        await chain.get()
        assert asked == 1
        await clock.advance(2)
        await chain.get()
        assert asked == 2
