"""No call gets another call's audio, in whatever order calls and manifests are read.

The worlds below are made so that everybody knows whose audio is whose; the ledger is told of them in all orders, or in random
ones. No code of the matching is used to judge it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import IS_THOROUGH, examples
from tunerd.call import Call, Fail, Hold, Origin, Recording, SendAnyway, State
from tunerd.ledger import FAR_AT_ONCE, FAR_NOT_YET, Admission, Filter
from tunerd.testing import MemoryLedger

from .parts import FORM, NOW, SENT, START, START_MS, egress, freeze, waiting

WAIT_S = 1800.0
STRATEGY = egress("blue", wait_s=WAIT_S)


def call(name: str, at_s: float, lasts_s: float = 200.0, on_missing: Hold | Fail | SendAnyway = Hold(hold_s=1e6)) -> Call:
    made = waiting(name, STRATEGY, at_s=at_s, on_missing=on_missing)
    return replace(made, ended_at_ms=START_MS + round((at_s + lasts_s) * 1000))


def manifest(name: str, at_s: float, telling: int = 1, *, has_id: bool = False, path: str | None = None) -> Recording:
    """The recording of the call `name`; its URL is signed anew for each telling, and a later telling was written later."""
    return Recording(
        origin=Origin(source="egress", path=path or f"/egress/{name}-{telling}.json", mtime_ns=telling),
        source="egress",
        key="blue",
        id=f"EG_{name}" if has_id else "",
        location=f"https://audio.example/{name}.ogg?sig={telling}",
        started_at=START + at_s,
    )


@dataclass
class World:
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    now: float = NOW
    sent: dict[str, str] = field(default_factory=dict)

    async def tell(self, *what: Call | Recording) -> None:
        calls = [one for one in what if isinstance(one, Call)]
        recordings = [one for one in what if isinstance(one, Recording)]
        await self.ledger.admit(Admission(calls=calls, recordings=recordings), self.now)
        await self._look()

    async def passes(self, seconds: float) -> None:
        self.now += seconds
        await self._look()

    async def _look(self) -> None:
        await self.ledger.tick(self.now)
        while (one := (await self.ledger.claim("tuner", FORM, freeze, self.now)).claimed) is not None:
            self.sent[one.call_id] = one.body.rpartition(b'"recording_url":"')[2][:-2].decode()
            await self.ledger.settle(one.row, SENT, self.now)

    def audio(self) -> dict[str, str]:
        """Whose audio each call was sent with."""
        return {name: url.rpartition("/")[2].partition(".")[0] for name, url in self.sent.items()}


Event = Callable[[World], Awaitable[None]]


def told(*what: Call | Recording) -> Event:
    return lambda world: world.tell(*what)


def later(seconds: float) -> Event:
    return lambda world: world.passes(seconds)


# One room, used twice within ten minutes; B began five minutes after A, when A had ended.
A, B = call("A", 0), call("B", 300)
WORLDS: dict[str, Sequence[Call | Recording]] = {
    "manifests of their own, told twice": [A, B, manifest("A", 2), manifest("A", 2, 2), manifest("B", 302)],
    "one path for all, written anew": [
        A, B, manifest("A", 2, 1, path="/egress/room.json"), manifest("B", 302, 2, path="/egress/room.json"),
        manifest("B", 302.4, 3, path="/egress/room.json"),
    ],
    "ids": [A, B, manifest("A", 2, has_id=True), manifest("B", 302, has_id=True), manifest("B", 302, 2, has_id=True)],
    "the recording of A begins late in the call, that of B before it": [A, B, manifest("A", 180), manifest("B", 280)],
    "calls that fail for want of one": [
        call("A", 0, on_missing=Fail()), call("B", 300, on_missing=Fail()), manifest("A", 2), manifest("B", 302), manifest("B", 302, 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", WORLDS.values(), ids=list(WORLDS))
async def test_the_order_does_not_matter(what: Sequence[Call | Recording]) -> None:
    """Each call goes out with its own audio, whatever comes first, and none with another's on the way; in all the time
    that passes between them, which is a little less than the wait."""
    for order in islice(permutations(what), 0, None, 1 if IS_THOROUGH else 3):
        world = World()
        for one in order:
            await world.tell(one)
            await world.passes(WAIT_S / len(what) - 1)
            assert all(name == audio for name, audio in world.audio().items())
        assert world.audio() == {"A": "A", "B": "B"}


@pytest.mark.parametrize("left_out", [0, 1, 2, 3], ids=["no A", "no B", "no manifest of A", "no manifest of B"])
async def test_what_is_missing_is_not_replaced(left_out: int) -> None:
    """One of the four never comes: within the wait nobody gets what is another's instead."""
    events = [told(A), told(B), told(manifest("A", 2)), told(manifest("B", 302))]
    events.pop(left_out)
    for order in permutations([*events, later(WAIT_S - 1)]):
        world = World()
        for event in order:
            await event(world)
            assert all(name == audio for name, audio in world.audio().items())


