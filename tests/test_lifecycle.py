"""How `run --once` ends, on a fake clock: it waits for an outage to end, but not for a host that never answered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.delivery.made import SENT, as_it_is, destination
from tests.intake.harness import map_call, put, source
from tunerd.config import Delivery as Settings
from tunerd.config import Destination
from tunerd.delivery.contact_tracker import ContactTracker
from tunerd.delivery.key import Key
from tunerd.delivery.ports import Ports, Upload
from tunerd.delivery.run import DeliveryService
from tunerd.delivery.signing import UrlSigner
from tunerd.events import CallAdmitted, Unanswered
from tunerd.intake.admission_gate import Limits
from tunerd.intake.sources import Intake, IntakeOptions
from tunerd.ledger import Claimed
from tunerd.lifecycle import NO_CONTACT_S, Conductors, RunResult, Stop, once
from tunerd.outcome import Outcome, PauseReason, Refused, Retry, RetryReason, Scope
from tunerd.testing import FakeClock, MemoryLedger, Recorder

NOBODY = Retry(reason=RetryReason.UNREACHABLE, status=None, detail="127.0.0.1:9 cannot be reached (connection refused)")
BUSY = Retry(reason=RetryReason.SERVER_ERROR, status=503, detail="answered 503")
NO_DESCRIPTOR = Refused(scope=Scope.DESTINATION, reason=PauseReason.LOCAL, status=0, detail="no file descriptor is left")


@dataclass
class Backfill:
    clock: FakeClock
    told: Recorder
    stop: Stop
    task: asyncio.Task[RunResult]

    async def over(self) -> RunResult:
        """Advance the clock until the run has ended."""
        async with asyncio.timeout(20):
            while not self.task.done():
                await self.clock.advance(1)
        return self.task.result()


@asynccontextmanager
async def backfill(
    root: Path, answer: Callable[[Claimed], Outcome], *, wait_s: float | None = None, limits: Limits | None = None
) -> AsyncIterator[Backfill]:
    """Run `once` over real files, with answers and a clock that the test controls; the files are already read at the start of
    the block."""
    clock, told, ledger, stop = FakeClock(), Recorder(), MemoryLedger(), Stop()
    contacts = ContactTracker(clock, told)

    def connect(destination: Destination, key: Key, settings: Settings) -> Upload:
        async def upload(claimed: Claimed) -> Outcome:
            return answer(claimed)

        return contacts.listen(destination, upload)

    delivery = DeliveryService([destination("http://127.0.0.1:9")], Settings(), Ports(ledger=ledger, connect=connect, freeze=as_it_is,
                        signer=UrlSigner(clock, told), clock=clock, emit=told, chance=lambda: 0.5))  # fmt: skip
    intake = Intake([source(root)], ledger, {"agent": map_call}, clock, told, IntakeOptions(limits=limits or Limits()))
    conductors = Conductors(intake=intake, delivery=delivery, gauges=ledger.gauges, drain_s=lambda: 5.0,
                            stopping=lambda: None, without_contact=contacts.without_contact)  # fmt: skip
    task = asyncio.create_task(once(conductors, stop, clock, wait_s=wait_s, progress=lambda _: None))
    try:
        await told.until(CallAdmitted)
        yield Backfill(clock, told, stop, task)
    finally:
        stop.asked.set()
        await clock.advance(10)
        await asyncio.wait([task], timeout=10)
        intake.close()


async def advance(run: Backfill, seconds: float) -> None:
    """Advance in steps, with turns of the loop in between for the threads that read."""
    for _ in range(int(seconds // 10)):
        if not run.task.done():
            await run.clock.advance(10)


async def test_a_host_that_never_answers_ends_it_after_five_minutes(tmp_path: Path) -> None:
    """One call is enough, although it causes no pause: there is a line at the first failed attempt, and at the end the address
    and the result."""
    put(tmp_path / "a.json", {"id": "a"})
    async with backfill(tmp_path, lambda _: NOBODY) as run:
        await advance(run, NO_CONTACT_S - 20)
        (told,) = run.told.seen(Unanswered)
        assert (told.base_url, told.detail) == ("http://127.0.0.1:9", NOBODY.detail)
        assert not run.task.done()
        await advance(run, 60)
        left = await run.over()
        assert [(one.base_url, one.detail) for one in left.without_contact] == [("http://127.0.0.1:9", NOBODY.detail)]


async def test_an_outage_is_waited_out(tmp_path: Path) -> None:
    """After one answer of any kind since the start, the run continues until Tuner accepts the call."""
    put(tmp_path / "a.json", {"id": "a"})
    answers: list[Outcome] = [NOBODY, BUSY]
    async with backfill(tmp_path, lambda _: answers.pop(0) if answers else NOBODY) as run:
        await advance(run, 6 * NO_CONTACT_S)
        assert not run.task.done()
        answers.append(SENT)
        assert not (await run.over()).without_contact


async def test_a_trouble_of_our_own_is_no_silence(tmp_path: Path) -> None:
    """A lack of file descriptors does not count as no_contact, because Tuner was not asked."""
    put(tmp_path / "a.json", {"id": "a"})
    async with backfill(tmp_path, lambda _: NO_DESCRIPTOR) as run:
        await advance(run, 2 * NO_CONTACT_S)
        assert not run.task.done()
        assert not run.told.seen(Unanswered)


async def test_wait_is_the_bound_where_it_is_given(tmp_path: Path) -> None:
    """With --wait no_contact does not end the run earlier, and the run ends at that time with the address, though nobody
    answered."""
    put(tmp_path / "a.json", {"id": "a"})
    async with backfill(tmp_path, lambda _: NOBODY, wait_s=2 * NO_CONTACT_S) as run:
        await advance(run, 2 * NO_CONTACT_S - 20)
        assert not run.task.done()
        await advance(run, 60)
        assert len((await run.over()).without_contact) == 1


async def test_wait_bounds_a_reading_that_has_no_room(tmp_path: Path) -> None:
    """If the ledger is full of calls that nobody accepts, the run names the unread files instead of waiting for ever."""
    for number in range(200):
        put(tmp_path / f"{number}.json", {"id": str(number), "pad": "x" * 500})
    async with backfill(tmp_path, lambda _: BUSY, wait_s=60, limits=Limits(max_pending_bytes=1)) as run:
        await advance(run, 120)
        (unread,) = (await run.over()).unread
        assert (unread.path, "max_pending_bytes" in unread.why) == (str(tmp_path), True)
