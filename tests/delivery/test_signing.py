"""Calls whose recording lies in a bucket: its URL is signed just before the call is sent, against a storage that checks signatures."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import orjson
import pytest
import yarl

from tests.audio.s3_stub import BUCKET, S3Stub, s3_stub
from tests.delivery.made import SENT, Rig, delivering, scripted
from tests.ledger.parts import the
from tunerd.audio_events import AudioFailed
from tunerd.call import AudioPlan, AudioState, Publish, State, UrlStrategy
from tunerd.config import Secret
from tunerd.delivery.signing import PAUSE_S
from tunerd.events import BucketPaused, BucketResumed, CallFailed, CallRetried, CallSent
from tunerd.ledger import Admission, Claimed
from tunerd.mapping.forms import freeze_body
from tunerd.outcome import AudioReason, FailReason, Outcome, Retry, RetryReason
from tunerd.testing import make_call

from .made import destination

LOCATION = f"s3://{BUCKET}/2026/a.wav"
PLAN = AudioPlan(publish=Publish.PRESIGN, expires_s=3600.0)


@pytest.fixture
async def stub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Stub]:
    async with s3_stub(S3Stub(objects={"2026/a.wav": b"RIFF-audio"})) as stub:
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        for name, value in stub.environ().items():
            monkeypatch.setenv(name, value)
        yield stub


async def _admit(bench: Rig, *call_ids: str, location: str = LOCATION) -> None:
    calls = [replace(make_call(i, strategies=(UrlStrategy(location=location),)), audio=PLAN) for i in call_ids]
    await bench.ledger.admit(Admission(calls=calls), bench.clock.now())


@pytest.mark.parametrize("key", ["bb7f64d7-e57c", "tr_api_1"])
async def test_a_call_goes_out_with_a_url_that_gives_its_audio(stub: S3Stub, key: str) -> None:
    """Of either request form: whoever gets the body can fetch the recording with the URL in it, and nothing else needed a key."""
    bodies: list[bytes] = []

    def upload(claimed: Claimed) -> Outcome:
        bodies.append(claimed.body)
        return SENT

    async with delivering(scripted(upload), destinations=[destination(api_key=Secret(key))], freeze=freeze_body) as bench:
        await _admit(bench, "call-1")
        await bench.told.until(CallSent)
        seen = repr(bench.told.events) + repr(await the(bench.ledger, "call-1"))  # whatever is logged, counted or shown
        assert "X-Amz" not in seen
        assert stub.url not in seen
    url = orjson.loads(bodies[0])["recording_url"]
    async with aiohttp.ClientSession() as session, session.get(yarl.URL(url, encoded=True)) as answer:
        assert (answer.status, await answer.read()) == (200, b"RIFF-audio")


async def test_an_attempt_that_is_repeated_sends_the_same_url(stub: S3Stub) -> None:
    """One that has expired meanwhile, after attempts that surely did not arrive, is signed anew."""
    bodies: list[bytes] = []
    refused = Retry(reason=RetryReason.THROTTLED, status=429, detail="429", surely_not_arrived=True)

    def upload(claimed: Claimed) -> Outcome:
        bodies.append(claimed.body)
        return SENT if len(bodies) == 3 else replace(refused, retry_after_s=7200.0) if len(bodies) == 2 else refused

    async with delivering(scripted(upload), freeze=freeze_body) as bench:
        await _admit(bench, "call-1")
        await bench.told.until(CallRetried)
        await bench.clock.advance(60)
        await bench.told.until(CallRetried, 2)
        assert bodies[0] == bodies[1]
        await bench.clock.advance(7300)
        await bench.told.until(CallSent)
    assert len(stub.requests) == 2, "a byte is read before each signature"


async def test_what_a_whole_bucket_suffers_from_pauses_it(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong region the storage is asked once, not for each call; the calls stay due with the reason, and go out when it is
    right. No attempt is counted."""
    stub.region = "us-west-2"
    async with delivering(scripted(lambda call: SENT), concurrency=1) as bench:
        await _admit(bench, *(f"call-{number}" for number in range(20)))
        retried = await bench.told.until(CallRetried, 20)
        assert len(stub.requests) == 1
        assert {(event.reason, event.attempts) for event in retried} == {(RetryReason.UNSIGNED, 0)}
        assert "set AWS_REGION=us-west-2" in retried[-1].detail
        assert "the bucket is in the region us-west-2" in (await the(bench.ledger, "call-1")).detail
        stub.region = "eu-central-1"
        await bench.clock.advance(PAUSE_S + 1)
        await bench.told.until(CallSent, 20)
    (paused,) = bench.told.seen(BucketPaused)
    assert (paused.bucket, "set AWS_REGION=us-west-2" in paused.what) == (f"s3://{BUCKET}", True)
    assert [event.bucket for event in bench.told.seen(BucketResumed)] == [f"s3://{BUCKET}"]


