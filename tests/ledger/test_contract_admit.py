"""WritePath.admit on every ledger: duplicates, conflicts, refusals, ignored documents."""

from dataclasses import replace
from typing import Final

import pytest

from tunerd.call import Origin, Refusal, RefusedDocument, State, UrlStrategy
from tunerd.ledger import Admission, AdmitVerdict, Continued, Filter, Ledger
from tunerd.ledger.commands.refuse import FAILURES_OF_A_PLACE
from tunerd.ledger.rows import LedgerRow
from tunerd.ledger.sql.store import Store
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger, make_call

from .parts import (
    NOW,
    REJECTED,
    SENT,
    START_MS,
    claimed,
    file_mark,
    gauged,
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

FAILED = Filter(states=frozenset({State.FAILED}))


async def test_a_call_with_its_url_is_due(ledger: Ledger) -> None:
    """A call whose recording is decided can be claimed at once."""
    assert verdicts(await put(ledger, make_call())) == [(AdmitVerdict.NEW, State.DUE)]
    row = await the(ledger, "call-1")
    assert (row.state, row.due_at, row.recording_location, row.admitted_at) == (
        State.DUE,
        NOW,
        "https://audio.example/a.wav",
        NOW,
    )


async def test_verdicts_come_in_the_order_of_the_calls(ledger: Ledger) -> None:
    """Each call of an admission has its verdict and state, in order."""
    await put(ledger, make_call("a"))
    admitted = await put(ledger, waiting("b"), make_call("a"), make_call("c"))
    assert verdicts(admitted) == [
        (AdmitVerdict.NEW, State.WAITING),
        (AdmitVerdict.DUPLICATE, State.DUE),
        (AdmitVerdict.NEW, State.DUE),
    ]


async def test_the_same_admission_again_changes_nothing(ledger: Ledger) -> None:
    """Admitting is idempotent: a second time gives duplicates, and rows, gauges and stories stay as they are."""
    admission = Admission(
        calls=[make_call("a"), waiting("w"), make_call("a", started_at_ms=START_MS + 90_000)],
        refused=[refused()],
        ignored=[ignored()],
        mark=file_mark(),
    )
    first = await ledger.admit(admission, NOW)
    assert [verdict for verdict, _ in first.verdicts] == [AdmitVerdict.NEW, AdmitVerdict.NEW, AdmitVerdict.CONFLICT]
    before = (await ledger.calls(Filter(dismissed=None)), ledger.gauges(), await ledger.story("a"))
    again = await ledger.admit(admission, NOW + 5)
    assert [verdict for verdict, _ in again.verdicts] == [AdmitVerdict.DUPLICATE] * 3
    assert not again.matched
    assert not again.failed
    assert (await ledger.calls(Filter(dismissed=None)), ledger.gauges(), await ledger.story("a")) == before


@pytest.mark.parametrize(
    ("apart_ms", "verdict"), [(0, AdmitVerdict.DUPLICATE), (1000, AdmitVerdict.DUPLICATE), (-1000, AdmitVerdict.DUPLICATE)]
)
async def test_a_start_within_a_second_is_the_same_call(ledger: Ledger, apart_ms: int, verdict: AdmitVerdict) -> None:
    """Same id and a start within 1 s: a duplicate, whose place is noted."""
    await put(ledger, make_call(path="/a.json"))
    again = make_call(path="/b.json", started_at_ms=START_MS + apart_ms, mtime_ns=0)
    assert verdicts(await put(ledger, again)) == [(verdict, State.DUE)]
    (story,) = await ledger.story("call-1")
    assert story.origins == [("/a.json", 0), ("/b.json", 0)]


async def test_another_start_is_a_conflict_and_both_are_shown(ledger: Ledger) -> None:
    """A wrong call_id rule must not make calls vanish: the second stands as failed(id_conflict), beside the first."""
    await put(ledger, make_call(path="/a.json"))
    admitted = await put(ledger, make_call(path="/b.json", started_at_ms=START_MS + 1001))
    assert verdicts(admitted) == [(AdmitVerdict.CONFLICT, State.FAILED)]
    assert [(one.refusal.reason, one.path, one.call_id) for one in admitted.failed] == [
        (FailReason.ID_CONFLICT, "/b.json", "call-1")
    ]
    rows = await ledger.calls(Filter(call_ids=frozenset({"call-1"})))
    assert [(row.state, row.reason) for row in rows] == [(State.DUE, None), (State.FAILED, "id_conflict")]
    assert "/a.json" in rows[1].detail


async def test_one_id_may_be_used_by_two_agents(ledger: Ledger) -> None:
    """A call id is unique for each workspace and agent, no further."""
    assert verdicts(await put(ledger, make_call(agent="a"), make_call(agent="b", started_at_ms=5))) == [
        (AdmitVerdict.NEW, State.DUE),
        (AdmitVerdict.NEW, State.DUE),
    ]
    assert len(await ledger.story("call-1")) == 2


async def test_a_newer_document_replaces_one_that_surely_did_not_arrive(ledger: Ledger) -> None:
    """Later mtime: its payload takes over, before any attempt and after attempts that surely did not arrive."""
    await put(ledger, make_call())
    assert verdicts(await put(ledger, make_call(text="second", mtime_ns=2))) == [(AdmitVerdict.REPLACED, State.DUE)]
    call = await claimed(ledger)
    assert b"second" in call.body
    await ledger.settle(call.row, later(NOW, sure=True), NOW)
    assert verdicts(await put(ledger, make_call(text="third", mtime_ns=3))) == [(AdmitVerdict.REPLACED, State.DUE)]
    call = await claimed(ledger)
    assert b"third" in call.body
    assert call.attempts == 0


async def test_a_later_offset_of_the_same_file_is_newer(ledger: Ledger) -> None:
    """Two lines of one log: the later one is the newer document, the earlier one never replaces it."""
    await put(ledger, make_call(path="/l", offset=500, text="new"))
    assert verdicts(await put(ledger, make_call(path="/l", offset=0, text="old"))) == [(AdmitVerdict.DUPLICATE, State.DUE)]
    assert verdicts(await put(ledger, make_call(path="/l", offset=900, text="newest"))) == [(AdmitVerdict.REPLACED, State.DUE)]
    assert b"newest" in (await claimed(ledger)).body


async def test_a_newer_document_never_replaces_what_may_have_arrived(ledger: Ledger) -> None:
    """While it is being sent, after a doubtful attempt, and once it is sent, the first document stays."""
    await put(ledger, make_call())
    call = await claimed(ledger)
    assert verdicts(await put(ledger, make_call(text="b", mtime_ns=2))) == [(AdmitVerdict.DUPLICATE, State.SENDING)]
    await ledger.settle(call.row, later(NOW), NOW)
    assert verdicts(await put(ledger, make_call(text="b", mtime_ns=2))) == [(AdmitVerdict.DUPLICATE, State.DUE)]
    again = await claimed(ledger)
    assert again.body == call.body
    await ledger.settle(again.row, SENT, NOW)
    assert verdicts(await put(ledger, make_call(text="b", mtime_ns=2))) == [(AdmitVerdict.DUPLICATE, State.SENT)]
    assert (await take(ledger)).claimed is None


async def test_a_newer_document_revives_a_rejected_call(ledger: Ledger) -> None:
    """A rejected call surely did not arrive: a newer document puts it to work again, the same one does not."""
    await put(ledger, make_call())
    await ledger.settle((await claimed(ledger)).row, REJECTED, NOW)
    assert verdicts(await put(ledger, make_call())) == [(AdmitVerdict.DUPLICATE, State.FAILED)]
    assert verdicts(await put(ledger, make_call(text="mended", mtime_ns=2))) == [(AdmitVerdict.REVIVED, State.DUE)]
    call = await claimed(ledger)
    assert b"mended" in call.body
    assert call.attempts == 0


async def test_a_replaced_call_follows_its_new_strategies(ledger: Ledger) -> None:
    """The newer document of a waiting call may bring the URL."""
    await put(ledger, waiting("w"))
    assert verdicts(await put(ledger, make_call("w", mtime_ns=2))) == [(AdmitVerdict.REPLACED, State.DUE)]


async def test_a_refused_document_is_one_failed_row_for_each_place(ledger: Ledger) -> None:
    """Admitting the place again updates the row; another place is another row."""
    await ledger.admit(Admission(refused=[refused(), refused(offset=9)]), NOW)
    better = RefusedDocument(
        origin=refused().origin,
        refusal=Refusal(reason=FailReason.UNMAPPABLE, where="call.call_id", what="gave nothing"),
        head=b"{}",
        document=b"{}",
    )
    await ledger.admit(Admission(refused=[better]), NOW + 1)
    rows = await ledger.calls(FAILED)
    assert [(row.offset, row.reason) for row in rows] == [(0, "unmappable"), (9, "unreadable")]
    assert await ledger.document(rows[0].row) == b"{}"
    assert await ledger.document(rows[1].row) is None
    assert ledger.gauges().calls[State.FAILED] == 2


async def test_a_call_read_from_the_place_supersedes_its_refusal(ledger: Ledger) -> None:
    """A repaired file replaces its failed row by itself."""
    await ledger.admit(Admission(refused=[refused(), refused(call_id="call-1", offset=3)]), NOW)
    await put(ledger, make_call(path="/calls/bad.json"), make_call("b", path="/calls/bad.json", offset=3))
    assert await ledger.calls(FAILED) == []
    assert ledger.gauges().calls[State.FAILED] == 0


async def test_an_ignored_document_supersedes_its_refusal(ledger: Ledger) -> None:
    """What the rules leave out on purpose is no longer failed."""
    await ledger.admit(Admission(refused=[refused()]), NOW)
    await ledger.admit(Admission(ignored=[ignored("/calls/bad.json")]), NOW)
    assert [row.state for row in await ledger.calls(Filter())] == [State.IGNORED]


async def test_a_call_supersedes_what_was_ignored_at_its_place(ledger: Ledger) -> None:
    """The rules changed and the file was read again: the document is a call now, and no longer counted as ignored too."""
    await ledger.admit(Admission(ignored=[ignored("/calls/a.json"), ignored("/calls/b.json")]), NOW)
    await put(ledger, make_call(path="/calls/a.json"))
    assert [(row.state, row.path) for row in await ledger.calls(Filter(states=frozenset({State.IGNORED})))] == [
        (State.IGNORED, "/calls/b.json")
    ]


async def test_a_call_whose_document_was_lost_is_revived_by_its_file() -> None:
    """Its age does not count, because the ledger has nothing better; and it goes out with what was read now."""
    ledger = MemoryLedger()
    await put(ledger, make_call(mtime_ns=5))
    ledger.change(
        lambda store: store.change(
            the_row(store), state=State.FAILED, due_at=None, reason=FailReason.DOCUMENT_LOST.value, place="ledger"
        )
    )
    assert verdicts(await put(ledger, make_call(mtime_ns=4, text="again"), now=NOW + 9)) == [(AdmitVerdict.REVIVED, State.DUE)]
    assert b"again" in (await claimed(ledger, NOW + 9)).body
    (story,) = await ledger.story("call-1")
    assert [(event.what, event.detail) for event in story.events] == [
        ("admitted", ""),
        ("revived", "its document was read again"),
    ]
    await ledger.close()


def the_row(store: Store) -> LedgerRow:
    """The only row."""
    (row,) = store.calls.named("call-1")
    return row


def unmappable(document: bytes = b'{"n":1}', *, offset: int = 0, call_id: str | None = None) -> RefusedDocument:
    """A complete document that no rule could map."""
    return RefusedDocument(
        origin=Origin(source="agent", path="/calls/room.json", offset=offset),
        refusal=Refusal(reason=FailReason.UNMAPPABLE, where="call.start_timestamp (line 3)", what="gave nothing"),
        head=document,
        document=document,
        call_id=call_id,
    )


ROOM: Final = "/calls/room.json"


@pytest.mark.parametrize("next_one", ["a call", "a refusal", "an ignored one", "a recording", "nothing"])
async def test_another_document_at_its_path_hides_no_failure(ledger: Ledger, next_one: str) -> None:
    """One file for each room, rewritten by the next call: the failed one stays, with its document, until somebody acts."""
    mark = file_mark(ROOM)
    await ledger.admit(Admission(refused=[unmappable()], mark=mark, replaces_failed=True), NOW)
    following = {
        "a call": Admission(calls=[make_call(path=ROOM)]),
        "a refusal": Admission(refused=[unmappable(b'{"n":2}')]),
        "an ignored one": Admission(ignored=[ignored(ROOM)]),
        "a recording": Admission(recordings=[recording()]),
        "nothing": Admission(),
    }[next_one]
    await ledger.admit(replace(following, mark=mark, replaces_failed=True), NOW + 1)
    rows = await ledger.calls(FAILED)
    assert [await ledger.document(row.row) for row in rows][:1] == [b'{"n":1}']
    assert len(rows) == (2 if next_one == "a refusal" else 1)


@pytest.mark.parametrize("how", ["its place", "another path", "another offset"])
async def test_a_document_with_the_same_call_id_takes_its_failure_away(ledger: Ledger, how: str) -> None:
    """The call is here after all, wherever it was written."""
    await ledger.admit(Admission(refused=[unmappable(call_id="call-1"), unmappable(b"{}", offset=50, call_id="b")]), NOW)
    path, offset = ("/calls/other.json" if how == "another path" else ROOM), (7 if how == "another offset" else 0)
    await put(ledger, make_call(path=path, offset=offset))
    assert [row.call_id for row in await ledger.calls(FAILED)] == ["b"]


async def test_the_same_document_read_again_takes_its_failure_away(ledger: Ledger) -> None:
    """The rules were repaired, and its file was touched: the very same bytes are a call now, at whatever offset."""
    document = make_call().document
    assert document is not None
    await ledger.admit(Admission(refused=[unmappable(document), unmappable(b'{"n":2}', offset=60)]), NOW)
    mark = file_mark(ROOM)
    await ledger.admit(Admission(calls=[make_call(path=ROOM, offset=3)], mark=mark, replaces_failed=True), NOW + 1)
    assert [row.offset for row in await ledger.calls(FAILED)] == [60]


async def test_failures_of_one_path_are_bounded(ledger: Ledger) -> None:
    """A file that is rewritten for each call, with rules that map none of them: 20 rows, the last of which says so."""
    for number in range(30):
        document = b'{"n":%d}' % number
        await ledger.admit(Admission(refused=[unmappable(document)], mark=file_mark(ROOM), replaces_failed=True), NOW + number)
    rows = await ledger.calls(FAILED, limit=100)
    assert len(rows) == FAILURES_OF_A_PLACE
    assert [await ledger.document(row.row) for row in (rows[0], rows[-1])] == [b'{"n":0}', b'{"n":29}']
    assert "more than 20 documents that failed" in rows[-1].detail
    assert ledger.gauges().calls[State.FAILED] == FAILURES_OF_A_PLACE


async def test_many_failures_of_one_file_all_stay(ledger: Ledger) -> None:
    """Elements of a list, or lines of a log, are places of their own: a wrong rule has to stay repairable for each."""
    refusals = [unmappable(b'{"n":%d}' % number, offset=10 * number) for number in range(50)]
    await ledger.admit(Admission(refused=refusals, mark=file_mark(ROOM), replaces_failed=True), NOW)
    assert ledger.gauges().calls[State.FAILED] == 50


async def test_a_place_of_a_log_that_rotated_hides_no_failure(ledger: Ledger) -> None:
    """The same offset of a followed log is another document after a rotation: the failed row of the old one stays."""
    log = file_mark("/l.ndjson", whole=False)
    await ledger.admit(Admission(refused=[refused("/l.ndjson")], mark=log), NOW)
    await ledger.admit(Admission(calls=[make_call(path="/l.ndjson")], mark=log), NOW)
    await ledger.admit(Admission(refused=[refused("/l.ndjson", head=b"[")], mark=log), NOW)
    await ledger.admit(Admission(refused=[refused("/l.ndjson", head=b"[")], mark=log), NOW)
    assert len(await ledger.calls(FAILED)) == 2


async def test_a_file_read_anew_takes_its_unnamed_failures_along(ledger: Ledger) -> None:
    """`replaces_failed`: failed rows of the path without a call id go, unless they are refused again; others stay."""
    await ledger.admit(
        Admission(refused=[refused(offset=1), refused(offset=2), refused(offset=3, call_id="x"), refused("/o")]), NOW
    )
    mark = file_mark("/calls/bad.json")
    await ledger.admit(Admission(refused=[refused(offset=2)], mark=mark, replaces_failed=True), NOW)
    rows = await ledger.calls(FAILED)
    assert [(row.path, row.offset) for row in rows] == [("/calls/bad.json", 2), ("/calls/bad.json", 3), ("/o", 0)]
    await ledger.admit(Admission(calls=[make_call(path="/calls/bad.json", offset=7)], replaces_failed=True), NOW)
    assert [row.offset for row in await ledger.calls(FAILED)] == [3, 0]


async def test_an_ignored_document_is_a_small_row(ledger: Ledger) -> None:
    """Ignored documents are counted and found by their id, once a place."""
    for _ in range(2):
        await ledger.admit(Admission(ignored=[ignored()]), NOW)
    assert ledger.gauges().calls[State.IGNORED] == 1
    assert await state(ledger, "i-1") is State.IGNORED


async def test_admission_and_mark_are_one(ledger: Ledger) -> None:
    """The file's mark is there with its calls."""
    await ledger.admit(Admission(calls=[make_call()], mark=file_mark()), NOW)
    assert await ledger.mark("agent", "/calls/call-1.json") == file_mark()


async def test_the_gauges_follow(ledger: Ledger) -> None:
    """Counts, bytes and the oldest admission of each open state are kept as calls move."""
    call, held = make_call(), waiting("w")
    size = len(call.payload) + len(call.document or b"")
    held_size = len(held.payload) + len(held.document or b"")
    await put(ledger, call, now=NOW)
    await put(ledger, held, now=NOW + 1)
    gauges = ledger.gauges()
    assert (gauges.pending_bytes, gauges.waiting_bytes) == (size + held_size, held_size)
    await gauged(ledger, lambda gauges: gauges.oldest_at == {State.DUE: NOW, State.WAITING: NOW + 1})
    taken = await claimed(ledger)
    await gauged(ledger, lambda gauges: gauges.oldest_at == {State.SENDING: NOW, State.WAITING: NOW + 1})
    await ledger.settle(taken.row, SENT, NOW)
    gauges = ledger.gauges()
    assert (gauges.calls[State.SENT], gauges.calls[State.WAITING], gauges.calls[State.DUE]) == (1, 1, 0)
    assert gauges.pending_bytes == held_size


async def test_the_gauges_say_since_when_calls_are_due(ledger: Ledger) -> None:
    """The earliest due time of each destination: it is not the admission, and a call that is retried later has a later one."""
    await put(ledger, make_call("a"), make_call("b"), now=NOW)
    await put(ledger, make_call("other", destination="other"), now=NOW + 5)
    await gauged(ledger, lambda gauges: gauges.due_since == {"tuner": NOW, "other": NOW + 5})
    first, second = await claimed(ledger), await claimed(ledger)
    await gauged(ledger, lambda gauges: gauges.due_since == {"other": NOW + 5})
    await ledger.settle(first.row, later(NOW + 60), NOW)
    await gauged(ledger, lambda gauges: gauges.due_since == {"tuner": NOW + 60, "other": NOW + 5})
    await ledger.settle(second.row, later(NOW + 30), NOW)
    await gauged(ledger, lambda gauges: gauges.due_since == {"tuner": NOW + 30, "other": NOW + 5})


async def test_odd_file_names_survive(ledger: Ledger) -> None:
    """File names that are no UTF-8 come back as they were."""
    path = b"/calls/caf\xe9-\xff.json".decode("utf-8", "surrogateescape")
    await ledger.admit(Admission(calls=[make_call(path=path)], mark=file_mark(path)), NOW)
    assert (await the(ledger, "call-1")).path == path
    assert await ledger.mark("agent", path) == file_mark(path)


async def test_a_call_without_strategies_is_held(ledger: Ledger) -> None:
    """No strategy and no URL: the call is held, not sent without its recording."""
    await put(ledger, make_call(strategies=()), make_call("b", strategies=(UrlStrategy(location=None),)))
    assert ledger.gauges().calls[State.WAITING] == 2


@pytest.mark.parametrize(
    ("begins", "left"),
    [(b'{"id": "call-1"}', 0), (b'{"id": "other', 1), (b'{"id', 1)],
    ids=["the line that it was half of", "another line", "less of it"],
)
async def test_a_line_that_goes_on_supersedes_its_half(ledger: Ledger, begins: bytes, left: int) -> None:
    """A log's half line stands as failed until what stands there now begins like it; a rotated log's place proves nothing."""
    half = refused("/calls/l.ndjson", 12, head=b'{"id": "cal')
    await ledger.admit(Admission(refused=[half], mark=file_mark("/calls/l.ndjson", whole=False)), NOW)
    call = make_call(path="/calls/l.ndjson.1", offset=12)
    continued = Continued(source="agent", path="/calls/l.ndjson", offset=12, begins=begins)
    await ledger.admit(Admission(calls=[call], mark=file_mark("/calls/l.ndjson.1", whole=False), continued=continued), NOW)
    assert len(await ledger.calls(FAILED)) == left


async def test_the_same_half_line_again_stays_one_row(ledger: Ledger) -> None:
    """A restart refuses it once more: the row stays, dismissed as it may be."""
    half = refused("/calls/l.ndjson", 12, head=b'{"id": "cal')
    admission = Admission(refused=[half], mark=file_mark("/calls/l.ndjson", whole=False))
    await ledger.admit(admission, NOW)
    (row,) = await ledger.calls(FAILED)
    continued = Continued(source="agent", path="/calls/l.ndjson", offset=12, begins=half.head)
    await ledger.admit(replace(admission, continued=continued), NOW + 1)
    assert [one.row for one in await ledger.calls(FAILED)] == [row.row]


async def test_marks_of_vanished_paths_are_told_apart(ledger: Ledger) -> None:
    """Those that are there, those that vanished; what was disposed of is neither."""
    for path in ("/a", "/b", "/c"):
        await ledger.set_mark(file_mark(path), NOW)
    await ledger.vanished("agent", ["/b"], NOW)
    await ledger.disposed("agent", "/c", NOW)
    assert [mark.path for mark in await ledger.marks("agent")] == ["/a"]
    assert [mark.path for mark in await ledger.marks("agent", vanished=True)] == ["/b"]
    assert [mark.path for mark in await ledger.marks("agent", vanished=True)] == ["/b"]  # asking is no sign of life
