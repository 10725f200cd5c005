"""Which of several recordings a call takes (`pick:`), and the only one that is near it without a common key (`nearest:`)."""

from dataclasses import replace

import pytest

from tunerd.call import Call, Choice, Fail, ManifestStrategy, Recording, State, UrlStrategy
from tunerd.ledger import Ledger
from tunerd.mapping.match_values import match_text
from tunerd.testing import MemoryLedger, make_call

from .parts import NOW, START_MS, bring, egress, put, recording, state, take, the, waiting

WAIT_S = 1800.0
NO_VALUES = match_text((), {}) or ""


def picking(choice: Choice, within_s: float | None = 600.0) -> ManifestStrategy:
    return replace(egress(within_s=within_s, wait_s=WAIT_S), choice=choice)


def lasting(name: str, at_s: float | None, duration_s: float | None = None, **other: object) -> Recording:
    return replace(recording(f"https://a/{name}", at_s=at_s, **other), duration_s=duration_s)  # type: ignore[arg-type]


def alike(caller: str | None = None) -> str:
    return NO_VALUES if caller is None else match_text(("caller",), {"caller": caller}) or ""


def nearby(name: str, at_s: float = 0.0, caller: str | None = None, within_s: float = 60.0, wait_s: float = WAIT_S) -> Call:
    """A call that looks for the only recording near it."""
    strategy = ManifestStrategy(
        source="egress", key=alike(caller), within_s=within_s, wait_s=wait_s, near_s=0.0, choice=Choice.ONLY
    )
    return waiting(name, strategy, at_s=at_s)


def keyless(name: str, at_s: float, caller: str | None = None, telling: int = 1) -> Recording:
    made = recording(f"https://a/{name}?sig={telling}", at_s=at_s, key="", path=f"/egress/{name}-{telling}.json")
    return replace(made, match=alike(caller), origin=replace(made.origin, mtime_ns=telling))


async def taken(ledger: Ledger, name: str) -> str | None:
    location = (await the(ledger, name)).recording_location
    return None if location is None else location.rpartition("/")[2].partition("?")[0]


@pytest.mark.parametrize(
    ("choice", "gets"), [(Choice.FIRST, "a"), (Choice.LAST, "c"), (Choice.LONGEST, "b"), (Choice.NEAREST, "n")], ids=str
)
async def test_a_call_takes_the_recording_that_it_picks(ledger: Ledger, choice: Choice, gets: str) -> None:
    """Of several that belong to it: the first, the last or the longest after the wait, the nearest at once."""
    await bring(ledger, lasting("a", -200, 10), lasting("b", 90, 30), lasting("n", 1, 5), lasting("c", 300, 20))
    await put(ledger, waiting("w", picking(choice)))
    assert (await state(ledger, "w") is State.DUE) == (choice is Choice.NEAREST)
    await ledger.tick(NOW + WAIT_S - 1)
    assert (await state(ledger, "w") is State.DUE) == (choice is Choice.NEAREST)
    await ledger.tick(NOW + WAIT_S)
    assert await taken(ledger, "w") == gets


async def test_a_better_one_in_the_last_moment_is_picked(ledger: Ledger) -> None:
    """Then the wait of the better one counts, so that yet a better one has the same time to come."""
    await bring(ledger, lasting("a", 10, 10))
    await put(ledger, waiting("w", picking(Choice.LONGEST)))
    await bring(ledger, lasting("b", 20, 11), now=NOW + WAIT_S - 1)
    await ledger.tick(NOW + WAIT_S)
    assert await state(ledger, "w") is State.WAITING
    await ledger.tick(NOW + 2 * WAIT_S)
    assert await taken(ledger, "w") == "b"


