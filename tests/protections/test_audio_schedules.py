"""Calls with recordings of every kind, in any order of documents, files, kills, restarts, orders of an operator, and trouble at
Tuner, its storage, buckets and hosts: the end is what docs/audio.md and docs/recordings.md say, and no call gets another's audio.

tests/ledger/test_schedules.py has the same for matching alone. A schedule is made from a number. It mixes the steps of several
stories (audio_stories.py, url_stories.py, operator_stories.py) and keeps the order of steps within each story; kills, restarts and
trouble come between them.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.examples import IS_THOROUGH
from tests.protections.audio_outside import audio_of
from tests.protections.audio_plot import WAIT_S, Plot, Step, merged
from tests.protections.audio_stories import FILE_STORIES
from tests.protections.audio_world import Process, World, world_in
from tests.protections.operator_stories import OPERATOR_STORIES
from tests.protections.url_stories import SILENCE, URL_STORIES
from tunerd.call import AudioState, State
from tunerd.ledger import Filter, StoredCall

SCHEDULES: Final = 10_000 if IS_THOROUGH else 300
SLICES: Final = 6
STORIES: Final = (*FILE_STORIES, *URL_STORIES, *OPERATOR_STORIES)
OFTEN: Final = 0.25
"""How likely each story is in a schedule: several together, and few enough that 300 schedules take a minute or two."""
LOST: Final = "upload_target_lost"
MOODS: Final = ("well", "well", "busy", "mute")
TUNERS_MOODS: Final = (*MOODS, "away")


def _between(chance: random.Random, runs_once: bool) -> list[Step]:
    """What else happens; all of it within the patience for missing files."""

    def doom(world: World) -> Awaitable[object]:
        world.steps_left = chance.randint(1, 30)
        return world.live(Process.watch)

    def trouble(world: World) -> Awaitable[object]:
        world.tuner, world.storage = chance.choice(TUNERS_MOODS), chance.choice(MOODS)
        world.buckets, world.hosts = chance.choice(MOODS), chance.choice(MOODS)
        return world.live(Process.watch)

    return [
        *[lambda world: world.live(Process.serve)] * chance.randint(0, 8),
        *[lambda world: world.live(Process.send)] * chance.randint(0, 4),
        *[lambda world: world.live(Process.find)] * chance.randint(0, 4),
        *[lambda world: world.live(Process.ask)] * chance.randint(0, 4),
        *[lambda world: world.live(Process.sweep)] * chance.randint(0, 2),
        *[lambda world: world.live(Process.retry)] * chance.randint(0, 2),
        *[lambda world: world.passes(50.0)] * chance.randint(0, 8),
        *[World.restarted] * chance.randint(0, 2),
        *[World.runs_once] * (chance.randint(1, 3) if runs_once else 0),
        *[doom] * chance.randint(0, 4),
        *[trouble] * chance.randint(0, 3),
    ]  # fmt: skip


async def _finish(world: World) -> None:
    """Everybody is well again, and time passes until nothing is left to do."""
    world.tuner = world.storage = world.buckets = world.hosts = "well"
    world.steps_left = None
    for seconds in (60.0, 600.0, WAIT_S, WAIT_S, 4000.0):
        await world.live(Process.find)
        await world.live(Process.ask)
        await world.works(12)
        await world.live(Process.sweep)
        await world.passes(seconds)
        await world.restarted()


def _judge(world: World, plot: Plot) -> None:
    """On the way: no call has another's audio, ever; and no URL counts as absent of which its host did not say so."""
    for call_id, arrived in world.stored.items():
        assert set(arrived) == {audio_of(call_id)}
        assert plot.ends[call_id] & {"uploaded", "audio_changed"}, call_id
    for call_id, body in world.taken.items():
        is_uploaded = "recording_file_extension" in body or call_id not in plot.urls.keys() | world.fetched.keys()
        if call_id in world.fetched:
            assert world.fetched[call_id] == audio_of(call_id)
        elif is_uploaded:
            assert body["recording_url"] == "pending", call_id
        else:
            assert body["recording_url"] in plot.urls[call_id], call_id
        assert body["recording_url"] != SILENCE or world.was_absent(*plot.asks[call_id]), call_id
    assert not plot.unasked & world.answers.keys()


