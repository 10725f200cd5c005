"""Calls whose URL is only sent once its host has given a byte of it (`verify: get`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunerd.call import Call, Fail, Hold, SendAnyway, State, Strategy, UrlStrategy
from tunerd.ledger import CheckedUrl, FailedCall, Ledger, Matched, UrlToCheck
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.testing import Recorder, make_call

from .parts import NOW, SENT, bring, claimed, egress, put, recording, state, take, the, waiting

URL = "https://audio.example/a.wav?sig=1"
WAIT_S = 600.0


def verified(*strategies: Strategy, on_missing: Hold | Fail | SendAnyway = Hold(hold_s=86_400.0), call_id: str = "a") -> Call:
    made = make_call(call_id, strategies=strategies or (UrlStrategy(location=URL),), on_missing=on_missing)
    return replace(made, verify_s=WAIT_S)


async def due(ledger: Ledger, now: float = NOW) -> Sequence[UrlToCheck]:
    found = [one for host in await ledger.hosts_to_check("", 100) for one in await ledger.urls_to_check(host, now, 100)]
    return sorted(found, key=lambda one: (one.due_at, one.row))


async def absent(
    ledger: Ledger, one: UrlToCheck, now: float, *, again_at: float = NOW + 5, was_asked: bool = True
) -> Sequence[Matched | FailedCall]:
    detail = "audio.example answered 404"
    answer = CheckedUrl(row=one.row, url=one.url, again_at=again_at, detail=detail, was_asked=was_asked)
    return await ledger.urls_checked([answer], now)


async def there(ledger: Ledger, one: UrlToCheck, now: float = NOW) -> object:
    return await ledger.urls_checked([CheckedUrl(row=one.row, url=one.url, again_at=None)], now)


async def test_a_call_waits_until_its_url_is_there(ledger: Ledger) -> None:
    """Nothing is handed out before; then the URL goes into the body as it is."""
    await put(ledger, verified())
    assert (await take(ledger)).claimed is None
    (one,) = await due(ledger)
    assert (one.url, one.host, one.call_id, one.since, ledger.gauges().unasked_urls) == (URL, "audio.example:443", "a", None, 1)
    await absent(ledger, one, NOW)
    assert ledger.gauges().unasked_urls == 0
    assert await due(ledger) == []
    (again,) = await due(ledger, NOW + 5)
    assert again.since == NOW
    await there(ledger, again, NOW + 5)
    taken = await claimed(ledger, NOW + 5)
    assert f'"recording_url":"{URL}"'.encode() in taken.body
    assert ledger.gauges().url_checks == 0
    await ledger.settle(taken.row, SENT, NOW + 6)
    assert await state(ledger, "a") is State.SENT


async def test_a_call_without_it_is_due_at_once(ledger: Ledger) -> None:
    """Nobody is asked, and nothing is stored for it."""
    await put(ledger, make_call("a"))
    assert await state(ledger, "a") is State.DUE
    assert await due(ledger) == []


async def test_a_url_that_stays_absent_ends_with_on_missing(ledger: Ledger) -> None:
    """After its wait: failed, with what the host had said; `retry` asks again."""
    await put(ledger, verified(on_missing=Fail()))
    (one,) = await due(ledger)
    await absent(ledger, one, NOW)
    assert await absent(ledger, one, NOW + WAIT_S - 1) == []
    (gone,) = await absent(ledger, one, NOW + WAIT_S)
    assert isinstance(gone, FailedCall)
    assert "audio.example answered 404" in gone.refusal.what
    assert "sig=1" not in gone.refusal.what
    assert await due(ledger, NOW + 2 * WAIT_S) == []
    await ledger.requeue(gone.row, NOW + 2 * WAIT_S)
    (again,) = await due(ledger, NOW + 2 * WAIT_S)
    await there(ledger, again, NOW + 2 * WAIT_S)
    assert await state(ledger, "a") is State.DUE


async def test_a_held_call_is_asked_for_after_its_wait_too(ledger: Ledger) -> None:
    """`on_missing: hold` keeps the call, and a recording that comes later still counts."""
    await put(ledger, verified())
    (one,) = await due(ledger)
    await absent(ledger, one, NOW)
    await absent(ledger, one, NOW + WAIT_S, again_at=NOW + WAIT_S)
    assert await state(ledger, "a") is State.WAITING
    (again,) = await due(ledger, NOW + WAIT_S)
    await there(ledger, again, NOW + WAIT_S)
    assert await state(ledger, "a") is State.DUE


async def test_the_next_strategy_answers_when_the_wait_is_over(ledger: Ledger) -> None:
    """Both are asked for side by side; the first one counts as long as it may still come."""
    other = "https://audio.example/b.wav"
    await put(ledger, verified(UrlStrategy(location=URL), UrlStrategy(location=other)))
    first, second = sorted(await due(ledger), key=lambda one: one.url)
    assert (first.url, second.url) == (URL, other)
    await there(ledger, second)
    await absent(ledger, first, NOW)
    assert await state(ledger, "a") is State.WAITING
    await absent(ledger, first, NOW + WAIT_S)
    assert (await the(ledger, "a")).recording_location == other


async def test_a_url_of_a_manifest_is_asked_for_and_a_newer_one_replaces_it(ledger: Ledger) -> None:
    """A newer manifest with another URL begins another wait; nobody asks for the old URL any more."""
    call = replace(waiting("a"), verify_s=WAIT_S)
    await put(ledger, call)
    assert await due(ledger) == []
    await bring(ledger, replace(recording("https://audio.example/old.ogg"), id="r"))
    (one,) = await due(ledger)
    await absent(ledger, one, NOW)
    newer = replace(recording("https://audio.example/new.ogg"), id="r")
    await bring(ledger, replace(newer, origin=replace(newer.origin, mtime_ns=2)), now=NOW + 1)
    (found,) = await due(ledger, NOW + 100)
    assert found.url == "https://audio.example/new.ogg"
    (matched,) = await there(ledger, found, NOW + 100)  # type: ignore[misc]
    assert (matched.call_id, matched.waited_s) == ("a", 100.0)


async def test_a_recording_that_comes_late_is_asked_for_and_revives_its_call(ledger: Ledger) -> None:
    """Also a failed call is not sent with a URL that nobody has seen."""
    await put(ledger, replace(waiting("a", egress(wait_s=10.0), on_missing=Fail()), verify_s=WAIT_S))
    await ledger.tick(NOW + 10)
    assert await state(ledger, "a") is State.FAILED
    await bring(ledger, recording(), now=NOW + 20)
    assert await state(ledger, "a") is State.FAILED
    (one,) = await due(ledger, NOW + 20)
    await there(ledger, one, NOW + 20)
    assert await state(ledger, "a") is State.DUE


async def test_a_failed_call_is_not_asked_for_for_ever(ledger: Ledger) -> None:
    """When its late recording was absent for as long as it may be, nobody asks again."""
    await put(ledger, replace(waiting("a", egress(wait_s=10.0), on_missing=Fail()), verify_s=WAIT_S))
    await ledger.tick(NOW + 10)
    await bring(ledger, recording(), now=NOW + 20)
    (one,) = await due(ledger, NOW + 20)
    await absent(ledger, one, NOW + 20)
    assert ledger.gauges().url_checks == 1
    await absent(ledger, one, NOW + 20 + WAIT_S, again_at=NOW + 21 + WAIT_S)
    assert ledger.gauges().url_checks == 0


async def test_what_on_missing_sends_is_asked_for_by_nobody(ledger: Ledger) -> None:
    """A placeholder is not a recording."""
    await put(ledger, verified(egress(None), on_missing=SendAnyway(url="https://audio.example/none.wav")))
    assert await state(ledger, "a") is State.DUE
    assert await due(ledger) == []


async def test_a_location_that_a_person_gives_is_not_asked_for(ledger: Ledger) -> None:
    """`retry --recording` decides, and what was asked for before is forgotten."""
    await put(ledger, verified())
    (one,) = await due(ledger)
    await ledger.use_recording(one.row, "https://audio.example/by-hand.wav", NOW)
    assert await state(ledger, "a") is State.DUE
    assert ledger.gauges().url_checks == 0


async def test_a_newer_document_begins_anew(ledger: Ledger) -> None:
    """Its URL is asked for, and no longer the one of the document before."""
    await put(ledger, verified())
    newer = verified(UrlStrategy(location="https://audio.example/new.wav"))
    await put(ledger, replace(newer, origin=replace(newer.origin, mtime_ns=2)), now=NOW + 1)
    assert [one.url for one in await due(ledger, NOW + 1)] == ["https://audio.example/new.wav"]


async def test_status_says_what_the_host_said(ledger: Ledger) -> None:
    """One line, without the query of the URL; and none that says that the call is only held."""
    await put(ledger, verified())
    (one,) = await due(ledger)
    await absent(ledger, one, NOW)
    (story,) = await ledger.story("a")
    lines = [line for line in story.waits_for if line.startswith("verify")]
    assert len(lines) == 1
    assert lines[0].startswith("verify https://audio.example/a.wav: audio.example answered 404; asked for again at ")
    assert not [line for line in story.waits_for if "on_missing" in line]


async def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    """What was asked for, and what was not, is known after a start; a forgotten call leaves nothing."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, verified(), verified(call_id="b"))
    first = next(one for one in await due(ledger) if one.call_id == "a")
    await absent(ledger, first, NOW)
    await ledger.close()
    ledger = await SqliteLedger.open(path, now=NOW + 1, emit=Recorder())
    assert (ledger.gauges().url_checks, ledger.gauges().unasked_urls) == (2, 1)
    assert [one.call_id for one in await due(ledger, NOW + 5)] == ["b", "a"]
    await ledger.forget("b", NOW)
    assert (ledger.gauges().url_checks, ledger.gauges().unasked_urls) == (1, 0)
    await ledger.shift(1000.0)
    assert await due(ledger, NOW + 1004) == []
    assert len(await due(ledger, NOW + 1005)) == 1
    await ledger.close()


