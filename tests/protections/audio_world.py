"""A whole tunerd around its ledger, done step by step, with the real parts that audio passes through: the finder, the spool, the
workers, the places. Tuner and its storage are played, no time passes unless a step says so, and at every question to the ledger,
to Tuner or to the storage, before it and after it, the process may be killed.
"""

import asyncio
import os
import shutil
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from tests.audio.made import local_place, threads
from tests.delivery.made import destination
from tunerd.audio.audio_bytes import AudioBytes
from tunerd.audio.spool import AudioSpool
from tunerd.audio.spool_place import SpoolPlace
from tunerd.call import Call, Recording
from tunerd.config import Delivery as Settings
from tunerd.config import Destination, Secret
from tunerd.delivery.audio_delivery import AudioDelivery
from tunerd.delivery.audio_upload import NotStored, Stored
from tunerd.delivery.audio_worker import AudioWorker
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.key import Key
from tunerd.delivery.ports import AudioTools, Ports, Upload
from tunerd.delivery.signing import UrlSigner
from tunerd.delivery.upload_target import PresignedPost
from tunerd.delivery.worker import Worker
from tunerd.events import Event
from tunerd.intake.recording_finder import RecordingFinder, SearchedDirectory
from tunerd.intake.spool_sweeper import SpoolSweeper
from tunerd.ledger import Admission, Claimed, Delivered, FailedCall, LedgerUnavailable, UploadTarget
from tunerd.location import LocationKind
from tunerd.mapping.forms import freeze_body
from tunerd.outcome import Outcome, Retry, RetryReason, Sent
from tunerd.testing import MemoryLedger

ENDLESS: Final = "eyJleHBpcmF0aW9uIjogIjIwOTktMDEtMDFUMDA6MDA6MDBaIn0="
"""The policy of a target that expires in 2099."""
_FILES: Final = local_place()
_AT_ONCE: Final = frozenset({"gauges", "on_due", "unsettled", "set_call_receiver"})


class Killed(BaseException):
    """SIGKILL: nothing of the process has any effect after this."""


def audio_of(name: str, written: float = 1.0) -> bytes:
    """A WAV in which its name is said. `written`: less than 1, and its writer is still at work."""
    data = name.encode().ljust(400, b"\0")
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", len(data) + 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return (head + struct.pack("<4sI", b"data", len(data)) + data)[: int(444 * written)]


class StepClock:
    """Nobody waits: whoever wants to is at the end of its step."""

    def __init__(self, now: float) -> None:
        self.time = now
        self.over = asyncio.Event()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        self.over.set()
        return True


class World:
    """What outlives a process, and the process."""

    def __init__(self, directory: Path, now: float) -> None:
        self.directory = directory
        self.rec = directory / "rec"
        self.rec.mkdir(parents=True)
        self.clock = StepClock(now)
        self.ledger = MemoryLedger()
        self.there: dict[str, bytes] = {}
        """Path -> content, of every file that nobody has overwritten."""
        self.moved: list[bytes] = []
        """Files that were moved away before another one was written to their place."""
        self.taken: dict[str, dict[str, Any]] = {}
        """Call id -> the body that Tuner has taken."""
        self.lost: set[str] = set()
        """Calls whose target Tuner named, and nobody wrote it down."""
        self.stored: dict[str, list[bytes]] = {}
        """Call id -> what the storage has got for it, whole."""
        self.tuner = self.storage = "well"
        """Or "busy" (nothing is taken), or "mute" (taken, and the answer is lost)."""
        self.steps_left: int | None = None
        """Until the process is killed."""
        self.is_dead = False
        self._growing: set[Path] = set()
        self._named: dict[int, str] = {}
        """Row -> call id, of targets that are not written down yet."""
        self.process = Process(self)

    # Outside of tunerd.

    def write(self, name: str, content: bytes, *, age_s: float, is_whole: bool) -> None:
        """A file, in place of what has the name. Not whole: its writer writes on until it is."""
        path = self.rec / name
        known = self.there.pop(str(path), None)
        if known is not None and not path.exists():
            self.moved.append(known)
        path.write_bytes(content)
        self.there[str(path)] = content
        self._growing.discard(path)
        if not is_whole:
            self._growing.add(path)
        os.utime(path, (self.clock.time - (age_s if is_whole else 0.0),) * 2)

    def elapse(self, seconds: float) -> None:
        self.clock.time += seconds
        for path in self._growing:
            os.utime(path, (self.clock.time,) * 2)

    async def post(self, claimed: Claimed) -> Outcome:
        self.point()
        if self.tuner == "busy":
            return Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="answered 503")
        if claimed.call_id in self.taken:
            return Sent(status=409, tuner_call_id=None, already_there=True)
        body = self.taken[claimed.call_id] = orjson.loads(claimed.body)
        offer = None
        if "recording_file_extension" in body:
            self._named[claimed.row] = claimed.call_id
            target = {"url": "https://storage.example/", "fields": {"key": claimed.call_id, "policy": ENDLESS}}
            offer = orjson.dumps(target)
        self.point()
        if self.tuner == "mute":
            self.lost |= {self._named.pop(claimed.row, "")} - {""}
            return Retry(reason=RetryReason.TIMEOUT, status=None, detail="no answer")
        return Sent(status=201, tuner_call_id=None, already_there=False, offer=offer)

    async def store(self, target: PresignedPost, audio: AudioBytes) -> Stored | NotStored:
        self.point()
        size, got = await audio.size(), b""
        async for chunk in audio.chunks():
            got += chunk
        assert len(got) == size
        if self.storage == "busy":
            return NotStored("the storage answered 503")
        self.stored.setdefault(dict(target.fields)["key"], []).append(got)
        self.point()
        return NotStored("no answer") if self.storage == "mute" else Stored()

    # Killing.

    def point(self) -> None:
        """Here the process may end."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.steps_left, self.is_dead = None, True
                raise Killed

    def settled(self, row: int, settlement: object) -> None:
        if isinstance(settlement, Delivered) and isinstance(settlement.audio, UploadTarget):
            self._named.pop(row, None)

    async def live(self, act: "Callable[[Process], Awaitable[object]]") -> bool:
        """Let the process do something. False: it was killed meanwhile, and another one has begun."""
        self.clock.over.clear()
        try:
            await act(self.process)
        except BaseException:
            if not self.is_dead:
                raise
        if not self.is_dead:
            return True
        await self.restart()
        return False

    async def restart(self) -> None:
        """Another process opens what was committed."""
        self.lost |= set(self._named.values())
        self._named.clear()
        self.is_dead = False
        self.ledger = self.ledger.reopened(self.clock.time)
        self.process = Process(self)
        await self.live(Process.begin)

    # What the process is made to do.

    async def tell(self, what: Call | Recording) -> None:
        """Its document is read, until it is admitted; and whoever waits for such a thing is woken."""
        while not await self.live(lambda process: process.admit(what)):
            pass
        while not await self.live(Process.watch):
            pass

    async def passes(self, seconds: float) -> None:
        self.elapse(seconds)
        await self.live(lambda process: process.ledger.tick(self.clock.time))

    async def restarted(self) -> None:
        self.is_dead = True
        await self.live(Process.begin)


class _Ledger:
    """Hands everything on to the ledger, if the process is not killed before; and it may be killed after."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledger = world.ledger

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._ledger, name)
        if name in _AT_ONCE:
            return known

        def asked(*arguments: Any, **named: Any) -> Any:
            if self._world.is_dead:
                raise LedgerUnavailable("killed")
            self._world.point()
            answer = known(*arguments, **named)
            if not isinstance(answer, asyncio.Future):
                return self._answered(answer)
            if name == "settle":
                self._world.settled(*arguments[:2])
            self._world.point()
            return answer

        return asked

    async def _answered(self, answer: Awaitable[Any]) -> Any:
        answered = await answer
        self._world.point()
        return answered


