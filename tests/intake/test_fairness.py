"""Nothing small keeps others from being read, and no file fills the ledger with rows of nothing."""

import asyncio
import gzip
import json
import threading
from pathlib import Path

import pytest

from tests.intake.harness import map_call, put, running, source, swept
from tunerd.call import Document, Mapped, Refusal, RefusedDocument
from tunerd.events import CallAdmitted, CallFailed, LinesIgnored
from tunerd.intake.fair_turns import FairTurns
from tunerd.intake.read_again import read_documents
from tunerd.intake.refused_lines import ROWS_OF_A_FILE, is_hollow
from tunerd.ledger import Filter
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger


def refuse_hollow(document: Document) -> Mapped:
    """As the rules do: a document without an id is refused, with its text."""
    if isinstance(document.value, dict) and document.value.get("id"):
        return map_call(document)
    refusal = Refusal(reason=FailReason.UNMAPPABLE, where="call.call_id", what="gave nothing")
    return Mapped(refused=RefusedDocument(origin=document.origin, refusal=refusal, document=document.raw))


async def failed(ledger: MemoryLedger) -> list[str]:
    found, last = list[str](), 0
    while calls := await ledger.calls(Filter(), after_row=last, limit=1000):
        last = calls[-1].row
        found += [call.detail for call in calls if call.reason is not None]
    return found


async def test_unpacked_bytes_without_a_document_are_bounded(tmp_path: Path) -> None:
    """64 times max_document; a whole file and a log alike."""
    blanks = gzip.compress(b" " * 1_000_000 + b"\n" * 1_000_000, 6)
    (tmp_path / "bomb.json.gz").write_bytes(blanks)
    (tmp_path / "bomb.ndjson.gz").write_bytes(blanks)
    put(tmp_path / "a.json", {"id": "a"})
    done, left = await swept(source(tmp_path, include=("*",), max_document_bytes=10_000))
    whats = [event.what for event in done.told.seen(CallFailed)]
    assert (left, done.ids(), len(whats)) == (0, ["a"], 2)
    assert all("there is no document in them" in what for what in whats)


async def test_lines_of_nothing_have_one_row_beyond_a_thousand(tmp_path: Path) -> None:
    """Empty objects, numbers and broken lines; also where they come in several looks, and after a restart."""
    log = tmp_path / "calls.ndjson"
    chosen = source(tmp_path, include=("*",))
    log.write_text("{}\n" * 900 + "17\n" * 900)
    first, _ = await swept(chosen, mapper=refuse_hollow)
    with log.open("a") as file:
        file.write("{nonsense\n" * 500 + '{"a": null, "b": [""]}\n' * 700)
    await swept(chosen, ledger=first.ledger, mapper=refuse_hollow)
    rows = await failed(first.ledger)
    assert len(rows) == ROWS_OF_A_FILE + 1
    assert [row for row in rows if row.startswith("from here on 2,000 more")]


async def test_documents_with_content_keep_their_rows(tmp_path: Path) -> None:
    """However many a wrong rule refuses: with a better one each is sent."""
    (tmp_path / "calls.ndjson").write_text("".join(json.dumps({"said": number}) + "\n" for number in range(1_500)))
    done, _ = await swept(source(tmp_path, include=("*",)), mapper=refuse_hollow)
    assert len(await failed(done.ledger)) == 1_500


def test_what_is_hollow() -> None:
    """No number and no truth value is nothing."""
    assert all(is_hollow(one) for one in ({}, {"a": None}, {"a": {"b": ["", {}]}}))
    assert not any(is_hollow(one) for one in ({"a": 0}, {"a": False}, {"a": ["x"]}))


async def test_turns_go_round_the_sources() -> None:
    """A source that waits with many files gets every second turn beside one that waits with one, and no more."""
    turns, order = FairTurns(), list[str]()

    async def take(source: str) -> None:
        async with turns.turn(source):
            order.append(source)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in ("a", "a", "a", "a", "b", "b"):
            group.create_task(take(name))
    assert order == ["a", "a", "b", "a", "b", "a"]


async def test_a_turn_that_nobody_takes_is_passed_on() -> None:
    """Whoever was cancelled while it waited holds up nobody."""
    turns, order = FairTurns(), list[str]()

    async def take(name: str) -> None:
        async with turns.turn(name):
            order.append(name)

    async with turns.turn("first"):
        waiting = [asyncio.ensure_future(take(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.wait(waiting)
    assert order == ["b"]


async def test_documents_are_mapped_where_they_are_read(tmp_path: Path) -> None:
    """Not on the event loop, and never two at once."""
    threads, now, most = set[int](), 0, 0

    def watched(document: Document) -> Mapped:
        nonlocal now, most
        now += 1
        most = max(most, now)
        threads.add(threading.get_ident())
        mapped = map_call(document)
        now -= 1
        return mapped

    for number in range(40):
        put(tmp_path / f"{number}.json", {"id": str(number)})
    async with running(source(tmp_path), mapper=watched) as it:
        await it.told.until(CallAdmitted, 40)
    assert (threading.get_ident() in threads, most) == (False, 1)


NOISE = ["Traceback (most recent call last):", "INFO: ready", "17", '"text"', "\u00e4\u00f6", "-- 2026 --"]


@pytest.mark.parametrize("not_json", ["fail", "ignore"])
async def test_noise_between_the_lines_of_a_log_is_a_choice(tmp_path: Path, not_json: str) -> None:
    """By default each such line is a failure; `not_json: ignore` counts them and tells once a file. What begins like JSON and
    is broken is a lost document either way, and so are NUL bytes."""
    lines = [*NOISE[:3], '{"id": "a"}', *NOISE[3:], '{"id": "b"}', '{"id": "cut', "[1,", "\0\0\0"]
    (tmp_path / "calls.ndjson").write_bytes("\n".join(lines).encode() + b"\n")
    chosen = source(tmp_path, include=("*",), not_json=not_json)
    done, _ = await swept(chosen)
    assert done.ids() == ["a", "b"]
    assert len(done.told.seen(CallFailed)) == (3 if not_json == "ignore" else 3 + len(NOISE))
    ignored = done.told.seen(LinesIgnored)
    assert [(event.count, event.is_first) for event in ignored] == ([(len(NOISE), True)] if not_json == "ignore" else [])
    with (tmp_path / "calls.ndjson").open("a") as log:
        log.write("more noise\n" + '{"id": "c"}\n')
    again, _ = await swept(chosen, ledger=done.ledger)
    assert "c" in again.ids()
    kept = list(read_documents(str(tmp_path / "calls.ndjson"), keep_noise=not_json == "fail"))
    assert sum(isinstance(one, RefusedDocument) for one in kept) == (3 if not_json == "ignore" else 4 + len(NOISE))


async def test_ignored_noise_fills_no_batch_and_keeps_its_place(tmp_path: Path) -> None:
    """A log of nothing but noise is read to its end once."""
    (tmp_path / "calls.ndjson").write_text("noise\n" * 1_000)
    chosen = source(tmp_path, include=("*",), not_json="ignore")
    done, left = await swept(chosen)
    assert (left, sum(event.count for event in done.told.seen(LinesIgnored))) == (0, 1_000)
    assert [event.is_first for event in done.told.seen(LinesIgnored)].count(True) == 1
    again, _ = await swept(chosen, ledger=done.ledger)
    assert again.told.seen(LinesIgnored) == []
