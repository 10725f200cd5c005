"""Calls that are gathered from several documents: fragments, looks, and what they come to. On both ledgers."""

from dataclasses import replace

import pytest

from tunerd.call import Call, Cut, CutBy, Fragment, IgnoredDocument, KeyStyle, Origin, Refusal, RefusedDocument, State
from tunerd.ledger import (
    Admission,
    AdmitVerdict,
    CheckAgain,
    Continued,
    Discard,
    FileMark,
    Filter,
    Gathered,
    Group,
    GroupResult,
    Ledger,
    PossibleGap,
    Retention,
    TooLate,
)
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger, make_call

from .parts import NOW, REJECTED, SENT, bring, claimed, egress, file_mark, gauged, later, put, recording, take, the

WAIT_S = 30.0


def fragment(
    content: bytes = b'{"n":1}',
    path: str = "/calls/a.json",
    *,
    offset: int = 0,
    key: str = "k",
    decides: bool = False,
    mtime_ns: int = 1,
) -> Fragment:
    origin = Origin(source="agent", path=path, offset=offset, length=len(content), mtime_ns=mtime_ns)
    return Fragment(
        origin=origin, source="agent", key=key, part=None, newest=None, document=content, settled_at=NOW, wait_s=WAIT_S,
        decides=decides,
    )  # fmt: skip


def gathered_call(call_id: str = "call-1", *, path: str = "/calls/a.json", mtime_ns: int = 5, **other: object) -> Call:
    return make_call(call_id, path=path, mtime_ns=mtime_ns, **other)  # type: ignore[arg-type]


async def collect(ledger: Ledger, *fragments: Fragment, now: float = NOW, log: bool = False) -> int:
    mark = file_mark(fragments[0].origin.path, whole=not log)
    return (await ledger.admit(Admission(fragments=fragments, mark=mark), now)).late


async def groups(ledger: Ledger, now: float = NOW + WAIT_S) -> list[Group]:
    return list((await ledger.groups("agent", now))[0])


async def group(ledger: Ledger, now: float = NOW + WAIT_S) -> Group:
    (one,) = await groups(ledger, now)
    return one


async def settle(
    ledger: Ledger,
    one: Group,
    result: Call | RefusedDocument | IgnoredDocument | CheckAgain | TooLate | Discard,
    now: float = NOW,
) -> Gathered:
    return await ledger.gather([GroupResult(row=one.row, version=one.version, result=result)], now)


async def gather(ledger: Ledger, call: Call, now: float = NOW + WAIT_S) -> Gathered:
    return await settle(ledger, await group(ledger, now), call, now)


def left_out() -> IgnoredDocument:
    return IgnoredDocument(origin=fragment().origin)


def refusal(path: str = "/calls/a.json") -> RefusedDocument:
    return RefusedDocument(
        origin=Origin(source="agent", path=path),
        refusal=Refusal(reason=FailReason.UNMAPPABLE, where="call.call_id", what="its part `b` never came"),
        document=b'{"kept":1}',
        settled_at=NOW,
    )


async def test_fragments_make_one_row_that_gathers(ledger: Ledger) -> None:
    """Documents of one key are one row, counted with its bytes; those of another key are another."""
    await collect(ledger, fragment(), fragment(b'{"n":22}', "/calls/b.json"), fragment(key="other", path="/calls/c.json"))
    gauges = ledger.gauges()
    assert (gauges.calls[State.GATHERING], gauges.pending_bytes, gauges.gathering_bytes) == (2, 22, 22)
    await gauged(ledger, lambda gauges: gauges.oldest_at.get(State.GATHERING) == NOW)
    story = (await ledger.story("k"))[0]
    assert (story.call.state, story.origins) == (State.GATHERING, [("/calls/a.json", 0), ("/calls/b.json", 0)])


async def test_the_wait_counts_from_the_last_document(ledger: Ledger) -> None:
    """Until then there is nothing to look at, and the ledger says when there is."""
    await collect(ledger, fragment())
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 20)
    assert await ledger.groups("agent", NOW + WAIT_S) == ([], NOW + 20 + WAIT_S)
    one = await group(ledger, NOW + 20 + WAIT_S)
    assert (one.key, one.wait_ends_at, one.is_replaceable, one.kept) == ("k", NOW + 20 + WAIT_S, True, None)
    assert [f.origin.path for f in one.fragments] == ["/calls/a.json", "/calls/b.json"]


async def test_a_document_that_may_complete_the_call_wants_a_look_at_once(ledger: Ledger) -> None:
    """And one after it that may not takes nothing of that away; a look that found nothing waits on."""
    await collect(ledger, fragment(decides=True), fragment(b"{}", offset=9))
    one = await group(ledger, NOW)
    await settle(ledger, one, CheckAgain(at=one.wait_ends_at))
    assert await ledger.groups("agent", NOW + 1) == ([], NOW + WAIT_S)


async def test_the_same_again_adds_nothing(ledger: Ledger) -> None:
    """The same place with the same content is one document, however often it is read."""
    await collect(ledger, fragment())
    before = await group(ledger)
    assert await collect(ledger, fragment(), now=NOW + 9) == 0
    assert await group(ledger) == before
    assert ledger.gauges().pending_bytes == 7


async def test_a_file_that_was_written_anew_takes_its_own_place(ledger: Ledger) -> None:
    """A whole file at the same place with another content replaces what stood there; a rotated log does not."""
    await collect(ledger, fragment(b'{"n":1}'))
    await collect(ledger, fragment(b'{"n":22}'))
    assert [f.document for f in (await group(ledger)).fragments] == [b'{"n":22}']
    assert ledger.gauges().pending_bytes == 8
    await collect(ledger, fragment(b'{"n":333}'), log=True)
    assert [f.document for f in (await group(ledger)).fragments] == [b'{"n":22}', b'{"n":333}']


