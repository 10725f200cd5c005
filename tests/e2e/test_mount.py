"""A source's directory disappears under a running daemon and comes back, with its mount or alone."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, call_document, put, running, until, world
from tests.real_parts import needs_mount


async def ran(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def is_missing(daemon: Daemon, value: int) -> bool:
    return await daemon.metric("tunerd_intake_paused", reason="missing") == value


@pytest.mark.parametrize("how", [pytest.param("unmounted", marks=needs_mount), "renamed"])
async def test_a_mount_that_flaps(tmp_path: Path, how: str) -> None:
    """The directory disappears and comes back twice, once across a restart. The metric and one line report both; nothing is
    forgotten or sent again, and what is written afterwards is read."""
    volume, there, away = tmp_path / "volume", tmp_path / "calls", tmp_path / "away"
    volume.mkdir()

    async def lose() -> None:
        if how == "unmounted":
            await ran("umount", "-l", str(there))
        else:
            there.rename(away)

    async def bring_back() -> None:
        if how == "unmounted":
            await ran("mount", "--bind", str(volume), str(there))
        else:
            away.rename(there)

    async with world(tmp_path, rescan="1s") as (tuner, config):
        if how == "unmounted":
            await ran("mount", "-t", "tmpfs", "tmpfs", str(volume))
            await bring_back()
        try:
            calls = [f"call-{number}" for number in range(5)]
            async with running(config) as daemon:
                for call_id in calls:
                    put(there / f"{call_id}.json", call_document(call_id))
                (there / "log.ndjson").write_text(
                    '{"id": "logged", "started": 1767225600000, "ended": 1767225660000, "messages": []}\n'
                )
                await tuner.has(*calls)
                await lose()
                await until(lambda: is_missing(daemon, 1))
                await bring_back()
                await until(lambda: is_missing(daemon, 0))
                put(there / "between.json", call_document("between"))
                await tuner.has("between")
                await lose()
                await until(lambda: is_missing(daemon, 1))
                assert [line["reason"] for line in daemon.told("source paused")] == ["missing", "missing"]
                assert len(daemon.told("source resumed")) == 1
                assert await daemon.healthy()
                assert await daemon.stop() == 0
            told = len(daemon.told("source paused")), len(daemon.told("source resumed"))
            async with running(config) as daemon:
                await until(lambda: is_missing(daemon, 1))
                await bring_back()
                await until(lambda: is_missing(daemon, 0))
                put(there / "after.json", call_document("after"))
                await tuner.has("after")
                assert (len(daemon.told("source paused")), len(daemon.told("source resumed"))) == (told[0] + 1, told[1] + 1)
                assert await daemon.stop() == 0
        finally:
            for mounted in filter(Path.is_mount, (there, volume)):
                await ran("umount", "-l", str(mounted))
        arrived = Counter(arrival["call_id"] for arrival in await tuner.arrivals())
        assert arrived - Counter(["logged"]) == Counter([*calls, "between", "after"])
