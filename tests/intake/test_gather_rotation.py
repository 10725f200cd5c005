"""Gathered calls over rotations of their log: real rules, real files, a ledger, several lives of the reader."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.intake.harness import age
from tests.intake.test_gather import Running, rules, running, swept
from tests.intake.test_gather_cut import SESSIONS, call, line, rows
from tunerd.call import State
from tunerd.events import CallAdmitted, CallFailed, DocumentsRead
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger

LOG = "app.ndjson"


def append(log: Path, lines: Sequence[bytes]) -> None:
    with log.open("ab") as out:
        out.write(b"".join(lines))


@asynccontextmanager
async def reading(root: Path, ledger: MemoryLedger, wait: str = "1h") -> AsyncIterator[Running]:
    async with running(rules(SESSIONS, root, wait, rescan_s=0.3, settle_s=0.05), ledger) as run:
        yield run


ROTATED = ["app.ndjson.1", "app.ndjson-20260101T120000Z", "app.ndjson.prev", "app.10000.ndjson"]


@pytest.mark.parametrize("name", ROTATED)
@pytest.mark.parametrize("is_running", [True, False])
async def test_a_call_over_a_rotation_is_whole(tmp_path: Path, name: str, is_running: bool) -> None:
    """The log is renamed in the middle of a call; what its writer adds before it opens the new one belongs to it, and so does
    what stands at the beginning of the new one. While the reader runs, or while it does not."""
    log, ledger = tmp_path / LOG, MemoryLedger()
    lines = call("a", "a1", "a2", "a3", "a4")
    append(log, lines[:2])
    async with reading(tmp_path, ledger) as run:
        await run.told.until(DocumentsRead)
        if is_running:
            log.rename(tmp_path / name)
            append(tmp_path / name, lines[2:4])
            append(log, lines[4:] + call("b", "b1"))
            await run.told.until(CallAdmitted, 2)
    if not is_running:
        log.rename(tmp_path / name)
        append(tmp_path / name, lines[2:4])
        append(log, lines[4:] + call("b", "b1"))
        async with reading(tmp_path, ledger) as run:
            await run.told.until(CallAdmitted, 2)
    assert run.texts(await run.payload("a")) == ["a1", "a2", "a3", "a4"]
    assert run.texts(await run.payload("b")) == ["b1"]
    assert not await rows(run, State.FAILED)


async def test_what_the_writer_adds_to_the_renamed_log_comes_first(tmp_path: Path) -> None:
    """The new log is there and has lines, while the old one's last ones are not read: they are read before."""
    log, ledger = tmp_path / LOG, MemoryLedger()
    lines = call("a", "a1", "a2", "a3")
    append(log, lines[:2])
    await swept(rules(SESSIONS, tmp_path, "1h"), ledger)
    log.rename(tmp_path / "zzz.app.ndjson.1")  # read after the new one
    (tmp_path / "zzz.app.ndjson.1").rename(tmp_path / "app.ndjson.1")
    append(tmp_path / "app.ndjson.1", lines[2:3])
    append(log, lines[3:])
    async with reading(tmp_path, ledger) as run:
        await run.told.until(CallAdmitted)
    assert run.texts(await run.payload("a")) == ["a1", "a2", "a3"]


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_truncated_log_is_a_gap(tmp_path: Path, is_running: bool) -> None:
    """Nobody knows what was lost with it: the call at its end stands as incomplete, what follows without a key is nobody's."""
    log, ledger = tmp_path / LOG, MemoryLedger()
    append(log, call("a", "a1", "a2", end=False))
    async with reading(tmp_path, ledger) as run:
        await run.told.until(DocumentsRead)
        if is_running:
            os.truncate(log, 0)
            append(log, [*call("b", "b1")[1:], *call("c", "c1")])
            await run.told.until(CallAdmitted)
            await run.told.until(CallFailed, 3)
    if not is_running:
        os.truncate(log, 0)
        append(log, [*call("b", "b1")[1:], *call("c", "c1")])
        async with reading(tmp_path, ledger) as run:
            await run.told.until(CallAdmitted)
            await run.told.until(CallFailed, 3)
    assert set(await rows(run, State.DUE)) == {"c"}
    failed = await rows(run, State.FAILED)
    assert failed["a"].reason == FailReason.INCOMPLETE
    assert len([row for row in failed.values() if row.where == "gather.key"]) == 2


