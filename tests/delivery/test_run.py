"""The conductor: many calls, one ledger, scripted or real answers, and a clock that tests own."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.made import SENT, Rig, delivering, delivering_to, destination, scripted
from tests.delivery.server import Hang, Reply, Request, serving
from tests.descriptors import no_descriptors
from tunerd.call import Fail, Form, ManifestStrategy, Refusal, State
from tunerd.clock import SystemClock
from tunerd.config import Delivery as Settings
from tunerd.delivery.key import Key
from tunerd.delivery.parking import WorkerParking
from tunerd.delivery.permits import Permit
from tunerd.events import (
    AlreadyThereStreak,
    AttemptEnded,
    CallFailed,
    CallRetried,
    CallSent,
    ConcurrencyChanged,
    PauseBegan,
    PauseEnded,
    Stuck,
    StuckKind,
)
from tunerd.ledger import (
    Admission,
    CallReceiver,
    Claim,
    Claimed,
    FailedCall,
    Filter,
    LedgerUnavailable,
    Settlement,
    StoredPauses,
)
from tunerd.outcome import Failed, FailReason, Outcome, PauseReason, Refused, Retry, RetryReason, Scope, Unconfirmed
from tunerd.testing import FakeClock, MemoryLedger, make_call

IDS = [f"call-{n}" for n in range(1, 101)]
ERROR = Retry(reason=RetryReason.SERVER_ERROR, status=500, detail="answered 500")
AUTH = Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=401, detail="401")


async def states(ledger: MemoryLedger) -> Counter[State]:
    return Counter(call.state for call in await ledger.calls(Filter(), limit=1000))


async def test_every_call_arrives_once() -> None:
    """A hundred calls through eight workers: each is posted once, settled as sent, and told with Tuner's id."""
    async with serving() as server, delivering_to(server.url) as bench:
        await bench.admit(*IDS)
        sent = await bench.told.until(CallSent, 100)
    assert sorted(server.call_ids()) == sorted(IDS)
    assert await states(bench.ledger) == {State.SENT: 100}
    assert {(event.tuner_call_id, event.already_there, event.attempts) for event in sent} == {("tc_1", False, 1)}
    assert server.most_at_once <= 8


async def test_a_retry_goes_out_again_with_the_same_bytes() -> None:
    """500, then 503: the call backs off longer each time, and its bytes never change."""
    clock, came = FakeClock(), list[float]()
    statuses = iter((500, 503, 200))

    def behave(request: Request) -> Reply:
        came.append(clock.now())
        return Reply(next(statuses))

    async with serving(behave=behave) as server, delivering_to(server.url, clock=clock) as bench:
        await bench.admit("call-1")
        for attempt in (1, 2):
            (*_, retried) = await bench.told.until(CallRetried, attempt)
            assert retried.attempts == attempt
            await clock.advance(retried.due_in_s)
        (sent,) = await bench.told.until(CallSent)
    assert sent.attempts == 3
    assert came[1] - came[0] >= 1.5
    assert came[2] - came[1] >= 2.5
    assert len({request.body for request in server.requests}) == 1


async def test_a_rejected_call_fails_alone() -> None:
    """The one that Tuner does not take stands as failed with the status; the others go on."""

    def behave(request: Request) -> Reply:
        return (
            Reply(422, b'{"detail": [{"loc": ["body", "end_timestamp"], "type": "missing"}]}')
            if request.call_id == "call-2"
            else Reply()
        )

    async with serving(behave=behave) as server, delivering_to(server.url) as bench:
        await bench.admit("call-1", "call-2", "call-3")
        await bench.told.until(CallSent, 2)
        (failed,) = await bench.told.until(CallFailed)
    assert (failed.call_id, failed.reason, failed.status) == ("call-2", FailReason.REJECTED, 422)
    assert failed.what == "Tuner answered 422: end_timestamp (missing)"
    assert failed.path == "/calls/call-2.json"


async def test_a_rejected_call_of_a_log_is_told_with_its_place() -> None:
    """The log's path and the offset in it, as `tunerd retry --place` takes them."""
    async with serving(behave=lambda _: Reply(422, b"{}")) as server, delivering_to(server.url) as bench:
        await bench.ledger.admit(
            Admission(calls=[make_call("call-1", path="/calls/agent.ndjson", offset=81920)]), bench.clock.now()
        )
        (failed,) = await bench.told.until(CallFailed)
    assert failed.path == "/calls/agent.ndjson@81920"


