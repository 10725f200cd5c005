"""Signed URLs of objects, and reading them, against a stub that checks SigV4 itself; what goes wrong is one clear line."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
import yarl

from tests.audio.s3_stub import BUCKET, SECRET, S3Stub, s3_stub
from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.objects import PIECE_BYTES, ObjectStores
from tunerd.clock import SystemClock

AUDIO = b"RIFF" + bytes(range(256)) * 40
NAME = "2026/a call +1#ü.wav"
LOCATION = f"s3://{BUCKET}/{NAME}"


@pytest.fixture
async def stub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Stub]:
    async with s3_stub(S3Stub(objects={NAME: AUDIO})) as stub:
        _set(monkeypatch, stub)
        yield stub


def _set(monkeypatch: pytest.MonkeyPatch, stub: S3Stub, **more: str) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stub.environ(**more).items():
        monkeypatch.setenv(name, value)


async def _fault(location: str = LOCATION, expires_s: float = 3600) -> ObjectFault:
    """What signing meets; its text has no secret in it."""
    with pytest.raises(ObjectFault) as found:
        await ObjectStores(SystemClock()).sign(location, expires_s)
    text = str(found.value)
    assert "\n" not in text
    assert "X-Amz" not in text
    assert SECRET not in text
    assert "token-canary" not in text
    return found.value


async def test_a_signed_url_gives_the_object(stub: S3Stub) -> None:
    """The URL is accepted by a server that checks its signature, region and time, and gives the object byte for byte."""
    signed = await ObjectStores(SystemClock()).sign(LOCATION, 3600)
    async with aiohttp.ClientSession() as session, session.get(_raw(signed.url)) as answer:
        assert answer.status == 200
        assert await answer.read() == AUDIO
    assert abs(signed.expires_at - SystemClock().now() - 3600) < 5
    assert signed.url not in repr(signed)


async def test_a_signed_url_ends_when_it_says(stub: S3Stub) -> None:
    """After `expires` the server refuses it: what is signed is what `expires_at` states."""
    signed = await ObjectStores(SystemClock()).sign(LOCATION, 120)
    stub.ahead = timedelta(seconds=125)
    async with aiohttp.ClientSession() as session, session.get(_raw(signed.url)) as answer:
        assert answer.status == 403
        assert "expired" in await answer.text()


async def test_no_url_is_signed_for_more_than_seven_days(stub: S3Stub) -> None:
    """S3 refuses a longer one."""
    signed = await ObjectStores(SystemClock()).sign(LOCATION, 30 * 86_400)
    assert "X-Amz-Expires=604800&" in signed.url
    assert signed.expires_at <= SystemClock().now() + 604_800


async def test_wrong_region(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the region that the bucket is in, and the variable to set."""
    _set(monkeypatch, stub, AWS_REGION="us-west-2")
    fault = await _fault()
    assert fault.kind is FaultKind.REGION
    assert str(fault) == (
        f"{LOCATION}: the bucket is in the region eu-central-1, and requests are signed for us-west-2; set AWS_REGION=eu-central-1"
    )


@pytest.mark.parametrize(("ahead", "says"), [(20, "20 minutes behind"), (-20, "20 minutes ahead")])
async def test_a_clock_that_is_wrong(stub: S3Stub, ahead: int, says: str) -> None:
    """A clock 20 minutes off is named as the reason, with the direction."""
    stub.ahead = timedelta(minutes=ahead)
    fault = await _fault()
    assert fault.kind is FaultKind.CLOCK
    assert str(fault) == f"{LOCATION}: the storage refuses the time of this machine, which is {says}; set the clock"


