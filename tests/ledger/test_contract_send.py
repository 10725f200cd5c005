"""Claim, settle, release and gates on every ledger."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

import pytest

from tunerd.call import Call, Form, Refusal, State, UrlStrategy
from tunerd.ledger import AdmitVerdict, Claimed, Deferred, Delivered, Ended, Ledger, Pick, Reservation, StoredPauses, Unfrozen
from tunerd.outcome import FailReason, PauseReason, RetryReason
from tunerd.testing import make_call

from .parts import FORM, NOW, REJECTED, SENT, bring, claimed, egress, freeze, later, put, recording, refuse, state, take, the


def expiring(call_id: str, in_s: float) -> Call:
    return make_call(call_id, strategies=(UrlStrategy(location=f"https://a/{call_id}", expires_at=NOW + in_s),))


async def test_a_claim_hands_out_everything_an_attempt_needs(ledger: Ledger) -> None:
    """Identity, the frozen body, its form, and what was tried before."""
    call = make_call()
    await put(ledger, call)
    taken = await claimed(ledger)
    assert taken.body == call.payload[:-1] + b',"recording_url":"https://audio.example/a.wav"}'
    assert (taken.source, taken.destination, taken.agent, taken.call_id) == ("agent", "tuner", "support-bot", "call-1")
    assert (taken.form, taken.attempts, taken.first_attempt_at, taken.paused_s) == (FORM, 0, None, 0.0)
    assert taken.settled_at == call.settled_at
    assert await state(ledger, "call-1") is State.SENDING


async def test_a_claimed_call_is_claimed_once(ledger: Ledger) -> None:
    """What one worker holds nobody else gets."""
    await put(ledger, make_call("a"), make_call("b"))
    names = {(await claimed(ledger)).call_id, (await claimed(ledger)).call_id}
    assert names == {"a", "b"}
    claim = await take(ledger, NOW + 1e6)
    assert (claim.claimed, claim.next_due_at) == (None, None)


async def test_claims_at_once_are_as_claims_one_after_the_other(ledger: Ledger) -> None:
    """Claims that are asked for at once, with all picks, share no call, leave none out, and each failure is told once;
    the ones for which there is no call left learn when the next is due."""
    await put(ledger, *(make_call(f"ok{number}") for number in range(5)), make_call("bad"), expiring("late", 5))
    await put(ledger, expiring("soon", 60), make_call("held"))
    held = (await take(ledger, pick=Pick.NEWEST)).claimed
    assert held is not None
    await ledger.settle(held.row, later(NOW + 50), NOW)

    def choosy(unfrozen: Unfrozen) -> bytes | Refusal:
        return refuse(unfrozen) if b'"bad"' in unfrozen.payload else freeze(unfrozen)

    picks = (Pick.NEWEST, Pick.OLDEST, Pick.EXPIRING, Pick.OLDEST) * 3
    claims = await asyncio.gather(*(ledger.claim("tuner", FORM, choosy, NOW + 9, pick=pick) for pick in picks))
    taken = {claim.claimed.call_id: claim.claimed.body for claim in claims if claim.claimed is not None}
    assert sorted(taken) == ["ok0", "ok1", "ok2", "ok3", "ok4", "soon"]
    assert all(f'"{call_id}"'.encode() in body for call_id, body in taken.items())
    assert sum(claim.claimed is not None for claim in claims) == len(taken)
    failed = sorted((one.call_id or "", one.refusal.reason) for claim in claims for one in claim.failed)
    assert failed == [("bad", FailReason.INVALID), ("late", FailReason.RECORDING_EXPIRED)]
    assert {claim.next_due_at for claim in claims if claim.claimed is None} == {NOW + 50}


async def test_nothing_is_claimed_before_its_time(ledger: Ledger) -> None:
    """A retry waits for its due time, which an idle claim tells; `due_by` looks ahead."""
    await put(ledger, make_call())
    await ledger.settle((await claimed(ledger)).row, later(NOW + 60), NOW)
    claim = await take(ledger, NOW + 59)
    assert (claim.claimed, claim.next_due_at) == (None, NOW + 60)
    ahead = await ledger.claim("tuner", FORM, freeze, NOW, due_by=NOW + 60)
    assert ahead.claimed is not None


async def test_claims_keep_to_their_destination(ledger: Ledger) -> None:
    """Another destination's calls are not seen."""
    await put(ledger, make_call(destination="other"))
    assert (await take(ledger)).claimed is None
    assert (await ledger.claim("other", FORM, freeze, NOW)).claimed is not None


