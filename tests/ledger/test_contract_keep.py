"""Positions, lists, the operator's desk, and upkeep on every ledger."""

import dataclasses

import pytest

from tunerd.call import Fail, Fragment, Origin, Refusal, RefusedDocument, State, UrlStrategy
from tunerd.ledger import Admission, AdmitVerdict, Filter, Ledger, Retention, StoredPauses, Unfrozen
from tunerd.outcome import FailReason, PauseReason
from tunerd.testing import make_call

from .parts import (
    FORM,
    NOW,
    REJECTED,
    SENT,
    START_MS,
    bring,
    claimed,
    egress,
    file_mark,
    freeze,
    ignored,
    later,
    put,
    recording,
    refused,
    state,
    take,
    the,
    verdicts,
    waiting,
)

DAY = 86_400.0
KEEP = Retention(sent_s=30 * DAY, failed_s=90 * DAY, recordings_s=7 * DAY, max_failed_bytes=1 << 30, documents=2)


async def send(ledger: Ledger, *names: str, now: float = NOW) -> None:
    """Admit calls from files of their own and deliver them."""
    for name in names:
        call = make_call(name)
        await ledger.admit(Admission(calls=[call], mark=file_mark(call.origin.path)), now)
        await ledger.settle((await claimed(ledger, now)).row, SENT, now)


# Positions.


async def test_marks_by_path(ledger: Ledger) -> None:
    """A mark is read back as it was set, for its source and path only; the newer one counts."""
    await ledger.set_mark(file_mark("/a", inode=2**64 - 5), NOW)
    await ledger.set_mark(file_mark("/a", inode=2**64 - 5, offset=200), NOW)
    assert await ledger.mark("agent", "/a") == file_mark("/a", inode=2**64 - 5, offset=200)
    assert await ledger.mark("other", "/a") is None
    assert await ledger.mark("agent", "/b") is None


async def test_marks_in_pages(ledger: Ledger) -> None:
    """All marks of a source in path order, so many at a time."""
    for path in ("/c", "/a", "/b"):
        await ledger.set_mark(file_mark(path), NOW)
    await ledger.set_mark(file_mark("/x", source="other"), NOW)
    assert [mark.path for mark in await ledger.marks("agent")] == ["/a", "/b", "/c"]
    assert [mark.path for mark in await ledger.marks("agent", "/a", 1)] == ["/b"]


async def test_a_vanished_path_keeps_its_mark_for_a_week(ledger: Ledger) -> None:
    """The mark of a path that vanished is no longer listed, can still be asked for, and goes 7 days later."""
    await ledger.set_mark(file_mark("/a"), NOW)
    await ledger.set_mark(file_mark("/b"), NOW)
    await ledger.vanished("agent", ["/a", "/nowhere"], NOW)
    assert [mark.path for mark in await ledger.marks("agent")] == ["/b"]
    assert await ledger.trim(KEEP, NOW + 7 * DAY - 1) == 0
    assert await ledger.trim(KEEP, NOW + 7 * DAY) == 1
    assert await ledger.mark("agent", "/a") is None
    assert await ledger.mark("agent", "/b") is not None


async def test_a_path_that_comes_back_may_be_disposed_of(ledger: Ledger) -> None:
    """A mount that was away for a moment: what was done with before is still to be disposed of."""
    await ledger.set_mark(file_mark("/a"), NOW)
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/a"]
    await ledger.vanished("agent", ["/a"], NOW)
    assert list(await ledger.disposable("agent")) == []
    await ledger.mark("agent", "/a")
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/a"]


@pytest.mark.parametrize("how", ["asked", "set"])
async def test_a_path_that_comes_back_keeps_its_mark(ledger: Ledger, how: str) -> None:
    """Asking for the mark of a path, or setting it, means that it is there again."""
    await ledger.set_mark(file_mark("/a"), NOW)
    await ledger.vanished("agent", ["/a"], NOW)
    if how == "asked":
        assert await ledger.mark("agent", "/a") == file_mark("/a")
    else:
        await ledger.set_mark(file_mark("/a"), NOW)
    assert await ledger.trim(KEEP, NOW + 30 * DAY) == 0
    assert len(await ledger.marks("agent")) == 1


