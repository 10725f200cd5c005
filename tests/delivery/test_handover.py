"""A call that may go at once is handed to a worker by the transaction that admits it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.delivery.made import SENT, Rig, delivering, destination, scripted
from tunerd.call import Fail, Form, ManifestStrategy, Refusal, State, UrlStrategy
from tunerd.config import Delivery as Settings
from tunerd.events import AttemptEnded, CallSent, PauseBegan
from tunerd.ledger import Admission, Claim, Claimed, Filter, LedgerUnavailable
from tunerd.outcome import FailReason, Outcome, PauseReason, Refused, Scope
from tunerd.testing import MemoryLedger, make_call

AUTH = Refused(scope=Scope.DESTINATION, reason=PauseReason.AUTH, status=401, detail="401")


class Watched(MemoryLedger):
    """Counts what is claimed."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[str] = []
        self.empty = 0

    async def claim(self, *args: Any, **options: Any) -> Claim:
        claim = await super().claim(*args, **options)
        if claim.claimed is None:
            self.empty += 1
        else:
            self.claims.append(claim.claimed.call_id)
        return claim


async def at_rest(bench: Rig) -> None:
    """The workers have looked, and found nothing."""
    await bench.clock.advance(1)


async def test_a_new_call_is_posted_without_a_claim() -> None:
    """Nor is there an empty one before or after it; its body is frozen on disk while the request is open."""
    ledger, answers = Watched(), asyncio.Event()

    async def hold(call: Claimed) -> Outcome:
        (stored,) = await ledger.calls(Filter(call_ids=frozenset({call.call_id})))
        assert stored.state is State.SENDING
        await answers.wait()
        return SENT

    async with delivering(scripted(hold), ledger=ledger) as bench:
        await at_rest(bench)
        ledger.empty = 0
        await bench.admit("call-1", "call-2")
        await bench.clock.advance(1)
        assert bench.delivery.in_flight() == 2
        answers.set()
        await bench.told.until(CallSent, 2)
        await bench.clock.advance(5)
        assert (ledger.claims, ledger.empty) == ([], 0)
        assert bench.delivery.idle()
        assert bench.delivery.statuses()[0].in_flight == 0


async def test_a_call_that_brings_its_url_is_posted_without_a_claim_whatever_manifest_stands_behind_it() -> None:
    """It looks for no manifest: it is due with its admission, as a call without manifests is."""
    ledger = Watched()
    strategies = (
        UrlStrategy(location="https://audio.example/own.wav"),
        ManifestStrategy(source="rooms", key="room", within_s=600.0, wait_s=600.0),
    )
    async with delivering(scripted(lambda call: SENT), ledger=ledger) as bench:
        await at_rest(bench)
        await bench.admit("call-1", strategies=strategies)
        await bench.told.until(CallSent, 1)
        assert ledger.claims == []


async def test_what_there_is_no_room_for_is_claimed() -> None:
    """As many are handed over as there are permits; the rest is a backlog, and everything arrives once."""
    posted: list[str] = []

    def answer(call: Claimed) -> Outcome:
        posted.append(call.call_id)
        return SENT

    ledger = Watched()
    async with delivering(scripted(answer), ledger=ledger, concurrency=3) as bench:
        await at_rest(bench)
        await bench.admit(*(f"call-{number}" for number in range(10)))
        await bench.told.until(CallSent, 10)
    assert len(set(posted)) == len(posted) == 10
    assert len(ledger.claims) == 7


@pytest.mark.parametrize("why", ["paused", "key", "dry", "backlog", "agent", "rate"])
async def test_nothing_is_handed_over_where_calls_may_not_go_at_once(why: str) -> None:
    """They stay due, untouched, and no permit is lost."""
    ledger, outcomes = Watched(), [SENT]
    there = destination(**({"api_key": None, "api_key_file": "/nowhere/key"} if why == "key" else {}))
    settings: dict[str, Any] = {"dry_run": why == "dry", "rate_limit": 0.001 if why == "rate" else None}
    async with delivering(scripted(lambda call: outcomes[0]), ledger=ledger, destinations=[there], **settings) as bench:
        await at_rest(bench)
        match why:
            case "paused":
                await bench.delivery.pause("tuner")
            case "agent":
                outcomes[0] = Refused(scope=Scope.AGENT, reason=PauseReason.AUTH, status=403, detail="403")  # type: ignore[call-overload]
                await bench.admit("first")
                await bench.told.until(PauseBegan)
            case "backlog" | "rate":
                await bench.admit("first")
                await bench.told.until(CallSent)
                if why == "backlog":
                    bench.delivery._pools["tuner"].parking.notify()  # somebody was told that there is something to look for
        attempts = len(bench.told.seen(AttemptEnded))
        await ledger.admit(Admission(calls=[make_call("call-1")]), bench.clock.now())
        (call,) = await ledger.calls(Filter(call_ids=frozenset({"call-1"})))
        assert call.state is State.DUE
        assert len(bench.told.seen(AttemptEnded)) == attempts
        assert bench.delivery.statuses()[0].in_flight == 0