async def test_retry_after_holds_the_destination_over_a_restart() -> None:
    """No request before the server's time, neither from this process nor from the next."""
    clock, ledger = FakeClock(), MemoryLedger()
    async with serving(Reply(429, b"", {"Retry-After": "120"}), Reply()) as server:
        async with delivering_to(server.url, clock=clock, ledger=ledger, concurrency=1) as bench:
            await bench.admit("call-1")
            await bench.told.until(CallRetried)
            assert (await ledger.stored_pauses())["tuner"].closed_until is not None, "kept before the call is settled"
            await bench.admit("call-2")
            await clock.advance(60)
        async with delivering_to(server.url, clock=clock, ledger=ledger) as bench:
            await clock.advance(59)
            assert len(server.requests) == 1
            assert bench.delivery.statuses()[0].closed_until is not None
            await clock.advance(2)
            await bench.told.until(CallSent, 2)


async def test_a_wrong_key_pauses_and_the_right_one_goes_out_at_once(tmp_path: Path) -> None:
    """401: one request, then a probe each 30 s; the rewritten key file is tried within 5 s, and nothing is lost."""
    file = tmp_path / "key"
    file.write_text("wrong")

    def behave(request: Request) -> Reply:
        return Reply() if request.headers["x-api-key"] == "right" else Reply(401, b'{"detail": "no"}')

    async with serving(behave=behave) as server, delivering_to(server.url, concurrency=1) as bench:
        there = destination(server.url, api_key=None, api_key_file=str(file))
        await bench.delivery.update([there], Settings(concurrency=1))
        await bench.admit(*IDS[:20])
        (began,) = await bench.told.until(PauseBegan)
        assert (began.reason, began.agent) == (PauseReason.AUTH, None)
        for probes in (2, 3):
            await bench.clock.advance(30.5)
            await server.arrived(probes)
            await bench.told.until(AttemptEnded, probes)
        file.write_text("right")
        await bench.clock.advance(5)
        await bench.told.until(CallSent, 20)
        assert len(bench.told.seen(PauseEnded)) == 1
    assert len(server.requests) == 23
    assert {call.attempts for call in await bench.ledger.calls(Filter())} == {1}, "refusals are no attempts"


async def test_a_missing_key_makes_no_request(tmp_path: Path) -> None:
    """The destination stands still until the file is there; the claim's form then is that key's."""
    file = tmp_path / "key"
    forms: list[Form] = []

    def answer(call: Claimed) -> Outcome:
        forms.append(call.form)
        return SENT

    there = destination(api_key=None, api_key_file=str(file))
    async with delivering(scripted(answer), destinations=[there]) as bench:
        await bench.admit("call-1")
        (began,) = await bench.told.until(PauseBegan)
        assert str(file) in began.detail
        await bench.clock.advance(600)
        assert not forms
        assert bench.delivery.statuses()[0].form is None
        file.write_text("tr_api_1")
        await bench.clock.advance(5)
        await bench.told.until(CallSent)
    assert forms == [Form.CREATE_CALL]


async def test_an_agent_that_may_not_send_stops_alone() -> None:
    """403 pauses one agent; the others' calls go on, and its own go out when it is allowed."""
    allowed = False

    def answer(call: Claimed) -> Outcome:
        if call.agent == "bad" and not allowed:
            return Refused(scope=Scope.AGENT, reason=PauseReason.AUTH, status=403, detail="403")
        return SENT

    async with delivering(scripted(answer), concurrency=2) as bench:
        await bench.admit("bad-1", "bad-2", "bad-3", agent="bad")
        await bench.told.until(PauseBegan)
        await bench.admit("call-1", "call-2", "call-3")
        await bench.told.until(CallSent, 3)
        attempts = len(bench.told.seen(AttemptEnded))
        await bench.clock.advance(91)
        assert len(bench.told.seen(AttemptEnded)) == attempts + 3, "one probe each 30 s"
        assert bench.delivery.statuses()[0].agents[0].reason is PauseReason.AUTH
        allowed = True
        await bench.clock.advance(31)
        await bench.told.until(CallSent, 6)
    assert [event.agent for event in bench.told.seen(PauseEnded)] == ["bad"]


async def test_an_outage_pauses_and_probes_with_different_calls() -> None:
    """After ten failures one call goes out each 30 s, newest first and never the same; the first answer ends it."""
    up = False
    tried: list[str] = []

    def answer(call: Claimed) -> Outcome:
        tried.append(call.call_id)
        return SENT if up else Retry(reason=RetryReason.UNREACHABLE, status=None, detail="refused")

    async with delivering(scripted(answer), concurrency=1) as bench:
        await bench.admit(*IDS)
        await bench.told.until(PauseBegan)
        assert len(tried) == 10
        tried.clear()
        for probe in range(1, 4):
            await bench.clock.advance(30)
            assert len(tried) == probe
        assert len(set(tried)) == 3
        assert tried == sorted(tried, key=IDS.index, reverse=True)
        up = True
        await bench.clock.advance(400)
        assert len(bench.told.seen(CallSent)) == 100
        assert len(bench.told.seen(PauseEnded)) == 1


