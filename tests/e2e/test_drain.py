"""`tunerd drain` beside a running daemon, as the preStop hook of a plain-container sidecar runs it."""

import asyncio
import time
from pathlib import Path

from tests.e2e.harness import Daemon, call_document, command, put, running, until, world


async def test_drain_waits_for_what_is_due_and_keeps_intake_open(tmp_path: Path) -> None:
    """drain returns when nothing was due for 3 s. A file that the agent writes in that time is read and sent first, and the 3
    s start again. The daemon keeps running. A call without its recording is named and not waited for."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        put(tmp_path / "calls" / "waits.json", call_document("waits", room="nowhere"))
        await tuner.plan({"latency_s": 1.0})
        put(tmp_path / "calls" / "a.json", call_document("a"))
        await until(lambda: tuner.counts())
        began = time.monotonic()
        draining = asyncio.create_task(command(config, "drain", "--deadline", "40s"))
        await tuner.has("a")
        put(tmp_path / "calls" / "b.json", call_document("b"))
        await tuner.has("b")
        after_b = time.monotonic()
        code, said = await draining
        assert (code, said) == (0, "drained: nothing is due; 1 waiting for a recording\n")
        assert time.monotonic() - after_b >= 2.0, "3 s less the second that the answer to b takes"
        assert time.monotonic() - began < 20
        assert daemon.running
        put(tmp_path / "calls" / "c.json", call_document("c"))
        await tuner.has("c")
        assert await daemon.stop() == 0


async def test_drain_sees_files_that_no_event_tells_of(tmp_path: Path) -> None:
    """With `watch: poll` the next scan may be an hour away. Still drain sends what is in the directory when it begins, and
    what the agent writes while it waits, before it says that nothing is left."""
    async with world(tmp_path, rescan="1h", source="    watch: poll") as (tuner, config), running(config) as daemon:
        await scanned(daemon)
        put(tmp_path / "calls" / "a.json", call_document("a"))
        draining = asyncio.create_task(command(config, "drain", "--deadline", "40s"))
        await tuner.has("a")
        put(tmp_path / "calls" / "b.json", call_document("b"))
        assert await draining == (0, "drained: nothing is due\n")
        assert await tuner.accepted() == {"a": 1, "b": 1}
        assert await daemon.stop() == 0


async def test_drain_returns_at_its_deadline_and_says_what_is_left(tmp_path: Path) -> None:
    """If Tuner is down, drain ends at the deadline, with exit code 1 and the counts."""
    async with world(tmp_path) as (tuner, config), running(config) as daemon:
        await tuner.plan({"fail": {"503": 1.0}})
        for number in range(3):
            put(tmp_path / "calls" / f"{number}.json", call_document(f"call-{number}"))

        async def asked() -> bool:
            return len({arrival["call_id"] for arrival in await tuner.arrivals()}) == 3

        await until(asked)
        began = time.monotonic()
        code, said = await command(config, "drain", "--deadline", "1s")
        assert code == 1
        assert said.startswith("tunerd: not drained within 1 s: ")
        assert sum(int(part.split()[0]) for part in said.partition("s: ")[2].split(", ")) == 3
        assert time.monotonic() - began < 6
        assert await daemon.stop() == 0


async def test_a_file_that_is_there_and_not_read_is_no_success(tmp_path: Path) -> None:
    """If a file is still settling at the deadline, drain exits with 1 and says so."""
    async with world(tmp_path, rescan="1h", source="    watch: poll\n    settle: 10s") as (_, config), running(config) as daemon:
        await scanned(daemon)
        put(tmp_path / "calls" / "a.json", call_document("a"))
        code, said = await command(config, "drain", "--deadline", "0.5s")
        assert (code, said) == (1, "tunerd: not drained within 0.5 s: files are still being read\n")
        assert await daemon.stop() == 0


async def test_drain_without_a_daemon_says_so(tmp_path: Path) -> None:
    """If no daemon runs, drain exits with 1 and one line."""
    async with world(tmp_path) as (_, config):
        code, said = await command(config, "drain")
    assert code == 1
    assert said == f"tunerd: no tunerd runs with the ledger {tmp_path}/ledger.db: nothing is being sent\n"


async def scanned(daemon: Daemon) -> None:
    """Wait until the first scan of each source is over."""

    async def are_all() -> bool:
        return '"last_scan_at":null' not in (await daemon.get("/status.json")).replace(" ", "")

    await until(are_all)