async def test_a_gathered_call_takes_the_row_over(ledger: Ledger) -> None:
    """In one transaction it is due, the fragments are used up, and it can be sent; nothing wants a look any more."""
    await collect(ledger, fragment(), fragment(path="/calls/b.json"))
    done = await gather(ledger, gathered_call())
    assert done.states == ((AdmitVerdict.NEW, State.DUE),)
    gauges = ledger.gauges()
    assert (gauges.calls[State.GATHERING], gauges.calls[State.DUE], gauges.gathering_bytes) == (0, 1, 0)
    assert await ledger.groups("agent", NOW + 1e6) == ([], None)
    assert len((await ledger.story("call-1"))[0].origins) == 2
    call = await claimed(ledger, NOW + WAIT_S)
    await ledger.settle(call.row, SENT, NOW + WAIT_S)
    assert (await the(ledger, "call-1")).state is State.SENT


async def test_a_gathered_call_looks_for_its_recording(ledger: Ledger) -> None:
    """Matched in the transaction that makes it a call, or waiting until its recording comes."""
    await collect(ledger, fragment(), fragment(key="k2", path="/calls/2.json"))
    await bring(ledger, recording(at_s=2))
    first, second = await groups(ledger)
    done = await settle(ledger, first, gathered_call(strategies=(egress(),)))
    assert done.states == ((AdmitVerdict.NEW, State.DUE),)
    assert [one.call_id for one in done.matched] == ["call-1"]
    await settle(ledger, second, gathered_call("call-2", path="/calls/2.json", strategies=(egress("other"),)))
    assert (await the(ledger, "call-2")).state is State.WAITING
    assert [one.call_id for one in (await bring(ledger, recording("https://a.example/2", key="other"))).matched] == ["call-2"]


async def test_documents_that_came_since_want_a_new_look(ledger: Ledger) -> None:
    """A result for an older version changes nothing but when the group is looked at again: now."""
    await collect(ledger, fragment())
    one = await group(ledger)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 1)
    done = await settle(ledger, one, gathered_call(), NOW + 2)
    assert done.states == (None,)
    assert len((await group(ledger, NOW + 2)).fragments) == 2


async def test_newer_parts_replace_until_sent(ledger: Ledger) -> None:
    """A part of a call that is mapped wants a look at once; what comes of it takes the row over, with what was kept."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call(text="old"))
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    one = await group(ledger, NOW + 40)
    assert (one.state, one.kept, len(one.fragments)) == (State.GATHERING, gathered_call(text="old").document, 1)
    done = await settle(ledger, one, gathered_call(text="new", mtime_ns=1), NOW + 40)
    assert done.states == ((AdmitVerdict.REPLACED, State.DUE),)
    assert b'"new"' in (await claimed(ledger, NOW + 40)).body


async def test_a_call_that_may_have_arrived_is_not_replaced(ledger: Ledger) -> None:
    """While it is being sent, and after an attempt that may have arrived, its parts lie in wait; sent, they were late."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call(text="old"))
    call = await claimed(ledger, NOW + WAIT_S)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    one = await group(ledger, NOW + 40)
    assert (one.state, one.is_replaceable) == (State.SENDING, False)
    assert (await settle(ledger, one, gathered_call(text="new"), NOW + 40)).states == (None,)
    assert await groups(ledger, NOW + 40) == []
    await ledger.settle(call.row, later(NOW + 41), NOW + 40)
    await collect(ledger, fragment(path="/calls/c.json"), now=NOW + 60)
    assert not (await group(ledger, NOW + 60)).is_replaceable
    again = await claimed(ledger, NOW + 60)
    assert again.body == call.body
    await ledger.settle(again.row, SENT, NOW + 60)
    one = await group(ledger, NOW + 60)
    assert one.state is State.SENT
    assert (await settle(ledger, one, TooLate(), NOW + 60)).late == 2
    assert await ledger.groups("agent", NOW + 1e6) == ([], None)
    assert ledger.gauges().pending_bytes == 0


async def test_parts_that_cannot_be_joined_are_late(ledger: Ledger) -> None:
    """Where redaction keeps no document, a part that comes after the call was mapped is dropped, told, and counted."""
    await collect(ledger, fragment())
    await gather(ledger, replace(gathered_call(), document=None))
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    one = await group(ledger, NOW + 40)
    assert (one.state, one.kept) == (State.DUE, None)
    before = ledger.gauges().pending_bytes
    assert (await settle(ledger, one, TooLate(), NOW + 40)).late == 1
    assert ledger.gauges().pending_bytes == before - len(fragment().document)
    assert (await the(ledger, "call-1")).state is State.DUE
    assert (await ledger.story("call-1"))[0].events[-1].detail == "a part of it came after it was mapped and counts no more"


