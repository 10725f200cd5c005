"""Calls that look for files: which names the ledger says are wanted, and to which call a file goes."""

from dataclasses import replace

import pytest

from tunerd.call import Choice, ManifestStrategy, Origin, Recording, State
from tunerd.file_pattern import FILES
from tunerd.ledger import FAR_AT_ONCE, Ledger
from tunerd.testing import make_call

from .parts import NOW, START, START_MS, bring, put, state, the


def named(key: str, *, within_s: float | None = None, wait_s: float = 1800.0) -> ManifestStrategy:
    """As the mapping makes them (mapping/document_run.py)."""
    choice = Choice.NEAREST if within_s is None else Choice.ONLY
    return ManifestStrategy(source=FILES, key=key, within_s=within_s, wait_s=wait_s, near_s=0.0, choice=choice)


def file(key: str, path: str = "", *, at_s: float | None = None, identity: str = "1") -> Recording:
    """A file that was found for this name."""
    path = path or key
    return Recording(
        origin=Origin(source="agent", path=path, mtime_ns=1),
        source=FILES,
        key=key,
        match="" if at_s is None else key,
        id=f"{path}-{identity}",
        location=f"file://{path}",
        started_at=START + (at_s or 0.0),
        identity=identity,
    )


async def test_names_that_are_looked_for(ledger: Ledger) -> None:
    """The names of waiting calls, in pages, each once. What was found is not listed."""
    await put(
        ledger,
        make_call("a", strategies=(named("/rec/a.wav"),)),
        make_call("b", strategies=(named("/rec/b.wav"),)),
        make_call("b2", strategies=(named("/rec/b.wav"),)),
        make_call("c", strategies=(named("/rec/c.wav"),)),
    )
    assert [one.name for one in await ledger.files_wanted()] == ["/rec/a.wav", "/rec/b.wav", "/rec/c.wav"]
    assert [one.name for one in await ledger.files_wanted("/rec/a.wav", 1)] == ["/rec/b.wav"]
    await bring(ledger, file("/rec/a.wav"))
    assert [one.name for one in await ledger.files_wanted()] == ["/rec/b.wav", "/rec/c.wav"]


async def test_a_file_goes_to_the_call_of_its_name(ledger: Ledger) -> None:
    """It is taken at once: the name is the call's own."""
    await put(ledger, make_call("a", strategies=(named("/rec/a.wav"),)), make_call("b", strategies=(named("/rec/b.wav"),)))
    await bring(ledger, file("/rec/a.wav"))
    row = await the(ledger, "a")
    assert (row.state, row.recording_location) == (State.DUE, "file:///rec/a.wav")
    assert await state(ledger, "b") is State.WAITING


async def test_two_files_are_a_tie(ledger: Ledger) -> None:
    """Two files with the name of one call: it gets neither, and `status` names both."""
    await put(ledger, make_call("a", strategies=(named("/rec/a*.wav"),)))
    await bring(ledger, file("/rec/a*.wav", "/rec/a-1.wav"), file("/rec/a*.wav", "/rec/a-2.wav"))
    assert await state(ledger, "a") is State.WAITING
    (story,) = await ledger.story("a")
    line = story.waits_for[0]
    assert line.startswith("file /rec/a*.wav: 2 files fit this call: /rec/a-1.wav (last written ")


async def test_two_calls_of_one_name_are_a_tie(ledger: Ledger) -> None:
    """Two agents with the same call id: the file goes to neither."""
    one = make_call("a", agent="one", strategies=(named("/rec/a.wav"),))
    other = make_call("a", agent="other", strategies=(named("/rec/a.wav"),))
    await put(ledger, one, other)
    await bring(ledger, file("/rec/a.wav"))
    assert {story.call.state for story in await ledger.story("a")} == {State.WAITING}


