"""Gathered calls that go on after a silence longer than `wait`, whose source is gone, or whose end is followed by noise:
real rules, real files, both ledgers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.intake.harness import put, source
from tests.intake.test_gather import LINES, WEBHOOKS, analyzed, document, ended, rules, running, seen
from tests.intake.test_run import send
from tests.mapping.sources import CREATE
from tunerd.admin.api import RetryOrder
from tunerd.admin.call_orders import CallOrders
from tunerd.call import Call, Document, Recording, RefusedDocument, SendAnyway, State
from tunerd.clock import Clock, SystemClock
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.events import CallAdmitted, CallDuplicate, CallFailed, DocumentIgnored, DocumentsRead, PartsLate
from tunerd.intake.abandoned_groups import EVERY_S
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Admission, Filter, Ledger
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.mapping import SourceMapping, compile_source, presets
from tunerd.mapping.gathering import set_aside
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.outcome import FailReason
from tunerd.testing import FakeClock, MemoryLedger, Recorder

PIPECAT = [
    {"event": "call_started", "call_sid": "CA1", "ts": "2026-07-01T10:00:00Z", "from": "+15550161"},
    {"event": "turn", "role": "assistant", "content": "Box office.", "timestamp": "2026-07-01T10:20:01Z"},
    {"event": "turn", "role": "user", "content": "Two for tonight.", "timestamp": "2026-07-01T10:20:04Z"},
    {"event": "call_ended", "ts": "2026-07-01T10:20:09Z", "reason": "user_hangup"},
]


@pytest.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    kept = await SqliteLedger.open(tmp_path / "ledger.db", now=SystemClock().now(), emit=Recorder())
    yield kept
    await kept.close()


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return tmp_path / "calls"


def preset(name: str, root: Path, wait: str) -> SourceMapping:
    """A preset as it is, but for its patience."""
    agent = source(
        root, preset=name, gather=parse_yaml(f"wait: {wait}", "config.yaml"), agent_remote_identifier="bot",
        on_missing=SendAnyway(url="https://a.example/none.wav"),
    )  # fmt: skip
    return compile_source(agent, CREATE, manifests=dict.fromkeys(presets.names(), ManifestFacts()), environ={})


def write(log: Path, *lines: object) -> None:
    with log.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


async def payload(ledger: Ledger, mapping: SourceMapping, call_id: str) -> dict[str, Any]:
    (found,) = await ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
    document = await ledger.document(found.row)
    assert document is not None
    mapped = mapping.gather(document, ())
    assert mapped is not None
    assert isinstance(mapped.call, Call)
    read: dict[str, Any] = json.loads(mapped.call.payload)
    return read


async def test_a_call_that_was_left_out_is_made_of_all_its_documents(calls: Path, ledger: Any) -> None:
    """Pipecat's call_started, then a silence longer than `wait`: what comes after it is not a call without a beginning."""
    mapping = preset("pipecat", calls, "300ms")
    async with running(mapping, ledger) as run:
        write(calls / "a.ndjson", PIPECAT[0])
        await run.told.until(DocumentIgnored)
        write(calls / "a.ndjson", *PIPECAT[1:])
        await run.told.until(CallAdmitted)
    whole = await payload(ledger, mapping, "CA1")
    assert whole["caller_phone_number"] == "+15550161"
    assert whole["start_timestamp"] == 1782900000000
    assert len(whole["transcript_with_tool_calls"]) == 2


async def test_a_call_that_is_not_sent_yet_waits_for_what_goes_on(calls: Path, ledger: Any) -> None:
    """Taken to be whole after a silence, it gathers again with the next line, and is mapped once, whole, at its end."""
    mapping, log = rules(LINES, calls, "300ms"), calls / "a.ndjson"
    async with running(mapping, ledger) as run:
        write(log, {"id": "a"}, {"text": "a0"})
        await run.told.until(CallAdmitted)
        slow = rules(LINES, calls, "1h")
        await run.intake.update([slow._source], {"agent": slow.map}, gathers={"agent": slow})
        write(log, {"text": "a1"})
        await seen(run.told, DocumentsRead, lambda _: ledger.gauges().calls[State.GATHERING] == 1)
        assert ledger.gauges().calls[State.DUE] == 0
        write(log, {"text": "a2"}, {"type": "end"})
        await run.told.until(CallDuplicate)
        assert ledger.gauges().calls[State.DUE] == 1
    assert [row["text"] for row in (await payload(ledger, slow, "a"))["transcript_with_tool_calls"]] == ["a0", "a1", "a2"]