@pytest.mark.parametrize("choice", [Choice.FIRST, Choice.LAST, Choice.LONGEST], ids=str)
async def test_a_recording_that_is_nearer_to_another_call_is_not_picked(ledger: Ledger, choice: Choice) -> None:
    """Each call picks among the recordings to which no other call is nearer, also when that one was sent long ago."""
    await put(ledger, waiting("first", picking(choice)), waiting("second", picking(choice), at_s=300))
    await bring(ledger, lasting("a", 5, 50), lasting("b", 305, 60), lasting("c", 100, 70), lasting("d", 420, 80))
    await ledger.tick(NOW + WAIT_S)
    got = await taken(ledger, "first"), await taken(ledger, "second")
    assert got == {Choice.FIRST: ("a", "b"), Choice.LAST: ("c", "d"), Choice.LONGEST: ("c", "d")}[choice]
    await put(ledger, waiting("third", picking(choice), at_s=900))
    await ledger.tick(NOW + 3 * WAIT_S)
    assert await taken(ledger, "third") is None


async def test_what_a_picking_call_leaves_goes_to_no_neighbour(ledger: Ledger) -> None:
    """Two recordings of one call, and a neighbour that takes the nearest: the rest of the first call's is not its."""
    await put(ledger, waiting("first", picking(Choice.LONGEST)), waiting("second", at_s=30))
    await bring(ledger, lasting("long", 1, 50), lasting("short", 4, 5))
    await ledger.tick(NOW + WAIT_S)
    assert (await taken(ledger, "first"), await taken(ledger, "second")) == ("long", None)


@pytest.mark.parametrize(
    ("choice", "recordings"),
    [
        (Choice.FIRST, [lasting("a", -5), lasting("b", -5.0, path="/egress/b", source="egress")]),
        (Choice.LONGEST, [lasting("a", 1, 9), lasting("b", 5, 9)]),
        (Choice.LONGEST, [lasting("a", 1, 9), lasting("b", 5)]),
    ],
    ids=["the same start", "the same length", "one without a length"],
)
async def test_what_cannot_be_compared_is_a_tie(ledger: Ledger, choice: Choice, recordings: list[Recording]) -> None:
    """Two that begin together, are equally long, or one that does not say how long it is: none is guessed."""
    named = [replace(one, id=f"EG_{at}") for at, one in enumerate(recordings)]
    await bring(ledger, *named)
    await put(ledger, replace(waiting("w", picking(choice)), on_missing=Fail()))
    await ledger.tick(NOW + 2 * WAIT_S)
    row = await the(ledger, "w")
    assert (row.state, row.reason) == (State.FAILED, "recording_ambiguous")
    assert "/egress/" in row.detail


async def test_there_may_be_too_many_to_pick_from(ledger: Ledger) -> None:
    """A key that is no key: of a hundred recordings none is taken, and the reason names some."""
    await bring(ledger, *(lasting(f"r{at}", at * 2.0, at) for at in range(100)))
    await put(ledger, replace(waiting("w", picking(Choice.LAST)), on_missing=Fail()))
    await ledger.tick(NOW + WAIT_S)
    row = await the(ledger, "w")
    assert row.reason == "recording_ambiguous"
    assert "more" in row.detail


@pytest.mark.parametrize("caller", [None, "+491701"], ids=["one at a time", "same caller"])
@pytest.mark.parametrize("is_call_first", [True, False])
async def test_the_only_recording_near_the_only_call_is_taken_after_the_wait(
    ledger: Ledger, caller: str | None, is_call_first: bool
) -> None:
    """However near it is, and whichever came first; both have to be known for the wait."""
    for is_call in (True, False) if is_call_first else (False, True):
        if is_call:
            await put(ledger, nearby("w", caller=caller))
        else:
            await bring(ledger, keyless("r", 1, caller))
    await ledger.tick(NOW + WAIT_S - 1)
    assert await state(ledger, "w") is State.WAITING
    (story,) = await ledger.story("w")
    assert "the recording of /egress/r-1.json started 1 s after the call; it is taken at" in story.waits_for[0]
    assert "+49" not in story.waits_for[0]
    await ledger.tick(NOW + WAIT_S)
    assert await taken(ledger, "w") == "r"


