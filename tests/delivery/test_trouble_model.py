"""Random lives of a delivery over a ledger whose disk fails at any statement, opens again, or forgets its last transactions;
with cancelled workers, stops and lost answers. Whenever the disk is well, every call that stands as `sending` is in a worker's
hands, the permits add up, and in the end everything was delivered, without any repair by the self-check."""

import asyncio
import random
import sqlite3
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.delivery.made import as_it_is, destination, scripted
from tests.examples import examples
from tests.ledger.broken_disk import Disk, Fault, ledger_on, looked_after
from tunerd.call import State
from tunerd.config import Delivery as Settings
from tunerd.delivery.ports import Ports
from tunerd.delivery.run import DeliveryService
from tunerd.delivery.signing import UrlSigner
from tunerd.events import Stuck
from tunerd.ledger import Admission, Claimed, Filter, LedgerUnavailable
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Sent
from tunerd.testing import FakeClock, Recorder, make_call

SENT = Sent(status=200, tuner_call_id="tc", already_there=False)
OUTCOMES: list[Outcome] = [
    *([SENT] * 6),
    Retry(reason=RetryReason.SERVER_ERROR, status=500, detail="answered 500"),
    Retry(reason=RetryReason.THROTTLED, status=429, detail="answered 429", retry_after_s=5.0, surely_not_arrived=True),
    Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=401, detail="401"),
    Refused(scope=Scope.AGENT, reason=PauseReason.AUTH, status=403, detail="403"),
    Failed(reason=FailReason.REJECTED, status=422, detail="422"),
]


def forget_the_last(beside: sqlite3.Connection) -> None:
    """What a disk does that fails a sync: transactions after the last one that was synced are gone. Claims were not synced."""
    beside.execute("UPDATE call SET state = 'due', form = NULL, patch = NULL WHERE state = 'sending' AND row % 2 = 0")
    beside.execute("UPDATE call SET state = 'sending', due_at = admitted_at WHERE state = 'sent' AND row % 3 = 0")


class Life:
    """One of them."""

    def __init__(self, seed: int, ledger: SqliteLedger, disk: Disk, clock: FakeClock, told: Recorder) -> None:
        self.chance = random.Random(seed)
        self.ledger, self.disk, self.clock, self.told = ledger, disk, clock, told
        self.open: list[tuple[str, asyncio.Future[Outcome]]] = []
        self.attempts: Counter[str] = Counter()
        self.admitted: set[str] = set()
        self.stop = asyncio.Event()
        self.delivery: DeliveryService
        self.task: asyncio.Task[None]
        self.start()

    def start(self) -> None:
        self.stop = asyncio.Event()
        self.delivery = DeliveryService(
            [destination()], Settings(concurrency=4), Ports(ledger=self.ledger, connect=scripted(self.upload), freeze=as_it_is,
            signer=UrlSigner(self.clock, self.told), clock=self.clock, emit=self.told, chance=self.chance.random)
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.delivery.run(self.stop))

    async def upload(self, claimed: Claimed) -> Outcome:
        self.attempts[claimed.call_id] += 1
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.open.append((claimed.call_id, answer))
        return await answer

    def answer_one(self, outcome: Outcome) -> None:
        self.open = [(call_id, answer) for call_id, answer in self.open if not answer.done()]
        if self.open:
            self.open.pop(self.chance.randrange(len(self.open)))[1].set_result(outcome)

    async def admit(self) -> None:
        numbers = range(len(self.admitted), len(self.admitted) + self.chance.randrange(1, 6))
        names = [f"call-{number}" for number in numbers]
        calls = [make_call(name, agent="ab"[number % 2]) for number, name in zip(numbers, names, strict=True)]
        with suppress(LedgerUnavailable):
            await self.ledger.admit(Admission(calls=calls), self.clock.now())
            self.admitted |= set(names)

    async def step(self) -> None:
        match self.chance.randrange(12):
            case 0 | 1:
                await self.admit()
            case 2 | 3 | 4:
                self.answer_one(self.chance.choice(OUTCOMES))
            case 5:
                self.disk.breaks(self.chance.choice(list(Fault)), self.chance.randrange(6))
            case 6:
                self.disk.cannot_open = self.chance.randrange(3)
            case 7:
                self.disk.heals()
            case 8:
                await self.clock.advance(self.chance.choice([0.1, 1.0, 31.0]))
            case 9:
                await looked_after(self.ledger, 1)
            case 10 if self.chance.random() < 0.3:
                await self.end_delivery()
                self.start()
            case _:
                for _ in range(self.chance.randrange(4)):
                    await asyncio.sleep(0)

    async def end_delivery(self) -> None:
        """A stop whose drain is over at once, at whatever await each worker is; the ledger stays open."""
        self.stop.set()
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.heal()
        assert not await self.ledger.sending(), "what a cancelled worker had went back"
        assert not self.ledger.unsettled()

    async def heal(self) -> None:
        self.disk.heals()
        await looked_after(self.ledger, 4)

    async def check(self) -> None:
        """With a disk that is well: who has what."""
        await self.heal()
        await self.clock.advance(2)
        for _ in range(50):  # until what is under way between the ledger's thread and the workers has come to rest
            await looked_after(self.ledger)
            await self.clock.advance(0)
            waiting = {call_id for call_id, answer in self.open if not answer.done()}
            rows = {call.row: call.call_id for call in await self.ledger.calls(Filter(), limit=1000)}
            sending = {rows[row] for row in await self.ledger.sending()}
            (status,) = self.delivery.statuses()
            if sending == waiting and status.in_flight == len(waiting):
                break
        assert sending == waiting
        assert status.in_flight == len(waiting) == self.delivery.in_flight()

    async def end(self) -> None:
        """Everything that was admitted is delivered, or was rejected."""
        await self.heal()
        async with asyncio.timeout(60):
            while any(s in (State.DUE, State.SENDING) and n for s, n in (await self.states()).items()):
                while self.open:
                    self.answer_one(SENT)
                await self.clock.advance(31.0)
                await looked_after(self.ledger)
        await self.check()
        assert self.admitted <= {call.call_id for call in await self.ledger.calls(Filter(), limit=1000)}
        assert self.admitted <= set(self.attempts)
        assert not self.told.seen(Stuck)
        self.stop.set()
        async with asyncio.timeout(10):
            await self.task

    async def states(self) -> Counter[State]:
        return Counter(call.state for call in await self.ledger.calls(Filter(), limit=1000))


@pytest.mark.parametrize("seed", range(examples(10)))
async def test_nothing_sticks_whatever_the_disk_does(seed: int) -> None:
    """See above."""
    disk, clock, told = Disk(), FakeClock(), Recorder()
    with tempfile.TemporaryDirectory() as place:
        async with ledger_on(disk, Path(place) / "ledger.db", clock, told) as ledger:
            life = Life(seed, ledger, disk, clock, told)
            for number in range(120):
                if disk.fault is not None and life.chance.random() < 0.1:
                    disk.forgets = forget_the_last
                await life.step()
                if number % 20 == 19:
                    await life.check()
            await life.end()