async def test_the_newer_telling_wins_until_it_is_sent() -> None:
    """Signed anew: of two tellings the one that was written later, whichever was read first."""
    for first, second in ((1, 2), (2, 1)):
        for has_id in (False, True):
            world = World()
            await world.tell(manifest("A", 2, first, has_id=has_id))
            await world.tell(manifest("A", 2.5, second, has_id=has_id))
            await world.tell(A)
            assert world.sent == {"A": "https://audio.example/A.ogg?sig=2"}
            await world.tell(manifest("A", 2, 3, has_id=has_id), call("C", 4))
            assert world.audio() == {"A": "A"}


async def test_a_matched_call_takes_the_newer_url_along() -> None:
    """It is due and not sent yet when its recording is told again."""
    world = World()
    await world.ledger.admit(Admission(calls=[A], recordings=[manifest("A", 2)]), NOW)
    await world.tell(manifest("A", 2, 2))
    assert world.sent == {"A": "https://audio.example/A.ogg?sig=2"}


async def test_other_ids_are_other_recordings() -> None:
    """Two ids with one start are two, and equally near: a tie, however alike they look."""
    world = World()
    await world.tell(A, manifest("A", 2, has_id=True), manifest("B", 2, has_id=True))
    assert world.sent == {}


async def test_without_a_start_the_url_without_its_query_tells() -> None:
    """Keys that are never reused: the same URL signed anew is one recording, another URL is another."""
    anywhere = egress("sid", within_s=None)

    def one(name: str, telling: int) -> Recording:
        return replace(manifest(name, 0, telling), key="sid", started_at=None)

    world = World()
    await world.tell(one("A", 1), one("A", 2), waiting("A", anywhere))
    assert world.sent == {"A": "https://audio.example/A.ogg?sig=2"}
    await world.tell(one("A", 3), waiting("B", anywhere))
    assert world.audio() == {"A": "A"}
    await world.tell(one("B", 1))
    assert world.audio() == {"A": "A", "B": "B"}


async def test_a_farther_one_waits_and_is_taken() -> None:
    """Nothing nearer came for as long as the strategy waits: then it is the call's; the story has said so before."""
    world = World()
    await world.tell(A)
    await world.passes(60)
    await world.tell(manifest("A", 290))
    (story,) = await world.ledger.story("A")
    assert story.waits_for == [
        "manifest egress, key 'blue': the recording of /egress/A-1.json started 290 s after the call, farther away than near: 30s; "
        "it is taken at 2026-01-01 00:31:00Z unless a nearer one comes (near: 290s would take it at once)"
    ]
    await world.passes(WAIT_S - 1)
    assert world.sent == {}
    await world.passes(1)
    assert world.audio() == {"A": "A"}


async def test_a_nearer_one_takes_its_place() -> None:
    """It comes in the last moment of the wait."""
    world = World()
    await world.tell(A, manifest("B", 302))
    await world.passes(WAIT_S - 1)
    await world.tell(manifest("A", 2))
    assert world.audio() == {"A": "A"}


async def test_it_is_taken_before_it_expires() -> None:
    """Two minutes before its URL is worth nothing, the wait is over."""
    world = World()
    await world.tell(A, replace(manifest("A", 290), expires_at=NOW + 600))
    await world.passes(479)
    assert world.sent == {}
    await world.passes(1)
    assert world.audio() == {"A": "A"}


async def test_a_failed_call_waits_for_a_farther_one_as_well() -> None:
    """It stands as failed for want of a recording; one that is not near revives it only after the wait."""
    world = World()
    await world.tell(call("A", 0, lasts_s=50, on_missing=Fail()))
    await world.passes(WAIT_S)
    assert [one.state for one in await world.ledger.calls(Filter())] == [State.FAILED]
    await world.tell(manifest("B", 302))
    await world.passes(WAIT_S - 1)
    assert world.sent == {}
    await world.tell(B)
    assert world.audio() == {"B": "B"}
    await world.tell(manifest("A", 120))
    await world.passes(WAIT_S)
    assert world.audio() == {"A": "A", "B": "B"}


async def test_what_belongs_to_a_call_that_was_sent_without_goes_to_nobody() -> None:
    """Its recording comes after it was sent with a stand-in, and is not the neighbour's, however long that waits."""
    world = World()
    await world.tell(call("A", 0, on_missing=SendAnyway(url="https://none.example/A.")))
    await world.passes(WAIT_S)
    await world.tell(B, manifest("A", 2))
    await world.passes(WAIT_S)
    await world.passes(WAIT_S)
    assert world.audio() == {"A": "A"}
    assert [(one.call_id, one.state) for one in await world.ledger.calls(Filter())] == [("A", State.SENT), ("B", State.WAITING)]