async def test_a_single_call_is_its_own_probe() -> None:
    """With nothing else to try, the probe takes the call that is not due yet."""
    up = False

    async with delivering(scripted(lambda call: SENT if up else ERROR), concurrency=1) as bench:
        await bench.ledger.store_pauses("tuner", StoredPauses(), bench.clock.now())
        await bench.admit("call-1", "call-2", "call-3")
        async with asyncio.timeout(10):
            while not bench.told.seen(PauseBegan):
                await bench.clock.advance(1)
        attempts = len(bench.told.seen(AttemptEnded))
        await bench.clock.advance(601)
        assert len(bench.told.seen(AttemptEnded)) == attempts + 20
        up = True
        await bench.clock.advance(30)
        assert bench.told.seen(CallSent)


async def test_an_unconfirmed_call_is_posted_again_alone(tmp_path: Path) -> None:
    """A gateway that answers 200 to everything: each open call is spent once, one of them is asked again, with the same
    bytes, over a restart too; when Tuner is back everything goes out, and nothing was lost."""
    clock, ledger = FakeClock(), MemoryLedger()
    answers = [Reply(200, b'{"error": "maintenance"}')]
    async with serving(behave=lambda request: answers[0]) as server:
        async with delivering_to(server.url, clock=clock, ledger=ledger, concurrency=4) as bench:
            await bench.admit(*IDS)
            (began,) = await bench.told.until(PauseBegan)
            assert began.reason is PauseReason.ENDPOINT
            assert "it has an `error`" in began.detail
            await bench.told.until(AttemptEnded, len(server.requests))
            spent = len(server.requests)
            assert spent <= 4
            await clock.advance(30 + 60 + 120 + 1)
        async with delivering_to(server.url, clock=clock, ledger=ledger, concurrency=4) as bench:
            await clock.advance(230)
            assert len(server.requests) == spent + 3, "not at once after the restart"
            await clock.advance(15)
            await server.arrived(spent + 4)
            again = server.requests[spent:]
            assert len({request.body for request in again}) == 1
            assert again[0].body == next(r.body for r in server.requests if r.call_id == again[0].call_id)
            assert await states(ledger) == {State.DUE: 100}
            answers[0] = Reply()
            await clock.advance(600)
            await bench.told.until(CallSent, 100)
    assert Counter(server.call_ids())[again[0].call_id] == 6
    assert await states(ledger) == {State.SENT: 100}


async def test_a_probe_that_was_settled_elsewhere_makes_room() -> None:
    """The only probe is erased by an operator: the next one due takes its place, and the destination goes on."""
    outcomes: list[Outcome] = [Unconfirmed(status=200, detail="answered 200")]
    async with delivering(scripted(lambda call: outcomes[0]), concurrency=1) as bench:
        await bench.admit("call-1")
        await bench.told.until(PauseBegan)
        await bench.admit("call-2")
        await bench.ledger.forget("call-1", bench.clock.now())
        outcomes[0] = SENT
        await bench.clock.advance(31)
        assert [event.call_id for event in await bench.told.until(CallSent)] == ["call-2"]
        assert bench.delivery.statuses()[0].pause is None


async def test_a_key_that_comes_while_nothing_is_due_ends_the_pause(tmp_path: Path) -> None:
    """The daemon starts before its key: nobody has to send a call for the pause to end."""
    file = tmp_path / "key"
    there = destination(api_key=None, api_key_file=str(file))
    async with delivering(scripted(lambda call: SENT), destinations=[there]) as bench:
        await bench.clock.advance(60)
        pause = bench.delivery.statuses()[0].pause
        assert pause is not None
        assert pause.reason is PauseReason.AUTH
        file.write_text("tr_api_1")
        await bench.clock.advance(5)
        assert bench.delivery.statuses()[0].pause is None
    assert len(bench.told.seen(PauseEnded)) == 1