async def test_no_credentials(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, the line names the variables and the alternative."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fault = await _fault()
    assert fault.kind is FaultKind.CREDENTIALS
    assert "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give" in str(fault)


async def test_a_wrong_secret_key(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server compares the signature; nothing of the key is quoted."""
    _set(monkeypatch, stub, AWS_SECRET_ACCESS_KEY="wrong-token-canary")
    fault = await _fault()
    assert fault.kind is FaultKind.CREDENTIALS
    assert "the secret key does not belong to the access key" in str(fault)


async def test_a_session_token_that_makes_the_url_too_long(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a URL is never given out: the line says how long it is, why, and what to configure instead."""
    token = "token-canary" + "a" * 900
    stub.tokens = (token,)
    _set(monkeypatch, stub, AWS_SESSION_TOKEN=token)
    fault = await _fault()
    assert fault.kind is FaultKind.TOO_LONG
    assert re.search(
        r"its signed URL has 1,\d\d\d characters, because the credentials have a session token, and Tuner takes 1,024; "
        r"write `audio: upload`$",
        str(fault),
    )


async def test_a_session_token_the_server_does_not_know(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server quotes the token in its answer; the line does not."""
    _set(monkeypatch, stub, AWS_SESSION_TOKEN="token-canary")
    fault = await _fault()
    assert fault.kind is FaultKind.CREDENTIALS
    assert "the session token is not valid" in str(fault)


async def test_a_url_signed_with_a_session_token_ends_with_it(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stated end of the credentials is the end of the URL, or 15 minutes where nothing states it."""
    stub.tokens = ("short-token",)
    now = SystemClock().now()
    _set(monkeypatch, stub, AWS_SESSION_TOKEN="short-token")
    assert abs((await ObjectStores(SystemClock()).sign(LOCATION, 86_400)).expires_at - now - 900) < 5
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    assert abs((await ObjectStores(SystemClock()).sign(LOCATION, 86_400)).expires_at - now - 86_400) < 5
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z")
    assert (await _fault()).kind is FaultKind.CREDENTIALS


async def test_no_such_object(stub: S3Stub) -> None:
    """A signed URL of an object that is not there is never given out."""
    fault = await _fault(f"s3://{BUCKET}/gone.wav")
    assert fault.kind is FaultKind.MISSING
    assert str(fault) == f"s3://{BUCKET}/gone.wav: there is no such object"


async def test_an_empty_object(stub: S3Stub) -> None:
    """It is no recording."""
    stub.objects["empty.wav"] = b""
    fault = await _fault(f"s3://{BUCKET}/empty.wav")
    assert fault.kind is FaultKind.MISSING
    assert str(fault).endswith("the object is empty")


async def test_no_such_bucket(stub: S3Stub) -> None:
    fault = await _fault("s3://others/a.wav")
    assert str(fault) == "s3://others/a.wav: there is no such bucket"


async def test_access_denied(stub: S3Stub) -> None:
    """The line names the right that is missing, and that S3 may mean a missing object."""
    stub.forbidden = (NAME,)
    fault = await _fault()
    assert fault.kind is FaultKind.DENIED
    assert "the credentials lack s3:GetObject, or there is no such object" in str(fault)


async def test_nobody_answers(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is a fault of the network: it is worth another try."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fault = await _fault()
    assert fault.kind is FaultKind.NETWORK
    assert str(fault) == f"{LOCATION}: the storage cannot be reached"


@pytest.mark.parametrize("key", ["", "/a.wav", "a//b.wav", "../a.wav", "a/./b.wav", "a/", "a\nb.wav"])
async def test_keys_that_would_become_another_object(stub: S3Stub, key: str) -> None:
    """obstore would strip or refuse them; no request goes out for one."""
    assert (await _fault(f"s3://{BUCKET}/{key}") if "\n" not in key else await _fault_of_line(key)).kind is FaultKind.ADDRESS
    assert not stub.requests


async def _fault_of_line(key: str) -> ObjectFault:
    with pytest.raises(ObjectFault) as found:
        await ObjectStores(SystemClock()).sign(f"s3://{BUCKET}/{key}", 60)
    return found.value


async def test_an_object_is_read_in_pieces(stub: S3Stub) -> None:
    """Each piece is a request for exactly the object that was seen first."""
    stub.objects["long.wav"] = content = bytes(range(256)) * 40_000
    stores = ObjectStores(SystemClock())
    identity, head = await stores.look(f"s3://{BUCKET}/long.wav", 12)
    assert identity.size == len(content)
    assert head == content[:12]
    assert b"".join([piece async for piece in stores.pieces(f"s3://{BUCKET}/long.wav", identity)]) == content
    ranges = [request.headers["Range"] for request in stub.requests[1:]]
    assert ranges[:2] == [f"bytes=0-{PIECE_BYTES - 1}", f"bytes={PIECE_BYTES}-{2 * PIECE_BYTES - 1}"]
    assert ranges[-1].endswith(f"-{len(content) - 1}")
    assert all(request.headers["If-Match"] == identity.etag for request in stub.requests[1:])


async def test_an_object_that_is_replaced_while_it_is_read(stub: S3Stub) -> None:
    """The next piece would be of another recording: the reading ends as changed."""
    stub.objects["long.wav"] = bytes(9_000_000)
    stores = ObjectStores(SystemClock())
    location = f"s3://{BUCKET}/long.wav"
    identity, _ = await stores.look(location, 12)
    stub.after["long.wav"] = b"R" * 9_000_000
    pieces = stores.pieces(location, identity)
    assert await anext(pieces) == bytes(PIECE_BYTES)
    with pytest.raises(ObjectFault) as found:
        await anext(pieces)
    assert found.value.kind is FaultKind.CHANGED


def _raw(url: str) -> yarl.URL:
    """The URL as it is, since its path is signed as it is escaped."""
    return yarl.URL(url, encoded=True)