async def test_files_of_sent_calls_are_disposable(ledger: Ledger) -> None:
    """Only whole files of which everything is sent or ignored; not open, not failed, not a log, not what is gone."""
    await ledger.admit(Admission(ignored=[ignored("/i")], mark=file_mark("/i")), NOW)
    await ledger.admit(Admission(refused=[refused("/r")], mark=file_mark("/r")), NOW)
    await ledger.admit(Admission(calls=[make_call("log", path="/l")], mark=file_mark("/l", whole=False)), NOW)
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    half = Admission(calls=[make_call("x", path="/half"), make_call("y", path="/half", offset=9)], mark=file_mark("/half"))
    await ledger.admit(half, NOW)
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    await send_other(ledger)
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/i"]
    await ledger.settle((await claimed(ledger, NOW + 1)).row, SENT, NOW)
    assert sorted(mark.path for mark in await ledger.disposable("agent")) == ["/half", "/i"]
    assert len(await ledger.disposable("agent", limit=1)) == 1
    await ledger.disposed("agent", "/half", NOW)
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/i"]


async def test_to_the_end_nothing_disposable_is_missed(ledger: Ledger) -> None:
    """A `run --once` asks until nothing comes: over a thousand files that stay don't hide the one behind them."""
    for number in range(1100):
        await ledger.set_mark(file_mark(f"/log-{number:04}", whole=False), NOW)
    await ledger.set_mark(file_mark("/z"), NOW)
    assert [mark.path for mark in await ledger.disposable("agent", to_the_end=True)] == ["/z"]


async def send_other(ledger: Ledger) -> None:
    """A source with the same path is another file; a failed call keeps its file."""
    failing = Admission(calls=[make_call("f", path="/f")], mark=file_mark("/f"))
    await ledger.admit(failing, NOW - 1)
    await ledger.settle((await claimed(ledger)).row, REJECTED, NOW)
    await ledger.set_mark(file_mark("/half", source="other"), NOW)


async def test_a_duplicates_file_waits_for_the_call(ledger: Ledger) -> None:
    """The second file of a call may go when the call is sent, not before."""
    await put(ledger, make_call(path="/a"))
    await ledger.admit(Admission(calls=[make_call(path="/b", mtime_ns=0)], mark=file_mark("/b")), NOW)
    assert not await ledger.disposable("agent")
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/b"]


async def test_a_file_of_fragments_stays(ledger: Ledger) -> None:
    """Parts of a call that is not gathered yet keep their file."""
    origin = Origin(source="agent", path="/part")
    part = Fragment(origin=origin, source="agent", key="k", part="a", newest=None, document=b"{}", settled_at=NOW)
    for _ in range(2):
        await ledger.admit(Admission(fragments=[part], mark=file_mark("/part")), NOW)
    assert not await ledger.disposable("agent")


async def test_a_disposed_path_that_is_written_again_is_new(ledger: Ledger) -> None:
    """A new file of the same name is disposable when its own calls are sent."""
    await send(ledger, "a")
    await ledger.disposed("agent", "/calls/a.json", NOW)
    assert not await ledger.disposable("agent")
    again = make_call("a2", path="/calls/a.json")
    await ledger.admit(Admission(calls=[again], mark=file_mark("/calls/a.json", inode=8)), NOW)
    assert not await ledger.disposable("agent")
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert len(await ledger.disposable("agent")) == 1


# Lists and stories.


