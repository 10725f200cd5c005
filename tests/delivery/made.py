"""Made-up values that these tests share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tunerd.call import Form, Refusal
from tunerd.clock import Clock
from tunerd.config import Delivery as Settings
from tunerd.config import Destination, Secret
from tunerd.delivery.key import Key
from tunerd.delivery.ports import AudioTools, Connect, FreezeBody, Ports
from tunerd.delivery.run import DeliveryService
from tunerd.delivery.signing import UrlSigner
from tunerd.delivery.upload import Uploader, open_session
from tunerd.ledger import ALONE, Admission, Claimed, Fleet
from tunerd.outcome import Outcome, Sent
from tunerd.testing import FakeClock, MemoryLedger, Recorder, make_call

NOW = 1_767_225_600.0
SENT = Sent(status=200, tuner_call_id="tc_1", already_there=False)


def destination(base_url: str = "https://tuner.example", **changes: Any) -> Destination:
    given = {"name": "tuner", "base_url": base_url, "workspace_id": 42, "api_key": Secret("bb7f64d7-e57c"), **changes}
    return Destination(**given)


def claimed(**changes: Any) -> Claimed:
    given: dict[str, Any] = {
        "row": 1, "source": "agent", "destination": "tuner", "agent": "support-bot", "call_id": "call-1",
        "body": b'{"call_id":"call-1"}', "form": Form.SEND_CALLS, "attempts": 0, "first_attempt_at": None, "paused_s": 0.0,
        "settled_at": NOW,
    }  # fmt: skip
    return Claimed(**{**given, **changes})


def as_it_is(
    payload: bytes,
    recording_url: str,
    checked_for: Form | None,
    form: Form,
    *,
    url_rule: str = "",
    uploads: object = None,
    is_placeholder: bool = False,
) -> bytes | Refusal:
    return payload


def scripted(answer: Callable[[Claimed], Outcome | Awaitable[Outcome]]) -> Connect:
    """Uploads that ask `answer` instead of a server."""

    def connect(destination: Destination, key: Key, settings: Settings) -> Callable[[Claimed], Awaitable[Outcome]]:
        async def upload(claimed: Claimed) -> Outcome:
            given = answer(claimed)
            return given if not isinstance(given, Awaitable) else await given

        return upload

    return connect


class Rig:
    """A delivery with all that it needs, running; `stop()` ends it as the daemon would."""

    def __init__(self, connect: Connect, destinations: Sequence[Destination], settings: Settings, clock: Clock,
                 ledger: MemoryLedger, freeze: FreezeBody, audio: AudioTools | None = None, fleet: Fleet = ALONE) -> None:  # fmt: skip
        self.ledger = ledger
        self.told = Recorder()
        self._clock = clock
        self.stopping = asyncio.Event()
        self.delivery = DeliveryService(
            destinations, settings, Ports(ledger=ledger, connect=connect, freeze=freeze, signer=UrlSigner(clock, self.told), clock=clock, emit=self.told,
            chance=lambda: 0.5, audio=audio, fleet=fleet)
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    @property
    def clock(self) -> FakeClock:
        """Of a bench that was not given another."""
        assert isinstance(self._clock, FakeClock)
        return self._clock

    async def admit(self, *call_ids: str, **changes: Any) -> None:
        await self.ledger.admit(Admission(calls=[make_call(i, **changes) for i in call_ids]), self._clock.now())

    async def stop(self) -> None:
        self.stopping.set()
        assert self.task is not None
        async with asyncio.timeout(10):
            await self.task


@asynccontextmanager
async def delivering(
    connect: Connect,
    *,
    destinations: Sequence[Destination] = (),
    clock: Clock | None = None,
    ledger: MemoryLedger | None = None,
    freeze: FreezeBody = as_it_is,
    audio: AudioTools | None = None,
    fleet: Fleet = ALONE,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A delivery that runs until the end of the block."""
    bench = Rig(
        connect,
        destinations or [destination()],
        Settings(**settings),
        clock or FakeClock(),
        ledger or MemoryLedger(),
        freeze,
        audio,
        fleet,
    )
    bench.task = asyncio.ensure_future(bench.delivery.run(bench.stopping))
    try:
        yield bench
    finally:
        if not bench.task.done():
            await bench.stop()


@asynccontextmanager
async def delivering_to(url: str, *, clock: Clock | None = None, ledger: MemoryLedger | None = None, key: str = "bb7f64d7-e57c",
                        fleet: Fleet = ALONE, **settings: Any) -> AsyncIterator[Rig]:  # fmt: skip
    """A delivery with real uploads to a real server."""
    clock = clock or FakeClock()
    async with open_session(asks=fleet.is_shared) as session:

        def connect(destination: Destination, key: Key, settings: Settings) -> Uploader:
            return Uploader(session, destination, key, settings, clock, {}, fleet)

        there = [destination(url, api_key=Secret(key))]
        async with delivering(connect, destinations=there, clock=clock, ledger=ledger, fleet=fleet, **settings) as bench:
            yield bench
