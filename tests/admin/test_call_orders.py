"""Orders about calls: retry, remap, dismiss and forget over a real ledger, with rules and files that the test decides."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.admin.benches import Bench, Rules, refused, remade
from tests.ops.parts import NOW
from tunerd.admin.api import CallsOrder, DismissOrder, ForgetOrder, OrderRefused, RemapOrder, RetryOrder, StoryOrder
from tunerd.admin.call_orders import ORDER_PAGE
from tunerd.audio.spool import AudioSpool
from tunerd.call import Document, Form, IgnoredDocument, ManifestStrategy, Mapped, Origin, Recording, RefusedDocument, State
from tunerd.ledger import Admission, Delivered, Ended
from tunerd.outcome import FailReason
from tunerd.testing import make_call

FAILED: Mapping[str, Any] = {"states": frozenset({State.FAILED})}


def ids(*call_ids: str) -> dict[str, Any]:
    return {"call_ids": frozenset(call_ids), "dismissed": None}


async def states(bench: Bench) -> dict[str | None, str]:
    page = await bench.ask(CallsOrder(dismissed=None, limit=1000))
    return {row.call_id: row.state for row in page.calls}


async def body_of_next(bench: Bench) -> bytes:
    claim = await bench.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, bench.now)
    assert claim.claimed is not None
    return claim.claimed.body


async def test_retry_maps_the_stored_document_with_todays_rules() -> None:
    """What goes out afterwards is the new payload, not the one that Tuner rejected."""
    bench = Bench(rules={"agent": Rules(remade("mended"))})
    await bench.fail("call-1")
    report = await bench.ask(RetryOrder(**FAILED))
    assert report.done == {"due": 1}
    assert b"mended" in await body_of_next(bench)


@pytest.mark.parametrize("order", [RetryOrder, RemapOrder])
async def test_rules_see_when_the_file_was_written(order: type[RetryOrder | RemapOrder]) -> None:
    """Presets that fall back to file.mtime map a stored document as they did when it was read, also the second time."""
    seen: list[int] = []

    def rule(document: Document) -> Mapped:
        seen.append(document.origin.mtime_ns)
        return remade()(document)

    bench = Bench(rules={"agent": Rules(rule)})
    await bench.ledger.admit(Admission(calls=[make_call("call-1", mtime_ns=1_700_000_000_123_456_789)]), NOW)
    await bench.end(Ended(reason=FailReason.REJECTED, status=422, detail=""))
    assert (await bench.ask(order(**FAILED))).done == {"due": 1}
    await bench.ask(RemapOrder(**ids("call-1")))
    assert seen == [1_700_000_000_123_456_789] * 2


@pytest.mark.parametrize("order", [RetryOrder, RemapOrder])
@pytest.mark.parametrize("has_room", [True, False])
async def test_audio_in_a_document_that_is_mapped_again(
    tmp_path: Path, order: type[RetryOrder | RemapOrder], has_room: bool
) -> None:
    """It gets into the spool before the ledger has its recording; without room nothing changes, and the report says why."""

    def rule(document: Document) -> Mapped:
        return Mapped(
            recording=Recording(origin=document.origin, source="agent", key="room", location=None, embedded=b"RIFF audio")
        )

    spool = AudioSpool(str(tmp_path / "spool"), 100 if has_room else 5)
    bench = Bench(rules={"agent": Rules(rule)}, spool=spool)
    await bench.refuse(refused("/calls/a.json", document=b"{}"))
    report = await bench.ask(order(**FAILED))
    kept = bench.ledger.change(lambda store: store.recordings.free_near("agent", "room", 0))
    if has_room:
        assert (report.done, report.skipped) == ({"recording": 1, "dismissed": 1}, [])
        assert [(one.location, bool(one.identity)) for one in kept] == [(spool.locations()[0], True)]
        assert Path(spool.path_of(spool.locations()[0])).read_bytes() == b"RIFF audio"
    else:
        assert (report.done, list(kept), list(await states(bench))) == ({}, [], [None])
        assert "ledger.max_spool" in report.skipped[0].what


async def test_retry_reports_what_is_still_refused() -> None:
    """The row keeps the new reason, and the report names call, reason and place."""

    def rule(document: Document) -> Mapped:
        again = refused(reason=FailReason.INVALID, call_id="call-1", document=document.raw, what="too long")
        return Mapped(refused=again)

    bench = Bench(rules={"agent": Rules(rule)})
    await bench.fail("call-1")
    report = await bench.ask(RetryOrder(**FAILED))
    assert report.done == {}
    [trouble] = report.failed
    assert (trouble.call_id, trouble.reason, trouble.what) == ("call-1", "invalid", "byte 7: too long")
    [row] = (await bench.ask(CallsOrder(**FAILED))).calls
    assert row.reason == "invalid"


async def test_retry_reads_the_place_again_when_reading_had_failed() -> None:
    """A repaired file takes the place of its failed row."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.refuse(refused("/calls/half.json"))
    raw = orjson.dumps({"id": "call-9"})
    origin = Origin(source="agent", path="/calls/half.json", length=len(raw))
    bench.places["/calls/half.json", 0] = Document(origin=origin, raw=raw, value={"id": "call-9"}, settled_at=NOW)
    assert (await bench.ask(RetryOrder(**FAILED))).done == {"due": 1}
    assert await states(bench) == {"call-9": "due"}


