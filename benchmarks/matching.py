"""An arriving manifest, with many recordings that no call has taken and many calls that wait: how long it takes to find its call.

Each manifest is admitted alone, so a figure is the processor time of one whole transaction (keep the recording, match it, commit) on
a ledger in memory: what a disk needs to sync it is not in it. It is measured by key, by `nearest:` with a value that
is the same, and where a thousand calls share one value, which is a tie.
"""

import time
from dataclasses import replace
from statistics import median, quantiles

from benchmarks.bars import at_most
from tunerd.call import Call, Choice, ManifestStrategy, Origin, Recording
from tunerd.ledger import Admission
from tunerd.mapping.match_values import match_text
from tunerd.testing import MemoryLedger, make_call

_NOW = 1_767_225_600.0
_START_MS = 1_767_225_000_000
_BATCH = 1_000
_ASKED = 200


async def measure(count: int = 100_000) -> list[str]:
    lines = []
    for name, made in {"by key": _Keyed, "by nearest": _Alike}.items():
        took = await _admit(made(), count)
        worst = quantiles(took, n=100)[98]
        figures = f"median {median(took):.2f} ms, p99 {worst:.2f} ms"
        lines.append(f"| a manifest finds its call {name}, {count:,} of each | {figures}; {at_most(worst, 5)} |")
    took = await _admit(_Crowded(), count)
    lines.append(f"| a tie of 1,000 calls of one caller, {count:,} calls | median {median(took):.2f} ms |")
    return lines


async def _admit(world: "_Keyed", count: int) -> list[float]:
    """Milliseconds of each admission of one manifest whose call waits."""
    ledger = MemoryLedger()
    for first in range(0, count, _BATCH):
        calls = [world.call(number) for number in range(first, first + _BATCH)]
        recordings = [world.stranger(number) for number in range(first, first + _BATCH)]
        await ledger.admit(Admission(calls=calls, recordings=recordings), _NOW)
    took = []
    for number in range(0, count, count // _ASKED):
        began = time.process_time()
        await ledger.admit(Admission(recordings=[world.recording(number)]), _NOW)
        took.append((time.process_time() - began) * 1000)
    return took


class _Keyed:
    """Calls that wait, recordings of nobody, and the recording of each call."""

    def key(self, number: int) -> str:
        return f"room-{number}"

    def match(self, number: int) -> str:
        return ""

    def strategy(self, number: int) -> ManifestStrategy:
        return ManifestStrategy(source="egress", key=self.key(number), within_s=600.0, wait_s=1800.0)

    def call(self, number: int) -> Call:
        return make_call(f"c-{number}", started_at_ms=_START_MS + number, strategies=(self.strategy(number),))

    def recording(self, number: int) -> Recording:
        return Recording(
            origin=Origin(source="egress", path=f"/egress/{number}.json"),
            source="egress",
            key=self.key(number),
            match=self.match(number),
            location=f"https://audio.example/{number}.wav",
            started_at=(_START_MS + number + 1000) / 1000,
        )

    def stranger(self, number: int) -> Recording:
        own = self.recording(number)
        nobody = match_text(["caller"], {"caller": f"nobody-{number}"}) or ""
        return replace(
            own, key=f"nobody-{number}" if own.key else "", match=nobody, location=f"https://audio.example/x{number}.wav"
        )


class _Alike(_Keyed):
    def key(self, number: int) -> str:
        return ""

    def match(self, number: int) -> str:
        return match_text(["caller"], {"caller": f"caller-{number}"}) or ""

    def strategy(self, number: int) -> ManifestStrategy:
        return ManifestStrategy(
            source="egress", key=self.match(number), within_s=60.0, wait_s=1800.0, near_s=0.0, choice=Choice.ONLY
        )


class _Crowded(_Alike):
    def match(self, number: int) -> str:
        return match_text(["caller"], {"caller": f"caller-{number // 1000}"}) or ""
