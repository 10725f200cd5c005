"""How the daemon ends: within its drain whatever Tuner does, after a last scan of the directories, and at once after a second
signal.

TUNERD_STOPS sets how often it is stopped while Tuner hangs (`make stops RUNS=100`).
"""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, call_document, manifest, put, running, until, world
from tunerd.clock import SystemClock
from tunerd.sandbox.faults import Faults

STOPS = int(os.environ.get("TUNERD_STOPS", "2"))
DRAIN_S = 1.5


@pytest.mark.timeout(60 + 10 * STOPS)
async def test_a_hanging_tuner_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """After SIGTERM at random moments, while every request hangs, the process ends within `drain` with 0, and open calls are
    due again. When Tuner answers again everything arrives, with the same bytes each time."""
    chance, never = random.Random(7), asyncio.Event()
    async with world(tmp_path, drain=f"{DRAIN_S:g}s") as (tuner, config):
        await tuner.plan({"fail": {"timeout": 1.0}})
        took = []
        for run in range(STOPS):
            async with running(config) as daemon:
                for number in range(2):
                    put(tmp_path / "calls" / f"{run}-{number}.json", call_document(f"call-{run}-{number}"))
                await tuner.busy()
                await SystemClock().wait(never, chance.random() * 0.2)  # random on purpose
                began = time.monotonic()
                assert await daemon.stop(ceiling_s=DRAIN_S + 5) == 0
                took.append(time.monotonic() - began)
                assert "Traceback" not in daemon.said
        print(f"{STOPS} stops took {min(took):.2f} to {max(took):.2f} s; the drain is {DRAIN_S:g} s")
        assert max(took) <= DRAIN_S, took
        await tuner.plan({"fail": {}})
        calls = {f"call-{run}-{number}" for run in range(STOPS) for number in range(2)}
        async with running(config) as daemon:
            await tuner.has(*calls)
            assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys(calls, 1)
        digests: dict[str, set[str]] = {}
        for arrival in await tuner.arrivals():
            digests.setdefault(arrival["call_id"], set()).add(arrival["sha256"])
        assert all(len(each) == 1 for each in digests.values())


async def test_files_written_just_before_the_signal_are_taken(tmp_path: Path) -> None:
    """Calls and a manifest are renamed into place right before SIGTERM; no event finds them, and they have not settled. The
    last scan puts them into the ledger before the process ends, so deleting them then loses nothing. A half file is left."""
    async with world(tmp_path, rescan="1h", source="    watch: poll\n    settle: 10s") as (tuner, config):
        async with running(config) as daemon:
            await until(lambda: daemon.told("started"))
            await _first_scan(daemon)
            calls = [f"last-{number}" for number in range(20)]
            files = [put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id)) for call_id in calls]
            files.append(put(tmp_path / "calls" / "with-room.json", call_document("with-room", room="room-1")))
            files.append(put(tmp_path / "recordings" / "room-1.json", manifest("room-1")))
            (tmp_path / "calls" / "half.json").write_text('{"id": "half", ')
            assert await daemon.stop() == 0
        for file in files:
            file.unlink()
        async with running(config) as daemon:
            await tuner.has("with-room", *calls)
            assert await daemon.stop() == 0
        assert await tuner.accepted() == dict.fromkeys([*calls, "with-room"], 1)


async def test_a_second_signal_ends_within_a_second(tmp_path: Path) -> None:
    """While the drain waits for a hanging Tuner, a second signal ends the process at once, with 0; the call is due again."""
    async with world(tmp_path, drain="30s") as (tuner, config):
        await tuner.plan({"fail": {"timeout": 1.0}})
        async with running(config) as daemon:
            put(tmp_path / "calls" / "slow.json", call_document("slow"))
            await tuner.busy()
            daemon.signal(signal.SIGTERM)
            await until(lambda: daemon.told("stopping"))
            began = time.monotonic()
            assert await daemon.stop(signal.SIGINT) == 0
            assert time.monotonic() - began <= 1.0
        await tuner.plan({"fail": {}})
        async with running(config) as daemon:
            await tuner.has("slow")
            assert await daemon.stop() == 0


async def test_on_stop_empty_delivers_everything_first(tmp_path: Path) -> None:
    """With `on_stop: empty` calls that are due, that the last scan finds, or that become due within the drain are delivered
    before the process ends, because its ledger may be deleted with it."""
    changes = {"delivery": "  on_stop: empty", "drain": "20s"}
    async with world(tmp_path, Faults(latency_s=0.05), **changes) as (tuner, config):
        calls = [f"call-{number}" for number in range(120)]
        async with running(config) as daemon:
            await tuner.plan({"fail": {"503": 0.3}})
            for call_id in calls:
                put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))

            async def begun() -> bool:
                return len(await tuner.arrivals()) >= 8

            await until(begun)
            daemon.signal(signal.SIGTERM)
            await until(lambda: daemon.told("stopping"))
            await tuner.plan({"fail": {}})
            assert await daemon.ended() == 0
            assert daemon.told("stopped")[-1]["left"] == 0
        assert await tuner.accepted() == dict.fromkeys(calls, 1)


async def test_on_stop_empty_tells_what_an_outage_leaves(tmp_path: Path) -> None:
    """While Tuner answers nothing but 503, the stop ends within the drain, and its last line warns of the calls that are left, by
    state: on an emptyDir they are lost with the pod."""
    async with world(tmp_path, delivery="  on_stop: empty", drain="3s") as (tuner, config), running(config) as daemon:
        await tuner.plan({"fail": {"503": 1.0}})
        for number in range(3):
            put(tmp_path / "calls" / f"{number}.json", call_document(f"call-{number}"))
        put(tmp_path / "calls" / "waits.json", call_document("waits", room="room-1"))

        async def admitted() -> bool:
            return await daemon.states() in ({"due": 3, "waiting": 1}, {"due": 2, "sending": 1, "waiting": 1})

        await until(admitted)
        assert await daemon.stop() == 0
        last = daemon.lines()[-1]
    assert (last["event"], last["level"], last["left"]) == ("stopped", "warning", 4)
    assert last["left_by_state"] == {"due": 3, "waiting": 1}


async def test_finish_leaves_what_is_not_in_flight(tmp_path: Path) -> None:
    """With `on_stop: finish`, the default, open requests are finished, and the other calls stay for the next start."""
    async with world(tmp_path, Faults(latency_s=0.3)) as (tuner, config), running(config) as daemon:
        for number in range(60):
            put(tmp_path / "calls" / f"{number}.json", call_document(f"call-{number}"))
        await tuner.busy()
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 3.0
        left = daemon.told("stopped")[-1]["left"]
        sent = len(await tuner.accepted())
        assert left > 0
        assert sent + left == 60


async def _first_scan(daemon: Daemon) -> None:
    async def scanned() -> bool:
        return '"last_scan_at":null' not in (await daemon.get("/status.json")).replace(" ", "")

    await until(scanned)
