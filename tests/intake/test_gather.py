"""Calls of several documents, through a running intake with real rules, real files and a ledger."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.intake.harness import age, put, source
from tests.intake.test_run import send
from tests.mapping.sources import CREATE
from tunerd.call import Call, Document, Origin, SendAnyway, State
from tunerd.clock import SystemClock
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.events import CallAdmitted, CallDuplicate, CallFailed, DocumentIgnored, DocumentsRead, Event, PartsLate
from tunerd.intake.admission_gate import Limits
from tunerd.intake.crash_journal import FILE, CrashJournal, Phase
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Admission, Filter
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.mapping import SourceMapping, compile_source
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger, Recorder

WEBHOOKS = """
gather:
  key: doc.call.id
  parts: {ended: doc.event == 'ended', analyzed: doc.event == 'analyzed'}
  complete: ended && analyzed
  wait: WAIT
call:
  when: "!docs[?event == 'ignored']"
  call_id: ended.call.id
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  user_sentiment: analyzed.mood
  transcript_with_tool_calls: {for_each: {m: ended.said}, role: {const: user}, text: m, start_ms: 0}
"""

LINES = """
gather: {key: doc.id, parts: {end: doc.type == 'end'}, complete: end, wait: WAIT}
call:
  call_id: "docs[0].id"
  call_type: {const: web_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: "docs[?text]"}, role: {const: user}, text: m.text, start_ms: 0}