async def test_a_call_that_surely_did_not_arrive_is_replaced(ledger: Ledger) -> None:
    """After a refused connection the newer parts count."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call(text="old"))
    call = await claimed(ledger, NOW + WAIT_S)
    await ledger.settle(call.row, later(NOW + 31, sure=True), NOW + WAIT_S)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    await gather(ledger, gathered_call(text="new"), NOW + 40)
    assert b'"new"' in (await claimed(ledger, NOW + 40)).body


async def test_parts_after_sent_are_late(ledger: Ledger) -> None:
    """Counted, told in the call's story, and nothing of them is kept; the same again is not late again."""
    both = (fragment(b'{"n":1}', "/log", offset=0), fragment(b'{"n":2}', "/log", offset=8))
    await collect(ledger, *both, log=True)
    await gather(ledger, gathered_call(path="/log"))
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    at = NOW + 99
    await collect(ledger, *both, log=True, now=at)
    assert await groups(ledger, at) == []
    await collect(ledger, fragment(b'{"n":3}', "/log", offset=16), log=True, now=at)
    assert (await settle(ledger, await group(ledger, at), TooLate(), at)).late == 1
    await collect(ledger, fragment(b'{"n":3}', "/log", offset=16), log=True, now=at)
    assert await groups(ledger, at) == []
    await collect(ledger, fragment(b'{"n":4}', "/calls/late.json"), now=at)
    assert (await settle(ledger, await group(ledger, at), gathered_call(text="other"), at)).late == 1
    assert [event.what for event in (await ledger.story("call-1"))[0].events][-2:] == ["late", "late"]
    assert ledger.gauges().pending_bytes == 0
    assert (await the(ledger, "call-1")).state is State.SENT


async def test_a_part_that_changes_nothing_is_not_late(ledger: Ledger) -> None:
    """The ledger still knows what was sent, and with the new document it would be the same: its file may go, too."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    before = (await ledger.story("call-1"))[0].events
    await collect(ledger, fragment(path="/calls/more.json"), now=NOW + 99)
    one = await group(ledger, NOW + 99)
    assert (one.state, one.kept, len(one.fragments)) == (State.SENT, gathered_call().document, 1)
    assert "/calls/more.json" not in [mark.path for mark in await ledger.disposable("agent")]  # nobody has looked yet
    done = await settle(ledger, one, gathered_call(mtime_ns=9), NOW + 99)
    assert (done.late, done.states) == (0, (None,))
    assert (await ledger.story("call-1"))[0].events == before
    assert "/calls/more.json" in [mark.path for mark in await ledger.disposable("agent")]


@pytest.mark.parametrize("result", ["refused", "left out", "other recording", "forgotten"])
async def test_a_part_that_may_change_something_is_late(ledger: Ledger, result: str) -> None:
    """Whatever differs from what was sent; and where nobody knows any more what that was."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    if result == "forgotten":
        await ledger.trim(Retention(sent_s=1e6, failed_s=1e6, recordings_s=1e6, max_failed_bytes=10**9, documents=0), NOW + 90)
    await collect(ledger, fragment(path="/calls/more.json"), now=NOW + 99)
    one = await group(ledger, NOW + 99)
    assert (one.kept is None) == (result == "forgotten")
    made = {"refused": refusal(), "left out": left_out(), "other recording": gathered_call(strategies=(egress(),))}
    assert (await settle(ledger, one, made.get(result, gathered_call()), NOW + 99)).late == 1
    assert await groups(ledger, NOW + 1e6) == []


async def test_a_group_that_cannot_be_mapped_fails_visibly(ledger: Ledger) -> None:
    """With all its places and the document to try again from; a part that comes after all revives it."""
    await collect(ledger, fragment(), fragment(path="/calls/b.json"))
    done = await settle(ledger, await group(ledger), refusal())
    assert done.states == ((AdmitVerdict.NEW, State.FAILED),)
    row = await the(ledger, "k")
    assert (row.state, row.reason, row.detail) == (State.FAILED, "unmappable", "its part `b` never came")
    assert len((await ledger.story("k"))[0].origins) == 2
    assert await ledger.document(row.row) == b'{"kept":1}'
    await collect(ledger, fragment(path="/calls/c.json"), now=NOW + 99)
    done = await gather(ledger, gathered_call(), NOW + 99)
    assert done.states == ((AdmitVerdict.REVIVED, State.DUE),)


async def test_a_failed_group_survives_its_files(ledger: Ledger) -> None:
    """Reading a file of it again supersedes refusals of single documents, never the group's."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), refusal())
    await ledger.admit(Admission(fragments=[fragment()], mark=file_mark("/calls/a.json"), replaces_failed=True), NOW)
    assert (await the(ledger, "k")).state is State.FAILED


async def test_retry_maps_a_failed_group_again(ledger: Ledger) -> None:
    """Desk.replace puts the call in the group's row; a refusal leaves it failed, and it stays a group."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), refusal())
    row = (await the(ledger, "k")).row
    assert await ledger.replace(row, refusal(), NOW) is State.FAILED
    assert (await the(ledger, "k")).row == row
    assert await ledger.replace(row, gathered_call(), NOW) is State.DUE
    await collect(ledger, fragment(path="/calls/b.json"))
    assert (await group(ledger)).row == row


async def test_a_call_that_tuner_rejected_is_revived_by_a_newer_part(ledger: Ledger) -> None:
    """As by a newer document of a call that is one file."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, REJECTED, NOW + WAIT_S)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 50)
    assert (await gather(ledger, gathered_call(), NOW + 50)).states == ((AdmitVerdict.REVIVED, State.DUE),)


async def test_a_group_may_be_ignored(ledger: Ledger) -> None:
    """`when:` left the call out: its files may go, and a part that comes later makes it gather again, with all it had."""
    await collect(ledger, fragment())
    done = await settle(ledger, await group(ledger), left_out())
    assert done.states == ((AdmitVerdict.NEW, State.IGNORED),)
    assert [mark.path for mark in await ledger.disposable("agent")] == ["/calls/a.json"]
    assert ledger.gauges().pending_bytes == 0
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 50)
    one = await group(ledger, NOW + 50)
    assert (one.state, [part.origin.path for part in one.fragments]) == (State.GATHERING, ["/calls/a.json", "/calls/b.json"])
    assert ledger.gauges().pending_bytes == 14
    assert (await gather(ledger, gathered_call(), NOW + 50)).states == ((AdmitVerdict.NEW, State.DUE),)
    assert [event.what for event in (await ledger.story("call-1"))[0].events] == ["admitted", "ignored", "reopened", "gathered"]


async def test_a_call_that_is_left_out_again_keeps_what_it_was_made_of(ledger: Ledger) -> None:
    """A call that was due, and is none with what came since: its earlier documents are still there for what comes next."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    await settle(ledger, await group(ledger, NOW + 40), left_out(), NOW + 40)
    assert (await take(ledger, NOW + 1e6)).claimed is None
    await collect(ledger, fragment(path="/calls/c.json"), now=NOW + 50)
    one = await group(ledger, NOW + 50)
    assert (one.kept, len(one.fragments)) == (gathered_call().document, 2)