async def test_a_file_that_a_call_has_goes_to_no_other(ledger: Ledger) -> None:
    """The same file found again under the name of another call stays with the first; another file is taken after the wait."""
    await put(ledger, make_call("a", strategies=(named("/rec/a*.wav"),)), make_call("a-1", strategies=(named("/rec/a-1.wav"),)))
    await bring(ledger, file("/rec/a-1.wav", "/rec/a-1.wav"))
    assert [await state(ledger, name) for name in ("a", "a-1")] == [State.WAITING, State.DUE]
    await bring(ledger, file("/rec/a*.wav", "/rec/a-1.wav"))
    await ledger.tick(NOW + 1801)
    assert (await the(ledger, "a")).recording_location is None
    await bring(ledger, file("/rec/a*.wav", "/rec/a-2.wav"))
    await ledger.tick(NOW + 3602)
    assert (await the(ledger, "a")).recording_location == "file:///rec/a-2.wav"


async def test_times_are_compared_with_the_end_of_the_call(ledger: Ledger) -> None:
    """Where a name is not the call's own, the call that ended near the last write of the file gets it, after its wait."""
    window = (named("/rec/*.wav", within_s=30.0, wait_s=100.0),)
    first = replace(make_call("first", strategies=window), started_at_ms=START_MS, ended_at_ms=START_MS + 40_000)
    second = replace(make_call("second", strategies=window), started_at_ms=START_MS + 61_000, ended_at_ms=START_MS + 80_000)
    await put(ledger, first, second)
    (wanted,) = await ledger.files_wanted()
    assert wanted.times == (START + 10.0, START + 110.0)
    await bring(ledger, file("/rec/*.wav", "/rec/x.wav", at_s=81.0))
    assert [await state(ledger, name) for name in ("first", "second")] == [State.WAITING] * 2
    (story,) = await ledger.story("second")
    assert "/rec/x.wav was last written 1 s after the end of the call; it is taken at" in story.waits_for[0]
    await ledger.tick(NOW + 101)
    assert (await the(ledger, "second")).recording_location == "file:///rec/x.wav"
    assert (await the(ledger, "first")).recording_location is None


async def test_two_files_near_a_call_are_a_tie(ledger: Ledger) -> None:
    """The nearer file is no better: it may be the next call's, whose document comes later."""
    await put(ledger, make_call("a", started_at_ms=START_MS, strategies=(named("/rec/*.wav", within_s=60.0, wait_s=100.0),)))
    await bring(ledger, file("/rec/*.wav", "/rec/x.wav", at_s=25.0), file("/rec/*.wav", "/rec/y.wav", at_s=40.0))
    (story,) = await ledger.story("a")
    assert "2 files fit this call: /rec/x.wav" in story.waits_for[0]
    await ledger.tick(NOW + 101)
    row = await the(ledger, "a")
    assert (row.state, row.reason, row.recording_location) == (State.FAILED, "recording_ambiguous", None)


async def test_a_file_near_two_calls_is_a_tie(ledger: Ledger) -> None:
    """The nearer call is no better: its own file may be missing."""
    window = (named("/rec/*.wav", within_s=30.0, wait_s=100.0),)
    await put(ledger, *(make_call(f"c{at}", started_at_ms=START_MS + at * 1000, strategies=window) for at in (0, 20)))
    await bring(ledger, file("/rec/*.wav", "/rec/x.wav", at_s=21.0))
    await ledger.tick(NOW + 101)
    assert [(await the(ledger, name)).reason for name in ("c0", "c20")] == ["recording_ambiguous"] * 2


async def test_a_sweep_takes_only_what_is_old_by_a_wildcard(ledger: Ledger) -> None:
    """`run --once` waits as the daemon does, unless document and file are older than the wait: then nothing else will come."""
    old, new = (round((NOW - age_s) * 1e9) for age_s in (101.0, 99.0))
    for name, document_ns, written_s in (("old", old, 499.0), ("fresh-doc", new, 499.0), ("fresh-file", old, 501.0)):
        made = make_call(name, mtime_ns=document_ns, strategies=(named(f"/rec/{name}-*.wav", wait_s=100.0),))
        await put(ledger, replace(made, ended_at_ms=START_MS + 450_000))
        found = file(f"/rec/{name}-*.wav", f"/rec/{name}-x.wav", at_s=written_s)
        mtime_ns = round((START + written_s) * 1e9)
        await bring(ledger, replace(found, origin=replace(found.origin, mtime_ns=mtime_ns)))
    await ledger.set_far_rule(FAR_AT_ONCE, NOW)
    states = [await state(ledger, name) for name in ("old", "fresh-doc", "fresh-file")]
    assert states == [State.DUE, State.WAITING, State.WAITING]
    await ledger.set_far_rule(FAR_AT_ONCE, NOW + 101)
    assert [await state(ledger, name) for name in ("fresh-doc", "fresh-file")] == [State.DUE, State.DUE]


DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("written_s", "ended_s", "document_s", "is_taken"),
    [
        (-40 * DAY_S, 200.0, 200.0, False),
        (-61.0, 200.0, 200.0, False),
        (-59.0, 200.0, 200.0, True),
        (299.0, 200.0, 100.0, True),
        (301.0, 200.0, 100.0, False),
        (499.0, 200.0, 400.0, True),
        (501.0, 200.0, 400.0, False),
        (499.0, None, 400.0, True),
        (501.0, None, 400.0, False),
        (99.0, None, -DAY_S, True),
        (101.0, None, -DAY_S, False),
    ],
)  # fmt: skip
async def test_what_fits_a_wildcard_was_written_at_the_time_of_the_call(
    ledger: Ledger, written_s: float, ended_s: float | None, document_s: float, is_taken: bool
) -> None:
    """From a minute before the call's start until `wait` (100 s) after its end or its document. What was written at another time
    belongs to another call, perhaps to one that the ledger does not know."""
    made = make_call("a", mtime_ns=round((START + document_s) * 1e9), strategies=(named("/rec/a-*.wav", wait_s=100.0),))
    await put(ledger, replace(made, ended_at_ms=None if ended_s is None else START_MS + round(ended_s * 1000)))
    await bring(ledger, file("/rec/a-*.wav", "/rec/a-1-x.wav", at_s=written_s))
    await ledger.tick(NOW + 101)
    assert (await the(ledger, "a")).recording_location == ("file:///rec/a-1-x.wav" if is_taken else None)


async def test_a_file_of_another_time_is_no_tie(ledger: Ledger) -> None:
    """However many old files fit, the call gets the one that was written for it."""
    await put(ledger, make_call("a", strategies=(named("/rec/a-*.wav", wait_s=100.0),)))
    old = [file("/rec/a-*.wav", f"/rec/a-1-{number}.wav", at_s=-DAY_S) for number in range(70)]
    await bring(ledger, *old, file("/rec/a-*.wav", "/rec/a-x.wav", at_s=10.0))
    await ledger.tick(NOW + 101)
    assert (await the(ledger, "a")).recording_location == "file:///rec/a-x.wav"


async def test_the_time_of_a_file_with_the_whole_name_does_not_matter(ledger: Ledger) -> None:
    """The name says whose it is: also a file that was copied years later is taken."""
    await put(ledger, make_call("a", strategies=(named("/rec/a.wav", wait_s=100.0),)))
    await bring(ledger, file("/rec/a.wav", at_s=400 * DAY_S))
    assert await state(ledger, "a") is State.DUE


async def test_what_was_seen_is_told(ledger: Ledger) -> None:
    """`status` says what was seen of the file that a call waits for."""
    await put(ledger, make_call("a", strategies=(named("/rec/a.wav"),)))
    (story,) = await ledger.story("a")
    assert story.waits_for[0].startswith("file /rec/a.wav: there is no such file yet; waits until ")
    await ledger.note_files({"/rec/a.wav": "/rec/a.wav is still being written"})
    (story,) = await ledger.story("a")
    assert story.waits_for[0].startswith("file /rec/a.wav: /rec/a.wav is still being written; waits until ")


@pytest.mark.parametrize("key", ["/rec/a.wav", "/rec/[*].wav"])
async def test_notes_of_nobody_are_forgotten(ledger: Ledger, key: str) -> None:
    """A note for a name that nobody looks for any more changes nothing."""
    await ledger.note_files({key: "gone"})
    assert await ledger.files_wanted() == []
