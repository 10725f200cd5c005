"""Gathered calls over rotations, restarts, kills and broken lines, against what their writer wrote: every call that is sent is
exactly as written, in order, nothing doubled, nothing of another call; one that lacks a part is never sent by itself.

A schedule is a list of random actions (its seed repeats it).
"""

import asyncio
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.examples import IS_THOROUGH
from tests.intake.test_gather import rules
from tests.intake.test_gather_cut import SESSIONS
from tunerd.call import Form, State
from tunerd.clock import SystemClock
from tunerd.intake.sources import Intake
from tunerd.ledger import Delivered, Filter, Unfrozen
from tunerd.testing import MemoryLedger, Recorder

PARTS = 12
SCHEDULES = 4_000 if IS_THOROUGH else 5 * PARTS
SUFFIXES = (".1", ".2", ".10000", "-20260101", ".20260101T153000Z", ".prev", "~1", ".rotated", ".saved-by-hand")
BROKEN = (
    lambda text: json.dumps({"type": "speech", "text": text, "n": 0}).replace("0}", "NaN}").encode(),
    lambda text: f'{{"type": "speech", "text": "{text}\xe9"}}'.encode("latin-1"),
    lambda text: f'{{"type": "speech", "text": "{text}'.encode(),
    lambda text: bytes(40),
    lambda text: json.dumps({"type": "speech", "text": text, "long": "x" * 5000}).encode(),
    lambda text: f"INFO {text}".encode(),
)


@dataclass
class Call:
    """What its writer wrote of it."""

    key: str
    said: list[str] = field(default_factory=list)
    is_begun: bool = False
    is_over: bool = False


class Writer:
    """One process that writes one log. `carried`: only the first line of a call has its key; `mixed`: calls are interleaved, and a
    line has a key where the call is another than in the line before it; `own`: each line has one."""

    def __init__(self, rng: random.Random, path: Path, name: str, style: str, breaks: float) -> None:
        self.random, self.path, self.name, self.style, self.breaks = rng, path, name, style, breaks
        self.calls: dict[str, Call] = {}
        self._open: list[Call] = []
        self._last: Call | None = None
        self.path.touch()

    def _call(self) -> Call:
        most = 1 if self.style == "carried" else 3
        if not self._open or (len(self._open) < most and self.random.random() < 0.3):
            call = Call(f"{self.name}{len(self.calls)}")
            self.calls[call.key] = call
            self._open.append(call)
        return self.random.choice(self._open)

    def line(self) -> bytes:
        call = self._call()
        fields: dict[str, Any] = {"type": "speech"}
        if not call.is_begun or self.style == "own" or call is not self._last:
            fields["session"] = call.key
        is_broken = bool(self.calls) and len(self.calls) > 1 and self.random.random() < self.breaks
        call.is_begun, self._last = True, call
        if len(call.said) >= 2 and self.random.random() < 0.3:
            fields["type"], call.is_over = "end", True
            self._open.remove(call)
        else:
            call.said.append(fields.setdefault("text", f"{call.key}.{len(call.said)}"))
        if not is_broken:
            return json.dumps(fields).encode() + b"\n"
        if self.style == "carried":
            call.said.append("a line that nobody can read")
        return self.random.choice(BROKEN)(str(fields.get("text", ""))) + b"\n"

    def write(self, path: Path | None = None) -> None:
        with (path or self.path).open("ab") as out:
            for _ in range(self.random.randint(1, 4)):
                out.write(self.line())


