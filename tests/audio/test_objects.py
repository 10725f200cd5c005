"""Data of objects against moto, a stand-in for S3 in a process of its own (it takes any signature: test_object_signing.py has those)."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import aiohttp
import obstore
import pytest
import yarl
from obstore.store import S3Store

from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.objects import PIECE_BYTES, ObjectStores
from tunerd.clock import SystemClock

BUCKET = "recordings"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a moto server."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.kill()


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": moto,
        "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{moto}/{BUCKET}", method="PUT")).close()
    return S3Store(BUCKET, client_options={"allow_http": True})


@pytest.mark.parametrize("size", [1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
async def test_every_byte_comes(bucket: S3Store, size: int) -> None:
    """An object of any length is read byte for byte, in pieces that bound the memory."""
    content = os.urandom(size)
    await obstore.put_async(bucket, "room 1/ä.wav", content)
    stores, location = ObjectStores(SystemClock()), f"s3://{BUCKET}/room 1/ä.wav"
    identity, head = await stores.look(location, 16)
    assert (identity.size, head) == (size, content[:16])
    pieces = [piece async for piece in stores.pieces(location, identity)]
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert b"".join(pieces) == content


async def test_an_object_that_was_replaced(bucket: S3Store) -> None:
    """Another recording under the same key, even of the same size, is not read as the one that was seen first."""
    await obstore.put_async(bucket, "recording.wav", b"RIFF-first")
    stores, location = ObjectStores(SystemClock()), f"s3://{BUCKET}/recording.wav"
    identity, _ = await stores.look(location, 16)
    await obstore.put_async(bucket, "recording.wav", b"RIFF-other")
    with pytest.raises(ObjectFault) as found:
        [piece async for piece in stores.pieces(location, identity)]
    assert found.value.kind is FaultKind.CHANGED


async def test_an_object_that_was_deleted(bucket: S3Store) -> None:
    await obstore.put_async(bucket, "recording.wav", b"RIFF-first")
    stores, location = ObjectStores(SystemClock()), f"s3://{BUCKET}/recording.wav"
    identity, _ = await stores.look(location, 16)
    await obstore.delete_async(bucket, "recording.wav")
    with pytest.raises(ObjectFault) as found:
        [piece async for piece in stores.pieces(location, identity)]
    assert found.value.kind is FaultKind.MISSING


async def test_anybody_can_fetch_the_signed_url(bucket: S3Store) -> None:
    """A plain GET without credentials gives the object."""
    await obstore.put_async(bucket, "a/b+c#d.wav", b"RIFF-audio")
    signed = await ObjectStores(SystemClock()).sign(f"s3://{BUCKET}/a/b+c#d.wav", 3600)
    async with aiohttp.ClientSession() as session, session.get(yarl.URL(signed.url, encoded=True)) as answer:
        assert (answer.status, await answer.read()) == (200, b"RIFF-audio")
