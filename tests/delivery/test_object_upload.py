"""Audio of a bucket that is uploaded: streamed from a storage that checks signatures to the sandbox's own."""

import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.audio.made import wav
from tests.audio.s3_stub import BUCKET, S3Stub, s3_stub
from tests.delivery.test_audio_delivery import body, staged
from tunerd.audio_events import AudioFailed, AudioUploaded
from tunerd.call import AudioState, State
from tunerd.events import BucketPaused, BucketResumed
from tunerd.outcome import AudioReason

LOCATION = f"s3://{BUCKET}/2026/a 1.wav"
AUDIO = wav(channels=2, seconds=200.0)


@pytest.fixture
async def stub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Stub]:
    async with s3_stub(S3Stub(objects={"2026/a 1.wav": AUDIO})) as stub:
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        for name, value in stub.environ().items():
            monkeypatch.setenv(name, value)
        yield stub


async def test_an_object_arrives_byte_for_byte(tmp_path: Path, stub: S3Stub) -> None:
    """It is streamed in pieces (it is larger than one), and no file of it is ever written."""
    async with staged(tmp_path) as stage:
        await stage.call("a", LOCATION)
        (uploaded,) = await stage.rig.told.until(AudioUploaded)
        assert stage.arrived("a") == [hashlib.sha256(AUDIO).hexdigest()]
        sent = body(stage)
        assert (sent["recording_url"], sent["recording_file_extension"], sent["recording_s3_multi_channel"]) == (
            "pending",
            "wav",
            True,
        )
        assert uploaded.size == len(AUDIO) > 3_000_000
        assert not list(stage.directory.iterdir())
        call = await stage.stored("a")
        assert (call.state, call.audio) == (State.SENT, AudioState.UPLOADED)


async def test_an_object_that_was_replaced_is_not_uploaded(tmp_path: Path, stub: S3Stub) -> None:
    """The next call was recorded to the same key: its audio never gets to this call, before or after it is sent."""
    stub.after["2026/a 1.wav"] = wav(channels=2, seconds=201.0)
    async with staged(tmp_path) as stage:
        await stage.call("a", LOCATION)
        (failed,) = await stage.rig.told.until(AudioFailed)
        assert failed.reason is AudioReason.AUDIO_CHANGED
        assert failed.what.startswith(LOCATION)
        assert not stage.arrived("a")


async def test_what_the_bucket_has_not_yet_or_may_not_give_is_waited_for(tmp_path: Path, stub: S3Stub) -> None:
    """An object that comes later, and a region that is set right later, cost no call."""
    stub.region = "us-west-2"
    async with staged(tmp_path) as stage:
        await stage.call("a", LOCATION)
        await stage.call("b", f"s3://{BUCKET}/late.wav")
        await stage.clock.advance(30)
        assert not stage.rig.told.seen(AudioFailed)
        stub.region, stub.objects["late.wav"] = "eu-central-1", wav()
        await stage.pass_until(AudioUploaded, 2)
        assert stage.arrived("b") == [hashlib.sha256(wav()).hexdigest()]


async def test_a_bucket_that_gives_nothing_is_told_once_and_asked_seldom(tmp_path: Path, stub: S3Stub) -> None:
    """A wrong region, and twenty calls: one line, a request every few seconds and not one for each call, and one line at the end."""
    stub.region = "us-west-2"
    stub.objects |= {f"{number}.wav": wav() for number in range(20)}
    async with staged(tmp_path) as stage:
        for number in range(20):
            await stage.call(f"c{number}", f"s3://{BUCKET}/{number}.wav")
        await stage.clock.advance(60)
        assert len(stub.requests) <= 30
        stub.region = "eu-central-1"
        await stage.pass_until(AudioUploaded, 20)
        (paused,) = stage.rig.told.seen(BucketPaused)
        assert (paused.bucket, "set AWS_REGION=us-west-2" in paused.what) == (f"s3://{BUCKET}", True)
        assert [event.bucket for event in stage.rig.told.seen(BucketResumed)] == [f"s3://{BUCKET}"]


def test_without_the_library_the_line_names_the_extra() -> None:
    """And says how the calls are sent afterwards."""
    code = """
import asyncio, sys
sys.modules["obstore"] = None
from tunerd.audio.audio_bytes import AudioUnreadable
from tunerd.audio.object_place import ObjectPlace
from tunerd.call import AudioPlan, Publish
from tunerd.clock import SystemClock
try:
    asyncio.run(ObjectPlace(SystemClock()).look("s3://calls/a.wav", AudioPlan(publish=Publish.UPLOAD), "", 0.0))
except AudioUnreadable as why:
    print(why.may_pass, why)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False objects in buckets need the package obstore: install tunerd[cloud], restart tunerd")
