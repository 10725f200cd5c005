"""Calls with audio that tunerd uploads, in any order of documents, files, kills, restarts, and trouble at Tuner and its storage: the
end is what docs/audio.md says, and no call gets another's audio.

tests/ledger/test_schedules.py has the same for matching alone. A schedule is made from a number. It mixes the steps of
several stories and keeps the order of steps within each story; kills, restarts and trouble come between them. Every WAV contains
the name of its call, so the test can judge whose it is without the code under test.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from tests.examples import IS_THOROUGH
from tests.protections.audio_world import Process, World, audio_of, world_in
from tunerd.call import (
    AfterUpload,
    AudioPlan,
    AudioState,
    Call,
    Choice,
    Fail,
    Hold,
    ManifestStrategy,
    Origin,
    Publish,
    Recording,
    State,
    Strategy,
    UrlStrategy,
)
from tunerd.file_pattern import FILES
from tunerd.ledger import Filter
from tunerd.location import file_location
from tunerd.testing import make_call

SCHEDULES: Final = 10_000 if IS_THOROUGH else 300
SLICES: Final = 6
WAIT_S: Final = 1800.0
ENDED_AGO_S: Final = 100.0
"""Of every call, when its schedule begins."""

Step = Callable[[World], Awaitable[object]]
LOST: Final = "upload_target_lost"


@dataclass
class Plot:
    """The stories of a schedule, and how each call may end."""

    world: World
    chance: random.Random
    stories: list[list[Step]] = field(default_factory=list)
    ends: dict[str, frozenset[str]] = field(default_factory=dict)
    told: list[Call | Recording] = field(default_factory=list)
    moves: set[str] = field(default_factory=set)
    """Calls whose file is moved after its upload."""

    def call(self, name: str, strategy: Strategy, *ends: str, ended_s: float = -ENDED_AGO_S, **plan: object) -> Step:
        """Its document comes."""
        self.ends[name] = frozenset(ends)
        self.moves |= {name} if "after_upload" in plan else set()
        ended_at_ms = round((self.world.clock.time + ended_s) * 1000)
        made = make_call(
            name,
            started_at_ms=ended_at_ms - 60_000,
            strategies=(strategy,),
            on_missing=self.chance.choice([Hold(hold_s=1e6), Fail()]),
            audio=replace(AudioPlan(publish=Publish.UPLOAD, files=(str(self.world.rec),)), **plan),  # type: ignore[arg-type]
        )
        return self._tell(replace(made, ended_at_ms=ended_at_ms))

    def recording(self, name: str, telling: int = 1, **other: object) -> Step:
        """Its manifest comes."""
        made = Recording(
            origin=Origin(source="egress", path=f"/egress/{name}-{telling}.json", mtime_ns=telling),
            source="egress",
            key=name,
            id=f"EG_{name}",
            location=None,
            started_at=self.world.clock.time - ENDED_AGO_S - 58,
        )
        return self._tell(replace(made, **other))  # type: ignore[arg-type]

    def _tell(self, what: Call | Recording) -> Step:
        self.told.append(what)
        return lambda world: world.tell(what)

    def write(self, name: str, call: str, written: float = 1.0, *, at_s: float | None = None) -> Step:
        """A file is written. `at_s`: when, after the schedule began; else a moment ago."""
        began = self.world.clock.time

        async def write(world: World) -> None:
            age_s = 5.0 if at_s is None else world.clock.time - began - at_s
            world.write(name, audio_of(call, written), age_s=age_s, is_whole=written == 1)

        return write

    def upload_of(self, name: str) -> UrlStrategy:
        return UrlStrategy(location=file_location(f"{self.world.rec}/{name}").text)

    def recorded(self, file: str, name: str) -> list[Step]:
        """A file that its writer may have been seen at."""
        written = [self.write(file, name)]
        return [self.write(file, name, 0.5), *written] if self.chance.random() < 0.4 else written

    def in_any_order(self, first: Sequence[Step], second: Sequence[Step]) -> list[Step]:
        """The steps of both, each in its order."""
        return _merged([list(first), list(second)], self.chance)

    @property
    def after_upload(self) -> dict[str, object]:
        moves: dict[str, object] = {"after_upload": AfterUpload.MOVE_TO, "move_to": "done"}
        return self.chance.choice([{}, moves])


def _merged(stories: Sequence[list[Step]], chance: random.Random) -> list[Step]:
    turns = [number for number, story in enumerate(stories) for _ in story]
    chance.shuffle(turns)
    left = [iter(story) for story in stories]
    return [next(left[number]) for number in turns]


# Stories.


def own_file(plot: Plot) -> None:
    """A call names a file of its own, which may come before it or after it."""
    call = plot.call("own", plot.upload_of("own.wav"), "uploaded", **plot.after_upload)
    plot.stories.append(plot.in_any_order([call], plot.recorded("own.wav", "own")))


def found_file(plot: Plot) -> None:
    """A call's file is found by its name."""
    strategy = _file(plot, "found.wav")
    call = plot.call("found", strategy, "uploaded", **plot.after_upload)
    plot.stories.append(plot.in_any_order([call], plot.recorded("found.wav", "found")))