async def test_a_url_that_nobody_asked_for_is_not_absent(ledger: Ledger) -> None:
    """Whatever time passes, and also if its host is known not to answer: its wait begins with the first answer for it."""
    await put(ledger, verified(on_missing=Fail()))
    (one,) = await due(ledger)
    late = NOW + 10 * WAIT_S
    assert not (await ledger.tick(late))[0]
    assert await absent(ledger, one, late, again_at=late, was_asked=False) == []
    assert await state(ledger, "a") is State.WAITING
    assert ledger.gauges().unasked_urls == 0
    assert await absent(ledger, one, late) == []
    assert not (await ledger.tick(late + 2 * WAIT_S))[0]
    assert await absent(ledger, one, late + 2 * WAIT_S, was_asked=False) == []
    assert await state(ledger, "a") is State.WAITING
    assert len(await absent(ledger, one, late + 2 * WAIT_S)) == 1
    assert await state(ledger, "a") is State.FAILED


async def test_the_last_question_comes_when_the_wait_ends(ledger: Ledger) -> None:
    """However late the next one would have been: `on_missing` answers then."""
    await put(ledger, verified())
    (one,) = await due(ledger)
    await absent(ledger, one, NOW)
    await absent(ledger, one, NOW + WAIT_S - 10, again_at=NOW + WAIT_S + 140)
    assert len(await due(ledger, NOW + WAIT_S)) == 1
    await absent(ledger, one, NOW + WAIT_S, again_at=NOW + WAIT_S + 150)
    assert await due(ledger, NOW + WAIT_S + 149) == []