async def test_oldest_due_first(ledger: Ledger) -> None:
    """Without a wish the smallest due time is taken, then the smallest row."""
    await put(ledger, make_call("a"), make_call("b"), now=NOW)
    await put(ledger, make_call("c"), now=NOW - 5)
    assert [(await claimed(ledger)).call_id for _ in range(3)] == ["c", "a", "b"]


async def test_newest_first(ledger: Ledger) -> None:
    """Pick.NEWEST takes the call that was admitted last, if it is due."""
    await put(ledger, make_call("a"), make_call("b"), make_call("c"))
    c = (await take(ledger, pick=Pick.NEWEST)).claimed
    assert c is not None
    assert c.call_id == "c"
    await ledger.settle(c.row, later(NOW + 99), NOW)
    b = (await take(ledger, pick=Pick.NEWEST)).claimed
    assert b is not None
    assert b.call_id == "b"


async def test_expiring_first(ledger: Ledger) -> None:
    """Pick.EXPIRING takes what expires soonest within the hour, else the oldest."""
    await put(ledger, make_call("old"), expiring("day", 86_400), expiring("soon", 1800), expiring("sooner", 600))
    names = []
    for _ in range(4):
        taken = (await take(ledger, pick=Pick.EXPIRING)).claimed
        assert taken is not None
        names.append((taken.call_id, taken.recording_expires_at))
    assert names == [("sooner", NOW + 600), ("soon", NOW + 1800), ("old", None), ("day", NOW + 86_400)]


@pytest.mark.parametrize("pick", list(Pick))
async def test_paused_agents_are_passed_over(ledger: Ledger, pick: Pick) -> None:
    """`not_agents`: their calls stay; the next due time is the others'."""
    await put(ledger, make_call("a", agent="paused"), make_call("b", agent="fine"), make_call("c", agent="paused"))
    claim = await ledger.claim("tuner", FORM, freeze, NOW, pick=pick, not_agents=frozenset({"paused"}))
    assert claim.claimed is not None
    assert claim.claimed.call_id == "b"
    await ledger.settle(claim.claimed.row, later(NOW + 7), NOW)
    claim = await ledger.claim("tuner", FORM, freeze, NOW, pick=pick, not_agents=frozenset({"paused"}))
    assert (claim.claimed, claim.next_due_at) == (None, NOW + 7)
    claim = await ledger.claim("tuner", FORM, freeze, NOW, pick=pick, not_agents=frozenset({"paused", "fine"}))
    assert (claim.claimed, claim.next_due_at) == (None, None)


async def test_the_newest_of_the_other_agents(ledger: Ledger) -> None:
    """NEWEST goes by admission, not by due time, among the agents that are not paused too."""
    await put(ledger, make_call("a", agent="fine"), make_call("b", agent="fine"), make_call("c", agent="paused"))
    paused = frozenset({"paused"})
    claim = await ledger.claim("tuner", FORM, freeze, NOW, pick=Pick.NEWEST, not_agents=paused)
    assert claim.claimed is not None
    assert claim.claimed.call_id == "b"


async def test_every_attempt_sends_the_same_bytes(ledger: Ledger) -> None:
    """The body is frozen when its first attempt starts: later freezes and forms are not asked."""
    await put(ledger, make_call())
    first = await claimed(ledger)
    await ledger.settle(first.row, later(NOW), NOW)
    again = await ledger.claim("tuner", Form.SEND_CALLS, refuse, NOW)
    assert again.claimed is not None
    assert (again.claimed.body, again.claimed.form, again.claimed.attempts) == (first.body, FORM, 1)


