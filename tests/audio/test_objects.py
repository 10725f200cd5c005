"""Data of objects against moto, a stand-in for S3 in a process of its own (it takes any signature: test_object_signing.py has those)."""

import hashlib
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import obstore
import pytest
import yarl
from obstore.store import S3Store

from tests.audio.made import wav
from tests.delivery.test_audio_delivery import staged
from tunerd.audio.audio_bytes import AudioBytes, AudioChanged, AudioMissing, AudioUnreadable, Settled
from tunerd.audio.header import AudioKind
from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.object_place import ObjectPlace
from tunerd.audio.objects import PIECE_BYTES, ObjectAudio, ObjectIdentity, ObjectStores, look_at
from tunerd.audio_events import AudioUploaded
from tunerd.call import AudioPlan, Publish, State
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


async def test_an_object_as_audio(bucket: S3Store) -> None:
    """What delivery asks of any recording: its size, its bytes, and that it is the one that the call got."""
    content = wav(channels=2)
    await obstore.put_async(bucket, "recording.wav", content)
    stores, location = ObjectStores(SystemClock()), f"s3://{BUCKET}/recording.wav"
    identity, header = await look_at(stores, location)
    assert (header.kind, header.channels) == (AudioKind.WAV, 2)
    assert ObjectIdentity.parse(str(identity)) == identity
    audio: AudioBytes = ObjectAudio(stores, location, identity)
    assert await audio.size() == len(content)
    assert b"".join([chunk async for chunk in audio.chunks()]) == content
    await obstore.put_async(bucket, "recording.wav", content[:-1] + b"!")
    with pytest.raises(AudioChanged):
        await audio.size()
    with pytest.raises(AudioChanged):
        [chunk async for chunk in audio.chunks()]


async def test_an_object_that_is_no_audio(bucket: S3Store) -> None:
    """Found by its first bytes, before Tuner is asked for anything."""
    await obstore.put_async(bucket, "recording.wav", b"<html>not found</html>")
    with pytest.raises(AudioUnreadable, match="is no audio") as found:
        await look_at(ObjectStores(SystemClock()), f"s3://{BUCKET}/recording.wav")
    assert not found.value.may_pass
    with pytest.raises(AudioUnreadable, match="there is no such object") as found:
        await look_at(ObjectStores(SystemClock()), f"s3://{BUCKET}/none.wav")
    assert not found.value.may_pass


async def test_a_storage_that_does_not_answer_is_worth_another_try(bucket: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(AudioUnreadable, match="cannot be reached") as found:
        await look_at(ObjectStores(SystemClock()), f"s3://{BUCKET}/recording.wav")
    assert found.value.may_pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "canary\n"),
        ("AWS_SECRET_ACCESS_KEY", "canary\n"),
        ("AWS_SESSION_TOKEN", "canary canary"),
        ("AWS_REGION", "canary\n"),
        ("AWS_ENDPOINT_URL", "canary:9000"),
        ("AWS_ENDPOINT_URL", "http://canary:canary"),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL_S3", "canary canary"),
    ],
)
async def test_a_variable_that_no_request_can_be_made_of(
    bucket: S3Store, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """It is named, for signing and for reading alike, and never reaches the library, which would end the process."""
    monkeypatch.setenv(name, value)
    stores = ObjectStores(SystemClock())
    for ask in (stores.sample, stores.look):
        with pytest.raises(ObjectFault, match=f"{name} ") as found:
            await ask(f"s3://{BUCKET}/a.wav", 3600)
        assert found.value.kind is FaultKind.CREDENTIALS
        assert "canary" not in str(found.value)


async def test_a_panic_of_the_library_is_a_fault(bucket: S3Store) -> None:
    """What its Rust code gives up on is no Exception in Python; it is a fault of this object's bucket all the same."""
    with pytest.raises(ObjectFault, match="check AWS_ACCESS_KEY_ID") as found:
        await ObjectStores(SystemClock()).look("s3://two words/a.wav", 16)
    assert found.value.kind is FaultKind.CREDENTIALS


async def test_an_object_is_streamed_to_the_storage_of_tuner(bucket: S3Store, tmp_path: Path) -> None:
    """`audio: upload` of an object: byte for byte, without a file; one that is not there yet is waited for."""
    content = wav(channels=2, seconds=30.0)
    await obstore.put_async(bucket, "room/a.wav", content)
    async with staged(tmp_path) as stage:
        await stage.call("late", f"s3://{BUCKET}/room/late.wav")
        await stage.call("a", f"s3://{BUCKET}/room/a.wav")
        await stage.pass_until(AudioUploaded)
        assert stage.arrived("a") == [hashlib.sha256(content).hexdigest()]
        assert (await stage.stored("late")).state is State.DUE
        await obstore.put_async(bucket, "room/late.wav", content[:-2])
        await stage.pass_until(AudioUploaded, 2)
        assert stage.arrived("late") == [hashlib.sha256(content[:-2]).hexdigest()]
        assert list((tmp_path / "rec").iterdir()) == []


async def test_an_object_that_is_replaced_before_its_call_goes_out(bucket: S3Store) -> None:
    """It is not the recording of that call any more."""
    await obstore.put_async(bucket, "recording.wav", wav())
    place, location, plan = ObjectPlace(SystemClock()), f"s3://{BUCKET}/recording.wav", AudioPlan(publish=Publish.UPLOAD)
    looked = await place.look(location, plan, "", 0.0)
    assert isinstance(looked, Settled)
    assert (looked.extension, looked.channels, looked.size) == ("wav", 1, len(wav()))
    await obstore.put_async(bucket, "recording.wav", wav(seconds=0.2))
    with pytest.raises(AudioChanged):
        await place.look(location, plan, looked.identity, 0.0)
    with pytest.raises(AudioMissing):
        await place.look(f"s3://{BUCKET}/other.wav", plan, "", 0.0)
