"""Names with `*`: however calls, files and restarts follow each other, the end is the same. Every order is tried, with real files."""

import os
import time
from itertools import permutations
from pathlib import Path

import pytest

from tests.audio import made
from tunerd.call import Choice, Fail, ManifestStrategy, SendAnyway, State
from tunerd.file_pattern import FILES
from tunerd.intake.recording_finder import RecordingFinder, SearchedDirectory
from tunerd.ledger import Admission, Filter
from tunerd.testing import FakeClock, MemoryLedger, Recorder, make_call

WAIT_S = 1800.0
SHORT, LONG = "call-1", "call-1-2"
"""The name of a file of the second fits the first, too."""


class Life:
    """A ledger and a finder through restarts; 20 s pass after each step."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.ledger = root, FakeClock(time.time()), MemoryLedger()
        root.mkdir()

    async def step(self, step: str) -> None:
        what, _, name = step.partition(" ")
        match what:
            case "call":
                strategy = ManifestStrategy(
                    source=FILES, key=f"{self.root}/{name}-*.wav", within_s=None, wait_s=WAIT_S, near_s=0.0
                )
                await self.admit(name, strategy)
            case "named":
                strategy = ManifestStrategy(source=FILES, key=f"{self.root}/{name}.wav", within_s=None, wait_s=WAIT_S, near_s=0.0)
                await self.admit(name, strategy)
            case "timed":
                strategy = ManifestStrategy(
                    source=FILES, key=f"{self.root}/*.wav", within_s=600.0, wait_s=WAIT_S, near_s=0.0, choice=Choice.ONLY
                )  # fmt: skip
                await self.admit(name, strategy)
            case "file":
                path = self.root / f"{name}.wav"
                path.write_bytes(made.wav())
                os.utime(path, (self.clock.now(),) * 2)
            case "old":  # of a call that the ledger does not know
                path = self.root / f"{name}.wav"
                path.write_bytes(made.wav())
                os.utime(path, (self.clock.now() - 86_400.0,) * 2)
            case "restart":
                self.ledger = self.ledger.reopened(self.clock.now())
            case "wait":
                self.clock.sleep(WAIT_S)
        finder = RecordingFinder(
            self.ledger, self.clock, Recorder(), {str(self.root): SearchedDirectory("agent", 1.0)}, made.threads()
        )
        for _ in range(2):
            await finder.sweep(patient=False)
            self.clock.sleep(10.0)
        await self.ledger.tick(self.clock.now())

    async def admit(self, name: str, strategy: ManifestStrategy) -> None:
        """A call that began two minutes ago."""
        now = self.clock.now()
        call = make_call(
            name, started_at_ms=round((now - 120) * 1000), mtime_ns=round(now * 1e9), strategies=(strategy,), on_missing=Fail()
        )
        await self.ledger.admit(Admission(calls=[call]), self.clock.now())

    async def end(self) -> dict[str, str]:
        """Call -> its file, or why it has none, when all waits are over."""
        for _ in range(2):
            await self.step("wait")
        rows = await self.ledger.calls(Filter(dismissed=None))
        return {
            row.call_id or "": (row.recording_location or "").rpartition("/")[2] if row.state is State.DUE else str(row.reason)
            for row in rows
        }


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        (("call call-1", "call call-1-2", "file call-1-x", "file call-1-2-x"), {SHORT: "call-1-x.wav", LONG: "call-1-2-x.wav"}),
        (("call call-1", "call call-1-2", "file call-1-2-x"), dict.fromkeys((SHORT, LONG), "recording_ambiguous")),
        (("call call-1", "file call-1-x", "file call-1-y"), {SHORT: "recording_ambiguous"}),
        (("call call-1", "named call-1-2", "file call-1-2"), {SHORT: "recording_missing", LONG: "call-1-2.wav"}),
        (("call call-1", "named call-1-2", "file call-1-2", "file call-1-x"), {SHORT: "call-1-x.wav", LONG: "call-1-2.wav"}),
        (("call call-1", "old call-1-2-x"), {SHORT: "recording_missing"}),
        (("call call-1", "old call-1-2-x", "file call-1-x"), {SHORT: "call-1-x.wav"}),
        (("call call-1", "timed other", "file call-1-x"), {SHORT: "recording_ambiguous", "other": "recording_ambiguous"}),
    ],
)  # fmt: skip
async def test_the_order_does_not_matter(tmp_path: Path, facts: tuple[str, ...], end: dict[str, str]) -> None:
    """Within the wait no order of calls, files and a restart changes which call gets which file."""
    orders = sorted(set(permutations((*facts, "restart"))))
    for number, order in enumerate(orders):
        life = Life(tmp_path / str(number))
        for step in order:
            await life.step(step)
        assert await life.end() == end, order


async def test_a_file_of_a_call_that_was_sent_is_left(tmp_path: Path) -> None:
    """A call that no longer looks for its file still has the longer name: the file goes to no other call, whenever it comes."""
    for number, order in enumerate(permutations(("file call-1-2-x", "call call-1", "restart"))):
        life = Life(tmp_path / str(number))
        strategy = ManifestStrategy(source=FILES, key=f"{life.root}/call-1-2-*.wav", within_s=None, wait_s=0.0, near_s=0.0)
        sent = make_call(LONG, strategies=(strategy,), on_missing=SendAnyway(url="https://audio.example/none.wav"))
        await life.ledger.admit(Admission(calls=[sent]), life.clock.now())
        for step in order:
            await life.step(step)
        assert await life.end() == {SHORT: "recording_ambiguous", LONG: "none.wav"}, order


async def test_a_second_file_of_a_call_that_has_one_is_left(tmp_path: Path) -> None:
    """A later file of the longer name is not the shorter one's."""
    life = Life(tmp_path / "rec")
    for step in ("call call-1-2", "file call-1-2-x", "wait", "call call-1", "file call-1-2-y"):
        await life.step(step)
    assert await life.end() == {SHORT: "recording_missing", LONG: "call-1-2-x.wav"}


async def test_a_file_that_is_written_again_while_its_call_waits(tmp_path: Path) -> None:
    """It is one file, as it was last: no tie with what it was before, and its wait begins anew."""
    life = Life(tmp_path / "rec")
    for step in ("call call-1", "file call-1-x", "file call-1-x"):
        await life.step(step)
    (story,) = await life.ledger.story(SHORT)
    assert "call-1-x.wav was last written" in story.waits_for[0], story.waits_for
    assert await life.end() == {SHORT: "call-1-x.wav"}
