"""Documents that cannot be read among those of gathered calls: real rules, real files, a ledger. The log is the one of
docs/rules.md: only the first line of a call has its id."""

import asyncio
import gzip
import json
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.intake.harness import put
from tests.intake.test_gather import Running, rules, running, swept
from tunerd.admin.api import RetryOrder
from tunerd.admin.call_orders import CallOrders
from tunerd.call import State
from tunerd.events import CallAdmitted, CallFailed, DocumentsRead
from tunerd.ledger import Filter, StoredCall
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger

SESSIONS = """
gather: {key: doc.session, complete: "docs[?type == 'end']", wait: WAIT}
call:
  call_id: docs[0].session
  call_type: {const: web_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: "docs[?type == 'speech']"}, role: {const: user}, text: m.text, start_ms: 0}
"""

BROKEN = {
    "latin-1": '{"type": "begin", "session": "b", "name": "Andr\xe9"}\n'.encode("latin-1"),
    "nan": b'{"type": "begin", "session": "b", "score": NaN}\n',
    "cut": b'{"type": "begin", "sess\n',
    "nul": b"\0" * 60 + b"\n",
    "nul before": b"\0" * 60,
    "too large": b'{"type": "begin", "session": "b", "x": "' + b"x" * 3000 + b'"}\n',
    "no json": b"INFO the call begins\n",
    "bare value": b"17\n",
    "null": b"null\n",
    "two in one line, one cut": b'{"type": "speech", "text": "?"}{"type": \n',
}


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def call(session: str, *said: str, end: bool = True) -> list[bytes]:
    """Its lines; only the first has its id."""
    lines = [line(type="begin", session=session), *(line(type="speech", text=text) for text in said)]
    return lines + [line(type="end")] * end


async def rows(run: Running, *states: State) -> dict[str, StoredCall]:
    found = await run.ledger.calls(Filter(states=frozenset(states), dismissed=None), limit=1000)
    return {row.call_id or f"{row.path}@{row.offset}": row for row in found}


async def retried(run: Running, mapping: Any, row: StoredCall) -> list[str]:
    """What is said in the call that `retry` makes of a failed row."""
    orders = CallOrders(
        run.ledger,
        lambda: {"agent": mapping},
        lambda *_: pytest.fail("it is not read again"),
        lambda: 1.0,
        lambda _: pytest.fail("it holds no audio"),
    )
    report = await orders.retry(RetryOrder(call_ids=frozenset({row.call_id or ""})))
    assert report.done == {"due": 1}, report
    return run.texts(await run.payload(row.call_id or ""))


@pytest.mark.parametrize("broken", BROKEN)
async def test_no_words_of_the_next_call(tmp_path: Path, broken: str) -> None:
    """B's first line cannot be read: what B says is refused, A stands as incomplete and is sent by nothing but `retry`, with what
    there is of it; C is not touched."""
    calls = [*call("a", "a1", "a2"), BROKEN[broken], *call("b", "b1", "b2")[1:], *call("c", "c1")]
    (tmp_path / "app.ndjson").write_bytes(b"".join(calls))
    mapping = rules(SESSIONS, tmp_path, "10ms", max_document_bytes=2000)
    run = await swept(mapping)
    assert set(await rows(run, State.DUE)) == {"c"}
    failed = await rows(run, State.FAILED)
    assert failed["a"].reason == FailReason.INCOMPLETE
    assert "`tunerd retry` sends what is there" in failed["a"].detail
    assert len([row for row in failed.values() if row.where == "gather.key"]) == 3
    assert await retried(run, mapping, failed["a"]) == ["a1", "a2"]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_call_that_lacks_a_line_of_its_own(tmp_path: Path, broken: str) -> None:
    """The same line in the middle of a call: nobody can tell the two apart."""
    (tmp_path / "app.ndjson").write_bytes(b"".join([*call("a", "a1", end=False), BROKEN[broken], *call("x", "a2")[1:]]))
    run = await swept(rules(SESSIONS, tmp_path, "10ms", max_document_bytes=2000))
    assert not await rows(run, State.DUE, State.GATHERING)
    assert (await rows(run, State.FAILED))["a"].reason == FailReason.INCOMPLETE