async def test_no_descriptor_for_the_key_file_keeps_the_key(tmp_path: Path) -> None:
    """A key that was read once is still good; without one the pause is `local` and ends by itself."""
    file = tmp_path / "key"
    file.write_text("tr_api_1")
    there = destination(api_key=None, api_key_file=str(file))
    async with delivering(scripted(lambda call: SENT), destinations=[there]) as bench:
        await bench.clock.advance(1)
        with no_descriptors():
            await bench.clock.advance(10)
            await bench.admit("call-1")
            await bench.told.until(CallSent)
        assert not bench.told.seen(PauseBegan)
    with no_descriptors():
        key = Key(there)
    assert (key.value, key.is_local) == (None, True)
    assert "LimitNOFILE" in key.missing
    assert key.refresh()
    assert (key.value, key.is_local) == ("tr_api_1", False)


async def test_rejecting_everything_spends_ten_calls() -> None:
    """Ten calls fail, then the destination pauses and the others stay; probes do not spend them either."""
    rejects = True
    failed = Failed(reason=FailReason.REJECTED, status=422, detail="Tuner answered 422")

    async with delivering(scripted(lambda call: failed if rejects else SENT), concurrency=1) as bench:
        await bench.admit(*IDS[:30])
        (began,) = await bench.told.until(PauseBegan)
        assert began.reason is PauseReason.REJECTING
        await bench.clock.advance(600)
        assert (await states(bench.ledger))[State.FAILED] == 10
        rejects = False
        await bench.clock.advance(200)
        assert await states(bench.ledger) == {State.FAILED: 10, State.SENT: 20}


async def test_poison_backs_off_alone() -> None:
    """A call that always gets 500 delays nobody: no pause, no lower limit, and the others are sent at once."""
    poison = {"call-7", "call-8"}

    async with delivering(scripted(lambda call: ERROR if call.call_id in poison else SENT)) as bench:
        await bench.admit(*IDS)
        await bench.told.until(CallSent, 98)
        await bench.clock.advance(3600)
        assert not bench.told.seen(PauseBegan)
        retried = Counter(event.call_id for event in bench.told.seen(CallRetried))
    assert set(retried) == poison
    assert all(20 <= count <= 60 for count in retried.values())


async def test_a_call_is_given_up_only_while_others_are_accepted() -> None:
    """A week of 500s ends it with gave_up once another call went through, not before."""
    others = False

    async with delivering(
        scripted(lambda call: SENT if call.call_id != "call-1" and others else ERROR), give_up_after_s=600.0
    ) as bench:
        await bench.admit("call-1")
        await bench.clock.advance(3600)
        assert not bench.told.seen(CallFailed)
        others = True
        await bench.admit("call-2")
        await bench.clock.advance(700)
    assert [(event.call_id, event.reason) for event in bench.told.seen(CallFailed)] == [("call-1", FailReason.GAVE_UP)]


async def test_ten_first_attempts_that_are_there_already_are_told_once() -> None:
    """A call_id rule that gives old ids is noticed; the calls count as sent."""
    already = scripted(lambda call: type(SENT)(status=409, tuner_call_id=None, already_there=True))
    async with delivering(already) as bench:
        await bench.admit(*IDS[:25])
        await bench.told.until(CallSent, 25)
    assert bench.told.seen(AlreadyThereStreak) == [AlreadyThereStreak(source="agent", count=10)]


async def test_the_rate_limit_holds_for_the_destination() -> None:
    """Two a second, whatever the concurrency."""
    async with delivering(scripted(lambda call: SENT), rate_limit=2.0) as bench:
        await bench.admit(*IDS)
        await bench.clock.advance(10.01)
        assert 20 <= len(bench.told.seen(CallSent)) <= 22


async def test_destinations_do_not_wait_for_each_other() -> None:
    """One that stands still keeps no other from its calls."""

    def answer(call: Claimed) -> Outcome:
        return AUTH if call.destination == "tuner" else SENT

    both = [destination(), destination(name="other")]
    async with delivering(scripted(answer), destinations=both) as bench:
        await bench.admit(*IDS[:5])
        await bench.admit(*IDS[5:10], destination="other")
        assert len(await bench.told.until(CallSent, 5)) == 5
    assert [(s.name, s.pause and s.pause.reason) for s in bench.delivery.statuses()] == [
        ("tuner", PauseReason.AUTH),
        ("other", None),
    ]


async def test_an_operators_pause_and_resume() -> None:
    """Nothing goes out while paused, over a restart too; resume sends it all."""
    ledger, clock = MemoryLedger(), FakeClock()
    async with delivering(scripted(lambda call: SENT), ledger=ledger, clock=clock) as bench:
        await bench.delivery.pause("tuner")
        await bench.admit("call-1")
        await clock.advance(600)
    async with delivering(scripted(lambda call: SENT), ledger=ledger, clock=clock) as bench:
        await clock.advance(600)
        assert not bench.told.seen(AttemptEnded)
        await bench.delivery.resume("tuner")
        await bench.told.until(CallSent)
        with pytest.raises(KeyError):
            await bench.delivery.pause("unknown")