async def test_filters(ledger: Ledger) -> None:
    """Lists go by state, reason, source, id, admission and dismissal, in row order or newest first, in pages."""
    await put(ledger, make_call("a"), make_call("b", source="s2"))
    await put(ledger, make_call("c"), waiting("w"), now=NOW + 10)
    await ledger.settle((await claimed(ledger)).row, REJECTED, NOW)

    async def names(**where: object) -> list[str | None]:
        return [row.call_id for row in await ledger.calls(Filter(**where))]  # type: ignore[arg-type]

    assert await names() == ["a", "b", "c", "w"]
    assert await names(states=frozenset({State.FAILED, State.WAITING})) == ["a", "w"]
    assert await names(reasons=frozenset({"rejected"})) == ["a"]
    assert await names(sources=frozenset({"s2"})) == ["b"]
    assert await names(destinations=frozenset({"elsewhere"})) == []
    assert await names(destinations=frozenset({"tuner", "elsewhere"})) == ["a", "b", "c", "w"]
    assert await names(call_ids=frozenset({"a", "w", "?"})) == ["a", "w"]
    assert await names(since=NOW + 10) == ["c", "w"]
    await ledger.dismiss([(await the(ledger, "a")).row], NOW)
    assert await names(states=frozenset({State.FAILED})) == []
    assert await names(dismissed=True) == ["a"]
    assert await names(dismissed=None) == ["a", "b", "c", "w"]
    page = await ledger.calls(Filter(dismissed=None), limit=2, newest=True)
    assert [row.call_id for row in page] == ["w", "c"]
    page = await ledger.calls(Filter(dismissed=None), after_row=page[-1].row, newest=True)
    assert [row.call_id for row in page] == ["b", "a"]
    page = await ledger.calls(Filter(dismissed=None), after_row=page[-1].row, limit=1)
    assert [row.call_id for row in page] == ["b"]


async def test_a_story_keeps_the_last_twenty_events(ledger: Ledger) -> None:
    """However often a call is tried, its story stays short and ends with the newest."""
    await put(ledger, make_call())
    for attempt in range(25):
        await ledger.settle((await claimed(ledger, NOW + attempt)).row, later(NOW + attempt), NOW + attempt)
    (story,) = await ledger.story("call-1")
    assert [event.at for event in story.events] == [NOW + attempt for attempt in range(5, 25)]
    assert story.call.attempts == 25
    assert await ledger.story("nobody") == []


async def test_unknown_rows_have_no_document(ledger: Ledger) -> None:
    """Asking for what is not kept gives nothing, not an error."""
    assert (await ledger.document(77), await ledger.alive()) == (None, True)


# Desk.


async def test_replace_puts_a_mapped_call_in_a_refused_row(ledger: Ledger) -> None:
    """`retry` of a refused document that maps now: the same row becomes a due call."""
    await ledger.admit(Admission(refused=[refused("/x")]), NOW)
    (row,) = await ledger.calls(Filter())
    assert await ledger.replace(row.row, make_call(path="/x"), NOW + 5) is State.DUE
    after = await the(ledger, "call-1")
    assert (after.row, after.state, after.reason) == (row.row, State.DUE, None)
    assert b"call-1" in (await claimed(ledger, NOW + 5)).body


async def test_replace_with_what_is_still_refused(ledger: Ledger) -> None:
    """Still refused: the row stays failed with today's words, and is no longer dismissed."""
    await ledger.admit(Admission(refused=[refused("/x")]), NOW)
    (row,) = await ledger.calls(Filter())
    await ledger.dismiss([row.row], NOW)
    said = Refusal(reason=FailReason.UNMAPPABLE, where="call.call_id (line 3)", what="gave nothing")
    again = RefusedDocument(origin=refused("/x").origin, refusal=said, document=b"{}")
    assert await ledger.replace(row.row, again, NOW) is State.FAILED
    (after,) = await ledger.calls(Filter())
    assert (after.row, after.reason, after.where) == (row.row, "unmappable", "call.call_id (line 3)")


async def test_replace_makes_a_rejected_call_anew(ledger: Ledger) -> None:
    """Mapped again with mended rules: unfrozen, due or waiting, attempts from zero."""
    await put(ledger, make_call())
    row = (await claimed(ledger)).row
    await ledger.settle(row, REJECTED, NOW)
    assert await ledger.replace(row, make_call(text="mended"), NOW + 1) is State.DUE
    call = await claimed(ledger, NOW + 1)
    assert b"mended" in call.body
    assert call.attempts == 0
    await ledger.settle(row, REJECTED, NOW)
    assert await ledger.replace(row, waiting("call-1"), NOW + 1) is State.WAITING


