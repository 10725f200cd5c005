"""Calls and recordings find each other in every ledger, whoever comes first."""

from dataclasses import replace

import pytest

from tunerd.call import Fail, Hold, Recording, SendAnyway, State, UrlStrategy
from tunerd.ledger import Admission, AdmitVerdict, Ledger
from tunerd.outcome import FailReason
from tunerd.testing import make_call

from .parts import FORM, NOW, SENT, bring, claimed, egress, freeze, later, put, recording, state, take, the, verdicts, waiting


async def test_a_waiting_call_is_never_claimed(ledger: Ledger) -> None:
    """A call that waits for its recording is in nobody's hands."""
    await put(ledger, waiting("w"))
    claim = await take(ledger, NOW + 10)
    assert (claim.claimed, claim.next_due_at) == (None, None)


async def test_the_recording_comes_later(ledger: Ledger) -> None:
    """The admission that brings the recording makes the call due, and says how long it waited."""
    await put(ledger, waiting("w"))
    admitted = await bring(ledger, recording(), now=NOW + 20)
    assert [(one.call_id, one.source, one.waited_s) for one in admitted.matched] == [("w", "agent", 20.0)]
    row = await the(ledger, "w")
    assert (row.state, row.recording_location) == (State.DUE, "https://audio.example/r.ogg")
    assert b"r.ogg" in (await claimed(ledger, NOW + 20)).body


async def test_the_recording_was_there_before(ledger: Ledger) -> None:
    """A manifest may come days before its call."""
    await bring(ledger, recording(), now=NOW - 86_400)
    admitted = await put(ledger, waiting("w"))
    assert verdicts(admitted) == [(AdmitVerdict.NEW, State.DUE)]
    assert [one.waited_s for one in admitted.matched] == [0.0]


async def test_call_and_recording_of_one_read(ledger: Ledger) -> None:
    """Both in one admission are matched in it."""
    admitted = await ledger.admit(Admission(calls=[waiting("w")], recordings=[recording()]), NOW)
    assert verdicts(admitted) == [(AdmitVerdict.NEW, State.DUE)]
    assert [one.call_id for one in admitted.matched] == ["w"]


async def test_one_recording_goes_to_one_call(ledger: Ledger) -> None:
    """Of two waiting calls in the window the nearest gets it, the other waits on; it is used up."""
    await put(ledger, waiting("far", at_s=0), waiting("near", at_s=100))
    await bring(ledger, recording(at_s=90))
    assert (await state(ledger, "far"), await state(ledger, "near")) == (State.WAITING, State.DUE)
    assert verdicts(await put(ledger, waiting("nearest", at_s=90))) == [(AdmitVerdict.NEW, State.WAITING)]


async def test_two_calls_of_one_read_get_their_own(ledger: Ledger) -> None:
    """A reused room: each call of the read gets the recording that is nearest to it, in whatever order they stand."""
    await ledger.admit(
        Admission(
            calls=[waiting("second", at_s=300), waiting("first", at_s=0)],
            recordings=[recording("https://a/1", at_s=1), recording("https://a/2", at_s=301)],
        ),
        NOW,
    )
    assert [(await the(ledger, name)).recording_location for name in ("first", "second")] == ["https://a/1", "https://a/2"]


async def test_a_call_takes_the_nearest_of_several(ledger: Ledger) -> None:
    """Of several stored recordings the one with the nearest start."""
    await bring(ledger, recording("https://a/1", at_s=-50), recording("https://a/2", at_s=10), recording("https://a/3", at_s=40))
    await put(ledger, waiting("w"))
    assert (await the(ledger, "w")).recording_location == "https://a/2"


async def test_exact_ties_are_not_guessed(ledger: Ledger) -> None:
    """Two recordings, or two calls, that are equally near: nobody gets anything."""
    await bring(ledger, recording("https://a/1", at_s=-10), recording("https://a/2", at_s=10))
    await put(ledger, waiting("w"))
    await put(ledger, waiting("x", egress("hall"), at_s=-10), waiting("y", egress("hall"), at_s=10))
    await bring(ledger, recording(key="hall", at_s=0))
    assert [await state(ledger, name) for name in "wxy"] == [State.WAITING] * 3