class World:
    """A directory, its writers, and a reader that is asked to look."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.root, self.outside = root / "calls", root / "olddir"
        self.root.mkdir(parents=True)
        self.outside.mkdir()
        self.is_gentle = self.random.random() < 0.3
        """Nothing is lost and nothing broken: every call has to be sent."""
        breaks = 0.0 if self.is_gentle else self.random.choice((0.0, 0.05, 0.15))
        self.ledger = MemoryLedger()
        style = self.random.choice(("carried", "carried", "mixed", "own"))
        self.writers = [Writer(self.random, self.root / f"{name}.ndjson", name, style, breaks) for name in ("app", "web")]
        self.style, self.names, self.told = style, 0, Recorder()
        # One kind of rotation: a log that came and was moved out, deleted or truncated between two looks leaves no trace.
        rename: list[Callable[[Writer], Any]] = [self.rename] * 3
        others = ([self.move_out] * 3, [*[self.copy_and_truncate] * 3, self.truncate], [*[self.delete] * 2, self.truncate])
        self.rotations = rename if self.is_gentle or self.random.random() < 0.5 else list(self.random.choice(others))
        self.is_seen = False
        self.sent: dict[str, list[str]] = {}
        self.story: list[str] = [f"gentle {self.is_gentle}, {style}, breaks {breaks}, {self.rotations[0].__name__}"]
        self.mapping = rules(SESSIONS, self.root, "1h", max_document_bytes=4000, include=("*.ndjson",))
        self._start()

    def _start(self) -> None:
        self.intake = Intake(
            [self.mapping._source], self.ledger, {"agent": self.mapping.map}, SystemClock(), self.told,
            gathers={"agent": self.mapping},
        )  # fmt: skip

    # What happens.

    def write(self, writer: Writer) -> None:
        writer.write()

    def _rotated(self, writer: Writer, directory: Path) -> Path:
        self.names += 1
        name = f"{writer.path.name}{self.random.choice(SUFFIXES)}"
        return directory / (name if not (directory / name).exists() else f"{writer.path.name}.{self.names}")

    def rename(self, writer: Writer, directory: Path | None = None) -> None:
        """Its writer adds to it until it opens the new one."""
        target = self._rotated(writer, directory or self.root)
        writer.path.rename(target)
        if self.random.random() < 0.5:
            writer.write(target)
        writer.path.touch()
        if self.random.random() < 0.7:
            writer.write()

    def move_out(self, writer: Writer) -> None:
        self.rename(writer, self.outside)

    async def copy_and_truncate(self, writer: Writer) -> None:
        if not self.is_seen:  # a copy that was made before the first look cannot be told from a log that was renamed
            await self.look(writer)
        target = self._rotated(writer, self.outside if self.random.random() < 0.2 else self.root)
        if self.random.random() < 0.3:  # it is seen before it is complete
            whole = writer.path.read_bytes()
            target.write_bytes(whole[: self.random.choice((0, len(whole) // 2))])
            await self.look(writer)
        shutil.copyfile(writer.path, target)
        if self.random.random() < 0.4:
            writer.write()  # lost
        os.truncate(writer.path, 0)
        if self.random.random() < 0.7:
            writer.write()

    def truncate(self, writer: Writer) -> None:
        os.truncate(writer.path, 0)

    def delete(self, writer: Writer) -> None:
        writer.path.unlink()
        writer.path.touch()
        if self.random.random() < 0.7:
            writer.write()

    async def restart(self, writer: Writer) -> None:
        self.intake.close()
        self._start()

    async def look(self, writer: Writer) -> None:
        self.is_seen = True
        await self.intake.sweep()

    async def die(self, writer: Writer) -> None:
        """In the middle of a look."""
        looking = asyncio.ensure_future(self.intake.sweep())
        for _ in range(self.random.randrange(200)):
            await asyncio.sleep(0)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await self.restart(writer)

    async def send(self, writer: Writer) -> None:
        """All that is due is sent: what is in it counts."""
        for destination in {
            row.destination for row in await self.ledger.calls(Filter(states=frozenset({State.DUE})), limit=1000)
        }:
            while (
                claim := await self.ledger.claim(destination, Form.CREATE_CALL, _body, SystemClock().now())
            ).claimed is not None:
                body = json.loads(claim.claimed.body)
                self.sent[claim.claimed.call_id] = [row["text"] for row in body["transcript_with_tool_calls"]]
                delivered = Delivered(status=201, tuner_call_id=None, already_there=False)
                await self.ledger.settle(claim.claimed.row, delivered, SystemClock().now())
                self.check(claim.claimed.call_id)

    # What is right.

    def check(self, key: str) -> None:
        said = next(writer.calls[key].said for writer in self.writers if key in writer.calls)
        sent = self.sent[key]
        if self.style != "carried" and not self.is_gentle:  # what is lost is lost; what is there stands in its order
            rest = iter(said)
            assert all(text in rest for text in sent), (key, sent, said)
        else:
            assert sent == said, key

    async def act(self) -> None:
        actions: list[Callable[[Writer], Any]] = [*[self.write] * 6, *[self.look] * 4, self.restart, self.send, *self.rotations]
        action = self.random.choice(actions if self.is_gentle else [*actions, self.die, self.die])
        if self.is_gentle and action == self.rename:
            for one in self.writers:
                if not one.path.stat().st_size:
                    one.write()
            await self.intake.sweep()  # every generation is seen at its place once, with something in it
        writer = self.random.choice(self.writers)
        self.story.append(f"{action.__name__} {writer.name}")
        done = action(writer)
        if done is not None:
            await done

    async def end(self) -> None:
        """All waits are over."""
        await self.intake.sweep()
        await self.ledger.shift(-7200.0)
        for _ in range(3):
            await self.intake.sweep()
        await self.send(self.writers[0])
        if self.is_gentle:
            begun = {key for writer in self.writers for key, call in writer.calls.items() if call.said}
            rows = await self.ledger.calls(Filter(states=frozenset({State.FAILED, State.GATHERING}), dismissed=None), limit=1000)
            assert (begun - self.sent.keys(), [(row.call_id, row.where, row.detail) for row in rows]) == (set(), [])


def _body(unfrozen: Unfrozen) -> bytes:
    return unfrozen.payload


@pytest.mark.parametrize("part", range(PARTS))
async def test_every_call_that_is_sent_is_as_it_was_written(tmp_path: Path, part: int) -> None:
    """Or it stands as failed, or waits."""
    for seed in range(part * SCHEDULES // PARTS, (part + 1) * SCHEDULES // PARTS):
        world = World(tmp_path / str(seed), seed)
        try:
            for writer in world.writers:  # one call that shows how lines say whose they are
                for _ in range(12):
                    with writer.path.open("ab") as out:
                        out.write(writer.line())
            for _ in range(25):
                await world.act()
            await world.end()
        except BaseException:
            print(f"seed {seed}: {world.story}")
            raise
        finally:
            world.intake.close()
        shutil.rmtree(tmp_path / str(seed))
