"""What a schedule is made of: stories, each a few lists of steps that keep their order, and how each call may end.

Every WAV contains the name of its call, so whose audio it is can be judged without the code under test.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.protections.audio_outside import audio_of
from tests.protections.audio_world import Process, World
from tunerd.call import (
    AfterUpload,
    AudioPlan,
    Call,
    Choice,
    Fail,
    Hold,
    ManifestStrategy,
    OnMissing,
    Origin,
    Publish,
    Recording,
    Strategy,
    UrlStrategy,
)
from tunerd.file_pattern import FILES
from tunerd.location import file_location
from tunerd.testing import make_call

WAIT_S: Final = 1800.0
ENDED_AGO_S: Final = 100.0
"""Of every call, when its schedule begins."""
_LASTED_S: Final = 60.0

Step = Callable[[World], Awaitable[object]]


@dataclass
class Plot:
    """The stories of a schedule. An end is `uploaded`, `sent` (its body has one of `urls`, or the URL of its own object) or the
    reason why it failed."""

    world: World
    chance: random.Random
    runs_once: bool
    """Whether tunerd is sometimes a `run --once`. That takes a recording that is not near at once, since it has read everything;
    so no story has one then of which it would be wrong."""
    stories: list[list[Step]] = field(default_factory=list)
    ends: dict[str, frozenset[str]] = field(default_factory=dict)
    urls: dict[str, frozenset[str]] = field(default_factory=dict)
    asks: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Call -> a URL that counts as absent by answers of its host only, and how far apart they are at least."""
    unasked: set[str] = field(default_factory=set)
    """URLs that nobody may ask for."""
    told: list[Call | Recording] = field(default_factory=list)
    moves: set[str] = field(default_factory=set)
    """Calls whose file is moved after its upload."""

    def call(
        self,
        name: str,
        strategy: Strategy | tuple[Strategy, ...],
        *ends: str,
        ended_s: float = -ENDED_AGO_S,
        on_missing: OnMissing | None = None,
        verify_s: float | None = None,
        **plan: object,
    ) -> Step:
        """Its document comes."""
        self.ends[name] = frozenset(ends)
        self.moves |= {name} if "after_upload" in plan else set()
        now = self.world.clock.time
        ended_at_ms = round((now + ended_s) * 1000)
        made = make_call(
            name,
            started_at_ms=ended_at_ms - round(_LASTED_S * 1000),
            mtime_ns=round(now * 1e9),
            strategies=strategy if isinstance(strategy, tuple) else (strategy,),
            on_missing=on_missing or self.chance.choice([Hold(hold_s=1e6), Fail()]),
            audio=replace(AudioPlan(publish=Publish.UPLOAD, files=(str(self.world.rec),)), **plan),  # type: ignore[arg-type]
            settled_at=now,
        )
        return self._tell(replace(made, ended_at_ms=ended_at_ms, verify_s=verify_s))

    def recording(self, name: str, telling: int = 1, *, after_s: float = 2.0, **other: object) -> Step:
        """Its manifest comes. It began `after_s` after the calls."""
        now = self.world.clock.time
        made = Recording(
            origin=Origin(source="egress", path=f"/egress/{name}-{telling}.json", mtime_ns=round(now * 1e9) + telling),
            source="egress",
            key=name,
            id=f"EG_{name}",
            location=None,
            started_at=now - ENDED_AGO_S - _LASTED_S + after_s,
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

    def put(self, location: str, call: str) -> Step:
        """An object is put into its bucket."""

        async def put(world: World) -> None:
            world.objects[location] = audio_of(call)

        return put

    def publish(self, url: str) -> Step:
        """A host has the recording from now on."""

        async def publish(world: World) -> None:
            world.published.add(url)

        return publish

    @staticmethod
    def asked(world: World) -> Awaitable[object]:
        """URLs that are due are asked for."""
        return world.live(Process.ask)

    @staticmethod
    async def refused(world: World) -> None:
        """A call is tried while nobody is there at Tuner."""
        mood, world.tuner = world.tuner, "away"
        await world.live(Process.send)
        world.tuner = mood

    def by_hand(self, name: str, location: str) -> Step:
        """An operator gives the call its recording."""
        return lambda world: world.surely(lambda process: process.retry_with(name, location))

    def upload_of(self, name: str) -> UrlStrategy:
        return UrlStrategy(location=self.file(name))

    def file(self, name: str) -> str:
        return file_location(f"{self.world.rec}/{name}").text

    def found_as(self, name: str, within_s: float | None = None) -> ManifestStrategy:
        """A file is looked for by its name, or (with `within_s`) by its time."""
        choice = Choice.NEAREST if within_s is None else Choice.ONLY
        return ManifestStrategy(
            source=FILES, key=f"{self.world.rec}/{name}", within_s=within_s, wait_s=WAIT_S, near_s=0.0, choice=choice
        )

    def recorded(self, file: str, name: str) -> list[Step]:
        """A file that its writer may have been seen at."""
        written = [self.write(file, name)]
        return [self.write(file, name, 0.5), *written] if self.chance.random() < 0.4 else written

    def in_any_order(self, first: Sequence[Step], second: Sequence[Step]) -> list[Step]:
        """The steps of both, each in its order."""
        return merged([list(first), list(second)], self.chance)

    @property
    def after_upload(self) -> dict[str, object]:
        moves: dict[str, object] = {"after_upload": AfterUpload.MOVE_TO, "move_to": "done"}
        return self.chance.choice([{}, moves])


def merged(stories: Sequence[list[Step]], chance: random.Random) -> list[Step]:
    turns = [number for number, story in enumerate(stories) for _ in story]
    chance.shuffle(turns)
    left = [iter(story) for story in stories]
    return [next(left[number]) for number in turns]