def _file(plot: Plot, name: str, within_s: float | None = None) -> ManifestStrategy:
    choice = Choice.NEAREST if within_s is None else Choice.ONLY
    return ManifestStrategy(
        source=FILES, key=f"{plot.world.rec}/{name}", within_s=within_s, wait_s=WAIT_S, near_s=0.0, choice=choice
    )


def overwritten_file(plot: Plot) -> None:
    """The next call's audio is written to the same place; what was the first call's is gone, or is at Tuner."""
    ends = ("uploaded", "audio_changed", "audio_unreadable")  # the last: also the second call's audio was moved away
    first = plot.call("first", plot.upload_of("recording.wav"), *ends, **plot.after_upload)
    second = plot.call("second", plot.upload_of("recording.wav"), "uploaded", **plot.after_upload)
    plot.stories.append([plot.write("recording.wav", "first"), first, plot.write("recording.wav", "second"), second])


def one_file_for_two(plot: Plot) -> None:
    """Two calls name one file. The second one never gets it."""
    moves = plot.after_upload
    first = plot.call("left", plot.upload_of("both.wav"), "uploaded", "audio_changed", **moves)
    second = plot.call("right", plot.upload_of("both.wav"), "audio_changed", "audio_unreadable", **moves)
    plot.stories.append([plot.write("both.wav", "left"), first, second])


def times_alone(plot: Plot) -> None:
    """Files that only their times tell apart: a call that is alone gets its file, of two neighbours neither does."""
    is_alone = plot.chance.random() < 0.5
    ends = "uploaded" if is_alone else "recording_ambiguous"
    strategy = _file(plot, "times_*.wav", 60.0)
    plot.stories.append([plot.call("early", strategy, ends, **plot.after_upload)])
    plot.stories.append([plot.write("times_1.wav", "early", at_s=-ENDED_AGO_S + 5)])
    if not is_alone:
        plot.stories.append([plot.call("late", strategy, ends, ended_s=-ENDED_AGO_S + 30, **plot.after_upload)])
        plot.stories.append([plot.write("times_2.wav", "late", at_s=-ENDED_AGO_S + 35)])


def files_by_pattern(plot: Plot) -> None:
    """Names with wildcards: `call-*.wav` of one call fits a file of the call `call-1`, too. That file goes to neither of them. A file
    that fits one call alone goes to it, two files of a call are a tie, and an old file of a call that nobody knows counts nowhere."""
    kind = plot.chance.choice(["alone", "shared", "two files"])
    ends = "uploaded" if kind == "alone" else "recording_ambiguous"
    plot.stories.append([plot.call("call", _file(plot, "call-*.wav"), ends, **plot.after_upload)])
    if kind == "shared":
        plot.stories.append([plot.call("call-1", _file(plot, "call-1-*.wav"), ends, **plot.after_upload)])
    plot.stories.append([plot.write("call-1-x.wav", "call")])
    if kind == "two files":
        plot.stories.append([plot.write("call-2.wav", "call")])
    if plot.chance.random() < 0.3:
        plot.stories.append([plot.write("call-0-x.wav", "forgotten", at_s=-86_400.0)])


def embedded(plot: Plot) -> None:
    """Audio that a manifest holds, told once or again."""
    strategy = ManifestStrategy(source="egress", key="embedded", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("embedded", strategy, "uploaded")])
    plot.stories.append([plot.recording("embedded", embedded=audio_of("embedded"))] * plot.chance.randint(1, 2))


def told_anew(plot: Plot) -> None:
    """A manifest names a file that never comes; the newer one names the right one."""
    strategy = ManifestStrategy(source="egress", key="anew", within_s=600.0, wait_s=WAIT_S)
    plot.stories.append([plot.call("anew", strategy, "uploaded")])
    wrong, right = (file_location(f"{plot.world.rec}/{name}.wav").text for name in ("never", "anew"))
    plot.stories.append([plot.recording("anew", location=wrong), plot.recording("anew", 2, location=right)])
    plot.stories.append(plot.recorded("anew.wav", "anew"))


def missing_file(plot: Plot) -> None:
    """A file that never comes: its call is held, or sent with the placeholder."""
    plot.stories.append([plot.call("gone", plot.upload_of("gone.wav"), "audio_unreadable", sends_on_error=True)])
    plot.stories.append([plot.call("held", plot.upload_of("held.wav"), "audio_unreadable")])


STORIES: Final = (
    own_file, found_file, overwritten_file, one_file_for_two, times_alone, files_by_pattern, embedded, told_anew, missing_file,
)  # fmt: skip