async def test_replace_leaves_sending_and_sent_alone(ledger: Ledger) -> None:
    """What is under way or done is not touched."""
    await put(ledger, make_call())
    taken = await claimed(ledger)
    assert await ledger.replace(taken.row, make_call(text="x"), NOW) is State.SENDING
    await ledger.settle(taken.row, SENT, NOW)
    assert await ledger.replace(taken.row, make_call(text="x"), NOW) is State.SENT
    assert await ledger.requeue(taken.row, NOW) is State.SENT


async def test_replace_into_an_id_that_is_held(ledger: Ledger) -> None:
    """Mapped again to a call that is there already: another copy goes into it, another call stays a conflict."""
    await put(ledger, make_call())
    await ledger.admit(Admission(refused=[refused("/x"), refused("/y")]), NOW)
    copy, other = await ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert await ledger.replace(copy.row, make_call(path="/x"), NOW) is State.DUE
    assert await ledger.replace(other.row, make_call(path="/y", started_at_ms=START_MS + 5000), NOW) is State.FAILED
    rows = await ledger.calls(Filter())
    assert [(row.state, row.reason) for row in rows] == [(State.DUE, None), (State.FAILED, "id_conflict")]
    (story, _) = await ledger.story("call-1")
    assert ("/x", 0) in story.origins
    with pytest.raises(LookupError):
        await ledger.replace(copy.row, make_call(), NOW)


async def test_a_conflict_that_maps_to_its_own_id_is_due(ledger: Ledger) -> None:
    """After the call_id rule is mended, `retry` gives the conflicting document its own call."""
    await put(ledger, make_call())
    await put(ledger, make_call(path="/b", started_at_ms=START_MS + 5000))
    (conflict,) = await ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert await ledger.requeue(conflict.row, NOW) is State.FAILED
    assert await ledger.replace(conflict.row, make_call("call-2", path="/b"), NOW) is State.DUE


async def test_requeue_sends_again_as_it_is(ledger: Ledger) -> None:
    """Due now, attempts from zero, the body made anew from the stored payload."""
    await put(ledger, make_call())
    row = (await claimed(ledger)).row
    await ledger.settle(row, REJECTED, NOW)
    assert await ledger.requeue(row, NOW + 9) is State.DUE
    after = await the(ledger, "call-1")
    assert (after.due_at, after.attempts, after.reason) == (NOW + 9, 0, None)
    again = await ledger.claim("tuner", FORM, lambda _: b"{}", NOW + 9)
    assert again.claimed is not None
    assert again.claimed.body == b"{}"
    with pytest.raises(LookupError):
        await ledger.requeue(77, NOW)


async def test_requeue_of_a_call_without_its_recording_looks_again(ledger: Ledger) -> None:
    """failed(recording_missing) that is sent again waits anew; a refused document has nothing to send."""
    await put(ledger, waiting("w", egress(wait_s=60), on_missing=Fail()))
    await ledger.tick(NOW + 60)
    row = (await the(ledger, "w")).row
    assert await ledger.requeue(row, NOW + 100) is State.WAITING
    assert await ledger.tick(NOW + 159) == ((), NOW + 160)
    await bring(ledger, recording(), now=NOW + 120)
    assert await state(ledger, "w") is State.DUE
    await ledger.admit(Admission(refused=[refused("/x")]), NOW)
    (bad,) = await ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert await ledger.requeue(bad.row, NOW) is State.FAILED


async def test_dismiss(ledger: Ledger) -> None:
    """Dismissed failures are neither listed nor counted; only failed rows are dismissed, once."""
    await ledger.admit(Admission(refused=[refused("/x"), refused("/y")], calls=[make_call()]), NOW)
    rows = [row.row for row in await ledger.calls(Filter())]
    assert await ledger.dismiss([*rows, 999], NOW) == 2
    assert await ledger.dismiss(rows, NOW) == 0
    assert ledger.gauges().calls[State.FAILED] == 0
    assert [row.call_id for row in await ledger.calls(Filter())] == ["call-1"]