def _end_of(call: StoredCall) -> str:
    if call.audio is AudioState.UPLOADED:
        return "uploaded"
    return "sent" if call.state is State.SENT and call.audio is AudioState.NONE else str(call.reason)


async def _judge_end(world: World, plot: Plot) -> None:
    """Each call ended as its story says; or exactly as a call whose target was lost, and only if it was. What is failed is listed
    and counted, what is uploaded is at the storage, and no file of anybody is gone."""
    calls = {call.call_id or "": call for call in await world.ledger.calls(Filter(dismissed=None))}
    found = {name: _end_of(call) for name, call in calls.items()}
    assert found.keys() == plot.ends.keys()
    for name, allowed in plot.ends.items():
        assert found[name] in ((allowed - {"uploaded"}) | {LOST} if name in world.lost else allowed), name
        assert found[name] != "recording_expired" or name in world.unanswered or world.was_killed, name
        assert found[name] != "recording_missing" or name not in plot.asks or world.was_absent(*plot.asks[name]), name
    uploaded = {name for name, end in found.items() if end == "uploaded"}
    assert {name for name in uploaded if audio_of(name) not in world.stored.get(name, [])} == set()
    held = {name for name in world.lost if found[name] != LOST}  # after a 503 a changed file holds it: docs/decisions/audio.md
    held |= {name for name in world.taken if found[name] == "recording_expired"}  # a person has to look whether Tuner has it
    assert {name for name in calls if calls[name].state is State.SENT} | held == set(world.taken)
    listed = {call.call_id for call in await world.ledger.calls(Filter(states=frozenset({State.FAILED})))}
    assert listed == {name for name, end in found.items() if end not in ("uploaded", "sent")}
    gauges = world.ledger.gauges()
    assert gauges.audio[AudioState.UPLOADED] == len(uploaded)
    assert gauges.audio[AudioState.PENDING] == gauges.audio[AudioState.UPLOADING] == gauges.url_checks == 0
    _judge_files(world, uploaded & plot.moves)


def _judge_files(world: World, moves: set[str]) -> None:
    on_disk = sorted(path.read_bytes() for path in world.rec.rglob("*") if path.is_file())
    assert on_disk == sorted([*world.there.values(), *world.moved])
    moved = sorted(path.read_bytes() for path in (world.rec / "done").glob("*"))
    gone = {"first"} if audio_of("first") not in on_disk else set()  # it was overwritten before it was moved
    assert moved == sorted(audio_of(name) for name in moves - gone)
    assert world.process.spool.locations() == []


async def live(number: int, directory: Path, stories: Sequence[Callable[[Plot], None]] = STORIES) -> None:
    """One schedule. A failure is shrunk by leaving out stories."""
    chance = random.Random(number)
    async with world_in(directory, time.time()) as world:
        plot = Plot(world, chance, runs_once=chance.random() < 0.4)
        for story in stories:
            if chance.random() < OFTEN:
                story(plot)
        for step in merged([*plot.stories, *([one] for one in _between(chance, plot.runs_once))], chance):
            await step(world)
            _judge(world, plot)
        await _finish(world)
        _judge(world, plot)
        await _judge_end(world, plot)
        for what in chance.sample(
            plot.told, len(plot.told)
        ):  # all of it once more, and what failed is tried again: nothing changes
            await world.tell(what)
        await world.live(Process.retry)
        await _finish(world)
        _judge(world, plot)
        await _judge_end(world, plot)


@pytest.mark.parametrize("part", range(SLICES))
async def test_in_any_order_each_call_gets_its_own_audio_or_a_reason(part: int, tmp_path: Path) -> None:
    """Sent or uploaded byte for byte, or failed with the reason that its story says, listed and counted."""
    for number in range(part, SCHEDULES, SLICES):
        try:
            await live(number, tmp_path / str(number))
        except BaseException as exc:
            exc.add_note(f"schedule {number}")
            raise
