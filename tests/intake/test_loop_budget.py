"""How much mapping one turn of the event loop may hold."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.intake.harness import map_call, put, running, source
from tunerd.call import Document, Mapped
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted
from tunerd.intake.loop_budget import SLICE_S, LoopBudget


class Ahead(SystemClock):
    """The real time, and besides what work is said to have taken."""

    spent_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.spent_s


async def test_one_turn_of_the_loop_holds_one_slice_of_mapping_however_many_files_are_in_hand(tmp_path: Path) -> None:
    """Mapping takes no more than a slice (and what its last document takes) between two turns, over all files and sources."""
    clock, turn, mapped = Ahead(), 0, Counter[int]()

    def slow(document: Document) -> Mapped:
        mapped[turn] += 1
        clock.spent_s += SLICE_S * 0.6
        return map_call(document)

    async def count_turns(stop: asyncio.Event) -> None:
        nonlocal turn
        while not stop.is_set():
            turn += 1
            await asyncio.sleep(0)

    names = [f"source{number}" for number in range(6)]
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(5):
            put(tmp_path / name / f"{number}.json", [{"id": f"{name}-{number}-{one}"} for one in range(20)])
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(count_turns(ended))
        async with running(*(source(tmp_path / name, name=name) for name in names), clock=clock, mapper=slow) as it:
            await it.told.until(CallAdmitted, 600)
        ended.set()
    # Two documents fill a slice; between two counts lie the end of one turn and the beginning of the next.
    assert max(mapped.values()) <= 4


async def test_what_went_beyond_a_slice_is_not_held_against_the_next_turn() -> None:
    """Whoever finds the slice spent waits for the next turn of the loop, and only for that."""
    clock, turns = Ahead(), 0

    def count_turns() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count_turns)

    slices = LoopBudget(clock)
    asyncio.get_running_loop().call_soon(count_turns)
    await slices.room()
    with slices:
        clock.spent_s += 10 * SLICE_S
    assert turns == 0
    await slices.room()
    assert turns == 1
