"""Google Cloud Storage and Azure: their signed URLs hold against the rules of each, checked here with the public half of the key."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.objects import ObjectStores
from tunerd.clock import SystemClock

KEY = "room-1/2026+11.wav"
ETAG = '"e"'


@pytest.fixture
async def storage() -> AsyncIterator[str]:
    """A server that has one byte under KEY, and nothing else; signatures are checked by the tests."""

    async def answer(request: web.Request) -> web.Response:
        if unquote(request.path).endswith("/denied.wav"):
            return web.Response(status=403, text="<Error><Code>AuthorizationPermissionMismatch</Code></Error>")
        if not unquote(request.raw_path).endswith((KEY, "?.wav", " .wav", "%20.wav")):
            return web.Response(status=404, text="<Error><Code>BlobNotFound</Code></Error>")
        headers = {"ETag": ETAG, "Content-Range": "bytes 0-0/1", "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT"}
        return web.Response(status=206, body=b"R", headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site.name
    await runner.cleanup()


@pytest.fixture
def google(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rsa.RSAPrivateKey:
    """A service account's key file in the environment; gives the key."""
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    account = {
        "type": "service_account",
        "gcs_base_url": storage,
        "client_email": "tunerd@project.example",
        "private_key": key.private_bytes(*form).decode(),
        "private_key_id": "1",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    return key


@pytest.fixture
def azure(storage: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An account with its key in the environment; gives the key."""
    key = b"account-key"
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
        "AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(key).decode(),
        "AZURE_STORAGE_ENDPOINT": storage,
        "AZURE_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return key


async def test_google(google: rsa.RSAPrivateKey) -> None:
    """The signature (GOOG4-RSA-SHA256) belongs to the object, the time and the service account."""
    signed = await ObjectStores(SystemClock()).sign(f"gs://calls/{KEY}", 7200)
    parts = urlsplit(signed.url)
    query = dict(parse_qsl(parts.query))
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    assert query["X-Goog-Expires"] == "7200"
    assert parts.path == f"/calls/{KEY}"
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
    canonical = f"GET\n{parts.path}\n{pairs}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"  # always Google's own
    email, scope = query["X-Goog-Credential"].split("/", 1)
    assert email == "tunerd@project.example"
    text = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    google.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert abs(signed.expires_at - SystemClock().now() - 7200) < 5


async def test_azure(azure: bytes) -> None:
    """The signature (service SAS) belongs to the blob, its end and the right to read, and to nothing more."""
    signed = await ObjectStores(SystemClock()).sign(f"az://calls/{KEY}", 7200)
    query = dict(parse_qsl(urlsplit(signed.url).query))
    assert (query["sp"], query["sr"]) == ("r", "b")
    # The account is no part of the name where the storage is on this machine: Azure's emulator has it in the path.
    lines = ["r", query["st"], query["se"], f"/blob/calls/{KEY}", "", "", "", query["sv"], "b", *[""] * 7]
    digest = hmac.digest(azure, "\n".join(lines).encode(), "sha256")
    assert base64.b64decode(query["sig"]) == digest


@pytest.mark.parametrize("location", ["gs://calls/a?.wav", "az://calls/a .wav", "az://calls/a%20.wav"])
async def test_keys_that_cannot_be_signed(google: rsa.RSAPrivateKey, azure: bytes, location: str) -> None:
    """obstore signs these keys so that the storage refuses the URL or gives another object: no such URL is given out."""
    fault = await _fault(location)
    assert fault.kind is FaultKind.ADDRESS
    assert str(fault) == f"{location}: no URL can be signed for a key with such a character; write `audio: upload`"


async def test_faults_of_google(google: rsa.RSAPrivateKey) -> None:
    """The same lines as for S3, with the right's name there."""
    fault = await _fault("gs://calls/other.wav")
    assert (fault.kind, str(fault)) == (FaultKind.MISSING, "gs://calls/other.wav: there is no such object")
    fault = await _fault("gs://calls/denied.wav")
    assert str(fault) == "gs://calls/denied.wav: access denied: the credentials lack storage.objects.get"


async def test_faults_of_azure(azure: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lines as for S3; without an account's name the variable is named."""
    fault = await _fault("az://calls/other.wav")
    assert (fault.kind, str(fault)) == (FaultKind.MISSING, "az://calls/other.wav: there is no such object")
    fault = await _fault("az://calls/denied.wav")
    assert str(fault) == "az://calls/denied.wav: access denied: the credentials lack the role Storage Blob Data Reader"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    fault = await _fault(f"az://calls/{KEY}")
    assert fault.kind is FaultKind.CREDENTIALS
    assert "check AZURE_STORAGE_ACCOUNT_NAME" in str(fault)


async def _fault(location: str) -> ObjectFault:
    with pytest.raises(ObjectFault) as found:
        await ObjectStores(SystemClock()).sign(location, 3600)
    return found.value