async def test_over_restarts_at_every_line(tmp_path: Path) -> None:
    """What was carried, and that it is carried no more, is durable with the file's mark."""
    log, ledger = tmp_path / "app.ndjson", MemoryLedger()
    mapping = rules(SESSIONS, tmp_path, "1h")
    for one in [*call("a", "a1", end=False), BROKEN["nan"], *call("b", "b1")[1:], *call("c", "c1", "c2")]:
        with log.open("ab") as out:
            out.write(one)
        run = await swept(mapping, ledger)
    async with asyncio.timeout(30):
        while not await rows(run, State.DUE):  # a look at a call that grew comes a few ms after it
            run = await swept(mapping, ledger)
    assert set(await rows(run, State.DUE)) == {"c"}
    assert run.texts(await run.payload("c")) == ["c1", "c2"]
    failed = await rows(run, State.FAILED)
    assert failed["a"].reason == FailReason.INCOMPLETE
    assert await retried(run, mapping, failed["a"]) == ["a1"]


async def test_a_call_that_was_whole_is_taken_back(tmp_path: Path) -> None:
    """It is complete, and not sent yet, when a line comes that cannot be read: it may be one more of it."""
    log = tmp_path / "app.ndjson"
    async with running(rules(SESSIONS, tmp_path)) as run:
        log.write_bytes(b"".join(call("a", "a1")))
        await run.told.until(CallAdmitted)
        with log.open("ab") as out:
            out.write(BROKEN["cut"])
        failed = await run.told.until(CallFailed, 2)
        assert {one.reason for one in failed} == {FailReason.UNREADABLE, FailReason.INCOMPLETE}
        assert run.ledger.gauges().calls[State.DUE] == 0


async def test_more_of_it_tells_nothing_twice(tmp_path: Path) -> None:
    """A later line with the call's id joins what failed; one event says that it did."""
    log = tmp_path / "app.ndjson"
    mapping = rules(SESSIONS, tmp_path)
    async with running(mapping) as run:
        log.write_bytes(b"".join([*call("a", "a1", end=False), BROKEN["cut"], line(type="speech")]))
        await run.told.until(CallFailed, 3)
        with log.open("ab") as out:
            out.write(line(type="speech", session="a", text="a3"))
        await run.told.until(DocumentsRead, 2)
        (tmp_path / "other.ndjson").write_bytes(b"".join(call("z", "z1")))
        await run.told.until(CallAdmitted)  # it was looked at after the other
        assert [one.reason for one in run.told.seen(CallFailed)].count(FailReason.INCOMPLETE) == 1
        assert await retried(run, mapping, (await rows(run, State.FAILED))["a"]) == ["a1", "a3"]


async def test_where_each_document_has_a_key_nothing_is_cut(tmp_path: Path) -> None:
    """A broken line among them is one failed document, and no more."""
    lines = [line(type="begin", session="a"), line(type="speech", session="a", text="a1"), BROKEN["nan"],
             line(type="speech", session="a", text="a2"), line(type="end", session="a"), BROKEN["cut"],
             line(type="speech", session="b", text="b1"), line(type="end", session="b")]  # fmt: skip
    (tmp_path / "app.ndjson").write_bytes(b"".join(lines))
    run = await swept(rules(SESSIONS, tmp_path, "1h"))
    assert set(await rows(run, State.DUE)) == {"a", "b"}
    assert run.texts(await run.payload("a")) == ["a1", "a2"]
    assert {row.reason for row in (await rows(run, State.FAILED)).values()} == {"unreadable"}