async def test_calls_that_wait_and_duplicates_are_not_handed_over() -> None:
    """Only what is due now, and new."""
    waits = (ManifestStrategy(source="egress", key="room", within_s=None, wait_s=600.0),)
    async with delivering(scripted(lambda call: SENT)) as bench:
        await at_rest(bench)
        await bench.admit("waits", strategies=waits, on_missing=Fail())
        await bench.admit("call-1")
        await bench.told.until(CallSent)
        await bench.admit("call-1")
        await bench.clock.advance(5)
        assert len(bench.told.seen(AttemptEnded)) == 1
        assert bench.delivery.statuses()[0].in_flight == 0


class Slow(MemoryLedger):
    """What was admitted is told to the delivery when the test says so; `broken` admits nothing."""

    broken = False

    def admit(self, admission: Admission, now: float) -> "asyncio.Future[Any]":
        receiver = self._receiver
        assert receiver is not None
        if self.broken:
            receiver.receive(receiver.reserve({"tuner": len(admission.calls)}), ())
            raise LedgerUnavailable
        self._receiver = None
        reserved = receiver.reserve({"tuner": len(admission.calls)})
        self._receiver = Fixed(reserved)
        try:
            admitted = super().admit(admission, now)
        finally:
            claims, self._receiver = self._receiver.claims, receiver
        self.tell = lambda: receiver.receive(reserved, claims)
        return admitted


class Fixed:
    """Hands on what was reserved before, and keeps what came of it."""

    def __init__(self, reserved: Sequence[Any]) -> None:
        self.reserved, self.claims = reserved, list[Claimed]()

    def reserve(self, wanted: Any) -> Sequence[Any]:
        return self.reserved

    def receive(self, reserved: Sequence[Any], claims: Sequence[Claimed]) -> None:
        self.claims.extend(claims)


@pytest.mark.parametrize("what", ["pause", "key", "stop", "cancel", "dry", "gone"])
async def test_a_pause_that_begins_meanwhile_sends_the_call_back(what: str, tmp_path: Any) -> None:
    """Between the reservation and the worker: the call is due as it was, never posted, its permit free."""
    ledger = Slow()
    file = tmp_path / "key"
    file.write_text("bb7f64d7-e57c")
    there = destination(api_key=None, api_key_file=str(file))
    async with delivering(scripted(lambda call: SENT), ledger=ledger, destinations=[there]) as bench:
        await at_rest(bench)
        await bench.admit("call-1")
        assert set(await ledger.sending()) == {1}
        match what:
            case "pause":
                await bench.delivery.pause("tuner")
            case "key":
                file.write_text("tr_api_other_form")
                bench.delivery._pools["tuner"].key.refresh()
            case "stop":
                bench.stopping.set()
            case "cancel":
                assert bench.task is not None
                bench.task.cancel()
                await asyncio.wait([bench.task])
            case "gone":
                await bench.delivery.update([destination(name="other")], Settings())
            case "dry":
                await bench.delivery.update([there], Settings(dry_run=True))
        ledger.tell()
        if what == "stop":
            await bench.stop()
        await bench.clock.advance(0)
        told = [event.what for event in (await ledger.story("call-1"))[0].events]
        if what == "key":  # the other form is one that the call can go in
            await bench.told.until(CallSent)
        else:
            assert not bench.told.seen(AttemptEnded)
            assert not await ledger.sending()
            assert told == ["admitted"]
        assert all(status.in_flight == 0 for status in bench.delivery.statuses())
        if bench.task is not None and bench.task.cancelled():
            bench.task = asyncio.ensure_future(asyncio.sleep(0))


async def test_permits_come_back_from_an_admission_that_failed() -> None:
    """The ledger could not be written: the next call has all the room there is."""
    ledger = Slow()
    async with delivering(scripted(lambda call: SENT), ledger=ledger, concurrency=1) as bench:
        await at_rest(bench)
        ledger.broken = True
        with pytest.raises(LedgerUnavailable):
            await bench.admit("call-1")
        assert bench.delivery.statuses()[0].in_flight == 0


async def test_a_body_that_cannot_be_made_fails_with_its_admission() -> None:
    """The admission says so, as it does of a recording that never comes."""

    def refuse(payload: bytes, recording_url: str, checked_for: Form | None, form: Form, **_: object) -> bytes | Refusal:
        return Refusal(reason=FailReason.INVALID, where="recording_url", what="longer than 1024 characters")

    ledger = MemoryLedger()
    async with delivering(scripted(lambda call: SENT), freeze=refuse, ledger=ledger) as bench:
        await at_rest(bench)
        admitted = await ledger.admit(Admission(calls=[make_call("call-1")]), bench.clock.now())
        assert [failed.refusal.where for failed in admitted.failed] == ["recording_url"]
        assert not admitted.handed
        assert bench.delivery.statuses()[0].in_flight == 0
