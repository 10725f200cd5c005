"""The real daemon while its wall clock really jumps (libfaketime changes only CLOCK_REALTIME; its offset is in a file that the test
rewrites): no storm of retries, nothing expires early, nothing is sent twice, and the daemon continues.

tests/protections/test_clock.py has the same rules on a fake clock, and many more cases.
"""

import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import call_document, put, running, until, world
from tests.real_parts import needs

LIBRARIES = sorted(found for where in ("", "*/") for found in Path("/usr/lib").glob(f"{where}faketime/libfaketime.so.1"))
JUMPED = "the clock jumped; due times were adjusted"
RETRY_AFTER_S = 6

needs_faketime = needs("libfaketime", lambda: bool(LIBRARIES), "the wall clock of a process has to jump")


class WallClock:
    """The daemon's wall clock. Its monotonic clocks, and the times of files, stay as they are."""

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        """`+1d`, `-1d`, `+1h`: this far from the true time, within a second."""
        beside = self._offset.with_name("clock.tmp")
        beside.write_text(f"{offset}\n")
        beside.replace(self._offset)

    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


@needs_faketime
@pytest.mark.parametrize(
    ("offset", "is_suspended"), [("+1d", False), ("-1d", False), ("+1h", True)], ids=["a day on", "a day back", "an hour asleep"]
)
async def test_the_wall_clock_jumps(tmp_path: Path, offset: str, is_suspended: bool) -> None:
    """With calls in every state, after each jump and after the clock is corrected: an open request is neither given up nor
    repeated, a Retry-After ends when it should, a call that waits 30 minutes for its recording keeps waiting, and new calls
    are sent."""
    clock = WallClock(tmp_path)
    async with (
        world(tmp_path, source="    on_missing: fail") as (tuner, config),
        running(config, environ=clock.environ()) as daemon,
    ):

        async def arrived() -> Counter[str]:
            return Counter(arrival["call_id"] for arrival in await tuner.arrivals())

        async def is_open() -> bool:
            return int((await tuner.counts())["in_flight"]) == 1

        async def is_held() -> bool:
            return (await arrived())["held"] == 1

        async def is_settled() -> bool:
            return await daemon.states() == {"waiting": 1, "sent": 9}

        sent = [f"sent-{number}" for number in range(5)]
        for call_id in sent:
            put(tmp_path / "calls" / f"{call_id}.json", call_document(call_id))
        await tuner.has(*sent)
        put(tmp_path / "calls" / "waits.json", call_document("waits", room="nowhere"))
        await tuner.plan({"call_id": "open", "next": ["hold"]})
        await tuner.plan({"call_id": "held", "next": [{"status": 429, "retry_after": RETRY_AFTER_S}]})
        put(tmp_path / "calls" / "open.json", call_document("open"))
        await until(is_open)
        put(tmp_path / "calls" / "held.json", call_document("held"))
        await until(is_held)
        assert await is_open()

        if is_suspended:
            daemon.signal(signal.SIGSTOP)
        clock.set(offset)
        if is_suspended:
            daemon.signal(signal.SIGCONT)
        await until(lambda: len(daemon.told(JUMPED)) == 1)
        put(tmp_path / "calls" / "fresh.json", call_document("fresh"))
        await tuner.plan({"release": True})
        await tuner.has("open", "held", "fresh")
        asked_at, *later = [a["at"] for a in await tuner.arrivals() if a["call_id"] in ("held", "fresh")]
        assert RETRY_AFTER_S <= min(later) - asked_at <= max(later) - asked_at <= RETRY_AFTER_S + 10

        clock.set("+0")
        await until(lambda: len(daemon.told(JUMPED)) == 2)
        put(tmp_path / "calls" / "late.json", call_document("late"))
        await tuner.has("late")
        assert await arrived() == Counter({"held": 2, **dict.fromkeys([*sent, "open", "fresh", "late"], 1)})
        await until(is_settled)
        assert not daemon.told("failed")
        assert not daemon.told("paused")
        assert "Traceback" not in daemon.said
        assert await daemon.stop() == 0