async def test_a_tie_is_told_with_its_candidates() -> None:
    """In the story while it waits, and in the reason when it fails; a nearer one decides even then."""
    world = World()
    await world.tell(A, manifest("A", -10), manifest("B", 10))
    (story,) = await world.ledger.story("A")
    tied = (
        "2 recordings are equally near to this call: /egress/A-1.json (started 2025-12-31 23:49:50Z), "
        "/egress/B-1.json (started 2025-12-31 23:50:10Z)"
    )
    assert story.waits_for == [
        f"manifest egress, key 'blue': {tied}, so none is taken; waits for a nearer one until 2026-01-01 00:30:00Z; "
        "a person decides with: tunerd retry CALL_ID --recording LOCATION"
    ]
    await world.passes(WAIT_S)
    (failed,) = await world.ledger.calls(Filter())
    assert (failed.state, failed.reason) == (State.FAILED, "recording_ambiguous")
    assert failed.detail.startswith(tied)
    await world.tell(manifest("A", 3))
    assert world.audio() == {"A": "A"}


async def test_a_tie_that_dissolves() -> None:
    """Of two equally near recordings another call takes one: the other one has only one call left."""
    world = World()
    await world.tell(A, manifest("A", -10), manifest("B", 10))
    await world.tell(call("B", 11))
    assert world.audio() == {"A": "A", "B": "B"}


async def test_what_dissolves_a_tie_decides_it_in_the_same_transaction() -> None:
    """Nobody has to come by: the admission that takes one of the two recordings gives the other."""
    world = World()
    await world.tell(A, manifest("A", -10), manifest("B", 10))
    admitted = await world.ledger.admit(Admission(calls=[call("B", 11)]), NOW)
    assert sorted(one.call_id for one in admitted.matched) == ["A", "B"]


async def test_a_rival_that_is_erased_frees_what_it_held_up() -> None:
    """Two calls were equally near; the next tick gives the recording to the one that is left."""
    world = World()
    await world.tell(A, call("C", 20), manifest("A", 10))
    assert world.sent == {}
    await world.ledger.forget("C", NOW)
    await world.passes(1)
    assert world.audio() == {"A": "A"}


async def test_a_call_that_is_told_again_keeps_its_own() -> None:
    """A newer document gives its recording back, and takes it again; its neighbour gets nothing of it on the way."""
    world = World()
    await world.ledger.admit(Admission(calls=[A], recordings=[manifest("A", 2)]), NOW)
    newer = replace(A, origin=replace(A.origin, mtime_ns=9))
    await world.tell(B, newer)
    assert world.audio() == {"A": "A"}


async def test_after_a_start_and_in_a_sweep_a_farther_one_waits_for_what_is_unread() -> None:
    """It was known for long enough before; what would be nearer may lie in a file that this process has not read yet."""
    world = World()
    await world.tell(A, manifest("B", 302))
    await world.ledger.set_far_rule(FAR_NOT_YET, world.now)
    await world.passes(WAIT_S)
    assert world.sent == {}
    await world.tell(B, manifest("A", 2))
    assert world.audio() == {"A": "A", "B": "B"}


async def test_when_the_sweep_is_through_a_farther_one_is_taken() -> None:
    """All that there is has been read."""
    world = World()
    await world.ledger.set_far_rule(FAR_NOT_YET, world.now)
    await world.tell(A, manifest("A", 290))
    assert world.sent == {}
    await world.ledger.set_far_rule(FAR_AT_ONCE, world.now)
    await world.passes(0)
    assert world.audio() == {"A": "A"}


MISSING: st.SearchStrategy[Hold | Fail] = st.one_of(st.just(Hold(hold_s=1e6)), st.just(Fail()))


@st.composite
def days(draw: st.DrawFn) -> list[Event]:
    """Calls one after the other in a room, most with a manifest, some told twice, some with a second recording; in any order."""
    at_s, events = 0.0, list[Event]()
    for name in draw(st.sampled_from(["AB", "ABC", "ABCD"])):
        lasts_s = draw(st.integers(20, 400))
        made = call(name, at_s, lasts_s, draw(MISSING))
        has_id = draw(st.booleans())
        began_s = at_s + draw(st.integers(0, min(20, lasts_s)))
        events += draw(st.lists(st.just(told(made)), min_size=0, max_size=1)) or [later(1.0)]
        if draw(st.booleans()):
            events.append(told(replace(made, origin=replace(made.origin, mtime_ns=2))))
        for telling in range(draw(st.integers(0, 2))):
            path = draw(st.sampled_from([None, "/egress/room.json"]))
            events.append(told(manifest(name, began_s, telling + 1, has_id=has_id, path=path)))
        at_s += lasts_s + draw(st.integers(60, 200))
    events += [later(float(seconds)) for seconds in draw(st.lists(st.integers(1, 400), max_size=4))]
    return draw(st.permutations(events))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck), print_blob=False)
@given(day=days())
def test_no_call_of_a_day_gets_anothers_audio(day: Sequence[Event]) -> None:
    """Rooms with several calls, of which this or that is never told: within the wait nobody is given what is another's."""

    async def live() -> None:
        world = World()
        for event in day:
            await event(world)
            assert all(name == audio for name, audio in world.audio().items())

    asyncio.run(live())