class Process:
    """One tunerd, with one worker of each kind."""

    def __init__(self, world: World) -> None:
        self._world, self._clock = world, world.clock
        self.ledger: Any = _Ledger(world)
        self.spool = AudioSpool(str(world.directory / "spool"), 1 << 20)
        self._spooled = SpoolPlace(self.spool, threads())
        tools = AudioTools(places={LocationKind.FILE: _FILES, LocationKind.EMBEDDED: self._spooled}, upload=world.store)
        self._ports = Ports(
            ledger=self.ledger, connect=self._connect, freeze=freeze_body, signer=UrlSigner(self._clock, _quiet), clock=self._clock,
            emit=_quiet, chance=lambda: 0.5, audio=tools,
        )  # fmt: skip
        there = destination(api_key=Secret("tr_api_model"))
        self._pool = DestinationPool(there, Settings(), self._ports)
        self._audio = AudioDelivery(self._ports, tools)
        self._finder = RecordingFinder(
            self.ledger, self._clock, _quiet, {str(world.rec): SearchedDirectory("calls", 1.0)}, threads()
        )
        world.ledger.on_due(lambda _: self._pool.notify_all())

    def _connect(self, there: Destination, key: Key, settings: Settings) -> Upload:
        return self._world.post

    async def begin(self) -> None:
        stored = await self.ledger.stored_pauses()
        self._pool.restore(stored.get(self._pool.name))
        await self._audio.resume(self._clock.over)
        await self.watch()

    async def watch(self) -> None:
        """Look at audio that nobody has looked at."""
        self._clock.over.clear()
        await self._audio.watch(self._clock.over)

    async def admit(self, what: Call | Recording) -> None:
        if isinstance(what, Call):
            await self.ledger.admit(Admission(calls=[what]), self._clock.time)
            return
        kept = self.spool.keep(what) if what.embedded else what
        await self.ledger.admit(Admission(recordings=[kept]), self._clock.time)
        if what.embedded:
            self.spool.answered(kept.location or "")

    async def find(self) -> None:
        """Look twice at each file that is looked for, with the time between that it takes to settle."""
        await self._finder.sweep(patient=False)
        self._world.elapse(2.0)
        await self._finder.sweep(patient=False)
        await self.watch()

    async def sweep(self) -> None:
        await SpoolSweeper(self.spool, self.ledger, self._clock).sweep()

    async def serve(self) -> None:
        """A call with audio: look, send, upload."""
        await AudioWorker(self._pool, 0, self._ports, self._audio, _deaf, _once(), self._clock.over).run()

    async def send(self) -> None:
        """A call without audio."""
        await Worker(self._pool, 0, self.ledger, self._clock, _deaf, _once()).run()


def _once() -> Callable[[DestinationPool], bool]:
    """The worker takes one turn."""
    asked = iter([False])
    return lambda _: next(asked, True)


def _quiet(event: Event) -> None:
    pass


def _deaf(failed: object) -> None:
    assert all(isinstance(one, FailedCall) for one in failed)  # type: ignore[attr-defined]


@asynccontextmanager
async def world_in(directory: Path, now: float) -> AsyncIterator[World]:
    world = World(directory, now)
    try:
        yield world
    finally:
        shutil.rmtree(directory)