async def test_time_without_tunerd_makes_no_url_absent(tmp_path: Path) -> None:
    """Stopped before the first answer, or during the wait, and started after it: the URL is asked for once more at least."""
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, now=NOW, emit=Recorder())
    await put(ledger, verified(on_missing=Fail()), verified(on_missing=Fail(), call_id="b"))
    first = next(one for one in await due(ledger) if one.call_id == "a")
    await absent(ledger, first, NOW)
    await ledger.close()
    late = NOW + 5 * WAIT_S
    ledger = await SqliteLedger.open(path, now=late, emit=Recorder())
    assert not (await ledger.tick(late))[0]
    asked = {one.call_id: one for one in await due(ledger, late)}
    assert len(asked) == 2
    assert await absent(ledger, asked["b"], late) == []
    (gone,) = await absent(ledger, asked["a"], late)
    assert isinstance(gone, FailedCall)
    assert "answered 404" in gone.refusal.what
    assert (await state(ledger, "a"), await state(ledger, "b")) == (State.FAILED, State.WAITING)
    await ledger.close()


async def test_an_object_behind_a_manifest_is_asked_for_by_nobody(ledger: Ledger) -> None:
    """Only URLs have a host: a location in a bucket waits for the manifest before it, and is used after that."""
    await put(ledger, verified(egress(wait_s=60.0), UrlStrategy(location="s3://bucket/a.wav")))
    assert await ledger.hosts_to_check("", 10) == []
    await ledger.tick(NOW + 60)
    assert (await the(ledger, "a")).recording_location == "s3://bucket/a.wav"