async def test_a_recording_that_another_waiting_call_is_nearer_to_is_left_to_it(ledger: Ledger) -> None:
    """A stored recording whose nearest call cannot take it yet is not given to the next one."""
    await put(ledger, waiting("near", egress("other", wait_s=60), egress(), at_s=100))
    await bring(ledger, recording(at_s=101))
    assert verdicts(await put(ledger, waiting("far", at_s=0))) == [(AdmitVerdict.NEW, State.WAITING)]
    await ledger.tick(NOW + 60)
    assert (await state(ledger, "near"), await state(ledger, "far")) == (State.DUE, State.WAITING)


async def test_keys_windows_and_sources_keep_apart(ledger: Ledger) -> None:
    """Another key, another source, a start out of the window, a null key: no match."""
    await put(ledger, waiting("w"), waiting("null", egress(None)), waiting("empty", egress("")))
    await bring(ledger, recording(key="else"), recording(source="other"), recording(at_s=601), recording(at_s=-601))
    assert [await state(ledger, name) for name in ("w", "null", "empty")] == [State.WAITING] * 3
    await bring(ledger, recording(at_s=30))
    assert await state(ledger, "w") is State.DUE


async def test_any_window_needs_no_start(ledger: Ledger) -> None:
    """`within: any`: a recording without a start goes to the only call with the key; among several it is not guessed."""
    await put(ledger, waiting("w", egress("sid", within_s=None)))
    await put(ledger, waiting("x", egress("two", within_s=None)), waiting("y", egress("two", within_s=None), at_s=5))
    await bring(ledger, recording(key="sid", at_s=None), recording(key="two", at_s=None))
    assert [await state(ledger, name) for name in "wxy"] == [State.DUE, State.WAITING, State.WAITING]


async def test_a_recording_again_is_the_same(ledger: Ledger) -> None:
    """The same manifest read twice, from wherever, is one recording: it serves one call."""
    await bring(ledger, recording(path="/e/1.json"))
    await bring(ledger, recording(path="/e/2.json"))
    await put(ledger, waiting("w"))
    await bring(ledger, recording(path="/e/1.json"))
    assert verdicts(await put(ledger, waiting("v", at_s=3))) == [(AdmitVerdict.NEW, State.WAITING)]


async def test_a_manifest_that_says_never_ends_the_wait(ledger: Ledger) -> None:
    """`absent` is an answer: the next strategy is asked at once."""
    await put(ledger, waiting("w", egress(), UrlStrategy(location="https://a/fallback")))
    assert await state(ledger, "w") is State.WAITING
    admitted = await bring(ledger, recording(None))
    assert not admitted.matched
    assert (await the(ledger, "w")).recording_location == "https://a/fallback"


async def test_never_comes_before_the_call(ledger: Ledger) -> None:
    """The same when the manifest was there first; and it serves one call, not all."""
    await bring(ledger, recording(None))
    strategies = (egress(), UrlStrategy(location="https://a/fallback"))
    assert verdicts(await put(ledger, waiting("w", *strategies))) == [(AdmitVerdict.NEW, State.DUE)]
    assert verdicts(await put(ledger, waiting("v", *strategies, at_s=300))) == [(AdmitVerdict.NEW, State.WAITING)]


async def test_never_with_fail_fails_at_once(ledger: Ledger) -> None:
    """`absent` and `on_missing: fail`: the admission tells the failed call."""
    await put(ledger, waiting("w", on_missing=Fail()))
    admitted = await bring(ledger, recording(None))
    assert [(one.call_id, one.refusal.reason) for one in admitted.failed] == [("w", FailReason.RECORDING_MISSING)]


async def test_a_manifest_that_changes_its_mind(ledger: Ledger) -> None:
    """A rewritten manifest: what said "never" brings a URL after all."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording(None, path="/e/1.json"))
    assert await state(ledger, "w") is State.WAITING
    await bring(ledger, recording(path="/e/1.json"))
    assert await state(ledger, "w") is State.DUE


async def test_a_rewritten_manifest_stays_with_its_call(ledger: Ledger) -> None:
    """A fresh URL of a matched manifest is that call's, and nobody else's."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording("https://a/old", path="/e/1.json"))
    await put(ledger, waiting("neighbour", at_s=10))
    await bring(ledger, recording("https://a/new", path="/e/1.json"))
    assert (await the(ledger, "w")).recording_location == "https://a/new"
    assert await state(ledger, "neighbour") is State.WAITING