async def test_forget_erases_rows_and_recordings(ledger: Ledger) -> None:
    """Everything with the id goes, the recording that it took too; another call is untouched."""
    await put(ledger, waiting("w"), make_call("other"))
    await bring(ledger, recording(path="/e/1.json"))
    await put(ledger, waiting("w", at_s=9000))
    assert await ledger.forget("w", NOW) == 2
    assert await ledger.forget("w", NOW) == 0
    assert await ledger.story("w") == []
    assert [row.call_id for row in await ledger.calls(Filter(dismissed=None))] == ["other"]
    assert verdicts(await put(ledger, waiting("new"))) == [(AdmitVerdict.NEW, State.WAITING)]
    assert ledger.gauges().calls[State.FAILED] == 0


async def test_forget_waits_for_an_open_request(ledger: Ledger) -> None:
    """A call that is being sent is not erased under its worker."""
    await put(ledger, make_call())
    taken = await claimed(ledger)
    with pytest.raises(ValueError, match="being sent"):
        await ledger.forget("call-1", NOW)
    await ledger.settle(taken.row, SENT, NOW)
    assert await ledger.forget("call-1", NOW) == 1


# Upkeep.


async def test_sent_calls_go_after_keep_sent(ledger: Ledger) -> None:
    """The small row stays keep_sent; then the row goes, and the file's mark stays: it is not read again."""
    await send(ledger, "a")
    await ledger.admit(Admission(ignored=[ignored()]), NOW)
    assert await ledger.trim(KEEP, NOW + 30 * DAY - 1) == 0
    assert await ledger.trim(KEEP, NOW + 30 * DAY) == 2
    assert await ledger.trim(KEEP, NOW + 30 * DAY) == 0
    assert await ledger.story("a") == []
    assert await ledger.mark("agent", "/calls/a.json") is not None
    assert (ledger.gauges().calls[State.SENT], ledger.gauges().calls[State.IGNORED]) == (0, 0)


async def test_failed_calls_go_after_keep_failed_and_their_files_stay(ledger: Ledger) -> None:
    """A failed row goes after keep_failed; `after_sent` never takes the file of what was not sent."""
    await ledger.admit(Admission(calls=[make_call()], mark=file_mark()), NOW)
    await ledger.settle((await claimed(ledger)).row, REJECTED, NOW)
    assert await ledger.trim(KEEP, NOW + 89 * DAY) == 0
    assert await ledger.trim(KEEP, NOW + 90 * DAY) == 1
    assert not await ledger.disposable("agent")
    await ledger.vanished("agent", [file_mark().path], NOW)
    await ledger.set_mark(file_mark(inode=8), NOW)  # it was restored, or got another owner: it is the same file
    assert not await ledger.disposable("agent", to_the_end=True)


async def test_disposable_files_that_are_left_hide_no_others(ledger: Ledger) -> None:
    """Those that cannot go now are named by whoever asks, and do not use up the limit."""
    for number in range(5):
        await ledger.set_mark(file_mark(f"/{number}"), NOW)
    left = {f"/{number}" for number in range(4)}
    for _ in range(3):
        assert [mark.path for mark in await ledger.disposable("agent", limit=2, to_the_end=True, leave=left)] == ["/4"]
    assert len(await ledger.disposable("agent", limit=9)) == 5


async def test_open_calls_are_never_trimmed(ledger: Ledger) -> None:
    """However old, a call that is not done stays."""
    await put(ledger, make_call("a"), make_call("b"), waiting("w"))
    await claimed(ledger)
    assert await ledger.trim(KEEP, NOW + 9999 * DAY) == 0
    assert len(await ledger.calls(Filter())) == 3


async def test_recordings_go_after_keep_recordings(ledger: Ledger) -> None:
    """A recording that nobody took is forgotten after its time."""
    await bring(ledger, recording())
    assert await ledger.trim(KEEP, NOW + 7 * DAY) == 1
    assert verdicts(await put(ledger, waiting("w"))) == [(AdmitVerdict.NEW, State.WAITING)]