@pytest.mark.parametrize(
    "more",
    [nearby("v", 50, "x"), nearby("v", -50, "x"), keyless("s", 40, "x"), keyless("s", -59, "x")],
    ids=["a call after it", "a call before it", "a recording after it", "a recording before it"],
)
async def test_a_second_call_or_recording_near_them_is_a_tie(ledger: Ledger, more: Call | Recording) -> None:
    """Whichever of the three comes last, within the wait: nobody gets anything, and the story says so."""
    both: list[Call | Recording] = [nearby("w", caller="x"), keyless("r", 1, "x")]
    for last in range(3):
        ledger = MemoryLedger()
        for one in (*both[:last], more, *both[last:]):
            await (put(ledger, one) if isinstance(one, Call) else bring(ledger, one))
        await ledger.tick(NOW + WAIT_S)
        assert await state(ledger, "w") in (State.WAITING, State.FAILED)
        assert await taken(ledger, "w") is None
        (story,) = await ledger.story("w")
        assert "so none is taken" in story.waits_for[0]
        assert "tunerd retry" in story.waits_for[0]


async def test_what_has_other_values_or_lies_farther_away_is_in_nobodys_way(ledger: Ledger) -> None:
    """Only equal values count, and only what is within the time."""
    await put(ledger, nearby("w", caller="x"), nearby("v", 5, "y"), nearby("far", 400, "x"))
    await bring(ledger, keyless("r", 1, "x"), keyless("s", 6, "y"), keyless("t", 401, "x"), keyless("lone", 1000, "x"))
    await ledger.tick(NOW + WAIT_S)
    assert [await taken(ledger, name) for name in ("w", "v", "far")] == ["r", "s", "t"]


async def test_a_call_that_has_its_audio_is_in_the_way_too(ledger: Ledger) -> None:
    """A call that brought its own URL may be the one that the recording is of; so may one that was sent."""
    await put(ledger, nearby("w", caller="x"))
    strategies = (UrlStrategy(location="https://a/own"), *nearby("v", caller="x").strategies)
    await put(ledger, make_call("v", started_at_ms=START_MS + 20_000, strategies=strategies))
    await bring(ledger, keyless("r", 1, "x"))
    await ledger.tick(NOW + WAIT_S)
    assert await taken(ledger, "w") is None


async def test_a_recording_that_another_call_has_counts(ledger: Ledger) -> None:
    """Two recordings were near the call, and one is taken by now: the other one is not sure to be the call's."""
    await put(ledger, nearby("first", caller="x"))
    await bring(ledger, keyless("a", 1, "x"))
    await ledger.tick(NOW + WAIT_S)
    assert await taken(ledger, "first") == "a"
    await put(ledger, nearby("second", 40, "x"), now=NOW + WAIT_S)
    await bring(ledger, keyless("b", 41, "x"), now=NOW + WAIT_S)
    await ledger.tick(NOW + 2 * WAIT_S)
    assert await taken(ledger, "second") is None


async def test_recordings_without_a_key_are_one_only_if_all_agrees(ledger: Ledger) -> None:
    """Signed anew it is the same one; another URL at the same time is another recording, since the values need not tell them
    apart."""
    await put(ledger, nearby("w"), nearby("v", 1000))
    await bring(ledger, keyless("r", 1), keyless("s", 1001), now=NOW)
    await bring(ledger, keyless("r", 1, telling=2), keyless("t", 1001, telling=2), now=NOW + 1)
    await ledger.tick(NOW + WAIT_S)
    row = await the(ledger, "w")
    assert row.recording_location == "https://a/r?sig=2"
    assert await taken(ledger, "v") is None