class Counting(MemoryLedger):
    """Counts claims, and refuses them (and the rest of the write path) while `broken`."""

    claims = 0
    broken = False

    def set_call_receiver(self, receiver: CallReceiver) -> None:
        """Everything goes by claims here."""

    async def claim(self, *args: Any, **options: Any) -> Claim:
        self.claims += 1
        if self.broken:
            raise LedgerUnavailable
        return await super().claim(*args, **options)

    async def store_pauses(self, destination: str, pauses: StoredPauses, now: float, before: StoredPauses | None = None) -> None:
        if self.broken:
            raise LedgerUnavailable
        await super().store_pauses(destination, pauses, now, before)

    async def stored_pauses(self) -> Mapping[str, StoredPauses]:
        if self.broken:
            raise LedgerUnavailable
        return await super().stored_pauses()

    async def tick(self, now: float) -> tuple[Sequence[FailedCall], float | None]:
        if self.broken:
            raise LedgerUnavailable
        return await super().tick(now)


async def test_idle_workers_leave_the_ledger_alone() -> None:
    """A new call costs a few looks, not one for each of 64 workers; an idle hour costs one look each 30 s."""
    ledger = Counting()
    async with delivering(scripted(lambda call: SENT), ledger=ledger, concurrency=64) as bench:
        await bench.clock.advance(1)
        ledger.claims = 0
        await bench.admit("call-1")
        await bench.told.until(CallSent)
        await bench.clock.advance(0)
        assert ledger.claims <= 4
        ledger.claims = 0
        await bench.clock.advance(3600)
        assert ledger.claims <= 3 * 120


async def test_an_unavailable_ledger_is_waited_for() -> None:
    """From the start on, and in the middle: nothing crashes, a pause that could not be kept is kept later."""
    ledger = Counting()
    ledger.broken = True
    outcomes: list[Outcome] = [AUTH]
    async with delivering(scripted(lambda call: outcomes[0]), ledger=ledger) as bench:
        await bench.clock.advance(10)
        ledger.broken = False
        await bench.clock.advance(2)
        ledger.broken = True
        await bench.admit("call-1")
        await bench.clock.advance(10)
        assert not bench.told.seen(AttemptEnded)
        await bench.delivery.pause("tuner")
        ledger.broken = False
        await bench.clock.advance(2)
        assert (await ledger.stored_pauses())["tuner"].pause is PauseReason.OPERATOR
        outcomes[0] = SENT
        await bench.delivery.resume("tuner")
        await bench.told.until(CallSent)


async def test_a_body_that_cannot_be_made_fails_visibly() -> None:
    """What the form does not take is told with its place, and no request is made for it."""

    def refuse(payload: bytes, recording_url: str, checked_for: Form | None, form: Form, **_: object) -> bytes | Refusal:
        return Refusal(reason=FailReason.INVALID, where="recording_url", what="longer than 1024 characters")

    async with delivering(scripted(lambda call: SENT), freeze=refuse) as bench:
        await bench.admit("call-1", "call-2")
        failed = await bench.told.until(CallFailed, 2)
    assert {(event.reason, event.where) for event in failed} == {(FailReason.INVALID, "recording_url")}
    assert not bench.told.seen(AttemptEnded)


async def test_waits_that_are_over_are_told() -> None:
    """The ledger's timers run here: a call whose recording never came fails with its reason."""
    waits = (ManifestStrategy(source="egress", key="room", within_s=None, wait_s=600.0),)
    async with delivering(scripted(lambda call: SENT)) as bench:
        await bench.admit("call-1", strategies=waits, on_missing=Fail())
        await bench.clock.advance(599)
        assert not bench.told.seen(CallFailed)
        await bench.clock.advance(2)
    assert [event.reason for event in bench.told.seen(CallFailed)] == [FailReason.RECORDING_MISSING]


async def test_dry_run_claims_nothing() -> None:
    """Bodies would be frozen by a claim; so calls stay due, and delivery counts as idle."""
    async with delivering(scripted(lambda call: SENT), dry_run=True) as bench:
        await bench.admit("call-1")
        await bench.clock.advance(60)
        assert bench.delivery.idle()
        assert bench.delivery.statuses()[0].dry_run
    assert await states(bench.ledger) == {State.DUE: 1}