def _between(chance: random.Random) -> list[Step]:
    """What else happens; all of it within the patience for missing files."""

    def doom(world: World) -> Awaitable[object]:
        world.steps_left = chance.randint(1, 30)
        return world.live(Process.watch)

    def trouble(world: World) -> Awaitable[object]:
        world.tuner, world.storage = chance.choice(MOODS), chance.choice(MOODS)
        return world.live(Process.watch)

    return [
        *[lambda world: world.live(Process.serve)] * chance.randint(0, 8),
        *[lambda world: world.live(Process.send)] * chance.randint(0, 2),
        *[lambda world: world.live(Process.find)] * chance.randint(0, 4),
        *[lambda world: world.live(Process.sweep)] * chance.randint(0, 2),
        *[lambda world: world.passes(50.0)] * chance.randint(0, 9),
        *[World.restarted] * chance.randint(0, 2),
        *[doom] * chance.randint(0, 4),
        *[trouble] * chance.randint(0, 3),
    ]  # fmt: skip


MOODS: Final = ("well", "well", "busy", "mute")


async def _finish(world: World) -> None:
    """Everybody is well again, and time passes until nothing is left to do."""
    world.tuner = world.storage = "well"
    world.steps_left = None
    for seconds in (60.0, 600.0, WAIT_S, WAIT_S, 4000.0):
        await world.live(Process.find)
        for _ in range(12):
            await world.live(Process.serve)
            await world.live(Process.send)
        await world.live(Process.sweep)
        await world.passes(seconds)
        await world.restarted()


def _judge(world: World, plot: Plot) -> None:
    """On the way: no call has another's audio, ever."""
    for call_id, arrived in world.stored.items():
        assert set(arrived) == {audio_of(call_id)}
        assert plot.ends[call_id] & {"uploaded", "audio_changed"}, call_id


async def _judge_end(world: World, plot: Plot) -> None:
    """Each call ended as its story says; or exactly as a call whose target was lost, and only if it was. What is failed is listed
    and counted, what is uploaded is at the storage, and no file of anybody is gone."""
    calls = {call.call_id: call for call in await world.ledger.calls(Filter(dismissed=None))}
    found = {name: "uploaded" if call.audio is AudioState.UPLOADED else str(call.reason) for name, call in calls.items()}
    for name, allowed in plot.ends.items():
        assert found[name] in ((allowed - {"uploaded"}) | {LOST} if name in world.lost else allowed), name
    uploaded = {name for name, end in found.items() if end == "uploaded"}
    assert {name for name in uploaded if audio_of(name) not in world.stored.get(name, [])} == set()
    held = {
        name for name in world.lost if found[name] != LOST
    }  # after a 503 a changed file holds the call: docs/decisions/audio.md
    assert {name for name in calls if calls[name].state is State.SENT} | held == set(world.taken)
    listed = {call.call_id for call in await world.ledger.calls(Filter(states=frozenset({State.FAILED})))}
    assert listed == calls.keys() - uploaded
    gauges = world.ledger.gauges().audio
    assert gauges[AudioState.UPLOADED] == len(uploaded)
    assert gauges[AudioState.PENDING] == gauges[AudioState.UPLOADING] == 0
    on_disk = sorted(path.read_bytes() for path in world.rec.rglob("*") if path.is_file())
    assert on_disk == sorted([*world.there.values(), *world.moved])
    moved = sorted(path.read_bytes() for path in (world.rec / "done").glob("*"))
    gone = {"first"} if audio_of("first") not in on_disk else set()  # it was overwritten before it was moved
    assert moved == sorted(audio_of(name) for name in (uploaded & plot.moves) - gone)
    assert world.process.spool.locations() == []


async def live(number: int, directory: Path, stories: Sequence[Callable[[Plot], None]] = STORIES) -> None:
    """One schedule. A failure is shrunk by leaving out stories."""
    chance = random.Random(number)
    async with world_in(directory, time.time()) as world:
        plot = Plot(world, chance)
        for story in stories:
            if chance.random() < 0.5:
                story(plot)
        for step in _merged([*plot.stories, *([one] for one in _between(chance))], chance):
            await step(world)
            _judge(world, plot)
        await _finish(world)
        _judge(world, plot)
        await _judge_end(world, plot)
        for what in chance.sample(plot.told, len(plot.told)):  # all of it once more: nothing changes
            await world.tell(what)
        await _finish(world)
        _judge(world, plot)
        await _judge_end(world, plot)


@pytest.mark.parametrize("part", range(SLICES))
async def test_in_any_order_each_call_gets_its_own_audio_or_a_reason(part: int, tmp_path: Path) -> None:
    """Uploaded byte for byte, or failed with the reason that its story says, listed and counted."""
    for number in range(part, SCHEDULES, SLICES):
        try:
            await live(number, tmp_path / str(number))
        except BaseException as exc:
            exc.add_note(f"schedule {number}")
            raise