async def test_hosts_are_listed_once_and_each_has_its_own_urls(ledger: Ledger) -> None:
    """By name and port, in the order of their names, a page at a time; a host of which all is there is not listed."""
    hosts = ("b.example", "a.example:8080", "a.example", "B.example")
    for number, host in enumerate(hosts * 2):
        await put(ledger, verified(UrlStrategy(location=f"https://u:p@{host}/{number}.wav"), call_id=f"c{number}"))
    assert await ledger.hosts_to_check("", 10) == ["a.example:443", "a.example:8080", "b.example:443"]
    assert await ledger.hosts_to_check("a.example:443", 1) == ["a.example:8080"]
    assert await ledger.hosts_to_check("b.example:443", 10) == []
    assert [one.call_id for one in await ledger.urls_to_check("b.example:443", NOW, 3)] == ["c0", "c3", "c4"]
    for one in await ledger.unanswered_urls("a.example:8080", 10):
        await there(ledger, one)
    assert await ledger.hosts_to_check("", 10) == ["a.example:443", "b.example:443"]


async def test_that_a_host_is_silent_changes_nothing_that_is_known_of_a_url(ledger: Ledger) -> None:
    """An answer that came just before counts: the URL is there, though its call still waits for a better recording."""
    await put(ledger, verified(egress(wait_s=60.0), UrlStrategy(location=URL)))
    (one,) = await due(ledger)
    await there(ledger, one)
    await absent(ledger, one, NOW, was_asked=False)
    assert await due(ledger, NOW + 50) == []
    await ledger.tick(NOW + 60)
    assert (await the(ledger, "a")).recording_location == URL


async def test_the_history_says_why_on_missing_was_sent(ledger: Ledger) -> None:
    """Each URL that was absent, with what its host said and without its query or user; once, and not if a strategy had another
    recording."""
    urls = [f"https://u:canary@audio.example/{name}.wav?sig=canary#canary" for name in "ab"]
    placeholder = SendAnyway(url="https://audio.example/none.wav")
    await put(ledger, verified(*(UrlStrategy(location=one) for one in urls), on_missing=placeholder))
    await put(ledger, verified(UrlStrategy(location=urls[0]), UrlStrategy(location=URL), on_missing=placeholder, call_id="other"))
    first = await due(ledger)
    for now in (NOW, NOW + WAIT_S):
        for one in first:
            await (there if one.url == URL else absent)(ledger, one, now)
    assert await state(ledger, "a") is await state(ledger, "other") is State.DUE
    (story,), (other,) = await ledger.story("a"), await ledger.story("other")
    assert [(one.what, one.detail) for one in story.events if one.detail] == [
        (
            "recording missing",
            f"https://audio.example/{name}.wav: audio.example answered 404; the call is sent as on_missing says",
        )
        for name in "ab"
    ]
    assert "recording missing" not in [one.what for one in other.events]