async def test_what_was_left_out_is_kept_for_a_day(ledger: Ledger) -> None:
    """Then it wants a last look, and its documents go; what comes after that begins anew."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), left_out())
    assert await ledger.groups("agent", NOW + 86_399) == ([], NOW + 86_400)
    one = await group(ledger, NOW + 86_400)
    await settle(ledger, one, Discard(), NOW + 86_400)
    assert await ledger.groups("agent", NOW + 1e6) == ([], None)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 90_000)
    assert [part.origin.path for part in (await group(ledger, NOW + 90_000)).fragments] == ["/calls/b.json"]


async def test_nothing_is_let_go_that_gathers_again(ledger: Ledger) -> None:
    """A document came between the look and its result: it gathers, or was left out once more, for another day."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), left_out())
    at = NOW + 86_400
    one = await group(ledger, at)
    await collect(ledger, fragment(path="/calls/b.json"), now=at)
    await settle(ledger, one, Discard(), at)
    await settle(ledger, await group(ledger, at), left_out(), at)
    await settle(ledger, one, Discard(), at)
    assert len((await group(ledger, at + 86_400)).fragments) == 2


async def test_there_is_an_end_to_what_is_kept_of_calls_that_were_left_out(ledger: Ledger) -> None:
    """Beyond 128 MiB together the documents of the next ones go at once, as do their bytes in the count."""
    big = b'"' + b"x" * (15 * 1024 * 1024) + b'"'
    for number in range(9):
        await collect(ledger, fragment(big, f"/calls/{number}.json", key=f"k{number}"))
        (one,) = [one for one in await groups(ledger) if one.state is State.GATHERING]
        await settle(ledger, one, left_out())
    for number, kept in ((0, 2), (8, 1)):
        await collect(ledger, fragment(path="/calls/more.json", key=f"k{number}"), now=NOW + 50)
        (one,) = await groups(ledger, NOW + 50)
        assert len(one.fragments) == kept
        await settle(ledger, one, CheckAgain(at=NOW + 1e6), NOW + 50)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_gathers_again_before_it_is_sent(ledger: Ledger, waits: bool) -> None:
    """After a silence that was longer than its wait more of it came: from that moment nobody can send it, nor match it,
    without what came; a look finds it not complete, and waits as for a new one."""
    looks = {"strategies": (egress(),)} if waits else {}
    await collect(ledger, fragment())
    await gather(ledger, gathered_call(text="old", **looks))
    at = NOW + 99
    await collect(ledger, fragment(path="/calls/b.json"), now=at)
    await bring(ledger, recording(at_s=2))
    assert (await ledger.tick(NOW + 1e6))[0] == ()
    assert (await take(ledger, NOW + 1e6)).claimed is None
    one = await group(ledger, at)
    await settle(ledger, one, CheckAgain(at=one.wait_ends_at), at)
    assert await ledger.groups("agent", at) == ([], at + WAIT_S)
    done = await gather(ledger, gathered_call(text="new", **looks), at + WAIT_S)
    assert done.states == ((AdmitVerdict.REPLACED, State.DUE),)
    assert b'"new"' in (await claimed(ledger, at + WAIT_S)).body
    assert len(await ledger.calls(Filter())) == 1


async def test_a_failed_call_gathers_again_with_what_came(ledger: Ledger) -> None:
    """A look that finds it not complete yet takes it back with all its documents: it is open again, and not failed."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), refusal())
    await ledger.dismiss([(await the(ledger, "k")).row], NOW)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 99)
    one = await group(ledger, NOW + 99)
    assert (one.state, one.kept) == (State.FAILED, b'{"kept":1}')
    await settle(ledger, one, CheckAgain(at=one.wait_ends_at), NOW + 99)
    row = await the(ledger, "k")
    assert (row.state, row.reason, row.dismissed) == (State.GATHERING, None, False)
    gauges = ledger.gauges()
    assert (gauges.calls[State.FAILED], gauges.calls[State.GATHERING], gauges.pending_bytes) == (0, 1, 17)
    one = await group(ledger, NOW + 99 + WAIT_S)
    assert (one.kept, len(one.fragments)) == (b'{"kept":1}', 1)


async def test_parts_that_came_while_it_was_sent_are_gathered_when_it_did_not_arrive(ledger: Ledger) -> None:
    """They lie in wait; the attempt surely failed, and the next look takes the call back before the next attempt."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    call = await claimed(ledger, NOW + WAIT_S)
    await collect(ledger, fragment(path="/calls/b.json"), now=NOW + 40)
    await ledger.settle(call.row, later(NOW + 60, sure=True), NOW + 41)
    one = await group(ledger, NOW + 42)
    assert (one.state, one.is_replaceable) == (State.DUE, True)
    await settle(ledger, one, CheckAgain(at=one.wait_ends_at), NOW + 42)
    assert (await take(ledger, NOW + 1e6)).claimed is None