async def test_retry_of_a_file_that_is_still_broken_or_gone() -> None:
    """Both stay failed rows, and both are told."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.refuse(refused("/calls/broken.json"), refused("/calls/gone.json"), refused("/calls/locked.json"))
    bench.places["/calls/broken.json", 0] = refused("/calls/broken.json", what="ends too early")
    bench.places["/calls/locked.json", 0] = PermissionError(13, "Permission denied")
    report = await bench.ask(RetryOrder(**FAILED))
    assert [trouble.what for trouble in report.failed] == ["byte 7: ends too early"]
    assert [trouble.what for trouble in report.skipped] == [
        "its file is gone, and the ledger holds no copy",
        "its file cannot be read: Permission denied",
    ]


async def test_retry_without_a_stored_document_sends_the_payload_again() -> None:
    """Redaction keeps the document out of the ledger; the redacted payload is what is left to send."""
    bench = Bench()
    await bench.ledger.admit(Admission(calls=[replace(make_call("call-1", text="first"), document=None)]), NOW)
    await bench.end(Ended(reason=FailReason.REJECTED, status=422, detail=""))
    bench.rules["agent"] = Rules(remade("never asked"))
    assert (await bench.ask(RetryOrder(**FAILED))).done == {"due": 1}
    assert b"first" in await body_of_next(bench)


async def test_retry_leaves_alone_what_has_not_failed() -> None:
    """Named by its id, a call that is due, or sent, is told and untouched."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.admit("call-1")
    report = await bench.ask(RetryOrder(**ids("call-1")))
    assert (report.done, report.skipped[0].reason) == ({}, "due")


async def test_retry_of_a_removed_source_sends_what_is_there() -> None:
    """Calls of a source that is no longer configured are not stuck; only what was never mapped is."""
    bench = Bench()
    await bench.fail("call-1")
    await bench.refuse(refused())
    report = await bench.ask(RetryOrder(**FAILED))
    assert report.done == {"due": 1}
    assert "no longer in the configuration" in report.skipped[0].what


async def test_a_failed_document_that_is_a_recording_now() -> None:
    """A manifest that could not be read is admitted as a recording, and its failed row is handled."""
    origin = Origin(source="agent", path="/calls/m.json")
    recording = Recording(origin=origin, source="egress", key="room-1", location="https://audio.example/1.wav", started_at=NOW)
    bench = Bench(rules={"agent": Rules(lambda _: Mapped(recording=recording))})
    await bench.refuse(refused("/calls/m.json", reason=FailReason.UNMAPPABLE, document=b'{"id": 1}'))
    assert (await bench.ask(RetryOrder(**FAILED))).done == {"recording": 1, "dismissed": 1}
    assert (await bench.ask(CallsOrder(**FAILED))).calls == []


@pytest.mark.parametrize(("state", "told"), [(State.FAILED, "dismissed"), (State.DUE, None)])
async def test_rules_that_leave_a_document_out_now(state: State, told: str | None) -> None:
    """A failed one is dismissed; an open one stays as it was, and the operator hears of it."""
    bench = Bench(rules={"agent": Rules(lambda d: Mapped(ignored=IgnoredDocument(origin=d.origin)))})
    await (bench.fail("call-1") if state is State.FAILED else bench.admit("call-1"))
    report = await bench.ask(RemapOrder(states=frozenset({state})))
    assert list(report.done) == ([told] if told else [])
    assert bool(report.skipped) is (told is None)