async def test_waits_end_by_tick(ledger: Ledger) -> None:
    """When a strategy's wait is over the next one answers; tick tells when to come again."""
    await put(ledger, waiting("w", egress(wait_s=60), UrlStrategy(location="https://a/fallback")))
    assert await ledger.tick(NOW + 59) == ((), NOW + 60)
    assert await ledger.tick(NOW + 60) == ((), None)
    assert await state(ledger, "w") is State.DUE


async def test_hold_then_fail(ledger: Ledger) -> None:
    """After all waits the call is held on, then fails visibly."""
    await put(ledger, waiting("w", egress(wait_s=60), on_missing=Hold(hold_s=1000)))
    assert await ledger.tick(NOW + 60) == ((), NOW + 1060)
    failed, next_at = await ledger.tick(NOW + 1060)
    assert [(one.call_id, one.refusal.reason) for one in failed] == [("w", FailReason.RECORDING_MISSING)]
    assert next_at is None
    assert (await the(ledger, "w")).reason == "recording_missing"


async def test_send_anyway(ledger: Ledger) -> None:
    """`on_missing: {send: URL}`: after the waits it goes out with that URL."""
    await put(ledger, waiting("w", egress(wait_s=60), on_missing=SendAnyway(url="https://none")))
    await ledger.tick(NOW + 60)
    assert (await the(ledger, "w")).recording_location == "https://none"


async def test_a_recording_that_comes_later_revives(ledger: Ledger) -> None:
    """failed(recording_missing) is put to work by the recording, by itself."""
    await put(ledger, waiting("w", egress(wait_s=60), on_missing=Fail()))
    failed, _ = await ledger.tick(NOW + 60)
    assert len(failed) == 1
    admitted = await bring(ledger, recording(), now=NOW + 90)
    assert [one.call_id for one in admitted.matched] == ["w"]
    row = await the(ledger, "w")
    assert (row.state, row.reason, row.due_at) == (State.DUE, None, NOW + 90)


async def test_a_failed_call_is_still_a_rival(ledger: Ledger) -> None:
    """A call that failed for want of a recording still has a claim to it: the other one does not get it by elimination."""
    await put(ledger, waiting("x", egress(wait_s=60), on_missing=Fail()), waiting("y", at_s=4))
    await ledger.tick(NOW + 60)
    await bring(ledger, recording(at_s=2))
    assert (await state(ledger, "x"), await state(ledger, "y")) == (State.FAILED, State.WAITING)


async def test_a_dismissed_call_is_not_revived(ledger: Ledger) -> None:
    """Handled by a person: a late recording changes nothing."""
    await put(ledger, waiting("w", egress(wait_s=60), on_missing=Fail()))
    await ledger.tick(NOW + 60)
    assert await ledger.dismiss([(await the(ledger, "w")).row], NOW) == 1
    await bring(ledger, recording())
    assert await state(ledger, "w") is State.FAILED


async def test_an_expired_url_is_not_sent(ledger: Ledger) -> None:
    """A call whose URL expired while it was due fails (recording_expired) when it is claimed, never goes out with it."""
    await put(ledger, make_call(strategies=(UrlStrategy(location="https://a/1", expires_at=NOW + 60),)))
    claim = await take(ledger, NOW + 60)
    assert claim.claimed is None
    assert [(one.call_id, one.refusal.reason) for one in claim.failed] == [("call-1", FailReason.RECORDING_EXPIRED)]


async def test_after_an_expired_url_the_next_strategy_answers(ledger: Ledger) -> None:
    """An expired URL is an absence: the call waits for the manifest, or takes the next URL, with a body made anew."""
    expiring = UrlStrategy(location="https://a/1", expires_at=NOW + 60)
    await put(ledger, make_call(strategies=(expiring, UrlStrategy(location="https://a/2"))), waiting("w", expiring, egress()))
    first = await claimed(ledger)
    await ledger.settle(first.row, later(NOW, sure=True), NOW)
    claim = await take(ledger, NOW + 100)
    assert claim.claimed is not None
    assert b"https://a/2" in claim.claimed.body
    assert (await take(ledger, NOW + 100)).claimed is None
    assert await state(ledger, "w") is State.WAITING
    await bring(ledger, recording("https://a/3"), now=NOW + 110)
    assert b"https://a/3" in (await claimed(ledger, NOW + 110)).body