async def test_an_object_may_come_later(stub: S3Stub) -> None:
    """A call waits half an hour for an object that is not there yet; the others of the bucket do not wait for it."""
    async with delivering(scripted(lambda call: SENT), concurrency=1) as bench:
        await _admit(bench, "late", location=f"s3://{BUCKET}/late.wav")
        await bench.told.until(CallRetried)
        await _admit(bench, "call-1")
        await bench.told.until(CallSent)
        stub.objects["late.wav"] = b"RIFF"
        await bench.clock.advance(60)
        await bench.told.until(CallSent, 2)


async def test_an_object_that_never_comes_fails_its_call(stub: S3Stub) -> None:
    """Visibly, with the object's name, and as one that surely did not arrive."""
    async with delivering(scripted(lambda call: SENT), concurrency=1) as bench:
        await _admit(bench, "never", location=f"s3://{BUCKET}/never.wav")
        for count in range(1, 100):
            await bench.told.until(CallRetried, count)
            await bench.clock.advance(601)
            if bench.clock.now() - make_call().settled_at > 1900:
                break
        (failed,) = await bench.told.until(CallFailed)
        assert failed.reason is FailReason.RECORDING_MISSING
        assert failed.what == f"s3://{BUCKET}/never.wav: there is no such object"
        assert (await the(bench.ledger, "never")).attempts == 0


async def test_a_url_that_is_too_long_is_never_sent(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails the call with what to do instead."""
    stub.tokens = ("t" * 1000,)
    monkeypatch.setenv("AWS_SESSION_TOKEN", stub.tokens[0])
    async with delivering(scripted(lambda call: SENT)) as bench:
        await _admit(bench, "call-1")
        (failed,) = await bench.told.until(CallFailed)
        assert failed.reason is FailReason.RECORDING_TOO_LONG
        assert failed.what.endswith("write `audio: upload`")
        assert stub.tokens[0] not in failed.what
        assert (await the(bench.ledger, "call-1")).state is State.FAILED


async def test_a_stop_while_a_url_is_signed_leaves_the_call_due(stub: S3Stub) -> None:
    """Nothing was sent: the next start sends it."""
    stub.hold = asyncio.Event()
    async with delivering(scripted(lambda call: SENT)) as bench:
        await _admit(bench, "call-1")
        async with asyncio.timeout(20):
            await stub.asked.wait()
        assert bench.task is not None
        bench.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.task
        stub.hold.set()
    found = await the(bench.ledger, "call-1")
    assert (found.state, found.attempts) == (State.DUE, 0)


async def test_on_error_send_sends_a_call_whose_url_cannot_be_signed(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the placeholder, the same bytes at each attempt; its audio is failed, told and listed. What heals is waited for."""
    stub.tokens = ("t" * 1000,)
    monkeypatch.setenv("AWS_SESSION_TOKEN", stub.tokens[0])
    bodies: list[bytes] = []

    def upload(claimed: Claimed) -> Outcome:
        bodies.append(claimed.body)
        return SENT if len(bodies) == 2 else Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="503")

    plan = replace(PLAN, sends_on_error=True, placeholder="none-here")
    async with delivering(scripted(upload), freeze=freeze_body) as bench:
        call = replace(make_call("call-1", strategies=(UrlStrategy(location=LOCATION),)), audio=plan)
        await bench.ledger.admit(Admission(calls=[call]), bench.clock.now())
        (failed,) = await bench.told.until(AudioFailed)
        await bench.told.until(CallRetried)
        asked = len(stub.requests)
        await bench.clock.advance(600)
        await bench.told.until(CallSent)
        stored = await the(bench.ledger, "call-1")
    assert bodies[0] == bodies[1]
    assert orjson.loads(bodies[0])["recording_url"] == "none-here"
    assert (failed.call_id, failed.reason) == ("call-1", AudioReason.AUDIO_UNREADABLE)
    assert failed.what.endswith("write `audio: upload`")
    assert (stored.state, stored.audio) == (State.SENT, AudioState.FAILED)
    assert len(stub.requests) == asked
    assert bench.told.seen(CallFailed) == []


async def test_on_error_send_waits_for_what_a_whole_bucket_suffers_from(stub: S3Stub) -> None:
    """A wrong region is corrected sooner or later: no call loses its audio for it."""
    stub.region = "us-west-2"
    async with delivering(scripted(lambda call: SENT)) as bench:
        call = replace(
            make_call("call-1", strategies=(UrlStrategy(location=LOCATION),)), audio=replace(PLAN, sends_on_error=True)
        )
        await bench.ledger.admit(Admission(calls=[call]), bench.clock.now())
        await bench.told.until(CallRetried)
        assert bench.told.seen(AudioFailed) == []
        stub.region = "eu-central-1"
        await bench.clock.advance(PAUSE_S + 1)
        await bench.told.until(CallSent)