@pytest.mark.parametrize("state", [State.DUE, State.SENT])
async def test_documents_that_no_rule_can_see_change_nothing(ledger: Ledger, state: State) -> None:
    """Noise after the end of a call: it stays what it is, nothing is late, nothing is kept, and its file may go with it."""
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    if state is State.SENT:
        await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    await gauged(ledger, lambda gauges: (State.DUE in gauges.oldest_at) == (state is State.DUE))
    before, (story,) = ledger.gauges(), await ledger.story("call-1")
    noise = replace(fragment(path="/calls/noise.json"), matters=False)
    assert await collect(ledger, noise, now=NOW + 99) == 0
    after = ledger.gauges()
    assert (after.calls, after.pending_bytes, after.gathering_bytes) == (
        before.calls,
        before.pending_bytes,
        before.gathering_bytes,
    )
    assert (await ledger.story("call-1"))[0].events == story.events
    assert await groups(ledger, NOW + 99) == []
    assert ("/calls/noise.json" in [m.path for m in await ledger.disposable("agent")]) == (state is State.SENT)


@pytest.mark.parametrize("failed", [False, True])
async def test_what_no_rule_can_see_is_kept_of_what_became_no_call(ledger: Ledger, failed: bool) -> None:
    """Better rules may see it: they need all documents of a call that failed, or was left out."""
    await collect(ledger, fragment())
    await settle(ledger, await group(ledger), refusal() if failed else left_out())
    await collect(ledger, replace(fragment(path="/calls/b.json"), matters=False), now=NOW + 99)
    assert "/calls/b.json" in [part.origin.path for part in (await group(ledger, NOW + 99)).fragments]


async def test_which_sources_gather(ledger: Ledger) -> None:
    """Those of which a group wants a look; a call that is sent, or failed for good, wants none."""
    assert list(await ledger.gathering_sources()) == []
    await collect(ledger, replace(fragment(), source="b"), replace(fragment(), source="a"), fragment())
    assert list(await ledger.gathering_sources()) == ["a", "agent", "b"]
    await gather(ledger, gathered_call())
    assert list(await ledger.gathering_sources()) == ["a", "b"]


async def test_files_stay_until_the_call_is_sent(ledger: Ledger) -> None:
    """after_sent takes every file of the call then. One with a late part stays: Tuner does not have what is in it."""
    for path in ("/calls/a.json", "/calls/b.json"):
        await collect(ledger, fragment(path=path))
    assert not await ledger.disposable("agent")
    await gather(ledger, gathered_call())
    assert not await ledger.disposable("agent")
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    await collect(ledger, fragment(path="/calls/late.json"), now=NOW + 99)
    assert not await ledger.disposable("agent")
    await settle(ledger, await group(ledger, NOW + 99), TooLate(), NOW + 99)
    assert {mark.path for mark in await ledger.disposable("agent")} == {"/calls/a.json", "/calls/b.json"}


async def test_the_same_call_from_elsewhere_is_a_duplicate(ledger: Ledger) -> None:
    """The row of the group goes, its places are noted with the call that is there."""
    await put(ledger, make_call("call-1", path="/calls/whole.json", mtime_ns=9))
    await collect(ledger, fragment())
    done = await gather(ledger, gathered_call("call-1", mtime_ns=1))
    assert done.states == ((AdmitVerdict.DUPLICATE, State.DUE),)
    assert len(await ledger.calls(Filter())) == 1
    assert ("/calls/a.json", 0) in (await ledger.story("call-1"))[0].origins


async def test_the_same_id_with_another_start_is_a_conflict(ledger: Ledger) -> None:
    """Both are shown; the group's stands as failed."""
    await put(ledger, make_call("call-1", path="/calls/whole.json"))
    await collect(ledger, fragment())
    done = await gather(ledger, gathered_call("call-1", started_at_ms=5))
    assert done.states == ((AdmitVerdict.CONFLICT, State.FAILED),)
    assert [failed.refusal.reason for failed in done.failed] == [FailReason.ID_CONFLICT]


async def test_there_is_an_end_to_what_is_kept(ledger: Ledger) -> None:
    """A group that grows beyond all measure wants a look at once, and once it is refused for that, no more is kept."""
    big = b'"' + b"x" * (9 * 1024 * 1024) + b'"'
    await collect(ledger, fragment(big), fragment(big, "/calls/b.json"))
    one = await group(ledger, NOW)
    too_large = RefusedDocument(origin=fragment().origin, refusal=Refusal(reason=FailReason.TOO_LARGE, where="", what=""))
    await settle(ledger, one, too_large)
    assert await collect(ledger, fragment(big, "/calls/c.json")) == 1
    assert await collect(ledger, fragment(b"{}", "/log", offset=5), fragment(b"{}", "/log", offset=7), log=True) == 2
    assert await groups(ledger, NOW + 1e6) == []
    assert not await ledger.disposable("agent")  # the documents stand nowhere else


async def test_forget_and_retention_take_the_fragments_along(ledger: Ledger) -> None:
    """Nothing is left of a forgotten group, nor of a sent call past its time: the key begins anew."""
    await collect(ledger, fragment())
    assert await ledger.forget("k", NOW) == 1
    assert (await ledger.groups("agent", NOW + 1e6), ledger.gauges().pending_bytes) == (([], None), 0)
    await collect(ledger, fragment())
    await gather(ledger, gathered_call())
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    keep = Retention(sent_s=60.0, failed_s=60.0, recordings_s=60.0, max_failed_bytes=10**9)
    assert await ledger.trim(keep, NOW + 1000) >= 1
    assert await collect(ledger, fragment(path="/calls/new.json"), now=NOW + 1000) == 0
    assert ledger.gauges().calls[State.GATHERING] == 1