async def test_remap_touches_only_what_is_not_sent() -> None:
    """Waiting, due and failed calls get the new payload; one that is being sent, or is sent, keeps its bytes."""
    bench = Bench(rules={"agent": Rules(remade("new rules"))})
    await bench.admit("sent")
    claim = await bench.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, NOW)
    assert claim.claimed is not None
    await bench.ledger.settle(claim.claimed.row, Delivered(status=200, tuner_call_id=None, already_there=False), NOW)
    await bench.fail("failed")
    await bench.admit("due")
    report = await bench.ask(RemapOrder(**ids("sent", "failed", "due")))
    assert report.done == {"due": 2}
    assert [trouble.reason for trouble in report.skipped] == ["sent"]
    assert await states(bench) == {"sent": "sent", "failed": "due", "due": "due"}


async def test_orders_go_page_by_page() -> None:
    """No request lasts long: a page of a hundred, and where to go on."""
    bench = Bench(rules={"agent": Rules(remade())})
    count = ORDER_PAGE + 5
    await bench.refuse(*(refused(f"/calls/{n}.json", document=orjson.dumps({"id": f"call-{n}"}),
                                 reason=FailReason.UNMAPPABLE) for n in range(count)))  # fmt: skip
    first = await bench.ask(RetryOrder(**FAILED))
    assert first.done == {"due": ORDER_PAGE}
    assert first.next_after_row is not None
    second = await bench.ask(RetryOrder(**FAILED, after_row=first.next_after_row))
    assert (second.done, second.next_after_row) == ({"due": 5}, None)


@pytest.mark.parametrize(("offset", "found"), [(None, 2), (100, 1), (7, 0)])
async def test_a_place_is_a_file_or_one_document_of_it(offset: int | None, found: int) -> None:
    """`PATH` means all of its documents, `PATH@OFFSET` exactly one."""
    bench = Bench(rules={"agent": Rules(remade())})
    documents = [refused("/calls/a.ndjson", offset=at, document=orjson.dumps({"id": f"call-{at}"})) for at in (0, 100)]
    await bench.refuse(*documents, refused("/calls/b.json", document=b'{"id": "other"}'))
    report = await bench.ask(RetryOrder(**FAILED, path="/calls/a.ndjson", offset=offset))
    assert sum(report.done.values()) == found


async def test_dismissed_calls_are_out_of_the_list_and_can_come_back() -> None:
    """No longer failed for lists and gauges; `retry` by id still sends them."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.fail("call-1", "call-2")
    assert (await bench.ask(DismissOrder(**ids("call-1")))).done == {"dismissed": 1}
    assert [row.call_id for row in (await bench.ask(CallsOrder(**FAILED))).calls] == ["call-2"]
    assert (await bench.ask(RetryOrder(**ids("call-1")))).done == {"due": 1}


async def test_forget_erases_and_refuses_while_sending() -> None:
    """Everything about the id goes; not in the middle of an attempt."""
    bench = Bench()
    await bench.admit("call-1")
    await bench.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, NOW)
    report = await bench.ask(ForgetOrder(call_id="call-1"))
    assert (report.done, report.skipped[0].reason) == ({}, "sending")
    claimed = (await bench.ask(CallsOrder(**ids("call-1")))).calls[0].row
    await bench.ledger.release(claimed, NOW)
    assert (await bench.ask(ForgetOrder(call_id="call-1"))).done == {"forgotten": 1}
    assert (await bench.ask(StoryOrder(call_id="call-1"))).stories == []


async def test_a_conflict_after_mapping_again_is_told() -> None:
    """Two documents that today's rules give one id, with other starts: the second stays failed."""
    start: list[int] = [1_767_225_000_000, 1_767_229_000_000]

    def rule(document: Document) -> Mapped:
        return Mapped(call=make_call("same", started_at_ms=start.pop(0), path=document.origin.path))

    bench = Bench(rules={"agent": Rules(rule)})
    await bench.refuse(*(refused(f"/calls/{n}.json", document=b"{}", reason=FailReason.UNMAPPABLE) for n in range(2)))
    report = await bench.ask(RetryOrder(**FAILED))
    assert report.done == {"due": 1}
    assert "another call has the same id" in report.failed[0].what


