"""Calls whose recording is an object in a bucket: the body is made when the URL is signed (presign), or by a rule (url)."""

from dataclasses import replace

from tunerd.call import AudioPlan, Call, Publish, State, UrlStrategy
from tunerd.ledger import AdmitVerdict, Claimed, FailedCall, Ledger
from tunerd.outcome import FailReason
from tunerd.testing import make_call

from .parts import FORM, NOW, SENT, bring, claimed, freeze, later, put, recording, refuse, state, take, the, waiting

OBJECT = "s3://calls/2026/a.wav"
URL = "https://calls.s3.example/2026/a.wav?X-Amz-Signature=1"
PRESIGN = AudioPlan(publish=Publish.PRESIGN, expires_s=3600.0)


def presigned(call_id: str = "call-1") -> Call:
    return replace(make_call(call_id, strategies=(UrlStrategy(location=OBJECT),)), audio=PRESIGN)


async def signed(ledger: Ledger, row: int, *, url: str = URL, expires_at: float = NOW + 3600, now: float = NOW) -> Claimed:
    frozen = await ledger.freeze_signed(row, freeze, FORM, url, expires_at, now)
    assert isinstance(frozen, Claimed)
    return frozen


async def test_a_call_is_claimed_without_a_body_and_gets_it_with_the_url(ledger: Ledger) -> None:
    """The claim says what to sign and for how long; the body has the URL, and the row keeps the location."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    assert taken.to_sign is not None
    assert (taken.body, taken.form) == (b"", FORM)
    assert (taken.to_sign.location, taken.to_sign.expires_s) == (OBJECT, 3600.0)
    frozen = await signed(ledger, taken.row)
    assert frozen.to_sign is None
    assert f'"recording_url":"{URL}"'.encode() in frozen.body
    assert frozen.recording_expires_at == NOW + 3600
    assert (await the(ledger, "call-1")).recording_location == OBJECT
    await ledger.settle(taken.row, SENT, NOW)
    assert await state(ledger, "call-1") is State.SENT


async def test_a_recording_of_a_manifest_is_signed_as_well(ledger: Ledger) -> None:
    """Where the location comes from makes no difference."""
    await put(ledger, replace(waiting("call-1"), audio=PRESIGN))
    await bring(ledger, recording(OBJECT))
    assert (await claimed(ledger)).to_sign is not None


async def test_a_url_is_never_signed(ledger: Ledger) -> None:
    """A location that Tuner can fetch goes out as it is, whatever the plan says."""
    await put(ledger, replace(presigned(), strategies=(UrlStrategy(location="https://a/1.wav"),)))
    taken = await claimed(ledger)
    assert taken.to_sign is None
    assert b'"recording_url":"https://a/1.wav"' in taken.body


async def test_the_next_attempt_sends_the_same_bytes(ledger: Ledger) -> None:
    """While the URL is valid nothing is signed again: the first write has to be the only one."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    first = await signed(ledger, taken.row)
    await ledger.settle(taken.row, later(NOW + 60), NOW)
    again = await claimed(ledger, NOW + 60)
    assert again.to_sign is None
    assert again.body == first.body


async def test_an_expired_url_is_signed_anew_while_nothing_can_have_arrived(ledger: Ledger) -> None:
    """After an outage that outlived the URL the call goes out with a fresh one."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    await signed(ledger, taken.row)
    await ledger.settle(taken.row, later(NOW + 7200, sure=True), NOW)
    again = await claimed(ledger, NOW + 7200)
    assert again.to_sign is not None
    assert again.body == b""
    frozen = await signed(ledger, again.row, url=URL + "2", expires_at=NOW + 9000, now=NOW + 7200)
    assert f'"{URL}2"'.encode() in frozen.body
    assert frozen.recording_expires_at == NOW + 9000


async def test_an_expired_url_that_may_have_arrived_is_not_signed_anew(ledger: Ledger) -> None:
    """Tuner may have stored the call with the first URL: the call is failed, visibly, and `retry` signs a new one."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    await signed(ledger, taken.row)
    await ledger.settle(taken.row, later(NOW + 7200, sure=False), NOW)
    claim = await take(ledger, NOW + 7200)
    assert claim.claimed is None
    assert [one.refusal.reason for one in claim.failed] == [FailReason.RECORDING_EXPIRED]
    assert "`tunerd retry` signs a new one" in claim.failed[0].refusal.what
    assert await ledger.requeue(taken.row, NOW + 7300) is State.DUE
    assert (await claimed(ledger, NOW + 7300)).to_sign is not None


async def test_a_call_whose_url_was_not_signed_goes_back(ledger: Ledger) -> None:
    """A signature that fails is no attempt: the call is due again, and surely has not arrived."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    await ledger.settle(taken.row, later(NOW + 10, counts=False, sure=True), NOW)
    again = await claimed(ledger, NOW + 10)
    assert again.to_sign is not None
    assert (again.attempts, again.first_attempt_at) == (0, None)
    await ledger.release(again.row, NOW + 10)
    assert (await claimed(ledger, NOW + 10)).to_sign is not None


async def test_a_body_that_cannot_be_made_fails_the_call(ledger: Ledger) -> None:
    """As with any other call, the form decides."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    failed = await ledger.freeze_signed(taken.row, refuse, FORM, URL, NOW + 3600, NOW)
    assert isinstance(failed, FailedCall)
    assert await state(ledger, "call-1") is State.FAILED
    assert await ledger.freeze_signed(taken.row, freeze, FORM, URL, NOW + 3600, NOW) is None


async def test_a_call_that_died_unsigned_surely_has_not_arrived(ledger: Ledger) -> None:
    """A defect left it `sending` without a body: nothing was sent, so a newer document may replace it."""
    await put(ledger, presigned())
    taken = await claimed(ledger)
    assert await ledger.reclaim({taken.row: NOW}, NOW) == 1
    newer = replace(presigned(), origin=replace(presigned().origin, mtime_ns=9))
    assert (await put(ledger, newer)).verdicts[0][0] is AdmitVerdict.REPLACED
    again = await claimed(ledger)
    await signed(ledger, again.row)
    assert await ledger.reclaim({taken.row: NOW}, NOW) == 1
    newest = replace(newer, origin=replace(newer.origin, mtime_ns=10))
    assert (await put(ledger, newest)).verdicts[0][0] is AdmitVerdict.DUPLICATE


async def test_the_rule_of_the_plan_reaches_whoever_makes_the_body(ledger: Ledger) -> None:
    """With `publish: {url: rule}` the location and the rule are handed to the freezing; a URL goes without a rule."""
    plan = AudioPlan(publish=Publish.URL, url_rule="concat('https://cdn.example/', location.name)")
    await put(ledger, replace(presigned("a"), audio=plan))
    await put(ledger, replace(presigned("b"), audio=plan, strategies=(UrlStrategy(location="https://a/1.wav"),)))
    seen = []
    for _ in range(2):
        claim = await ledger.claim("tuner", FORM, lambda unfrozen: (seen.append(unfrozen), freeze(unfrozen))[1], NOW)
        assert claim.claimed is not None
    assert {(one.recording_url, one.url_rule) for one in seen} == {(OBJECT, plan.url_rule), ("https://a/1.wav", "")}