async def test_an_expired_recording_is_used_up(ledger: Ledger) -> None:
    """A manifest's URL that expires before the call is sent: failed(recording_expired); a fresh manifest revives it."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording("https://a/1", expires_at=NOW + 60))
    claim = await take(ledger, NOW + 61)
    assert [one.refusal.reason for one in claim.failed] == [FailReason.RECORDING_EXPIRED]
    await bring(ledger, recording("https://a/fresh", at_s=2.5, expires_at=NOW + 900), now=NOW + 62)
    assert b"https://a/fresh" in (await claimed(ledger, NOW + 62)).body


async def test_the_same_manifest_rewritten_revives_an_expired_call(ledger: Ledger) -> None:
    """The same manifest with a fresh URL revives its call at once."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording("https://a/1", path="/e/1.json", expires_at=NOW + 60))
    await take(ledger, NOW + 61)
    await bring(ledger, recording("https://a/2", path="/e/1.json", expires_at=NOW + 900), now=NOW + 62)
    assert b"https://a/2" in (await claimed(ledger, NOW + 62)).body


async def test_a_fresh_url_replaces_a_frozen_one_that_has_expired(ledger: Ledger) -> None:
    """The manifest was rewritten while the call backed off: its frozen body is sent until that URL expires, then one with the
    fresh URL and its own expiry. A description that has expired as well is no fresh one."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording("https://a/1", path="/e/1.json", expires_at=NOW + 60))
    await ledger.settle((await claimed(ledger)).row, later(NOW, sure=True), NOW)
    await bring(ledger, recording("https://a/2", path="/e/1.json", expires_at=NOW + 900), now=NOW + 10)
    frozen = await claimed(ledger, NOW + 20)
    assert b"https://a/1" in frozen.body
    await ledger.settle(frozen.row, later(NOW + 20, sure=True), NOW + 20)
    fresh = await claimed(ledger, NOW + 61)
    assert b"https://a/2" in fresh.body
    assert fresh.recording_expires_at == NOW + 900
    await ledger.settle(fresh.row, later(NOW + 61, sure=True), NOW + 61)
    claim = await take(ledger, NOW + 900)
    assert [one.refusal.reason for one in claim.failed] == [FailReason.RECORDING_EXPIRED]


async def test_a_sent_call_keeps_its_recording(ledger: Ledger) -> None:
    """A recording that is used stays used after its call is sent."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording())
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert verdicts(await put(ledger, waiting("v"))) == [(AdmitVerdict.NEW, State.WAITING)]


async def test_a_replaced_call_gives_its_recording_back(ledger: Ledger) -> None:
    """What the older document had taken is free for the newer one, or for others."""
    await put(ledger, waiting("w"))
    await bring(ledger, recording())
    await put(ledger, make_call("w", mtime_ns=2))
    assert verdicts(await put(ledger, waiting("v"))) == [(AdmitVerdict.NEW, State.DUE)]


async def test_the_match_wakes_the_destination(ledger: Ledger) -> None:
    """No wake-up is lost: the commit that makes a call due calls its destination's workers."""
    woken: list[str] = []
    ledger.on_due(woken.append)
    await put(ledger, waiting("w"))
    assert woken == []
    await bring(ledger, recording())
    assert woken == ["tuner"]


async def test_what_a_call_waits_for_is_shown(ledger: Ledger) -> None:
    """The story has a line a strategy, without URLs."""
    await put(ledger, waiting("w", UrlStrategy(location=None), egress("a", wait_s=60), egress("b", wait_s=90)))
    await bring(ledger, recording(None, key="a"))
    (story,) = await ledger.story("w")
    assert story.waits_for == [
        "url: absent",
        "manifest egress, key 'a': absent",
        "manifest egress, key 'b': no answer yet, waits until 2026-01-01 00:01:30Z",
    ]


_HELD = "held until 2026-01-15 00:{} by on_missing: hold ({} still counts until then), then it fails"


async def test_a_call_that_is_only_held_says_until_when_and_what_still_counts(ledger: Ledger) -> None:
    """Nothing is looked for any more but the call waits for days: the story says why, and how it ends."""
    await put(ledger, waiting("document", UrlStrategy(location=None), egress(None)))
    await put(ledger, waiting("never", egress("a")))
    await bring(ledger, recording(None, key="a"))
    await put(ledger, waiting("late", UrlStrategy(location=None), egress("b", wait_s=90)))
    assert (await ledger.story("late"))[0].waits_for[2:] == []
    await ledger.tick(NOW + 90)
    told = [(await ledger.story(call_id))[0].waits_for[-1] for call_id in ("document", "never", "late")]
    none = "every strategy says that there is none; "
    assert told == [
        none + _HELD.format("00:00Z", "a newer document"),
        none + _HELD.format("00:00Z", "a newer document, or its manifest written anew with a URL,"),
        "no strategy has given one in time; " + _HELD.format("01:30Z", "a recording or a newer document"),
    ]
    await ledger.tick(NOW + 90 + 1_209_600)
    assert [len((await ledger.story(call_id))[0].waits_for) for call_id in ("document", "never", "late")] == [2, 1, 2]