@pytest.mark.parametrize("order", [RetryOrder, RemapOrder])
async def test_a_row_that_vanishes_in_between_is_told(order: type[RetryOrder | RemapOrder]) -> None:
    """Retention, or a forget in another terminal, may be quicker: nothing breaks."""
    bench = Bench()

    def rule(document: Document) -> Mapped:
        bench.ledger.change(lambda store: store.drop(store.calls.named("call-1")[0]))
        return remade()(document)

    bench.rules["agent"] = Rules(rule)
    await bench.fail("call-1")
    report = await bench.ask(order(**FAILED))
    assert report.skipped[0].what == "it is no longer in the ledger"


# Without a stored document (redaction keeps it from being stored), only the file can be mapped again.


def stands(call_id: str, start: int | None = None) -> Document:
    value = {"id": call_id} | ({} if start is None else {"start": start})
    return Document(
        origin=Origin(source="agent", path="/calls/call-1.json"), raw=orjson.dumps(value), value=value, settled_at=NOW
    )


def by_start(document: Document) -> Mapped:
    value = document.value
    assert isinstance(value, dict)
    if "start" not in value:
        return Mapped(refused=refused("/calls/call-1.json", reason=FailReason.UNMAPPABLE))
    started_at_ms = value["start"]
    assert isinstance(started_at_ms, int)
    return Mapped(call=replace(make_call(str(value["id"]), text="new", started_at_ms=started_at_ms), document=None))


async def without_document(call_id: str = "call-1", start: int = 1_000_000) -> Bench:
    bench = Bench(rules={"agent": Rules(by_start)})
    call = make_call(call_id, text="redacted", started_at_ms=start, path="/calls/call-1.json")
    await bench.ledger.admit(Admission(calls=[replace(call, document=None)]), NOW)
    return bench


@pytest.mark.parametrize("again", [stands("call-1", 1_000_000), stands("renamed", 1_000_500), stands("call-1", 5_000_000)])
async def test_remap_without_a_document_reads_the_file(again: Document) -> None:
    """It is the same call where its id or its start is what it was: rules may have changed one of them."""
    bench = await without_document()
    bench.places["/calls/call-1.json", 0] = again
    report = await bench.ask(RemapOrder(**ids("call-1")))
    assert report.done == {"due": 1}
    assert b"new" in await body_of_next(bench)


@pytest.mark.parametrize(
    "now_there", [stands("other", 9_000_000), stands("call-1"), refused("/calls/call-1.json"), FileNotFoundError()]
)
async def test_remap_never_gives_up_a_redacted_call_for_something_else(
    now_there: Document | RefusedDocument | OSError,
) -> None:
    """A rotated log holds another call at that place: the payload that the ledger has is all there is of this one."""
    bench = await without_document()
    bench.places["/calls/call-1.json", 0] = now_there
    report = await bench.ask(RemapOrder(**ids("call-1")))
    assert report.done == {}
    assert len(report.skipped) + len(report.failed) == 1
    assert b"redacted" in await body_of_next(bench)


async def test_a_recording_by_hand_goes_to_the_call_that_waits_for_one() -> None:
    """The location is parsed by the rules of its source; one that is none is refused with what is wrong, and nothing happens; a
    call that has its recording is skipped."""
    bench = Bench(rules={"agent": Rules(remade())})
    strategy = ManifestStrategy(source="egress", key="room", within_s=600.0, wait_s=60.0)
    await bench.ledger.admit(Admission(calls=[make_call("w", strategies=(strategy,)), make_call("own")]), NOW)
    with pytest.raises(OrderRefused, match="--recording: it is no location of a recording"):
        await bench.ask(RetryOrder(**ids("w"), recording="room.ogg"))
    assert (await states(bench))["w"] == "waiting"
    assert (await bench.ask(RetryOrder(**ids("w"), recording="https://a.example/1.wav"))).done == {"due": 1}
    report = await bench.ask(RetryOrder(**ids("own"), recording="https://a.example/1.wav"))
    assert "its state is due" in report.skipped[0].what