async def test_what_comes_after_a_silence_that_ended_the_call_is_late_at_once(calls: Path, ledger: Any) -> None:
    """The call was sent as it was after the wait: nobody waits once more to say so."""
    log = calls / "a.ndjson"
    async with running(rules(LINES, calls, "300ms"), ledger) as run:
        write(log, {"id": "a"}, {"text": "a0"})
        await run.told.until(CallAdmitted)
        await send(ledger, "a")
    async with running(rules(LINES, calls, "1h"), ledger) as run:
        write(log, {"text": "a1"}, {"text": "a2"})
        assert [(one.count, one.path) for one in await run.told.until(PartsLate)] == [(2, str(log))]
    (story,) = await ledger.story("a")
    assert story.events[-1].detail == "2 parts of it came after it was sent and count no more"


async def test_a_call_that_failed_for_want_of_parts_is_made_of_all_of_them(calls: Path, ledger: Any) -> None:
    """The part that was missing comes long after the wait, and others before and after it."""
    mapping = rules(WEBHOOKS, calls, "200ms")
    async with running(mapping, ledger) as run:
        put(calls / "1.json", analyzed("c-1"))
        (failed,) = await run.told.until(CallFailed)
        assert failed.what.endswith("its part `ended` never came")
        put(calls / "2.json", {"event": "other", "call": {"id": "c-1"}})
        await run.told.until(CallFailed, 2)
        put(calls / "3.json", ended("c-1"))
        await run.told.until(CallAdmitted)
    assert (await payload(ledger, mapping, "c-1"))["user_sentiment"] == "positive"
    (story,) = await ledger.story("c-1")
    assert len(story.origins) == 3


RETELL = Path(__file__).parents[1] / "mapping/presets2/fixtures/retell/three_webhooks.json"


async def test_events_of_retell_after_a_call_was_sent_are_not_late_parts(calls: Path, ledger: Any) -> None:
    """Only what would have changed the call is: another analysis, but no start, transfer or transcript update, nor a
    call_ended that was delivered after the analysis, nor the same analysis once more."""
    started, over, judged = json.loads(RETELL.read_bytes())
    (call_id,) = {one["call"]["call_id"] for one in (started, over, judged)}
    mapping = preset("retell", calls, "10m")
    async with running(mapping, ledger) as run:
        put(calls / "1.json", judged)
        await run.told.until(CallAdmitted)
        await send(ledger, call_id)
        for number, event in enumerate(("call_started", "transcript_updated", "transfer_started", "transfer_ended")):
            put(calls / f"noise-{number}.json", {"event": event, "call": {"call_id": call_id}})
        await seen(run.told, DocumentsRead, lambda _: sum(one.count for one in run.told.seen(DocumentsRead)) == 5)
        put(calls / "2.json", over)
        put(calls / "3.json", judged)
        await seen(run.told, DocumentsRead, lambda _: sum(one.count for one in run.told.seen(DocumentsRead)) == 7)
    assert not run.told.seen(PartsLate)  # the last scan has looked at all of it
    async with running(mapping, ledger) as run:
        judged["call"]["call_analysis"]["user_sentiment"] = "Negative"
        put(calls / "4.json", judged)
        assert [(one.count, one.path) for one in await run.told.until(PartsLate)] == [(1, str(calls / "4.json"))]
        assert run.intake.statuses()[0].late_parts == 1
    (story,) = await ledger.story(call_id)
    assert [event.what for event in story.events].count("late") == 1


class Hurried(SystemClock):
    """Hours later, and a pause of a minute takes no time: what time alone brings about is there at once."""

    def __init__(self, hours: float = 2.0) -> None:
        self._ahead_s = hours * 3600.0

    def now(self) -> float:
        return super().now() + self._ahead_s

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        return await super().wait(event, 0.01 if seconds == EVERY_S else seconds)


async def test_what_was_left_out_is_kept_for_a_day_and_no_longer(calls: Path, ledger: Any) -> None:
    """Then its documents go, silently; a call that ends only then is made of what comes from then on."""
    mapping, log = preset("pipecat", calls, "300ms"), calls / "a.ndjson"
    async with running(mapping, ledger) as run:
        write(log, PIPECAT[0])
        await run.told.until(DocumentIgnored)
    assert await ledger.gathering_sources() == ["agent"]  # one more look, in a day
    told = Recorder()
    intake = Intake([mapping._source], ledger, {"agent": mapping.map}, Hurried(25.0), told, gathers={"agent": mapping})
    await intake.sweep()
    intake.close()
    assert await ledger.gathering_sources() == []
    assert not told.seen(PartsLate)
    assert not told.seen(DocumentIgnored)
    (story,) = await ledger.story("CA1")
    assert [event.what for event in story.events] == ["admitted", "ignored"]


# Sources that are gone.


@asynccontextmanager
async def without_its_source(ledger: Any, *, clock: Clock) -> AsyncIterator[Recorder]:
    told, stop = Recorder(), asyncio.Event()
    intake = Intake([], ledger, {}, clock, told, IntakeOptions(set_aside=set_aside))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        try:
            yield told
        finally:
            stop.set()


