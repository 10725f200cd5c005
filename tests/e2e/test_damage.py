"""A ledger file was damaged while no daemon ran: the daemon starts, or refuses with one line. It keeps the file and uses what
it can read of it, reads the rest from the files again, and does not store thousands of calls twice."""

import json
import random
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import KEY, Daemon, Sandbox, call_document, command, put, running, until, world
from tests.real_parts import needs_mount
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.post_recovery import COUNTING, MOST_AGAIN, WAITING

SET_ASIDE = "the ledger file was damaged; it was set aside and rebuilt"


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2 // 4096 * 4096]


def flipped(data: bytes) -> bytes:
    """Flip bits in the head of every page except the first."""
    flipped, chance = bytearray(data), random.Random(3)
    for page in range(4096, len(data), 4096):
        for at in range(page, page + 12):
            flipped[at] ^= chance.randrange(1, 256)
    return bytes(flipped)


def zero_length(data: bytes) -> bytes:
    return b""


async def sent_once(tuner: Sandbox, config: Path, calls: list[str]) -> None:
    """A first run; afterwards the ledger knows these calls as sent."""
    async with running(config) as daemon:
        for number, call_id in enumerate(calls):
            put(config.parent / "calls" / f"{number}.json", call_document(call_id))
        await until(lambda: _has_sent(daemon, len(calls)))
        assert await daemon.stop() == 0


async def _has_sent(daemon: Daemon, count: int) -> bool:
    return await daemon.states() == {"sent": count}