async def test_waits_move_with_the_clock(ledger: Ledger) -> None:
    """A jump of the wall clock ends no wait."""
    await collect(ledger, fragment())
    await ledger.shift(3600.0)
    assert await ledger.groups("agent", NOW + 3600) == ([], NOW + 3600 + WAIT_S)
    assert (await group(ledger, NOW + 3600 + WAIT_S)).wait_ends_at == NOW + 3600 + WAIT_S


async def test_groups_come_a_part_at_a_time(ledger: Ledger) -> None:
    """At most as many as asked for, the longest wanting first; other sources have their own."""
    for number in range(5):
        await collect(ledger, fragment(key=f"k{number}", path=f"/calls/{number}.json"), now=NOW + number)
    found, _ = await ledger.groups("agent", NOW + 100, limit=2)
    assert [one.key for one in found] == ["k0", "k1"]
    assert await ledger.groups("other", NOW + 100) == ([], None)


@pytest.mark.parametrize("log", [False, True])
async def test_a_refusal_of_the_place_is_superseded(ledger: Ledger, log: bool) -> None:
    """A document that could not be read, and now is a part of a call, has no failed row any more; a log's place is new."""
    broken = RefusedDocument(origin=fragment().origin, refusal=Refusal(reason=FailReason.UNREADABLE, where="", what=""))
    await ledger.admit(Admission(refused=[broken]), NOW)
    await collect(ledger, fragment(), log=log)
    assert ledger.gauges().calls[State.FAILED] == int(log)


async def test_waits_that_ended_late_can_be_left(ledger: Ledger) -> None:
    """While files are still to be read, only groups come whose wait ended before those were seen, or that may be complete."""
    await collect(ledger, fragment(key="old"), now=NOW)
    await collect(ledger, fragment(key="new", path="/calls/b.json"), now=NOW + 20)
    await collect(ledger, fragment(key="whole", path="/calls/c.json", decides=True), now=NOW + 20)
    found, _ = await ledger.groups("agent", NOW + 100, ended_by=NOW + 40)
    assert [one.key for one in found] == ["whole", "old"]
    assert len((await ledger.groups("agent", NOW + 100))[0]) == 3


async def test_the_mark_carries_the_key(ledger: Ledger) -> None:
    """What the next line without a key belongs to is durable with the file's offset."""
    mark = file_mark("/log", whole=False, carry="k")
    await ledger.admit(Admission(fragments=[fragment(path="/log")], mark=mark), NOW)
    assert await ledger.mark("agent", "/log") == mark


async def test_nothing_is_claimed_of_a_call_that_gathers(ledger: Ledger) -> None:
    """Before it is gathered there is nothing to send."""
    await collect(ledger, fragment())
    assert (await take(ledger, NOW + 1e6)).claimed is None


# Places in logs.


def line(content: bytes, offset: int, *, log: int = 1, path: str = "/calls/log", key: str = "k") -> Fragment:
    one = fragment(content, path, offset=offset, key=key)
    return replace(one, origin=replace(one.origin, log=log))


async def test_a_line_is_known_by_its_log_whatever_the_log_is_called(ledger: Ledger) -> None:
    """Read again under the rotated name it adds nothing; the same line at the same place of another log is another."""
    one, two = file_mark("/calls/log", whole=False, log=1), file_mark("/calls/new", whole=False, log=2)
    await ledger.admit(Admission(fragments=[line(b"{}", 5)], mark=one), NOW)
    await ledger.admit(Admission(fragments=[line(b"{}", 5, path="/calls/log.1")], mark=one), NOW)
    await ledger.admit(Admission(fragments=[line(b"{}", 5, log=2)], mark=two), NOW)
    assert [(f.origin.log, f.origin.path) for f in (await group(ledger)).fragments] == [(1, "/calls/log"), (2, "/calls/log")]


async def test_lines_of_a_log_whose_mark_is_lost_are_known(ledger: Ledger) -> None:
    """After damage a log is read again under another number: what the call has of it is not added twice."""
    await ledger.admit(Admission(fragments=[line(b"{}", 5, log=7)]), NOW)
    await ledger.admit(
        Admission(fragments=[line(b"{}", 5, log=8), line(b"[]", 9, log=8)], mark=file_mark("/calls/log", whole=False, log=8)), NOW
    )
    assert [(f.origin.log, f.origin.offset) for f in (await group(ledger)).fragments] == [(7, 5), (8, 9)]


async def test_lines_of_a_sent_call_are_known_by_their_log(ledger: Ledger) -> None:
    """What was sent is not late when it is read again under another name; what another log has at the place is."""
    await collect(ledger, line(b'{"n":1}', 0), line(b'{"n":2}', 8), line(b'{"n":3}', 0, log=2), log=True)
    await gather(ledger, gathered_call(path="/calls/log"))
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    again = [
        line(b'{"n":1}', 0, path="/old/log"),
        line(b'{"n":2}', 8, path="/old/log"),
        line(b'{"n":3}', 0, log=2, path="/old/x"),
    ]
    await collect(ledger, *again, log=True, now=NOW + 99)
    assert await groups(ledger, NOW + 99) == []
    await collect(ledger, line(b'{"n":9}', 8, log=2), log=True, now=NOW + 99)
    assert len((await group(ledger, NOW + 99)).fragments) == 1


# Calls that may lack a part.


def cut_at(offset: int = 20, *, key: str = "k", log: int = 1, path: str = "/calls/log") -> Cut:
    origin = Origin(source="agent", path=path, offset=offset, log=log)
    return Cut(source="agent", key=key, by=CutBy.UNREADABLE, origin=origin)