class SlowToSettle(MemoryLedger):
    """Settlements become durable only when `settled` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.settled = asyncio.Event()

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        done = super().settle(row, settlement, now)

        async def later() -> None:
            await self.settled.wait()
            await done

        return later()


async def test_a_worker_that_is_cancelled_before_its_attempt_gives_call_and_permit_back() -> None:
    """It has claimed its next call, and waits for the last one's settlement: the call was not posted, so it is due as it was,
    and nothing says that it may have arrived."""
    async with delivering(scripted(lambda call: SENT), ledger=SlowToSettle(), concurrency=1) as bench:
        await bench.admit("call-1", "call-2")
        await bench.clock.advance(0)
        (left,) = [call for call in await bench.ledger.calls(Filter()) if call.state is State.SENDING]
        assert bench.task is not None
        bench.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.task
        assert await states(bench.ledger) == {State.SENT: 1, State.DUE: 1}
        assert bench.delivery.statuses()[0].in_flight == 0
        assert [event.what for event in (await bench.ledger.story(left.call_id))[0].events] == ["admitted"]


# The self-check.


async def lost(bench: Rig) -> None:
    """What a defect leaves behind: a call that stands as being sent, and nobody sends it."""
    await bench.delivery.pause("tuner")
    await bench.admit("call-1")
    await bench.ledger.claim("tuner", Form.SEND_CALLS, lambda unfrozen: unfrozen.payload, bench.clock.now())
    await bench.delivery.resume("tuner")


async def test_a_call_in_nobodys_hands_is_found_and_told() -> None:
    """At two looks, 60 s apart: it is due again as one that may have arrived, counted, and delivered."""
    async with delivering(scripted(lambda call: SENT)) as bench:
        await lost(bench)
        await bench.clock.advance(119)
        assert not bench.told.seen(Stuck)
        await bench.clock.advance(2)
        assert bench.told.seen(Stuck) == [Stuck(what=StuckKind.CALL, count=1)]
        await bench.told.until(CallSent)
        told = [event.what for event in (await bench.ledger.story("call-1"))[0].events]
        assert told == ["admitted", "interrupted", "sent"]


async def test_a_lost_permit_is_found_and_told() -> None:
    """One that is counted and that no worker holds."""
    async with delivering(scripted(lambda call: SENT), concurrency=1) as bench:
        await bench.clock.advance(1)
        pool = bench.delivery._pools["tuner"]
        assert isinstance(pool.pacing.acquire(bench.clock.now()), Permit)
        await bench.clock.advance(200)
        assert bench.told.seen(Stuck) == [Stuck(what=StuckKind.PERMIT, count=1)]
        await bench.admit("call-1")
        await bench.told.until(CallSent)


class LosesASettlement(MemoryLedger):
    """The first settlement is written, and its worker never told."""

    def settle(self, row: int, settlement: Settlement, now: float) -> Awaitable[None]:
        done = super().settle(row, settlement, now)
        return asyncio.get_running_loop().create_future() if row == 1 else done


async def test_a_worker_that_waits_for_nothing_is_found_and_told() -> None:
    """It goes on with the next call."""
    async with delivering(scripted(lambda call: SENT), ledger=LosesASettlement(), concurrency=1) as bench:
        await bench.admit("call-1", "call-2")
        await bench.clock.advance(121)
        assert bench.told.seen(Stuck) == [Stuck(what=StuckKind.WORKER, count=1)]
        assert [event.call_id for event in await bench.told.until(CallSent)] == ["call-2"]


async def test_the_self_check_leaves_long_attempts_alone() -> None:
    """However long they take, they are in a worker's hands."""
    done = asyncio.Event()

    async def hold(call: Claimed) -> Outcome:
        await done.wait()
        return SENT

    async with delivering(scripted(hold), timeout_s=3600.0) as bench:
        await bench.admit(*IDS[:10])
        await bench.clock.advance(1000)
        done.set()
        await bench.told.until(CallSent, 10)
        assert not bench.told.seen(Stuck)


# Stopping.


async def test_stop_finishes_what_is_in_flight() -> None:
    """No new claims after stop; the open requests end well and are settled before `run` returns."""
    release = asyncio.Event()

    async def hold(request: Request) -> Reply:
        await release.wait()
        return Reply()

    async with serving(behave=hold) as server, delivering_to(server.url, concurrency=3) as bench:
        await bench.admit(*IDS[:10])
        await server.arrived(3)
        assert bench.delivery.in_flight() == 3
        bench.stopping.set()
        release.set()
        await bench.stop()
        assert await states(bench.ledger) == {State.SENT: 3, State.DUE: 7}
        assert bench.delivery.in_flight() == 0


