"""Several instances on one PostgreSQL: what one admits another joins and sends, and no two do the same."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import (
    FORM,
    NOW,
    REJECTED,
    SENT,
    bring,
    claimed,
    egress,
    freeze,
    later,
    put,
    recording,
    state,
    take,
    waiting,
)
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import State
from tunerd.events import LedgerHealed, LedgerTrouble
from tunerd.ledger import Admission, AdmitVerdict, Filter, LedgerUnavailable, Pick
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres

Open = Callable[..., "Awaitable[PostgresqlLedger]"]


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return postgres.server()


@pytest.fixture
async def open_instance(server: "Server") -> AsyncIterator[Open]:
    """Start an instance by its name; all are closed at the end."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened: list[PostgresqlLedger] = []

    async def start(name: str, emit: Recorder | None = None) -> PostgresqlLedger:
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=emit or Recorder(), instance=name))
        return opened[-1]

    yield start
    for ledger in opened:
        await ledger.close()


@pytest.fixture
async def two(open_instance: Open) -> "tuple[PostgresqlLedger, PostgresqlLedger]":
    return await open_instance("a"), await open_instance("b")


async def sum_of_calls(ledger: "PostgresqlLedger", **expected: int) -> None:
    """The gauges come to these counts within a few seconds; states that are not named have none."""
    wanted = {State(name): count for name, count in expected.items()}
    async with asyncio.timeout(10):
        while {one: count for one, count in ledger.gauges().calls.items() if count} != wanted:
            await ledger.alive()


async def test_a_recording_at_one_instance_is_joined_with_the_call_of_another(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]",
) -> None:
    """Egress writes in one place, agents in another."""
    a, b = two
    await put(a, waiting("c1"))
    admitted = await bring(b, recording())
    assert [one.call_id for one in admitted.matched] == ["c1"]
    claim = await claimed(a)
    assert b"audio.example/r.ogg" in claim.body
    await a.settle(claim.row, SENT, NOW + 1)
    assert await state(b, "c1") is State.SENT