@pytest.mark.parametrize("harm", [truncated, flipped, zero_length])
async def test_a_damaged_ledger_is_set_aside_and_rebuilt(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    """One line says that the file was replaced, where it is kept byte for byte, and how many rows were saved. Every call on
    disk is known again, new calls are sent, and with create-call none is stored twice."""
    calls = [f"call-{number}" for number in range(40)]
    async with world(tmp_path) as (tuner, config):
        await sent_once(tuner, config, calls)
        ledger = tmp_path / "ledger.db"
        ledger.write_bytes(harm(ledger.read_bytes()))
        damaged = ledger.read_bytes()
        async with running(config) as daemon:
            (line,) = daemon.told(SET_ASIDE)
            kept = Path(line["kept_as"])
            assert kept.name.startswith("ledger.db.corrupt-")
            assert kept.read_bytes() == damaged
            put(tmp_path / "calls" / "new.json", call_document("new"))
            await until(lambda: _has_sent(daemon, len(calls) + 1))
            assert await daemon.stop() == 0
        assert "Traceback" not in daemon.said
        assert await tuner.accepted() == dict.fromkeys([*calls, "new"], 1)
        async with running(config) as daemon:
            assert len(daemon.told(SET_ASIDE)) == 1, "no more than at the first start"
            assert await daemon.stop() == 0


async def test_sent_ids_are_salvaged(tmp_path: Path) -> None:
    """If only an index is damaged, no call is sent again under send-calls, where a repeat would be stored twice."""
    calls = [f"call-{number}" for number in range(40)]
    async with world(tmp_path) as (tuner, config):
        config.write_text(config.read_text().replace(KEY, "plain-key-of-send-calls"))
        await sent_once(tuner, config, calls)
        before = len(await tuner.arrivals())
        _break_index(tmp_path / "ledger.db")
        async with running(config) as daemon:
            (line,) = daemon.told(SET_ASIDE)
            assert line["salvaged"] == 40
            put(tmp_path / "calls" / "new.json", call_document("new"))
            await tuner.has("new")
            assert await daemon.stop() == 0
        assert len(await tuner.arrivals()) == before + 1


async def test_over_a_thousand_repeats_wait_for_an_operator(tmp_path: Path) -> None:
    """If nothing can be salvaged and send-calls would store every call twice, more than 1,000 of them wait for `tunerd
    resume`, also after a restart, and status says why. A smaller number is sent automatically after the count."""
    calls = [f"call-{number:04}" for number in range(MOST_AGAIN + 10)]
    async with world(tmp_path) as (tuner, config):
        config.write_text(config.read_text().replace(KEY, "plain-key-of-send-calls"))
        log = tmp_path / "calls" / "calls.ndjson"
        log.write_text("".join(json.dumps(call_document(call_id)) + "\n" for call_id in calls))
        ledger = tmp_path / "ledger.db"
        async with running(config) as daemon:
            await until(lambda: _has_sent(daemon, len(calls)))
            assert await daemon.stop() == 0
        before = len(await tuner.arrivals())
        ledger.write_bytes(b"")
        for _ in range(2):
            async with running(config) as daemon:
                await until(lambda daemon=daemon: _is_held(daemon, WAITING))
                assert await daemon.stop() == 0
        assert len(await tuner.arrivals()) == before
        async with running(config) as daemon:
            code, said = await command(config, "resume")
            assert code == 0, said
            await until(lambda: _has_sent(daemon, len(calls)))
            assert await daemon.stop() == 0
        assert set((await tuner.accepted()).values()) == {2}

        log.write_text(json.dumps(call_document("alone")) + "\n")
        ledger.write_bytes(b"")
        async with running(config) as daemon:
            assert COUNTING in daemon.said
            await tuner.has("alone")
            assert await daemon.stop() == 0


@pytest.mark.parametrize("between", ["a command", "a kill"])
async def test_what_would_be_stored_twice_is_held_back_whoever_came_first(tmp_path: Path, between: str) -> None:
    """A command on a damaged ledger refuses with one line and changes nothing. A daemon that is killed between the rebuild and
    the pause leaves a ledger that still records the rebuild. In both cases the next daemon counts before it sends."""
    async with world(tmp_path) as (tuner, config):
        config.write_text(config.read_text().replace(KEY, "plain-key-of-send-calls"))
        await sent_once(tuner, config, ["call-1"])
        ledger = tmp_path / "ledger.db"
        ledger.write_bytes(b"")
        if between == "a command":
            for name in ("status", "failed", "resume"):
                code, said = await command(config, name)
                assert (code, said.count("\n")) == (1, 1), said
                assert said.startswith(f"tunerd: {ledger} is damaged; `tunerd run` ")
            assert ledger.read_bytes() == b""
            assert not list(tmp_path.glob("*.corrupt-*"))
        else:  # as a daemon leaves it that is killed after the rebuild
            rebuilt = await SqliteLedger.open(ledger, now=time.time(), emit=lambda _: None)
            await rebuilt.close()
        async with running(config) as daemon:
            await until(lambda: COUNTING in daemon.said)
            await until(lambda: _has_sent(daemon, 1))
            assert await daemon.stop() == 0
        async with running(config) as daemon:
            assert daemon.said.count(COUNTING) == 1, "what was counted is not counted again"
            assert await daemon.stop() == 0


async def test_a_newer_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    """The daemon exits with 1 and one line that says what to do, and does not touch the file."""
    async with world(tmp_path) as (tuner, config):
        await sent_once(tuner, config, ["call-1"])
        ledger = tmp_path / "ledger.db"
        db = sqlite3.connect(ledger)
        db.execute("PRAGMA user_version = 99")
        db.close()
        before = ledger.read_bytes()
        code, said = await command(config, "run")
        assert code == 1
        assert [line for line in said.splitlines() if "newer tunerd (schema 99" in line] == said.splitlines()
        assert ledger.read_bytes() == before
        assert not list(tmp_path.glob("*.corrupt-*"))


async def test_a_file_of_the_users_is_refused_in_one_line(tmp_path: Path) -> None:
    """If `ledger.url` names a YAML file by mistake, the daemon exits with 1 and one line, and does not touch the file."""
    async with world(tmp_path) as (_, config):
        base = tmp_path / "base.yaml"
        base.write_text("delivery: {concurrency: 4}\n")
        config.write_text(config.read_text().replace(f"{tmp_path}/ledger.db", str(base)))
        code, said = await command(config, "run")
        assert (code, said.count("\n")) == (1, 1), said
        assert said.startswith(f"tunerd: {base} is no ledger; it is left untouched")
        assert base.read_text() == "delivery: {concurrency: 4}\n"
        assert [file.name for file in tmp_path.glob("base.yaml*")] == ["base.yaml"]


async def test_a_ledger_that_is_removed_ends_the_daemon(tmp_path: Path) -> None:
    """If the ledger is removed under a running daemon, writes would succeed and be lost: the daemon says so in one line and
    exits with 1. The next start works."""
    async with world(tmp_path) as (tuner, config):
        async with running(config) as daemon:
            put(tmp_path / "calls" / "one.json", call_document("one"))
            await tuner.has("one")
            (tmp_path / "ledger.db").unlink()
            assert await daemon.ended() == 1
        (line,) = [line for line in daemon.said.splitlines() if line.startswith("tunerd: ")]
        assert line.startswith(f"tunerd: the ledger {tmp_path}/ledger.db was removed or replaced while tunerd ran")
        assert "Traceback" not in daemon.said
        async with running(config) as daemon:
            put(tmp_path / "calls" / "two.json", call_document("two"))
            await tuner.has("two")
            assert await daemon.stop() == 0


@needs_mount
async def test_a_read_only_file_is_refused_in_one_line(tmp_path: Path) -> None:
    """If only the ledger's file cannot be written, the daemon exits with 1 and one line, and replaces nothing."""
    async with world(tmp_path) as (tuner, config):
        await sent_once(tuner, config, ["call-1"])
        ledger = str(tmp_path / "ledger.db")
        _run("mount", "--bind", ledger, ledger)
        try:
            _run("mount", "-o", "remount,ro,bind", ledger)
            code, said = await command(config, "run")
        finally:
            _run("umount", ledger)
        assert code == 1
        assert [line for line in said.splitlines() if f"{ledger} cannot be written" in line] == said.splitlines()
        assert not list(tmp_path.glob("*.corrupt-*"))


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


async def _is_held(daemon: Daemon, why: str) -> bool:
    (destination,) = json.loads(await daemon.get("/status.json"))["destinations"]
    pause = destination["pause"]
    return pause is not None and pause["reason"] == "operator" and pause["detail"] == why


def _break_index(ledger: Path) -> None:
    db = sqlite3.connect(ledger)
    pages = [page for (page,) in db.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'call'")]
    db.close()
    data = bytearray(ledger.read_bytes())
    for page in pages:
        data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    ledger.write_bytes(data)