async def test_a_body_that_shares_nothing_with_its_payload_is_kept_whole(ledger: Ledger) -> None:
    """Frozen bytes are the freeze's, whatever they are."""
    await put(ledger, make_call())
    odd = bytes(range(256)) * 40

    def make(_: Unfrozen) -> bytes:
        return odd

    first = (await ledger.claim("tuner", FORM, make, NOW)).claimed
    assert first is not None
    await ledger.settle(first.row, later(NOW), NOW)
    again = await claimed(ledger)
    assert (first.body, again.body) == (odd, odd)


async def test_a_body_that_cannot_be_frozen_fails_on_the_way(ledger: Ledger) -> None:
    """The refusal stands as the call's failure, and the claim goes on to the next call."""
    await put(ledger, make_call("bad"), make_call("good"))

    claim = await ledger.claim("tuner", FORM, refuse, NOW)
    assert claim.claimed is None
    assert [(one.call_id, one.refusal.reason) for one in claim.failed] == [
        ("bad", FailReason.INVALID),
        ("good", FailReason.INVALID),
    ]
    row = await the(ledger, "bad")
    assert (row.state, row.reason, row.where) == (State.FAILED, "invalid", "transcript_with_tool_calls[0]")


async def test_delivered(ledger: Ledger) -> None:
    """A sent call has its status and Tuner's id, and is done with."""
    await put(ledger, make_call())
    await ledger.settle((await claimed(ledger)).row, SENT, NOW + 3)
    row = await the(ledger, "call-1")
    assert (row.state, row.status, row.tuner_call_id, row.attempts, row.due_at) == (State.SENT, 201, "t-1", 1, None)
    (story,) = await ledger.story("call-1")
    assert [(event.what, event.status) for event in story.events] == [("admitted", None), ("sent", 201)]


async def test_a_sent_call_keeps_no_secret_of_its_recordings_url(ledger: Ledger) -> None:
    """The query of a signed URL (and its user part) is there until Tuner has accepted the call, through retries, and not after that."""
    signed = "https://user:word@audio.example/a.wav?sig=hidden#part"
    await put(ledger, make_call(strategies=(UrlStrategy(location=signed),)))
    await ledger.settle((await claimed(ledger)).row, later(NOW), NOW)
    assert (await the(ledger, "call-1")).recording_location == signed
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert (await the(ledger, "call-1")).recording_location == "https://audio.example/a.wav"


async def test_a_story_says_of_each_attempt_its_number_and_why(ledger: Ledger) -> None:
    """Time, attempt, HTTP status and reason of each: what a refusal of the destination changes is no attempt."""
    await put(ledger, make_call())
    refusal = Deferred(due_at=NOW, reason=PauseReason.AUTH, status=401, detail="the key", counts=False, surely_not_arrived=True)
    for at, settlement in enumerate((later(NOW), refusal, later(NOW), SENT)):
        await ledger.settle((await claimed(ledger, NOW + at)).row, settlement, NOW + at)
    await put(ledger, make_call("other"))
    await ledger.settle((await claimed(ledger, NOW)).row, REJECTED, NOW)
    assert [(event.at - NOW, event.what, event.status, event.detail) for event in (await ledger.story("call-1"))[0].events] == [
        (0, "admitted", None, ""),
        (0, "retried", 503, "attempt 1, server_error: 503"),
        (1, "refused", 401, "auth: the key"),
        (2, "retried", 503, "attempt 2, server_error: 503"),
        (3, "sent", 201, "attempt 3: Tuner's id t-1"),
    ]
    assert (await ledger.story("other"))[0].events[-1].detail.startswith("attempt 1, rejected: ")