async def test_a_log_that_is_truncated_and_stays_empty_is_a_gap(tmp_path: Path) -> None:
    """The wait of the call must not end before anything else is written."""
    log, ledger = tmp_path / LOG, MemoryLedger()
    append(log, [*call("z", "z1"), *call("a", "a1", end=False)])
    async with reading(tmp_path, ledger, "2s") as run:
        await run.told.until(CallAdmitted)
        os.truncate(log, 0)
        (failed,) = await run.told.until(CallFailed)
        assert (failed.reason, failed.call_id) == (FailReason.INCOMPLETE, "a")


async def test_a_copied_and_truncated_log(tmp_path: Path) -> None:
    """The copy tells more of the old log: the call at its end is the one that may lack a part, the one before it is whole."""
    log, ledger = tmp_path / LOG, MemoryLedger()
    lines = [*call("a", "a1", "a2"), *call("b", "b1", "b2", "b3")]
    append(log, lines[:2])
    await swept(rules(SESSIONS, tmp_path, "1h"), ledger)
    append(log, lines[2:6])
    (tmp_path / "app.ndjson.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)
    append(log, [*lines[7:], *call("c", "c1")])
    async with reading(tmp_path, ledger) as run:
        await run.told.until(CallAdmitted, 2)
        while set(await rows(run, State.FAILED)) < {"b"}:
            await run.told.until(CallFailed, len(run.told.seen(CallFailed)) + 1)
    assert set(await rows(run, State.DUE)) == {"a", "c"}
    assert run.texts(await run.payload("a")) == ["a1", "a2"]
    assert (await rows(run, State.FAILED))["b"].reason == FailReason.INCOMPLETE


@pytest.mark.parametrize("parts", [(0.0,), (0.4,), (0.0, 0.4, 0.7), (1.0,)])
@pytest.mark.parametrize("is_truncated", [True, False])
async def test_a_copy_that_is_seen_before_it_is_complete(tmp_path: Path, parts: Sequence[float], is_truncated: bool) -> None:
    """Empty, or with the first lines of its log: no line is read twice, and without a truncation nothing is a gap."""
    log, ledger, mapping = tmp_path / LOG, MemoryLedger(), rules(SESSIONS, tmp_path, "1h")
    append(log, [*call("a", "a1", "a2", "a3"), *call("b", "b1", end=False)])
    await swept(mapping, ledger)
    whole = log.read_bytes()
    for part in parts:
        (tmp_path / "app.ndjson.1").write_bytes(whole[: int(len(whole) * part)])
        await swept(mapping, ledger)
    (tmp_path / "app.ndjson.1").write_bytes(whole)
    if is_truncated:
        os.truncate(log, 0)
    append(log, call("c", "c1") if is_truncated else call("b", "b1")[2:])
    await swept(mapping, ledger)
    run = await swept(mapping, ledger)
    assert run.texts(await run.payload("a")) == ["a1", "a2", "a3"]
    assert set(await rows(run, State.DUE)) == ({"a", "c"} if is_truncated else {"a", "b"})
    if not is_truncated:
        assert run.texts(await run.payload("b")) == ["b1"]


async def test_a_log_that_begins_like_another_one_is_no_copy_of_it(tmp_path: Path) -> None:
    """A generation that holds just the end of a call, and later ones that begin with such a line, or are one."""
    log, ledger, mapping = tmp_path / LOG, MemoryLedger(), rules(SESSIONS, tmp_path, "1h")
    for number, key in enumerate("abcd"):
        append(log, call(key, f"{key}1")[:-1])
        await swept(mapping, ledger)
        log.rename(tmp_path / f"{LOG}.{2 * number}")
        append(log, call(key)[-1:])
        await swept(mapping, ledger)
        if number % 2:
            log.rename(tmp_path / f"{LOG}.{2 * number + 1}")
    run = await swept(mapping, ledger)
    assert set(await rows(run, State.DUE)) == {"a", "b", "c", "d"}
    assert not await rows(run, State.FAILED)


async def test_a_log_that_is_gone_is_a_gap(tmp_path: Path) -> None:
    """It was deleted, or moved elsewhere, while nobody looked: more of its last call may have been in it."""
    log, ledger = tmp_path / "calls" / LOG, MemoryLedger()
    log.parent.mkdir()
    append(log, call("a", "a1", end=False))
    mapping = rules(SESSIONS, log.parent, "1h")
    await swept(mapping, ledger)
    log.rename(tmp_path / "elsewhere")
    append(log, [*call("b", "b1")[1:], *call("c", "c1")])
    async with reading(log.parent, ledger) as run:
        await run.told.until(CallAdmitted)
        await run.told.until(CallFailed, 3)
    assert (await rows(run, State.FAILED))["a"].reason == FailReason.INCOMPLETE
    assert set(await rows(run, State.DUE)) == {"c"}


async def test_a_first_start_on_rotated_logs(tmp_path: Path) -> None:
    """Nobody saw how one became the other: a call over two of them stands as incomplete, no words go into another one."""
    a, b, c = call("a", "a1", "a2"), call("b", "b1", "b2"), call("c", "c1")
    for at, (name, lines) in enumerate(
        [("app.ndjson.2", a[:2]), ("app.ndjson.1", [*a[2:], *b[:2]]), ("app.ndjson", [*b[2:], *c])]
    ):
        append(tmp_path / name, lines)
        os.utime(tmp_path / name, (1_782_900_000 + at, 1_782_900_000 + at))
    run = await swept(rules(SESSIONS, tmp_path, "1ms"))
    failed = await rows(run, State.FAILED)
    assert {key for key, row in failed.items() if row.reason == "incomplete"} == {"a", "b"}
    assert set(await rows(run, State.DUE)) == {"c"}


async def test_calls_whose_lines_all_have_keys_stand_in_order(tmp_path: Path) -> None:
    """Over generations that are found all at once, too."""
    lines = [line(session="a", type="speech", text=f"a{n}") for n in range(6)] + [line(session="a", type="end")]
    for at, (name, part) in enumerate([("app.ndjson.2", lines[:2]), ("app.ndjson.1", lines[2:4]), ("app.ndjson", lines[4:])]):
        append(tmp_path / name, part)
        os.utime(tmp_path / name, (1_782_900_000 + at, 1_782_900_000 + at))
    run = await swept(rules(SESSIONS, tmp_path, "1ms"))
    assert run.texts(await run.payload("a")) == [f"a{n}" for n in range(6)]


async def test_an_older_log_is_read_before_one_that_was_empty_and_was_renamed(tmp_path: Path) -> None:
    """tunerd opened the log while it was empty. Then it was renamed and written to, and an older log, unread, is beside it: the
    two do not wait for each other."""
    root, ledger = tmp_path / "logs", MemoryLedger()
    root.mkdir()
    lines = [line(session="a", type="speech", text=f"a{n}") for n in range(3)] + [line(session="a", type="end")]
    older, log = tmp_path / "older", root / LOG
    append(older, lines[:2])
    age(older, 100)
    log.touch()
    async with reading(root, ledger) as run:
        while not await ledger.marks("agent"):  # noqa: ASYNC110
            await asyncio.sleep(0)  # nothing is emitted when an empty log is marked
        log.rename(root / "app.ndjson.1")
        older.rename(root / "app.ndjson.2")
        append(root / "app.ndjson.1", lines[2:])
        await run.told.until(CallAdmitted)
        assert run.texts(await run.payload("a")) == ["a0", "a1", "a2"]