async def test_no_value_matches_no_value(ledger: Ledger) -> None:
    """A withheld caller: a call without the value looks for nothing, and a recording without it is found by nobody."""
    strategy = replace(nearby("w").strategies[0], key=None)  # type: ignore[type-var]
    await put(ledger, replace(waiting("w", strategy), on_missing=Fail()))
    assert await state(ledger, "w") is State.FAILED
    await bring(ledger, replace(keyless("r", 1), key="room", match=""))
    await put(ledger, nearby("v"))
    await ledger.tick(NOW + WAIT_S)
    assert await taken(ledger, "v") is None


async def test_a_manifest_that_is_told_again_with_another_start_moves_to_its_call(ledger: Ledger) -> None:
    """Until the body is made the newer manifest counts: what it was matched with by the older one is matched anew."""
    await put(ledger, waiting("a"), waiting("b", at_s=300))
    first = replace(recording("https://a/r", at_s=1), id="EG_1")
    await bring(ledger, first)
    assert [await taken(ledger, name) for name in "ab"] == ["r", None]
    moved = replace(first, started_at=(START_MS + 301_000) / 1000, origin=replace(first.origin, mtime_ns=2))
    await bring(ledger, moved)
    assert [await taken(ledger, name) for name in "ab"] == [None, "r"]
    assert (await state(ledger, "a"), await state(ledger, "b")) == (State.WAITING, State.DUE)
    assert (await take(ledger)).claimed is not None
    await bring(ledger, replace(first, origin=replace(first.origin, mtime_ns=3)))
    assert [await taken(ledger, name) for name in "ab"] == [None, "r"]


# A person decides.


async def _by_hand(ledger: Ledger, name: str, location: str, now: float = NOW) -> State:
    return await ledger.use_recording((await the(ledger, name)).row, location, now)


@pytest.mark.parametrize("given", ["https://a/b?sig=1", "https://a/b"], ids=["whole", "without its query"])
@pytest.mark.parametrize("has_failed", [False, True])
async def test_a_person_decides_a_tie(ledger: Ledger, given: str, has_failed: bool) -> None:
    """While the call waits and after it failed: it takes that candidate with its signature, and the other one is left."""
    await bring(ledger, recording("https://a/a?sig=1", at_s=-10), recording("https://a/b?sig=1", at_s=10))
    await put(ledger, replace(waiting("w"), on_missing=Fail()))
    if has_failed:
        await ledger.tick(NOW + WAIT_S)
        assert (await the(ledger, "w")).reason == "recording_ambiguous"
    assert await _by_hand(ledger, "w", given, NOW + WAIT_S) is State.DUE
    assert (await the(ledger, "w")).recording_location == "https://a/b?sig=1"
    await put(ledger, waiting("v", at_s=9))
    assert await taken(ledger, "v") != "b"
    assert [event.detail for event in (await ledger.story("w"))[0].events if event.what == "matched"] == ["by hand"]


async def test_a_person_may_name_a_recording_that_nobody_told_of(ledger: Ledger) -> None:
    """And a manifest that comes later changes nothing; of `nearest` it is the same."""
    await put(ledger, replace(waiting("w"), on_missing=Fail()), nearby("v"))
    await ledger.tick(NOW + WAIT_S)
    for name in "wv":
        assert await _by_hand(ledger, name, f"https://b/{name}?sig=9", NOW + WAIT_S) is State.DUE
    await bring(ledger, recording(at_s=1), now=NOW + WAIT_S)
    assert [(await the(ledger, name)).recording_location for name in "wv"] == ["https://b/w?sig=9", "https://b/v?sig=9"]


async def test_a_call_that_has_its_recording_takes_none_by_hand(ledger: Ledger) -> None:
    """Due or sent, its body may be on its way: it is left alone."""
    await put(ledger, make_call("own"))
    assert await _by_hand(ledger, "own", "https://b/x") is State.DUE
    assert (await the(ledger, "own")).recording_location == "https://audio.example/a.wav"
    assert (await take(ledger)).claimed is not None
    assert await _by_hand(ledger, "own", "https://b/x") is State.SENDING
