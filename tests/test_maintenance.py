"""The daemon's small watchers, with a clock of their own."""

import asyncio
from pathlib import Path

from tunerd.maintenance import WATCH_EVERY_S, watch_content
from tunerd.testing import FakeClock


async def test_a_configuration_that_changed_during_the_start_is_reloaded(tmp_path: Path) -> None:
    """What counts is the text that was loaded, not the first one that the watcher sees."""
    file = tmp_path / "config.yaml"
    file.write_text("new")
    clock, stop, changed = FakeClock(), asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch_content(file, "old", changed.set, clock, stop))
        async with asyncio.timeout(10):
            while not changed.is_set():
                await clock.advance(WATCH_EVERY_S)
                await asyncio.sleep(0)
        stop.set()