async def test_a_first_call_of_which_only_one_line_is_known(tmp_path: Path) -> None:
    """Whether the next lines have keys of their own nobody knows yet: it waits, and the next line decides it."""
    log = tmp_path / "app.ndjson"
    for later, expected in (([line(session="a", type="end")], {"a"}), (call("b", "b1"), {"b"})):
        ledger = MemoryLedger()
        log.write_bytes(b"".join([line(type="speech", session="a", text="a1"), BROKEN["nan"]]))
        run = await swept(rules(SESSIONS, tmp_path, "1h"), ledger)
        assert set(await rows(run, State.GATHERING)) == {"a"}
        with log.open("ab") as out:
            out.write(b"".join(later))
        run = await swept(rules(SESSIONS, tmp_path, "1h"), ledger)
        assert set(await rows(run, State.DUE)) == expected


async def test_a_list_with_something_that_is_no_document(tmp_path: Path) -> None:
    """Whole files carry a key, too. Mended, the file is read anew, and the call is whole."""
    whole = [{"type": "begin", "session": "a"}, {"type": "speech", "text": "a1"}, 5, {"type": "end"}]
    put(tmp_path / "calls.json", whole)
    mapping, ledger = rules(SESSIONS, tmp_path, "1h"), MemoryLedger()
    run = await swept(mapping, ledger)
    assert (await rows(run, State.FAILED))["a"].reason == FailReason.INCOMPLETE
    whole[2] = {"type": "speech", "text": "a2"}
    put(tmp_path / "calls.json", whole)
    run = await swept(mapping, ledger)
    assert set(await rows(run, State.DUE)) == {"a"}
    assert run.texts(await run.payload("a")) == ["a1", "a2"]
    assert not await rows(run, State.FAILED)


async def test_what_made_a_call_incomplete_is_gone_while_a_file_is_unread(tmp_path: Path) -> None:
    """Without the entry that was no document the file says nothing new: the call is made of what is kept, and no file beside it is
    waited for."""
    (folder := tmp_path / "call-7").mkdir()
    (folder / "half.json").write_text('{"text": ')
    whole: list[Any] = [{"type": "begin", "session": "a"}, {"type": "speech", "text": "a1"}, {"type": "end"}, 5]
    put(folder / "calls.json", whole)
    async with running(rules(SESSIONS, tmp_path, "1h")) as run:
        await run.told.until(CallFailed, 2)
        assert (await rows(run, State.FAILED))["a"].reason == FailReason.INCOMPLETE
        put(folder / "calls.json", whole[:-1])
        await run.told.until(CallAdmitted)
        assert run.texts(await run.payload("a")) == ["a1"]


async def test_a_line_that_is_finished_later(tmp_path: Path) -> None:
    """Refused when nobody finished it in time, the call that it may belong to stands as incomplete; finished, it is a line like
    any other, and the call is whole."""
    log, ledger = tmp_path / "app.ndjson", MemoryLedger()
    lines = b"".join(call("a", "a1", "a2"))
    at = lines.index(b'"text": "a2"')
    mapping = rules(SESSIONS, tmp_path, "1h", settle_s=0.01, settle_timeout_s=0.05)
    async with running(mapping, ledger) as run:
        log.write_bytes(lines[:at])
        failed = await run.told.until(CallFailed, 2)
        assert {one.reason for one in failed} == {FailReason.UNREADABLE, FailReason.INCOMPLETE}
        with log.open("ab") as out:
            out.write(lines[at:])
        await run.told.until(CallAdmitted)
        assert run.texts(await run.payload("a")) == ["a1", "a2"]
        assert not await rows(run, State.FAILED)


async def test_a_compressed_log_that_is_damaged(tmp_path: Path) -> None:
    """Nobody knows what stood behind the damage."""
    data = gzip.compress(b"".join(call("a", *(token_hex(500) for _ in range(2000)), end=False)))
    (tmp_path / "app.ndjson.gz").write_bytes(data[:-9000] + b"\xff" * 40 + data[-8960:])
    run = await swept(rules(SESSIONS, tmp_path, "1ms"))
    assert not await rows(run, State.DUE, State.GATHERING)
    assert (await rows(run, State.FAILED))["a"].reason == FailReason.INCOMPLETE