async def gathered(mapping: SourceMapping, ledger: Any, calls: Path) -> None:
    """A group that waits for its second document when the daemon stops."""
    put(calls / "1.json", ended())
    async with running(mapping, ledger) as run:
        await run.told.until(DocumentsRead)
    assert ledger.gauges().calls[State.GATHERING] == 1


async def test_documents_of_a_source_that_is_gone_fail_visibly(calls: Path, ledger: Any) -> None:
    """Once their wait is over: told, listed, with the way out; `retry` works when the source is back, and so does `dismiss`."""
    mapping = rules(WEBHOOKS, calls)
    await gathered(mapping, ledger, calls)
    async with without_its_source(ledger, clock=Hurried()) as told:
        (failed,) = await told.until(CallFailed)
    assert (failed.source, failed.reason, failed.path) == ("agent", FailReason.UNMAPPABLE, str(calls / "1.json"))
    (row,) = await ledger.calls(Filter(states=frozenset({State.FAILED})))
    assert (row.call_id, row.where) == ("c-1", "gather")
    assert "no source 'agent' that gathers" in row.detail
    assert ledger.gauges().calls[State.GATHERING] == 0

    def gone(source: str, path: str, offset: int) -> Document | RefusedDocument:
        raise FileNotFoundError(path)

    def no_audio(recording: Recording) -> Recording:
        raise AssertionError("no document holds audio")

    everything = RetryOrder(states=frozenset({State.FAILED}))
    nobody = CallOrders(ledger, dict, gone, SystemClock().now, no_audio)
    assert "no longer in the configuration" in (await nobody.retry(everything)).skipped[0].what
    orders = CallOrders(ledger, lambda: {"agent": mapping}, gone, SystemClock().now, no_audio)
    assert (await orders.retry(everything)).done == {"due": 1}


async def test_documents_of_a_source_that_came_back_go_on(calls: Path, ledger: Any) -> None:
    """The part that was missing comes when the source is back: it joins what stands as failed."""
    mapping = rules(WEBHOOKS, calls)
    await gathered(mapping, ledger, calls)
    async with without_its_source(ledger, clock=Hurried()) as told:
        await told.until(CallFailed)
    put(calls / "2.json", analyzed())
    async with running(mapping, ledger) as run:
        await run.told.until(CallAdmitted)
    assert (await payload(ledger, mapping, "c-1"))["user_sentiment"] == "positive"


async def test_a_source_that_is_gone_for_a_moment_loses_nothing(calls: Path) -> None:
    """A reload without it, and one with it within a minute: its documents gather on, whatever their wait; nor does a wait
    end early because its source is gone."""
    ledger, clock = MemoryLedger(), FakeClock(SystemClock().now())
    await gathered(rules(WEBHOOKS, calls), ledger, calls)
    async with without_its_source(ledger, clock=clock) as told:
        await clock.advance(EVERY_S * 2)
        assert ledger.gauges().calls[State.GATHERING] == 1
        await clock.advance(3600.0)
        assert ledger.gauges().calls[State.FAILED] == 1
        assert len(told.seen(CallFailed)) == 1
    ledger, clock = MemoryLedger(), FakeClock(SystemClock().now() + 7200.0)
    await gathered(rules(WEBHOOKS, calls), ledger, calls)
    async with without_its_source(ledger, clock=clock):
        await clock.advance(EVERY_S * 1.5)
        assert ledger.gauges().calls[State.GATHERING] == 1


async def test_no_wait_ends_early_because_a_source_is_gone(calls: Path) -> None:
    """Not even that of a document that wanted a look at once when the daemon was killed."""
    ledger, clock, mapping = MemoryLedger(), FakeClock(), rules(WEBHOOKS, calls)
    one = mapping.map(document(ended(), calls / "1.json")).fragment
    assert one is not None
    assert one.decides
    await ledger.admit(Admission(fragments=[one]), clock.now())
    async with without_its_source(ledger, clock=clock) as told:
        await clock.advance(1800.0)
        assert not told.seen(CallFailed)
        await clock.advance(2000.0)
        assert told.seen(CallFailed)


async def test_groups_of_sources_that_gather_are_left_to_them(calls: Path) -> None:
    """Whatever they wait for."""
    ledger, mapping = MemoryLedger(), rules(WEBHOOKS, calls, "100h")
    put(calls / "1.json", ended())
    told, stop = Recorder(), asyncio.Event()
    sources = ([mapping._source], ledger, {"agent": mapping.map})
    intake = Intake(*sources, Hurried(), told, IntakeOptions(set_aside=set_aside), {"agent": mapping})
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        await told.until(DocumentsRead)
        put(calls / "2.json", {"event": "other", "call": {"id": "c-1"}})
        await told.until(DocumentsRead, 2)
        stop.set()
    assert not told.seen(CallFailed)
    assert ledger.gauges().calls[State.GATHERING] == 1