async def test_a_cancelled_request_is_due_again() -> None:
    """When the drain is over the app cancels: every open call goes back, as one that may have arrived."""
    async with serving(Hang()) as server, delivering_to(server.url, concurrency=4) as bench:
        await bench.admit(*IDS[:10])
        await server.arrived(4)
        bench.stopping.set()
        assert bench.task is not None
        bench.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.task
        assert await states(bench.ledger) == {State.DUE: 10}
        assert {call.attempts for call in await bench.ledger.calls(Filter())} == {0}


async def test_on_stop_empty_delivers_all_that_is_due() -> None:
    """A sidecar goes on until nothing is due, then every worker ends; what backs off beyond the drain is left."""
    release = asyncio.Event()

    async def hold(call: Claimed) -> Outcome:
        await release.wait()
        return ERROR if call.call_id == "call-50" else SENT

    async with delivering(scripted(hold), on_stop="empty", drain_s=1.0) as bench:
        await bench.admit(*IDS)
        bench.stopping.set()
        await bench.clock.advance(0)
        release.set()
        await bench.stop()
    assert await states(bench.ledger) == {State.SENT: 99, State.DUE: 1}


async def test_on_stop_empty_waits_for_what_comes_due_within_the_drain() -> None:
    """A call that backs off for two seconds has its second attempt before the sidecar ends: its ledger may end with it."""
    answers = iter((ERROR, SENT))
    async with delivering(scripted(lambda call: next(answers)), on_stop="empty", drain_s=20.0) as bench:
        await bench.admit("call-1")
        (retried,) = await bench.told.until(CallRetried)
        bench.stopping.set()
        await bench.clock.advance(0)
        assert bench.task is not None
        assert not bench.task.done()
        await bench.clock.advance(retried.due_in_s)
        await bench.told.until(CallSent)
        await bench.stop()
    assert await states(bench.ledger) == {State.SENT: 1}


async def test_on_stop_empty_ends_those_who_wait_for_a_permit() -> None:
    """Workers beyond the limit sit while the last calls are open; when these are done, they end as well."""
    release = asyncio.Event()

    async def hold(call: Claimed) -> Outcome:
        await release.wait()
        return SENT

    async with delivering(scripted(hold), on_stop="empty", concurrency=8) as bench:
        await bench.admit(*IDS[: bench.delivery.statuses()[0].limit])
        await bench.clock.advance(0)
        bench.stopping.set()
        await bench.clock.advance(0)
        release.set()
        await bench.stop()
    assert set(await states(bench.ledger)) == {State.SENT}


async def test_one_piece_of_news_gets_every_worker_going() -> None:
    """Many calls that become due in one commit wake one worker, who wakes the next, up to the limit."""
    async with serving(Hang()) as server, delivering_to(server.url) as bench:
        await bench.clock.advance(1)
        await bench.admit(*IDS)
        await server.arrived(bench.delivery.statuses()[0].limit)
        assert bench.task is not None
        bench.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bench.task


async def test_news_during_a_look_are_not_slept_through() -> None:
    """A worker that parks after news which it has not seen is not parked at all."""
    parking = WorkerParking(FakeClock())
    before = parking.changes
    parking.notify()
    async with asyncio.timeout(5):
        await parking.park(None, before)


async def test_on_stop_empty_ends_at_once_when_idle() -> None:
    """With nothing due there is nothing to wait for."""
    async with delivering(scripted(lambda call: SENT), on_stop="empty") as bench:
        await bench.admit("call-1")
        await bench.told.until(CallSent)
        await bench.stop()


async def test_idle_says_when_nothing_is_due() -> None:
    """Not before the first look, not while a call is open; a call that backs off is not due."""
    open_calls, done = asyncio.Event(), asyncio.Event()

    async def answer(call: Claimed) -> Outcome:
        open_calls.set()
        await done.wait()
        return ERROR

    async with delivering(scripted(answer)) as bench:
        assert not bench.delivery.idle()
        await bench.clock.advance(0)
        assert bench.delivery.idle()
        await bench.admit("call-1")
        assert not bench.delivery.idle()
        await open_calls.wait()
        await bench.clock.advance(7)
        assert not bench.delivery.idle()
        assert bench.delivery.oldest_attempt_age() == pytest.approx(7)
        done.set()
        await bench.told.until(CallRetried)
        await bench.clock.advance(0)
        assert bench.delivery.idle()
        assert bench.delivery.oldest_attempt_age() is None