KEYLESS, OWN = KeyStyle(keyless=True), KeyStyle(own=True)


def unreadable(offset: int = 20, *, log: int = 1, path: str = "/calls/log") -> RefusedDocument:
    origin = Origin(source="agent", path=path, offset=offset, log=log)
    return RefusedDocument(origin=origin, refusal=Refusal(reason=FailReason.UNREADABLE, where="", what="not JSON"), head=b"x")


async def cut(ledger: Ledger, *cuts: Cut, style: KeyStyle = KEYLESS, now: float = NOW, whole: bool = False) -> None:
    mark = file_mark(cuts[0].origin.path, whole=whole)
    refused = [unreadable(one.origin.offset, log=one.origin.log, path=one.origin.path) for one in cuts]
    await ledger.admit(Admission(refused=refused, cuts=cuts, key_style=style, mark=mark), now)


def incomplete() -> RefusedDocument:
    refusal = Refusal(reason=FailReason.INCOMPLETE, where="gather", what="it may lack a part")
    return RefusedDocument(origin=line(b"", 0).origin, refusal=refusal, document=b'{"kept":1}', settled_at=NOW)


async def test_a_cut_call_is_looked_at_at_once_and_says_so(ledger: Ledger) -> None:
    """With the place; what is failed for it stays so when more of it comes, until the place can be read after all."""
    await collect(ledger, line(b'{"n":1}', 0), line(b'{"n":2}', 8), log=True)
    await cut(ledger, cut_at(20))
    one = await group(ledger, NOW)
    assert one.cut == PossibleGap(by=CutBy.UNREADABLE, place="/calls/log@20", is_sure=True)
    await settle(ledger, one, incomplete())
    assert (await the(ledger, "k")).reason == "incomplete"
    await collect(ledger, line(b'{"n":3}', 30), log=True, now=NOW + 5)
    one = await group(ledger, NOW + 5)
    assert (one.reason, one.cut is not None) == ("incomplete", True)
    await settle(ledger, one, incomplete(), NOW + 5)
    done = Continued(source="agent", path="/calls/log", offset=20, begins=b"xyz")
    mark = file_mark("/calls/log", whole=False, log=1)
    await ledger.admit(Admission(fragments=[line(b'{"n":4}', 20)], continued=done, mark=mark), NOW + 6)
    assert (await group(ledger, NOW + 6)).cut is None


@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_that_is_not_sent_yet_is_taken_back(ledger: Ledger, waits: bool) -> None:
    """From the transaction on in which the break is known nobody can send it, or match it."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await gather(ledger, gathered_call(path="/calls/log", **({"strategies": (egress(),)} if waits else {})))
    await cut(ledger, cut_at(), now=NOW + 99)
    await bring(ledger, recording(at_s=2))
    assert (await take(ledger, NOW + 1e6)).claimed is None
    await settle(ledger, await group(ledger, NOW + 99), incomplete(), NOW + 99)
    row = await the(ledger, "call-1")
    assert (row.state, row.reason) == (State.FAILED, "incomplete")


async def test_a_call_that_was_sent_is_not_cut(ledger: Ledger) -> None:
    """Nor is one that may have arrived, before that is decided."""
    await collect(ledger, line(b'{"n":1}', 0), line(b'{"n":1}', 8, key="other"), log=True)
    first, second = await groups(ledger)
    await settle(ledger, first, gathered_call(path="/calls/log"))
    await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, SENT, NOW + WAIT_S)
    await settle(ledger, second, gathered_call("call-2", path="/calls/log"))
    call = await claimed(ledger, NOW + WAIT_S)
    await cut(ledger, cut_at(), cut_at(key="other"), now=NOW + 99)
    (one,) = await groups(ledger, NOW + 99)
    assert (one.key, one.state, one.is_replaceable) == ("other", State.SENDING, False)
    await ledger.settle(call.row, later(NOW + 100, sure=True), NOW + 99)
    assert (await group(ledger, NOW + 99)).cut is not None


@pytest.mark.parametrize(("style", "sure"), [(KEYLESS, True), (OWN, None), (KeyStyle(), False), (OWN | KEYLESS, True)])
async def test_documents_with_keys_of_their_own_cut_nothing(ledger: Ledger, style: KeyStyle, sure: bool | None) -> None:
    """What is known of a source's documents is durable; while nothing is known the call is in doubt, and nobody takes it back."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await cut(ledger, cut_at(), style=style)
    one = await group(ledger, NOW)
    assert (None if one.cut is None else one.cut.is_sure) == sure


async def test_a_doubt_ends_with_the_first_document_without_a_key(ledger: Ledger) -> None:
    """Calls that were cut before it are looked at again, and cannot be sent; documents with keys end it the other way."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await cut(ledger, cut_at(), style=KeyStyle())
    await settle(ledger, await group(ledger, NOW), gathered_call(path="/calls/log"))
    assert await groups(ledger, NOW) == []
    await cut(ledger, cut_at(40, key="nobody"), now=NOW + 50)
    one = await group(ledger, NOW + 50)
    assert (one.state, one.cut is not None and one.cut.is_sure) == (State.GATHERING, True)
    assert (await take(ledger, NOW + 1e6)).claimed is None


async def test_a_call_in_doubt_goes_on_when_documents_prove_to_have_keys(ledger: Ledger) -> None:
    """It had failed because its wait was over."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await cut(ledger, cut_at(), style=KeyStyle())
    await settle(ledger, await group(ledger, NOW), incomplete())
    await collect(ledger, line(b'{"n":1}', 50, key="z"), log=True)
    await ledger.admit(Admission(fragments=[line(b'{"n":1}', 60, key="z")], key_style=OWN), NOW + 1)
    one = next(one for one in await groups(ledger, NOW + 1) if one.key == "k")
    assert (one.cut, one.state) == (None, State.FAILED)
    assert (await settle(ledger, one, gathered_call(path="/calls/log"))).states == ((AdmitVerdict.REVIVED, State.DUE),)