async def test_failed_documents_are_bounded(ledger: Ledger) -> None:
    """Over max_failed_bytes the oldest failures lose their documents; their rows stay visible. Of documents that no rule could
    map only dismissed ones do: a wrong rule stays repairable."""
    for index in range(3):
        document = RefusedDocument(
            origin=Origin(source="agent", path=f"/{index}"), refusal=refused().refusal, document=b"x" * 100, head=b"x"
        )
        await ledger.admit(Admission(refused=[document]), NOW + index)
    keep = dataclasses.replace(KEEP, max_failed_bytes=250)
    assert await ledger.trim(keep, NOW + 5) == 0
    rows = await ledger.calls(Filter())
    await ledger.dismiss([row.row for row in rows], NOW + 6)
    assert await ledger.trim(keep, NOW + 7) == 1
    assert [await ledger.document(row.row) is None for row in rows] == [True, False, False]


async def test_documents_of_the_newest_sent_calls_are_kept(ledger: Ledger) -> None:
    """Sent calls lose their documents, except the newest `documents`."""
    await ledger.trim(KEEP, NOW)
    await send(ledger, "a", "b", "c")
    kept = [await ledger.document((await the(ledger, name)).row) is not None for name in "abc"]
    assert kept == [False, True, True]


async def test_trim_takes_a_thousand_at_a_time(ledger: Ledger) -> None:
    """A long overdue trim comes in bounded steps."""
    await ledger.admit(Admission(ignored=[ignored(offset=index) for index in range(1200)]), NOW)
    assert await ledger.trim(KEEP, NOW + 31 * DAY) == 1000
    assert await ledger.trim(KEEP, NOW + 31 * DAY) == 200


async def test_shift_moves_due_times_and_waits(ledger: Ledger) -> None:
    """After a jump of the wall clock everything that waits still waits as long, and gates stay closed as long."""
    woken: list[str] = []
    await put(ledger, make_call(), waiting("w", egress(wait_s=60), UrlStrategy(location="https://a/2")))
    await ledger.settle((await claimed(ledger)).row, later(NOW + 30), NOW)
    gate = StoredPauses(closed_until=NOW + 30, pause=PauseReason.AUTH, paused_since=NOW, agents={"a": (PauseReason.AUTH, NOW)})
    await ledger.store_pauses("tuner", gate, NOW)
    ledger.on_due(woken.append)
    await ledger.shift(-3600)
    assert woken == ["tuner"]
    assert (await take(ledger, NOW - 3571)).next_due_at == NOW - 3570
    assert await ledger.tick(NOW - 3541) == ((), NOW - 3540)
    assert (await claimed(ledger, NOW - 3570)).first_attempt_at == NOW - 3600
    assert await ledger.stored_pauses() == {
        "tuner": StoredPauses(
            closed_until=NOW - 3570,
            pause=PauseReason.AUTH,
            paused_since=NOW - 3600,
            agents={"a": (PauseReason.AUTH, NOW - 3600)},
        )
    }


async def test_ticking_is_bounded(ledger: Ledger) -> None:
    """Many waits that end together are decided in steps; the next tick is due at once until all are."""
    await put(ledger, *(waiting(f"w{index}", egress(f"k{index}", wait_s=60), on_missing=Fail()) for index in range(300)))
    failed, next_at = await ledger.tick(NOW + 60)
    assert (len(failed), next_at) == (256, NOW + 60)
    failed, next_at = await ledger.tick(NOW + 60)
    assert (len(failed), next_at) == (44, None)


async def test_claims_use_the_stored_payload(ledger: Ledger) -> None:
    """What a call was admitted with is what the freeze gets: payload, recording URL, the form it is checked for."""
    call = make_call()
    await put(ledger, call)
    seen = []

    def look(unfrozen: Unfrozen) -> bytes:
        seen.append((unfrozen.payload, unfrozen.recording_url, unfrozen.checked_for))
        return freeze(unfrozen)

    await ledger.claim("tuner", FORM, look, NOW)
    assert seen == [(call.payload, "https://audio.example/a.wav", call.checked_for)]