async def test_reload_changes_workers_and_adds_destinations() -> None:
    """More and fewer workers, a new destination begins, one that was put back goes on."""
    open_now, most = 0, 0
    gate = asyncio.Event()

    async def answer(call: Claimed) -> Outcome:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await gate.wait()
        open_now -= 1
        return SENT

    async with delivering(scripted(answer), concurrency=4) as bench:
        await bench.delivery.update([destination(name="second")], Settings(concurrency=2))
        await bench.delivery.update([destination(), destination(name="second")], Settings(concurrency=2))
        await bench.admit(*IDS[:10])
        await bench.clock.advance(5)
        assert (open_now, most) == (2, 2)
        gate.set()
        await bench.told.until(CallSent, 10)
        await bench.admit(*IDS[10:12], destination="second")
        await bench.told.until(CallSent, 12)
        assert {status.name for status in bench.delivery.statuses()} == {"tuner", "second"}


async def test_a_destination_that_is_no_longer_configured_ends_with_its_open_attempts() -> None:
    """As after a restart: what is in flight is settled, what is due stays in the ledger, and the status shows it no more."""
    gate, open_now = asyncio.Event(), asyncio.Event()

    async def answer(call: Claimed) -> Outcome:
        open_now.set()
        await gate.wait()
        return SENT

    async with delivering(scripted(answer), concurrency=1) as bench:
        await bench.admit("call-1", "call-2")
        await open_now.wait()
        await bench.delivery.update([destination(name="second", label="eu")], Settings(concurrency=1))
        assert [status.label for status in bench.delivery.statuses()] == ["removed", "eu"]
        gate.set()
        await bench.told.until(CallSent, 1)
        await bench.clock.advance(120)
        assert [status.name for status in bench.delivery.statuses()] == ["second"]
        assert len(bench.told.seen(CallSent)) == 1
        (left,) = await bench.ledger.calls(Filter(states=frozenset({State.DUE})))
        assert left.destination == "tuner"
        await bench.delivery.update([destination(), destination(name="second")], Settings(concurrency=1))
        await bench.told.until(CallSent, 2)


async def test_an_attempt_is_told_with_its_status_and_a_sent_call_with_its_lag() -> None:
    """The lag is counted from the end of the call, and is not known where the document does not say when it ended."""
    answers: list[Outcome] = [replace(ERROR, status=None), replace(SENT, status=409, already_there=True), SENT]
    async with delivering(scripted(lambda _: answers.pop(0)), concurrency=1) as bench:
        now = bench.clock.now()
        ended = replace(make_call("ended"), ended_at_ms=int(now * 1000) - 90_000)
        await bench.ledger.admit(Admission(calls=[ended]), now)
        await bench.told.until(AttemptEnded)
        await bench.clock.advance(60)
        await bench.admit("endless")
        with_end, without = await bench.told.until(CallSent, 2)
        assert [event.status for event in bench.told.seen(AttemptEnded)] == [None, 409, 200]
        assert with_end.lag_s is not None
        assert 90 < with_end.lag_s <= 150
        assert without.lag_s is None
        (status,) = bench.delivery.statuses()
        assert (status.label, status.last_accepted_at) == ("default", now + 60)


async def test_a_jump_of_the_wall_clock_wakes_and_delays_nothing() -> None:
    """A day back in the middle of a pause: the probe still comes after its 30 s."""
    async with delivering(scripted(lambda call: AUTH), concurrency=1) as bench:
        await bench.admit("call-1")
        await bench.told.until(PauseBegan)
        for seconds in (-86_400.0, 86_400.0):
            before = len(bench.told.seen(AttemptEnded))
            bench.clock.jump(seconds)
            await bench.ledger.shift(seconds)
            bench.delivery.shift(seconds)
            await bench.clock.advance(29)
            assert len(bench.told.seen(AttemptEnded)) == before
            await bench.clock.advance(1.5)
            assert len(bench.told.seen(AttemptEnded)) == before + 1


async def test_the_newest_is_soon_sent_while_a_backlog_drains() -> None:
    """After an outage a call that comes now does not queue behind 500 old ones."""
    order: list[str] = []
    hundred = asyncio.Event()

    async def answer(call: Claimed) -> Outcome:
        await asyncio.sleep(0)
        order.append(call.call_id)
        if len(order) == 100:
            hundred.set()
        return SENT

    async with delivering(scripted(answer)) as bench:
        await bench.admit(*(f"old-{n}" for n in range(500)))
        await hundred.wait()
        await bench.admit("fresh")
        await bench.told.until(CallSent, 501)
    assert order.index("fresh") < 140


async def test_the_limit_is_told() -> None:
    """At the start and with each change."""
    async with delivering(scripted(lambda call: SENT), concurrency=2, clock=SystemClock()) as bench:
        await bench.told.until(ConcurrencyChanged)
    assert bench.told.seen(ConcurrencyChanged)[0].limit == 2
