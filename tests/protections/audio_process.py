"""A whole tunerd around its ledger, done step by step, with the real parts that a recording passes through: the finder, the spool,
the workers, the places, who asks for URLs, and the orders of an operator.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.audio.made import local_place, threads
from tests.delivery.made import destination
from tests.protections.audio_outside import Outside, PlayedBuckets, StepClock
from tunerd.admin.api import RetryOrder
from tunerd.admin.call_orders import CallOrders
from tunerd.audio.spool import AudioSpool
from tunerd.audio.spool_place import SpoolPlace
from tunerd.call import Call, Document, Mapped, Recording, State
from tunerd.config import Delivery as Settings
from tunerd.config import Destination, Secret
from tunerd.delivery.audio_delivery import AudioDelivery
from tunerd.delivery.audio_worker import AudioWorker
from tunerd.delivery.destination_pool import DestinationPool
from tunerd.delivery.key import Key
from tunerd.delivery.ports import AudioTools, Ports, Upload
from tunerd.delivery.signing import UrlSigner
from tunerd.delivery.url_verifier import UrlVerifier
from tunerd.delivery.worker import Worker
from tunerd.events import Event
from tunerd.intake.recording_finder import RecordingFinder, SearchedDirectory
from tunerd.intake.spool_sweeper import SpoolSweeper
from tunerd.ledger import Admission, FailedCall, FarRule, LedgerUnavailable
from tunerd.location import LocationKind, parse_location
from tunerd.mapping.forms import freeze_body

_FILES: Final = local_place()
_AT_ONCE: Final = frozenset({"gauges", "on_due", "unsettled", "set_call_receiver"})


class _Ledger:
    """Hands everything on to the ledger, if the process is not killed before; and it may be killed after."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._ledger = outside.ledger

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._ledger, name)
        if name in _AT_ONCE:
            return known

        def asked(*arguments: Any, **named: Any) -> Any:
            if self._outside.is_dead:
                raise LedgerUnavailable("killed")
            self._outside.point()
            answer = known(*arguments, **named)
            if not isinstance(answer, asyncio.Future):
                return self._answered(answer)
            if name == "settle":
                self._outside.settled(*arguments[:2])
            self._outside.point()
            return answer

        return asked

    async def _answered(self, answer: Awaitable[Any]) -> Any:
        answered = await answer
        self._outside.point()
        return answered


class Process:
    """One tunerd, with one worker of each kind."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._clock = outside, outside.clock
        self.ledger: Any = _Ledger(outside)
        self.spool = AudioSpool(str(outside.directory / "spool"), 1 << 20)
        places = {
            LocationKind.FILE: _FILES,
            LocationKind.EMBEDDED: SpoolPlace(self.spool, threads()),
            LocationKind.OBJECT: PlayedBuckets(outside),
        }
        tools = AudioTools(places=places, upload=outside.store)
        self._ports = Ports(
            ledger=self.ledger, connect=self._connect, freeze=freeze_body, signer=UrlSigner(self._clock, _quiet, outside.sign),
            clock=self._clock, emit=_quiet, chance=lambda: 0.5, audio=tools,
        )  # fmt: skip
        there = destination(api_key=Secret("tr_api_model"))
        self._pool = DestinationPool(there, Settings(), self._ports)
        self._audio = AudioDelivery(self._ports, tools)
        searched = {str(outside.rec): SearchedDirectory("calls", 1.0)}
        self._finder = RecordingFinder(self.ledger, self._clock, _quiet, searched, threads())
        self._turn = _OneTurn(self._clock)
        self._verifier = UrlVerifier(self.ledger, outside.ask, self._turn, _quiet, _deaf)
        self._orders = CallOrders(self.ledger, lambda: {"agent": _Rules(outside)}, _no_place, self._clock.now, self.spool.keep)
        outside.ledger.on_due(lambda _: self._pool.notify_all())

    def _connect(self, there: Destination, key: Key, settings: Settings) -> Upload:
        return self._outside.post

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
        self._outside.elapse(2.0)
        await self._finder.sweep(patient=False)
        await self.watch()

    async def ask(self) -> None:
        """Each URL that is due is asked for; what is not answered is broken off."""
        await self._verifier.run(self._turn.begun())

    async def match_far(self, rule: FarRule) -> None:
        await self.ledger.set_far_rule(rule, self._clock.time)

    async def sweep(self) -> None:
        await SpoolSweeper(self.spool, self.ledger, self._clock).sweep()

    async def serve(self) -> None:
        """A call with audio: look, send, upload."""
        await AudioWorker(self._pool, 0, self._ports, self._audio, _deaf, _once(), self._clock.over).run()

    async def send(self) -> None:
        """A call without audio."""
        await Worker(self._pool, 0, self.ledger, self._clock, _deaf, _once()).run()

    async def retry(self) -> None:
        """`tunerd retry --all`."""
        await self._orders.retry(RetryOrder(states=frozenset({State.FAILED})))

    async def retry_with(self, call_id: str, location: str) -> None:
        """`tunerd retry CALL_ID --recording LOCATION`."""
        await self._orders.retry(RetryOrder(call_ids=frozenset({call_id}), recording=location))


class _Rules:
    """A document is mapped as it was the first time."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    def map(self, document: Document) -> Mapped:
        return Mapped(call=self._outside.documents[document.value["id"]])  # type: ignore[call-overload,index]

    def location(self, text: str) -> str:
        return parse_location(text, files=[str(self._outside.rec)]).text


class _OneTurn:
    """The clock of somebody who asks: when nobody has anything to do but wait, the turn is over."""

    def __init__(self, clock: StepClock) -> None:
        self._clock, self._over = clock, asyncio.Event()

    def begun(self) -> asyncio.Event:
        self._over.clear()
        return self._over

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        for _ in range(3):  # the questions were begun as tasks, and none of them waits for more than this
            await asyncio.sleep(0)
        self._over.set()
        return True


def _no_place(source: str, path: str, offset: int) -> Document:
    raise FileNotFoundError(2, "No such file or directory")


def _once() -> Callable[[DestinationPool], bool]:
    """The worker takes one turn."""
    asked = iter([False])
    return lambda _: next(asked, True)


def _quiet(event: Event) -> None:
    pass


def _deaf(failed: object) -> None:
    assert all(isinstance(one, FailedCall) for one in failed)  # type: ignore[attr-defined]
