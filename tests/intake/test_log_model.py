"""Logs under rotations of all kinds, restarts and kills, against a model: each line is read exactly once, none is lost.

A schedule is a list of random actions (its seed repeats it). All lines of a log have one length, one beginning and one end; what
tells them apart stands in the middle.
"""

import gzip
import json
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.examples import IS_THOROUGH
from tests.intake.harness import map_call, source
from tunerd.call import Document, Mapped
from tunerd.clock import SystemClock
from tunerd.intake.sources import Intake
from tunerd.testing import MemoryLedger, Recorder

PARTS = 12
SCHEDULES = 4_000 if IS_THOROUGH else 5 * PARTS
SUFFIXES = (
    *(".1", ".2", ".9999", ".10000", "-20260101", ".20260101T153000Z", "-2026-01-01T15-30-00.000", ".prev", ".bak"),
    *(".old", "~1", ".rotated", "_1767280000", ".2026-W01", "+1", ".saved-by-hand"),
)


@dataclass(eq=False)
class Generation:
    """What one log holds, in the model."""

    path: Path | None
    """None: it is deleted."""
    lines: list[str] = field(default_factory=list)
    was_seen: bool = False
    """A look found it at a name of the source."""
    is_held: bool = False
    """Seen by the process that runs now."""


class World:
    """A directory with logs, their writers, a daemon that is asked to look; and the model of what it owes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.root, self.outside = root / "calls", root / "olddir"
        self.root.mkdir(parents=True)
        self.outside.mkdir()
        self.ledger = MemoryLedger()
        self.source = source(self.root, include=("*.ndjson",))
        self.read: Counter[str] = Counter()
        self.told = Recorder()
        self.count = self.names = 0
        self.sizes = [self.random.choice((20, 1_100, 40_000, 70_000)) for _ in range(2)]
        self.logs = [Generation(self.root / f"calls{number}.ndjson") for number in range(2)]
        self.others: list[Generation] = []
        for log in self.logs:
            self._path(log).touch()
        self.story: list[str] = []
        self._start()

    @staticmethod
    def _path(log: Generation) -> Path:
        assert log.path is not None
        return log.path

    def _map(self, document: Document) -> Mapped:
        assert isinstance(document.value, dict)
        self.read[str(document.value["id"])] += 1
        return map_call(document)

    def _start(self) -> None:
        self.intake = Intake([self.source], self.ledger, {"agent": self._map}, SystemClock(), self.told)

    # Actions.

    def _line(self, log: Generation, size: int) -> bytes:
        self.count += 1
        one = f"c{self.count:06}"
        log.lines.append(one)
        return json.dumps({"a": "x" * size, "id": one, "z": "y" * size}).encode() + b"\n"

    def write(self, log: Generation, which: int) -> None:
        data = b"".join(self._line(log, self.sizes[which]) for _ in range(self.random.randint(1, 3)))
        with self._path(log).open("ab") as file:
            file.write(data)

    def _rotated(self, log: Generation) -> Path:
        self.names += 1
        suffix = self.random.choice(SUFFIXES)
        name = self._path(log).name
        if self.random.random() < 0.2:
            return self.root / f"{name.removesuffix('.ndjson')}-{self.names}.ndjson"
        directory = self.outside if self.random.random() < 0.15 else self.root
        return directory / (f"{name}{suffix}" if not (directory / f"{name}{suffix}").exists() else f"{name}.{self.names}")

    def _anew(self, which: int, before: Generation) -> None:
        path = self.root / f"calls{which}.ndjson"
        path.touch()
        self.others.append(before)
        self.logs[which] = Generation(path)

    def rename(self, log: Generation, which: int) -> None:
        """Its writer adds to it until it opens the new one."""
        target = self._rotated(log)
        self._path(log).rename(target)
        log.path = target
        if self.random.random() < 0.5:
            self.write(log, which)
        self._anew(which, log)

    def copy_truncate(self, log: Generation, which: int) -> None:
        target = self._rotated(log)
        shutil.copyfile(self._path(log), target)
        if self.random.random() < 0.3:
            self.look()  # before it is truncated
        os.truncate(self._path(log), 0)
        path, log.path = self._path(log), target
        if target.parent == self.outside:
            self._forgive(log)
        log.is_held = False
        self.others.append(log)
        self.logs[which] = Generation(path, was_seen=log.was_seen)

    def compress(self, log: Generation, which: int) -> None:
        older = [one for one in self.others if one.path is not None and one.path.parent == self.root and one.path.suffix != ".gz"]
        if not older:
            return
        chosen = self.random.choice(older)
        target = self._path(chosen).with_name(self._path(chosen).name + ".gz")
        if target.exists():
            return
        hidden = self.root / ".compressing"
        hidden.write_bytes(gzip.compress(self._path(chosen).read_bytes()))
        hidden.rename(target)
        if self.random.random() < 0.3:
            self.look()
        self._path(chosen).unlink()
        chosen.path, chosen.is_held = target, False

    def delete_and_make_anew(self, log: Generation, which: int) -> None:
        """Often the new one gets the inode, if nobody holds the old one."""
        self._path(log).unlink()
        log.path = None
        if not log.is_held:
            self._forgive(log)
        self._anew(which, log)

    def rewrite_longer(self, log: Generation, which: int) -> None:
        """Truncated and written again between two looks, past what was read."""
        self.look()
        size = self._path(log).stat().st_size
        os.truncate(self._path(log), 0)
        path, log.path = self._path(log), None
        self.others.append(log)
        new = self.logs[which] = Generation(path, was_seen=True, is_held=True)
        data = b""
        while len(data) <= size:
            data += self._line(new, self.sizes[which])
        with path.open(self.random.choice(("wb", "r+b"))) as file:
            file.write(data)

    def restart(self, log: Generation, which: int) -> None:
        """Ended or killed: the ledger stays, the descriptors go."""
        self.intake.close()
        for one in (*self.logs, *self.others):
            one.is_held = False
            if one.path is None or one.path.parent == self.outside:
                self._forgive(one)
        self._start()

    # The model.

    def look(self, log: Generation | None = None, which: int = 0) -> None:
        self.wants_look = True

    wants_look = False

    def _forgive(self, log: Generation) -> None:
        """What nobody can reach any more is not owed."""
        log.lines = [one for one in log.lines if self.read[one]]

    def _settle(self) -> None:
        """What a look that is done has to have read."""
        for one in (*self.logs, *self.others):
            is_named = (
                one.path is not None
                and one.path.parent == self.root
                and Path(one.path.name.removesuffix(".gz")).suffix == ".ndjson"
            )
            if is_named or (one.path in [log.path for log in self.logs]):
                one.was_seen = one.is_held = True
                if one.path is not None and one.path.suffix == ".gz":
                    one.is_held = False

    def owed(self) -> set[str]:
        owed: set[str] = set()
        for one in (*self.logs, *self.others):
            if one.path is None or one.path.parent == self.outside:
                owed.update(one.lines if one.is_held else ())
            else:
                owed.update(one.lines)
        return owed

    async def act(self) -> None:
        which = self.random.randrange(2)
        actions = (
            *(self.write,) * 5, *(self.look,) * 3, *(self.rename,) * 3, *(self.copy_truncate,) * 2, self.compress,
            self.delete_and_make_anew, self.rewrite_longer, self.restart,
        )  # fmt: skip
        action = self.random.choice(actions)
        self.story.append(f"{action.__name__} {which}")
        if action == self.rewrite_longer:
            await self.sweep()
        action(self.logs[which], which)
        if self.wants_look:
            self.wants_look = False
            await self.sweep()

    async def sweep(self) -> None:
        left = await self.intake.sweep()
        owed, twice = self.owed(), {one for one, count in self.read.items() if count > 1}
        missing = owed - self.read.keys()
        names = sorted(path.name for path in self.root.iterdir())
        where = [(one.path, one.is_held, one.lines) for one in (*self.logs, *self.others) if missing & set(one.lines)]
        assert (missing, twice, left) == (set(), set(), 0), (twice, left, self.intake.unread(), where, names, self.story)
        self._settle()


@pytest.mark.parametrize("part", range(PARTS))
async def test_each_line_is_read_exactly_once(tmp_path: Path, part: int) -> None:
    """Renamed under any name, copied and truncated, moved out, compressed, deleted, made anew, rewritten, with restarts between."""
    for seed in range(part * SCHEDULES // PARTS, (part + 1) * SCHEDULES // PARTS):
        world = World(tmp_path / str(seed), seed)
        try:
            for _ in range(25):
                await world.act()
            await world.sweep()
        except BaseException:
            print(f"seed {seed}: {world.story}")
            raise
        finally:
            world.intake.close()
        shutil.rmtree(tmp_path / str(seed))