@pytest.mark.parametrize("on_missing", [Fail(), Hold(hold_s=5.0)])
async def test_a_call_whose_strategy_still_waits_is_not_said_to_be_held(ledger: Ledger, on_missing: Fail | Hold) -> None:
    """One strategy has answered, the other may yet."""
    await put(ledger, waiting("w", egress("a"), egress("b"), on_missing=on_missing))
    await bring(ledger, recording(None, key="a"))
    assert len((await ledger.story("w"))[0].waits_for) == 2


async def test_claiming_goes_by_the_form(ledger: Ledger) -> None:
    """The body is frozen in the form of the claim that froze it, and stays in it."""
    await put(ledger, make_call())
    first = await ledger.claim("tuner", FORM, freeze, NOW)
    assert first.claimed is not None
    assert first.claimed.form is FORM


async def test_a_url_that_expired_is_not_sent_by_a_requeue(ledger: Ledger) -> None:
    """Failed because its document's URL is no longer served: sent again as it is it still has none."""
    soon = UrlStrategy(location="https://audio.example/soon", expires_at=NOW + 10)
    await put(ledger, waiting("a", soon, on_missing=Fail()))
    assert (await take(ledger, NOW + 20)).claimed is None
    row = (await the(ledger, "a")).row
    assert await ledger.requeue(row, NOW + 30) is State.FAILED
    assert (await the(ledger, "a")).reason == "recording_expired"


async def test_a_call_that_brings_its_url_looks_for_no_manifest(ledger: Ledger) -> None:
    """It is due at once, whatever a manifest says; and the recording that a manifest tells of it is given to no other call."""
    await put(ledger, waiting("own", UrlStrategy(location="https://a/own"), egress()))
    assert (await the(ledger, "own")).recording_location == "https://a/own"
    await put(ledger, waiting("other", at_s=120))
    await bring(ledger, recording())
    assert await state(ledger, "own") is State.DUE
    assert await state(ledger, "other") is State.WAITING


async def test_recordings_that_no_call_took_are_counted(ledger: Ledger) -> None:
    """By source; one that a call took is not among them."""
    assert await ledger.unmatched_recordings() == {}
    await bring(ledger, recording(), recording("https://audio.example/other.ogg", key="other"))
    await bring(ledger, recording("https://audio.example/s3.ogg", source="bucket"))
    assert await ledger.unmatched_recordings() == {"egress": 2, "bucket": 1}
    await put(ledger, waiting("w"))
    assert await ledger.unmatched_recordings() == {"egress": 1, "bucket": 1}


def in_spool(name: str, at_s: float, *, telling: int = 1) -> Recording:
    """Audio of a document that went into the spool."""
    made = recording(f"embedded:{name}", at_s=at_s, path=f"/egress/{name}-{telling}.json")
    return replace(made, identity=f"identity of {name}", origin=replace(made.origin, mtime_ns=telling))


async def test_audio_of_two_documents_is_two_recordings(ledger: Ledger) -> None:
    """Audio inside documents is known by the same rules as a URL: another start is another recording."""
    await put(ledger, waiting("first"), waiting("second", at_s=300.0))
    await bring(ledger, in_spool("a", 1.0), in_spool("b", 301.0))
    found = {name: (await the(ledger, name)).recording_location for name in ("first", "second")}
    assert found == {"first": "embedded:a", "second": "embedded:b"}


async def test_audio_that_is_told_again_counts_until_it_is_sent(ledger: Ledger) -> None:
    """A newer document with the audio of a recording takes the place of the first, also after a call has it."""
    await put(ledger, waiting("first"))
    await bring(ledger, in_spool("a", 1.0))
    await bring(ledger, in_spool("b", 1.0, telling=2))
    assert (await the(ledger, "first")).recording_location == "embedded:b"