async def test_the_instance_that_did_not_match_is_woken(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """By polling: within about a second it learns that a call is due."""
    a, b = two
    woken = asyncio.Event()
    a.on_due(lambda destination: woken.set())
    await put(b, make_call("c1"))
    async with asyncio.timeout(10):
        await woken.wait()
    assert (await claimed(a)).call_id == "c1"


async def test_no_call_is_claimed_twice(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Two instances that claim as fast as they can get each call once, and all of them."""
    a, b = two
    await put(a, *(make_call(f"c{number}") for number in range(400)))
    got: Counter[str] = Counter()

    async def work(ledger: "PostgresqlLedger", pick: Pick) -> None:
        while (claim := (await take(ledger, NOW + 1, pick)).claimed) is not None:
            got[claim.call_id] += 1
            await ledger.settle(claim.row, SENT, NOW + 2)

    await asyncio.gather(*(work(ledger, pick) for ledger in two for pick in (Pick.OLDEST, Pick.NEWEST) for _ in range(4)))
    assert len(got) == 400
    assert set(got.values()) == {1}
    await sum_of_calls(a, sent=400)
    await sum_of_calls(b, sent=400)


async def test_one_call_id_at_two_instances_at_once_is_one_call(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Whoever comes second sees the first: never two calls, never an error."""
    a, b = two
    for number in range(60):
        call = [make_call(f"c{number}", path=f"/calls/{side}-{number}.json") for side in "ab"]
        admitted = await asyncio.gather(put(a, call[0]), put(b, call[1]))
        assert sorted(one.verdicts[0][0] for one in admitted) == [AdmitVerdict.DUPLICATE, AdmitVerdict.NEW]
    await sum_of_calls(a, due=60)


async def test_calls_and_recordings_at_once_always_find_each_other(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """A call at one instance and its recording at another, in the same moment: neither misses the other, and no recording goes to
    two calls."""
    a, b = two
    for number in range(120):
        call = waiting(f"c{number}", egress(f"room{number // 4}"), at_s=1000.0 * number)
        found = recording(f"https://audio.example/{number}.ogg", at_s=1000.0 * number + 2, key=f"room{number // 4}")
        await asyncio.gather(put(a, call), bring(b, found))
    calls = await two[0].calls(Filter(), limit=1000)
    assert {(one.call_id, one.state, one.recording_location) for one in calls} == {
        (f"c{number}", State.DUE, f"https://audio.example/{number}.ogg") for number in range(120)
    }


async def test_what_a_start_was_sending_that_is_over_is_sent_by_another_with_the_same_bytes(
    server: "Server", open_instance: Open
) -> None:
    """It ended without settling. The next start of any instance takes it back."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    a = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    await put(a, make_call("c1"))
    held = await claimed(a)
    await a.close()
    again = await claimed(await open_instance("b"))
    assert (again.row, again.body) == (held.row, held.body)


async def test_a_restart_under_the_same_name_takes_back_what_it_held(open_instance: Open) -> None:
    """A pod that restarts does not wait until its last start counts as dead."""
    a = await open_instance("a")
    await put(a, make_call("c1"))
    held = await claimed(a)
    again = await open_instance("a")
    assert (await claimed(again)).body == held.body


async def test_a_late_failure_of_a_start_that_was_given_up_changes_nothing(open_instance: Open) -> None:
    """Settling names the claim: what another instance is sending is not put back under its hands."""
    a = await open_instance("a")
    await put(a, make_call("c1"))
    held = await claimed(a)
    again = await open_instance("a")
    await claimed(again)
    await a.settle(held.row, REJECTED, NOW + 3)
    await a.settle(held.row, later(NOW + 9), NOW + 3)
    await a.release(held.row, NOW + 3)
    assert await state(again, "c1") is State.SENDING


@pytest.mark.parametrize("is_claimed", [False, True])
async def test_a_late_acceptance_wins(open_instance: Open, is_claimed: bool) -> None:
    """What Tuner took is not sent again, whoever has the call by now."""
    a = await open_instance("a")
    await put(a, make_call("c1"))
    held = await claimed(a)
    again = await open_instance("a")
    other = await claimed(again) if is_claimed else None
    await a.settle(held.row, SENT, NOW + 3)
    assert await state(again, "c1") is State.SENT
    if other is not None:
        await again.settle(other.row, later(NOW + 9), NOW + 4)
        assert await state(again, "c1") is State.SENT
    await sum_of_calls(again, sent=1)


async def test_a_late_acceptance_of_other_bytes_does_not(open_instance: Open) -> None:
    """A newer document took over since: that one was not sent."""
    a = await open_instance("a")
    await put(a, make_call("c1"))
    held = await claimed(a)
    again = await open_instance("a")
    row = (await again.calls(Filter()))[0].row
    await again.replace(row, make_call("c1", text="of a newer document", mtime_ns=9), NOW + 2)
    assert b"newer" in (await claimed(again, NOW + 3)).body
    await a.settle(held.row, SENT, NOW + 4)
    assert await state(again, "c1") is State.SENDING


async def test_one_retry_after_holds_for_all(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Pauses that one instance stores are what another reads, and counts against no call."""
    from tunerd.ledger import StoredPauses

    a, b = two
    await put(a, make_call("c1"))
    await a.store_pauses("tuner", StoredPauses(closed_until=NOW + 60), NOW)
    assert (await b.stored_pauses())["tuner"].closed_until == NOW + 60


async def test_the_counts_of_a_fleet_are_those_of_its_tables(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Kept by adding on each instance; never counted."""
    a, b = two
    random = Random(7)
    for number in range(60):
        ledger = random.choice(two)
        await put(ledger, make_call(f"c{number}") if number % 3 else waiting(f"c{number}", at_s=1000.0 * number))
        if (claim := (await take(random.choice(two), NOW + number)).claimed) is not None:
            ending = random.choice([SENT, REJECTED, later(NOW + 999)])
            await (b if claim.row % 7 == 0 else ledger).settle(claim.row, ending, NOW + number)
    counted = Counter(one.state for one in await a.calls(Filter(dismissed=None), limit=1000))
    await sum_of_calls(a, **{str(one): count for one, count in counted.items()})


async def test_a_database_that_is_away_pauses_and_heals(open_instance: Open, postgres: Cluster) -> None:
    """While the server restarts after a crash nothing is claimed; a settlement from that time is kept, and written afterwards."""
    told = Recorder()
    a = await open_instance("a", told)
    await put(a, make_call("c1"), make_call("c2"))
    held = await claimed(a)
    postgres.stop("immediate")
    try:
        settled = a.settle(held.row, SENT, NOW + 1)
        with pytest.raises(LedgerUnavailable):
            await a.claim("tuner", FORM, freeze, NOW + 1)
        await told.until(LedgerTrouble)
    finally:
        postgres.start()
    await settled
    await told.until(LedgerHealed)
    assert await state(a, "c1") is State.SENT
    assert (await claimed(a, NOW + 2)).call_id == "c2"


async def test_a_batch_that_raises_spares_the_others(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """One admission that cannot be written fails alone (DBOS #546)."""
    a, _ = two
    bad = make_call("bad", started_at_ms=2**63)
    results = await asyncio.gather(
        a.admit(Admission(calls=(make_call("good"),)), NOW), a.admit(Admission(calls=(bad,)), NOW), return_exceptions=True
    )
    assert not isinstance(results[0], BaseException)
    assert isinstance(results[1], Exception)
    assert not isinstance(results[1], LedgerUnavailable)
    assert await state(a, "good") is State.DUE


async def test_pauses_of_two_instances_are_both_kept(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Each stores what it changed, without having seen what the other did; a command that resumes ends what it saw."""
    from tunerd.ledger import StoredPauses
    from tunerd.outcome import PauseReason

    a, b = two
    agents = {"bot": (PauseReason.AUTH, NOW)}
    await a.store_pauses("tuner", StoredPauses(pause=PauseReason.UNREACHABLE, paused_since=NOW), NOW, StoredPauses())
    await b.store_pauses("tuner", StoredPauses(closed_until=NOW + 60, agents=agents), NOW, StoredPauses())
    seen = (await a.stored_pauses())["tuner"]
    assert (seen.pause, seen.closed_until, seen.agents) == (PauseReason.UNREACHABLE, NOW + 60, agents)
    await b.store_pauses("tuner", StoredPauses(closed_until=NOW + 60), NOW, seen)
    assert (await a.stored_pauses())["tuner"] == StoredPauses(closed_until=NOW + 60)


async def test_each_instance_learns_of_a_pause_that_another_stored(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Its own, too, so that it knows what the ledger has."""
    from tunerd.ledger import StoredPauses

    told: dict[str, asyncio.Event] = {}
    for name, ledger in zip("ab", two, strict=True):
        told[name] = asyncio.Event()

        def follow(pauses: Mapping[str, StoredPauses], name: str = name) -> None:
            if pauses["tuner"].closed_until == NOW + 60:
                told[name].set()

        ledger.fleet.on_pauses(follow)
    await two[0].store_pauses("tuner", StoredPauses(closed_until=NOW + 60), NOW)
    async with asyncio.timeout(10):
        for event in told.values():
            await event.wait()