async def test_a_person_sends_what_is_there(ledger: Ledger) -> None:
    """`retry` ends the doubt for good; what a rule still refuses stays cut."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await cut(ledger, cut_at())
    await settle(ledger, await group(ledger, NOW), incomplete())
    row = (await the(ledger, "k")).row
    assert await ledger.replace(row, refusal("/calls/log"), NOW + 1) is State.FAILED
    await collect(ledger, line(b'{"n":2}', 70), log=True, now=NOW + 2)
    assert (await group(ledger, NOW + 2)).cut is not None
    assert await ledger.replace(row, gathered_call(path="/calls/log"), NOW + 3) is State.DUE
    assert (await group(ledger, NOW + 3)).cut is None


async def test_a_whole_file_that_was_mended_cuts_no_more(ledger: Ledger) -> None:
    """It is read anew: where it cuts now is all that counts."""
    path = "/calls/a.json"
    await collect(ledger, fragment(), fragment(key="k2", offset=9))
    await cut(ledger, cut_at(4, log=0, path=path), cut_at(14, key="k2", log=0, path=path), whole=True)
    for one in await groups(ledger, NOW):
        await settle(ledger, one, replace(incomplete(), origin=fragment().origin))
    admission = Admission(
        refused=[unreadable(14, log=0, path=path)], cuts=[cut_at(14, key="k2", log=0, path=path)], cut_offsets=frozenset({14}),
        key_style=KEYLESS, mark=file_mark(path), replaces_failed=True,
    )  # fmt: skip
    await ledger.admit(admission, NOW + 5)
    assert {one.key: one.cut is None for one in await groups(ledger, NOW + 5)} == {"k": True, "k2": False}


async def test_what_failed_for_another_reason_or_was_dismissed_stays_as_it_is(ledger: Ledger) -> None:
    """Nobody sends it by itself. Should more of it come, it is known to be cut."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await settle(ledger, await group(ledger), refusal("/calls/log"))
    await cut(ledger, cut_at(), now=NOW + 50)
    assert await groups(ledger, NOW + 50) == []
    await collect(ledger, line(b'{"n":2}', 70), log=True, now=NOW + 60)
    assert (await group(ledger, NOW + 60)).cut is not None


async def test_what_is_torn_off_cuts_the_call_at_the_end_of_the_log(ledger: Ledger) -> None:
    """Wherever the end is by then: when a copy of the log shows more of it, the call is another."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await ledger.admit(Admission(key_style=KEYLESS, fragments=[line(b"{}", 7)], mark=log_mark("k", 20)), NOW)
    await ledger.admit(Admission(torn=[("agent", 1), ("agent", 99)]), NOW)
    one = await group(ledger, NOW)
    assert one.cut == PossibleGap(by=CutBy.LOG_END, place="/calls/log@20", is_sure=True)
    await settle(ledger, one, incomplete())
    more = [line(b'{"n":2}', 20, path="/calls/log.1"), line(b'{"n":1}', 30, key="next", path="/calls/log.1")]
    await ledger.admit(Admission(fragments=more, mark=log_mark("next", 40, path="/calls/log.1")), NOW + 1)
    assert {one.key: one.cut is None for one in await groups(ledger, NOW + 1)} == {"k": True, "next": False}


async def test_a_log_that_was_thought_to_be_gone(ledger: Ledger) -> None:
    """It is at its place again, and goes on: nothing is missing."""
    await ledger.admit(Admission(key_style=KEYLESS, fragments=[line(b"{}", 7)], mark=log_mark("k", 20)), NOW)
    await ledger.admit(Admission(lost=[("agent", 1)]), NOW)
    await settle(ledger, await group(ledger, NOW), incomplete())
    await ledger.admit(Admission(fragments=[line(b'{"n":2}', 20)], mark=log_mark("k", 30)), NOW + 1)
    assert (await group(ledger, NOW + 1)).cut is None


def log_mark(carry: str, offset: int, *, path: str = "/calls/log") -> FileMark:
    return replace(file_mark(path, whole=False, carry=carry, log=1), home="/calls/log", offset=offset)


async def test_cuts_go_with_the_call(ledger: Ledger) -> None:
    """A key that begins anew is whole."""
    await collect(ledger, line(b'{"n":1}', 0), log=True)
    await cut(ledger, cut_at())
    assert await ledger.forget("k", NOW) == 1
    await collect(ledger, line(b'{"n":1}', 50), log=True)
    assert (await group(ledger)).cut is None


async def test_of_a_sent_call_one_place_of_its_log_is_kept() -> None:
    """A call of a thousand lines leaves one row in the ledger once it is sent, and no more, and not before: until then any of
    its lines may be read again."""
    ledger = MemoryLedger()
    await collect(ledger, *(fragment(path="/calls/a.log", offset=offset) for offset in (0, 8, 16)), log=True)
    await gather(ledger, gathered_call(path="/calls/a.log"))
    places: list[list[tuple[int]]] = []
    for settlement in (later(NOW + WAIT_S), SENT):
        await ledger.settle((await claimed(ledger, NOW + WAIT_S)).row, settlement, NOW + WAIT_S)
        places.append(ledger.change(lambda store: store.db.execute('SELECT "offset" FROM fragment ORDER BY 1').fetchall()))
    assert places == [[(0,), (8,), (16,)], [(16,)]]
    await ledger.close()