async def test_later_counts_attempts(ledger: Ledger) -> None:
    """A retry that counts adds an attempt and dates the first one from its claim; a refusal of the destination does not."""
    await put(ledger, make_call())
    await ledger.settle((await claimed(ledger, NOW + 1)).row, later(NOW + 5, counts=False), NOW + 2)
    second = await claimed(ledger, NOW + 5)
    assert (second.attempts, second.first_attempt_at) == (0, None)
    await ledger.settle(second.row, later(NOW + 9), NOW + 6)
    third = await claimed(ledger, NOW + 9)
    assert (third.attempts, third.first_attempt_at) == (1, NOW + 5)
    row = await the(ledger, "call-1")
    assert (row.status, row.reason) == (503, RetryReason.SERVER_ERROR.value)


async def test_ended(ledger: Ledger) -> None:
    """A failed call keeps its reason, its document and its place in the gauges."""
    await put(ledger, make_call())
    await ledger.settle((await claimed(ledger)).row, REJECTED, NOW)
    row = await the(ledger, "call-1")
    assert (row.state, row.reason, row.status, row.detail) == (State.FAILED, "rejected", 400, "Tuner does not take it")
    assert await ledger.document(row.row) is not None
    assert ledger.gauges().calls[State.FAILED] == 1


@pytest.mark.parametrize("settlement", [SENT, REJECTED, later(NOW + 60)], ids=["sent", "failed", "later"])
async def test_settling_twice_is_settling_once(ledger: Ledger, settlement: Delivered | Ended) -> None:
    """Settle is idempotent; a second one, of whatever kind, changes nothing."""
    await put(ledger, make_call())
    row = (await claimed(ledger)).row
    await ledger.settle(row, settlement, NOW)
    before = (await the(ledger, "call-1"), ledger.gauges())
    await ledger.settle(row, settlement, NOW + 1)
    await ledger.settle(row, SENT, NOW + 1)
    assert (await the(ledger, "call-1"), ledger.gauges()) == before
    await ledger.settle(999, SENT, NOW)


async def test_a_released_call_is_as_it_was(ledger: Ledger) -> None:
    """No attempt was started: due as before, not frozen, nothing counted."""
    await put(ledger, make_call())
    before = await the(ledger, "call-1")
    taken = await claimed(ledger, NOW + 5)
    await ledger.release(taken.row, NOW + 6)
    assert await the(ledger, "call-1") == before
    other = await ledger.claim("tuner", Form.SEND_CALLS, freeze, NOW + 7)
    assert other.claimed is not None
    assert (other.claimed.form, other.claimed.attempts, other.claimed.first_attempt_at) == (Form.SEND_CALLS, 0, None)


async def test_a_released_retry_keeps_its_body(ledger: Ledger) -> None:
    """Releasing a call that was attempted before leaves its frozen body."""
    await put(ledger, make_call())
    first = await claimed(ledger)
    await ledger.settle(first.row, later(NOW), NOW)
    await ledger.release((await claimed(ledger)).row, NOW)
    await ledger.release(first.row, NOW)
    again = await ledger.claim("tuner", Form.SEND_CALLS, refuse, NOW)
    assert again.claimed is not None
    assert (again.claimed.body, again.claimed.attempts) == (first.body, 1)


async def test_gates_are_kept(ledger: Ledger) -> None:
    """Every destination that calls were admitted for has a gate, and what was set is what is read."""
    await put(ledger, make_call(), make_call("b", destination="other"))
    gate = StoredPauses(
        closed_until=NOW + 60,
        pause=PauseReason.AUTH,
        paused_since=NOW,
        detail="401",
        agents={"bot": (PauseReason.AUTH, NOW - 5)},
        probe_row=7,
        probe_every_s=60.0,
        next_probe_at=NOW + 9,
    )
    await ledger.store_pauses("tuner", gate, NOW)
    await ledger.store_pauses("new", StoredPauses(), NOW)
    assert await ledger.stored_pauses() == {"tuner": gate, "other": StoredPauses(), "new": StoredPauses()}