"""


def rules(text: str, root: Path, wait: str = "1h", **fields: Any) -> SourceMapping:
    members = parse_yaml(text.replace("WAIT", wait), "config.yaml").value
    assert isinstance(members, dict)
    agent = source(
        root, gather=members["gather"], call=members["call"], manifest=members.get("manifest"), recursive=True,
        agent_remote_identifier="bot", on_missing=SendAnyway(url="https://a.example/none.wav"), **fields,
    )  # fmt: skip
    return compile_source(agent, CREATE, manifests={}, environ={})


def ended(call: str = "c-1", *said: str) -> dict[str, Any]:
    return {"event": "ended", "call": {"id": call}, "said": said or ["hello"]}


def analyzed(call: str = "c-1", mood: str = "positive") -> dict[str, Any]:
    return {"event": "analyzed", "call": {"id": call}, "mood": mood}


@dataclass
class Running:
    ledger: Any
    told: Recorder
    intake: Intake

    async def the(self, call_id: str) -> Any:
        (found,) = await self.ledger.calls(Filter(call_ids=frozenset({call_id}), dismissed=None))
        return found

    async def payload(self, call_id: str) -> dict[str, Any]:
        row = (await self.the(call_id)).row
        payload, _ = self.ledger.change(lambda store: store.bodies.payload(row))
        read: dict[str, Any] = json.loads(payload)
        return read

    def texts(self, fields: dict[str, Any]) -> list[str]:
        return [row["text"] for row in fields["transcript_with_tool_calls"]]


def intake_of(mapping: SourceMapping, ledger: Any, told: Recorder, limits: Limits | None = None) -> Intake:
    options = IntakeOptions(limits=limits or Limits())
    return Intake([mapping._source], ledger, {"agent": mapping.map}, SystemClock(), told, options, {"agent": mapping})


@asynccontextmanager
async def running(mapping: SourceMapping, ledger: Any = None, limits: Limits | None = None) -> AsyncIterator[Running]:
    ledger, told, stop = ledger or MemoryLedger(), Recorder(), asyncio.Event()
    intake = intake_of(mapping, ledger, told, limits)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        try:
            yield Running(ledger, told, intake)
        finally:
            stop.set()


async def swept(mapping: SourceMapping, ledger: Any = None) -> Running:
    ledger, told = ledger or MemoryLedger(), Recorder()
    intake = intake_of(mapping, ledger, told)
    try:
        await intake.sweep()
    finally:
        intake.close()
    return Running(ledger, told, intake)


async def seen(told: Recorder, kind: type[Event], fits: Callable[[Any], bool]) -> None:
    """Wait until a fact of the type fits."""
    count = 0
    while True:
        found = await told.until(kind, count + 1)
        if any(fits(one) for one in found[count:]):
            return
        count = len(found)


async def test_two_files_make_a_call_at_once_when_it_is_complete(tmp_path: Path) -> None:
    """The first is kept and waits, the second completes the call; nobody waits an hour."""
    async with running(rules(WEBHOOKS, tmp_path)) as run:
        put(tmp_path / "1.json", ended())
        await run.told.until(DocumentsRead)
        assert run.ledger.gauges().calls[State.GATHERING] == 1
        put(tmp_path / "2.json", analyzed())
        (admitted,) = await run.told.until(CallAdmitted)
        assert (admitted.call_id, admitted.source) == ("c-1", "agent")
        assert (await run.payload("c-1"))["user_sentiment"] == "positive"
        assert run.ledger.gauges().calls[State.GATHERING] == 0


async def test_after_its_wait_a_call_is_mapped_with_what_is_there(tmp_path: Path) -> None:
    """An optional part that never comes holds nothing up for longer; a required one is named in a failed row."""
    async with running(rules(WEBHOOKS, tmp_path, "200ms")) as run:
        put(tmp_path / "1.json", ended("c-1"))
        put(tmp_path / "2.json", analyzed("c-2"))
        await run.told.until(CallAdmitted)
        (failed,) = await run.told.until(CallFailed)
        assert failed.reason is FailReason.UNMAPPABLE
        assert failed.what.endswith("its part `ended` never came")
        assert (await run.the("c-2")).state is State.FAILED
        put(tmp_path / "3.json", ended("c-2"))
        await run.told.until(CallAdmitted, 2)
        assert (await run.payload("c-2"))["user_sentiment"] == "positive"


async def test_newer_parts_replace_until_sent_and_are_late_after(tmp_path: Path) -> None:
    """The call in the ledger is always made of the newest documents; what comes after it was sent is told and counted."""
    async with running(rules(WEBHOOKS, tmp_path)) as run:
        put(tmp_path / "1.json", ended())
        put(tmp_path / "2.json", analyzed())
        await run.told.until(CallAdmitted)
        put(tmp_path / "3.json", analyzed(mood="negative"))
        assert [one.replaced for one in await run.told.until(CallDuplicate)] == [True]
        assert (await run.payload("c-1"))["user_sentiment"] == "negative"
        await send(run.ledger, "c-1")
        put(tmp_path / "4.json", analyzed(mood="neutral"))
        assert [one.count for one in await run.told.until(PartsLate)] == [1]
        assert run.intake.statuses()[0].late_parts == 1


async def test_a_whole_call_may_be_left_out(tmp_path: Path) -> None:
    """`when` over all its documents."""
    async with running(rules(WEBHOOKS, tmp_path, "100ms")) as run:
        put(tmp_path / "1.json", {**ended(), "event": "ignored"})
        await run.told.until(DocumentIgnored)


async def test_lines_without_a_key_go_with_the_one_before_them(tmp_path: Path) -> None:
    """Over batches, over a restart, and beside another log; the first line of a log must say whose call it is."""
    log = tmp_path / "a.ndjson"
    log.write_text("".join(json.dumps(line) + "\n" for line in [{"id": "a"}, *({"text": f"a{n}"} for n in range(600))]))
    (tmp_path / "b.ndjson").write_text('{"text": "stray"}\n{"id": "b"}\n{"text": "b0"}\n')
    first = await swept(rules(LINES, tmp_path))
    (failed,) = first.told.seen(CallFailed)
    assert (failed.where, failed.path) == ("gather.key", str(tmp_path / "b.ndjson"))
    with log.open("a") as file:
        file.write('{"text": "after"}\n{"type": "end"}\n')
    async with running(rules(LINES, tmp_path), first.ledger) as run:
        await run.told.until(CallAdmitted)
        assert run.texts(await run.payload("a")) == [*(f"a{n}" for n in range(600)), "after"]
        log.rename(tmp_path / "a.ndjson.1")
        with (tmp_path / "a.ndjson.1").open("a") as file:
            file.write('{"id": "a2"}\n')
        with (tmp_path / "b.ndjson").open("a") as file:
            file.write('{"type": "end"}\n')
        await seen(run.told, CallAdmitted, lambda one: one.call_id == "b")
        assert run.texts(await run.payload("b")) == ["b0"]


async def test_a_folder_is_a_call(tmp_path: Path) -> None:
    """`key: file.dir`: whatever the names of the files; a file that is written anew counts as it is now."""
    text = LINES.replace("key: doc.id", "key: file.dir").replace('"docs[0].id"', "file.dir")
    async with running(rules(text, tmp_path)) as run:
        folder = tmp_path / "call-7"
        folder.mkdir()
        put(folder / "talk.json", {"text": "first"})
        put(folder / "end.json", {"type": "end"})
        await run.told.until(CallAdmitted)
        put(folder / "talk.json", {"text": "mended"})
        await run.told.until(CallDuplicate)
        assert run.texts(await run.payload("call-7")) == ["mended"]


async def test_done_is_not_believed_before_its_folder_is_read(tmp_path: Path) -> None:
    """A file that says "done" does not complete the call while one that was there before it is still to be read."""
    text = LINES.replace("key: doc.id", "key: file.dir").replace('"docs[0].id"', "file.dir")
    folder = tmp_path / "call-7"
    folder.mkdir()
    half = folder / "half.json"
    half.write_text('{"text": ')
    put(folder / "other.json", {"text": "other"})
    async with running(rules(text, tmp_path)) as run:
        await run.told.until(DocumentsRead)
        put(folder / "end.json", {"type": "end"})
        await run.told.until(DocumentsRead, 2)
        (tmp_path / "call-8").mkdir()
        put(tmp_path / "call-8" / "all.json", [{"text": "there"}, {"type": "end"}])
        await run.told.until(CallAdmitted)
        assert [one.call_id for one in run.told.seen(CallAdmitted)] == ["call-8"]  # call-7 was looked at before it
        with half.open("a") as file:
            file.write('"half"}')
        await run.told.until(CallAdmitted, 2)
        assert sorted(run.texts(await run.payload("call-7"))) == ["half", "other"]
    assert not run.told.seen(CallDuplicate)


async def test_reading_the_same_again_adds_nothing(tmp_path: Path) -> None:
    """A file that is touched, and a copy of the ledger that knows nothing of files, change no call."""
    put(tmp_path / "1.json", ended())
    put(tmp_path / "2.json", analyzed())
    mapping = rules(WEBHOOKS, tmp_path)
    first = await swept(mapping)
    assert [one.call_id for one in first.told.seen(CallAdmitted)] == ["c-1"]
    first.ledger.change(lambda store: store.db.execute("DELETE FROM file"))
    age(tmp_path / "1.json", 60)
    again = await swept(mapping, first.ledger)
    assert not again.told.seen(CallAdmitted)
    assert not again.told.seen(CallDuplicate)


async def test_a_sweep_counts_waits_from_when_a_file_was_written(tmp_path: Path) -> None:
    """A backfill of old files waits for nothing; what was written just now may still be completed."""
    age(put(tmp_path / "1.json", ended("old")), 3 * 3600)
    put(tmp_path / "2.json", ended("new"))
    run = await swept(rules(WEBHOOKS, tmp_path))
    assert [one.call_id for one in run.told.seen(CallAdmitted)] == ["old"]
    assert run.ledger.gauges().calls[State.GATHERING] == 1


async def test_no_wait_ends_before_everything_is_read(tmp_path: Path) -> None:
    """After a restart the missing part may lie in a file that nobody has looked at: it is read first."""
    mapping = rules(WEBHOOKS, tmp_path, "1ms")
    put(tmp_path / "1.json", ended())
    ledger = MemoryLedger()
    one = mapping.map(document(ended(), tmp_path / "1.json")).fragment
    assert one is not None
    await ledger.admit(Admission(fragments=[one]), SystemClock().now() - 60)
    put(tmp_path / "2.json", analyzed())
    async with running(mapping, ledger) as run:
        await run.told.until(CallAdmitted)
        assert (await run.payload("c-1"))["user_sentiment"] == "positive"
    assert not run.told.seen(CallDuplicate)


def document(value: Any, path: Path) -> Document:
    raw = json.dumps(value).encode()
    origin = Origin(source="agent", path=str(path), length=len(raw), mtime_ns=1)
    return Document(origin=origin, raw=raw, value=value, settled_at=1.0)


async def test_a_full_ledger_ends_waits_when_only_they_fill_it(tmp_path: Path) -> None:
    """Else nothing could ever be read again: the documents that would complete the calls are still on disk. As calls
    leave, all get their turn."""
    mapping = rules(WEBHOOKS, tmp_path, "100ms")
    for number in range(20):
        put(tmp_path / f"{number}.json", ended(f"c-{number}", "x" * 1000))
    async with running(mapping, limits=Limits(max_pending_bytes=3000)) as run:
        for count in range(1, 7):
            admitted = await run.told.until(CallAdmitted, count)
            await send(run.ledger, *(one.call_id for one in admitted))


async def test_on_the_real_ledger(tmp_path: Path) -> None:
    """The same, durable: fragments outlive the process that read them."""
    calls = tmp_path / "calls"
    calls.mkdir()
    put(calls / "1.json", ended())
    mapping = rules(WEBHOOKS, calls)

    async def opened() -> SqliteLedger:
        return await SqliteLedger.open(tmp_path / "ledger.db", now=SystemClock().now(), emit=Recorder())

    ledger = await opened()
    await swept(mapping, ledger)
    assert ledger.gauges().calls[State.GATHERING] == 1
    await ledger.close()
    ledger = await opened()
    put(calls / "2.json", analyzed())
    async with running(mapping, ledger) as run:
        await run.told.until(CallAdmitted)
    stored = await run.the("c-1")
    assert stored.state is State.DUE
    mapped = mapping.map(stored_document(await ledger.document(stored.row)))
    assert isinstance(mapped.call, Call)
    await ledger.close()


def stored_document(raw: bytes | None) -> Document:
    assert raw is not None
    return Document(origin=Origin(source="agent", path="/x"), raw=raw, value=json.loads(raw), settled_at=1.0)


async def test_a_group_that_the_mapping_cannot_survive_is_set_aside(tmp_path: Path) -> None:
    """A defect of ours, or the process dying over it twice: failed(crashed), with everything that `retry` needs."""
    mapping = rules(WEBHOOKS, tmp_path)
    parts = [mapping.map(document(value, tmp_path / name)).fragment for name, value in (("1", ended()), ("2", analyzed()))]
    ledger = MemoryLedger()
    await ledger.admit(Admission(fragments=[one for one in parts if one is not None]), SystemClock().now())
    in_hand = str(tmp_path / "ledger.in-hand")
    for _ in range(2):  # two processes that die over the group
        CrashJournal(in_hand).begin("agent", "gather:1").note(Phase.MAPPING, FILE)
    told = Recorder()
    intake = Intake(
        [mapping._source],
        ledger,
        {"agent": mapping.map},
        SystemClock(),
        told,
        IntakeOptions(crash_journal=in_hand),
        gathers={"agent": mapping},
    )
    await intake.sweep()
    intake.close()
    assert [one.reason for one in told.seen(CallFailed)] == [FailReason.CRASHED]
    again = mapping.map(stored_document(await ledger.document(1)))
    assert again.call is not None