async def test_pauses_since_the_first_attempt_add_up(ledger: Ledger) -> None:
    """Time with `pause` set counts, whether it is over or goes on; time before the first attempt does not."""
    paused = StoredPauses(pause=PauseReason.UNREACHABLE, paused_since=NOW)
    await put(ledger, make_call(), now=NOW)
    await ledger.store_pauses("tuner", paused, NOW)
    await ledger.store_pauses("tuner", StoredPauses(), NOW + 100)
    first = await claimed(ledger, NOW + 110)
    assert first.paused_s == 0
    await ledger.settle(first.row, later(NOW + 110), NOW + 120)
    await ledger.store_pauses("tuner", paused, NOW + 200)
    await ledger.store_pauses("tuner", dataclasses.replace(paused, closed_until=NOW + 250), NOW + 230)
    await ledger.store_pauses("tuner", StoredPauses(closed_until=NOW + 999), NOW + 260)
    second = await claimed(ledger, NOW + 300)
    assert second.paused_s == pytest.approx(60)
    await ledger.settle(second.row, later(NOW + 300), NOW + 310)
    await ledger.store_pauses("tuner", paused, NOW + 400)
    assert (await claimed(ledger, NOW + 440)).paused_s == pytest.approx(100)


async def test_an_agents_pause_counts_for_its_calls(ledger: Ledger) -> None:
    """A paused agent's calls stand still; those of the others do not."""
    await put(ledger, make_call("a", agent="a"), make_call("b", agent="b"))
    for _ in range(2):
        await ledger.settle((await claimed(ledger, NOW)).row, later(NOW), NOW)
    await ledger.store_pauses("tuner", StoredPauses(agents={"a": (PauseReason.AUTH, NOW)}), NOW)
    await ledger.store_pauses("tuner", StoredPauses(), NOW + 50)
    again = [await claimed(ledger, NOW + 60) for _ in range(2)]
    assert {one.agent: one.paused_s for one in again} == {"a": pytest.approx(50), "b": 0}


async def test_commits_that_make_calls_due_wake(ledger: Ledger) -> None:
    """Admission, retry and release wake the destination; claiming and delivering do not. In a fleet a look once a second wakes it,
    too, while a call is due."""
    woken: list[str] = []
    ledger.on_due(woken.append)

    def since() -> list[str]:
        seen = sorted(set(woken))
        woken.clear()
        return seen

    await put(ledger, make_call())
    assert since() == ["tuner"]
    row = (await claimed(ledger)).row
    assert since() == [] or ledger.fleet.is_shared
    await ledger.settle(row, later(NOW), NOW)
    assert since() == ["tuner"]
    await ledger.release((await claimed(ledger)).row, NOW)
    assert since() == ["tuner"]
    await ledger.settle((await claimed(ledger)).row, SENT, NOW)
    assert since() == [] or ledger.fleet.is_shared


async def test_a_claim_of_one_call_alone(ledger: Ledger) -> None:
    """`only` takes that call, whatever stands before it, and no other one where it is not due."""
    await put(ledger, make_call("a"), make_call("b"), make_call("c", destination="other"))
    a, b, c = [(await the(ledger, name)).row for name in "abc"]
    for row, found in ((b, "b"), (b, None), (c, None), (99, None)):
        claim = await ledger.claim("tuner", FORM, freeze, NOW, only=row)
        assert (claim.claimed.call_id if claim.claimed else None) == found
    await ledger.settle(b, later(NOW + 60), NOW)
    claim = await ledger.claim("tuner", FORM, freeze, NOW, only=b)
    assert (claim.claimed, claim.next_due_at) == (None, NOW)
    assert (await ledger.claim("tuner", FORM, freeze, NOW, only=b, due_by=NOW + 60)).claimed is not None
    assert (await claimed(ledger)).row == a


# Calls that are handed over by the transaction that admits them.


class Receiver:
    """Offers to take so many calls, and keeps what it was given."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.wanted: list[Mapping[str, int]] = []
        self.given: list[Sequence[Claimed]] = []

    def reserve(self, wanted: Mapping[str, int]) -> Sequence[Reservation]:
        self.wanted.append(wanted)
        return [Reservation(destination="tuner", form=FORM, freeze=freeze, count=self.count)] if self.count else []

    def receive(self, reserved: Sequence[Reservation], claims: Sequence[Claimed]) -> None:
        assert [offer.count for offer in reserved] == [self.count]
        self.given.append(claims)


async def test_new_calls_are_handed_over_as_far_as_they_are_offered_a_place(ledger: Ledger) -> None:
    """In their order, with everything that a claim gives; they are `sending` and nobody else gets them, the rest is due. Each
    settles as after a claim."""
    receiver = Receiver(2)
    ledger.set_call_receiver(receiver)
    admitted = await put(ledger, make_call("a"), make_call("x", destination="other"), make_call("b"), make_call("c"))
    assert receiver.wanted == [{"tuner": 3, "other": 1}]
    assert [state for _, state in admitted.verdicts] == [State.DUE] * 4
    (claims,) = receiver.given
    assert [one.call_id for one in claims] == ["a", "b"]
    assert claims[0].body == make_call("a").payload[:-1] + b',"recording_url":"https://audio.example/a.wav"}'
    assert (claims[0].attempts, claims[0].first_attempt_at, claims[0].form) == (0, None, FORM)
    assert set(await ledger.sending()) == {one.row for one in claims}
    assert (await claimed(ledger)).call_id == "c"
    assert (await take(ledger)).claimed is None
    await ledger.settle(claims[0].row, SENT, NOW)
    await ledger.settle(claims[1].row, later(NOW + 9), NOW)
    assert [await state(ledger, name) for name in "ab"] == [State.SENT, State.DUE]
    again = await ledger.claim("tuner", FORM, refuse, NOW + 9)
    assert again.claimed is not None
    assert again.claimed.body == claims[1].body, "its body was frozen when it was handed over"


async def test_only_what_is_new_and_due_is_handed_over(ledger: Ledger) -> None:
    """Not a duplicate, not a newer document of a call that is there, not one that waits, not one of another workspace's id."""
    await put(ledger, make_call("known", mtime_ns=1))
    receiver = Receiver(9)
    ledger.set_call_receiver(receiver)
    await put(
        ledger, make_call("known", mtime_ns=2, text="newer"), make_call("waits", strategies=(egress(),)),
        make_call("known", started_at_ms=5), make_call("new"),
    )  # fmt: skip
    assert [[one.call_id for one in claims] for claims in receiver.given] == [["new"]]
    await bring(ledger, recording())
    assert len(receiver.given) == 1, "a call whose recording came is claimed"
    await put(ledger, make_call("twice", mtime_ns=1), make_call("twice", mtime_ns=2, text="newer"))
    assert receiver.given[1:] == [[]]
    claims = [await claimed(ledger) for _ in range(3)]
    assert [b"newer" in one.body for one in claims if one.call_id == "twice"] == [True]


async def test_nobody_is_woken_for_calls_that_were_handed_over(ledger: Ledger) -> None:
    """But for what is left."""
    woken: list[str] = []
    ledger.on_due(woken.append)
    ledger.set_call_receiver(Receiver(2))
    await put(ledger, make_call("a"), make_call("b"))
    assert woken == []
    await put(ledger, make_call("c"), make_call("d"), make_call("e"))
    assert woken == ["tuner"]


async def test_one_that_is_given_back_is_as_it_was(ledger: Ledger) -> None:
    """Its body thaws, and nothing says that it may have arrived: a newer document takes its place."""
    receiver = Receiver(1)
    ledger.set_call_receiver(receiver)
    await put(ledger, make_call("a", mtime_ns=1))
    ((one,),) = receiver.given
    receiver.count = 0
    await ledger.release(one.row, NOW)
    admitted = await put(ledger, make_call("a", mtime_ns=2, text="newer"))
    assert admitted.verdicts == ((AdmitVerdict.REPLACED, State.DUE),)
    assert b"newer" in (await claimed(ledger)).body
