"""Several instances on one PostgreSQL, killed, stopped and cut off under load: oracles in processes of their own record each call
durably before it can be seen, and afterwards the test compares these records with what the sandbox's journal says arrived.

The manifest of each call is written at another instance than the call. `make chaos-fleet` runs longer: TUNERD_FLEET_KILLS sets how many
kills there are (60 by default), TUNERD_FLEET_SECONDS how long the second test breaks things (15 by default).
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.fleet import CONCURRENCY, Fleet, Member, Oracles, Relay, fleet_of, oracles
from tests.e2e.harness import Sandbox, sandbox, until
from tests.e2e.oracle import compare, read_journal, read_obligations
from tests.ledger.postgres_server import Cluster, cluster, needs_postgres
from tunerd.clock import SystemClock
from tunerd.sandbox.faults import Faults

KILLS = int(os.environ.get("TUNERD_FLEET_KILLS", "60"))
SECONDS = int(os.environ.get("TUNERD_FLEET_SECONDS", "15"))
SEED = int(os.environ.get("TUNERD_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
LATENCY_S = 0.1
RATE = 4.0
"""Calls a second at each instance."""

pytestmark = [needs_postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    """A server of this file's own, because it is restarted."""
    with cluster() as running:
        yield running


class _Excused:
    """The calls that may be repeated: what an instance had open when it was killed or stopped, each as often as that happened."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kills = self.landed = self.most = 0

    def add(self, opened: list[str]) -> None:
        self.counts.update(opened)
        self.kills += 1
        self.landed += bool(opened)
        self.most = max(self.most, len(opened))


@pytest.mark.timeout(180 + 6 * KILLS)
async def test_nothing_is_lost_when_instances_are_killed(tmp_path: Path, postgres: Cluster) -> None:
    """Every recorded call arrives with its own recording, which another instance read; and a call is repeated, byte for byte, only
    if the instance that was killed had it open.

    What it had open is asked of the ledger between its kill and its next start: nobody else can take these calls so soon. Each
    instance is killed and started again by a task of its own, so several are away at some moments.
    """
    excused, chance = _Excused(), random.Random(SEED)
    async with AsyncExitStack() as stack:
        tuner = await stack.enter_async_context(sandbox(tmp_path, Faults(latency_s=LATENCY_S)))
        fleet = await stack.enter_async_context(fleet_of(postgres, "abc", tmp_path, tuner.url))
        writing = await stack.enter_async_context(oracles(fleet, rate=RATE, seed=SEED))
        async with asyncio.TaskGroup() as group:
            for member in fleet.members:
                group.create_task(_kill_often(member, KILLS // len(fleet.members), chance, excused))
        await _all_arrive(fleet, tuner, writing)
    assert excused.kills == KILLS // 3 * 3
    assert excused.landed > KILLS / 2, "most kills have to find an open request"
    _judge(tuner, writing, excused)


async def _kill_often(member: Member, kills: int, chance: random.Random, excused: _Excused) -> None:
    """Each life lasts until it has read another file: a document that two lives leave unread is set aside (crash journal), which
    would only show that the kills came too fast."""
    never = asyncio.Event()
    for _ in range(kills):
        read = await member.calls_read()

        async def has_read_more(member: Member = member, read: int = read) -> bool:
            return await member.calls_read() > read

        await until(has_read_more)
        await until(member.open_calls)
        await SystemClock().wait(never, chance.random() * LATENCY_S)  # random on purpose
        excused.add(await member.kill())
        await member.start()


@pytest.mark.timeout(240 + 2 * SECONDS)
async def test_nothing_is_lost_when_the_database_restarts_and_the_network_breaks(tmp_path: Path, postgres: Cluster) -> None:
    """Four instances, one of them killed at random every 2 s. Meanwhile the server crashes and restarts three times, the connections
    of one instance stall and are reset, and another instance is stopped for a while. No call is lost, none has a wrong recording,
    and none is repeated that was not open at a kill or at the stop.

    The long run stops the instance for 60 s; no other may take its calls before 30 s. The short one stops it for 3 s.
    """
    excused, chance = _Excused(), random.Random(SEED)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Relay(postgres.port).listening())
        tuner = await stack.enter_async_context(sandbox(tmp_path, Faults(latency_s=LATENCY_S)))
        fleet = await stack.enter_async_context(fleet_of(postgres, "abc", tmp_path, tuner.url))
        far, stopped, mortal = fleet.add("far", relay=relay), fleet.members[0], fleet.members[1:3]
        await far.start()
        writing = await stack.enter_async_context(oracles(fleet, rate=RATE, seed=SEED))
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            killer = group.create_task(_kill_each_2_s(mortal, over, chance, excused))
            await _restart(postgres, over)
            await _stall_and_cut(relay, over)
            await _restart(postgres, over)
            await _stop_and_continue(stopped, over, excused)
            await _restart(postgres, over)
            await SystemClock().wait(over, SECONDS / 10)
            over.set()
            await killer
        await _all_arrive(fleet, tuner, writing)
    assert excused.kills >= 3
    _judge(tuner, writing, excused)


async def _kill_each_2_s(members: list[Member], over: asyncio.Event, chance: random.Random, excused: _Excused) -> None:
    while not await SystemClock().wait(over, 2.0):
        member = chance.choice(members)
        excused.add(await member.kill())
        await member.start()


async def _restart(server: Cluster, over: asyncio.Event) -> None:
    """As a crash: nothing is written down, and every connection breaks."""
    await SystemClock().wait(over, SECONDS / 10)
    await asyncio.to_thread(server.stop, "immediate")
    await asyncio.to_thread(server.start)


async def _stall_and_cut(relay: Relay, over: asyncio.Event) -> None:
    """First the relay holds everything back and then lets it through; then it holds it back and resets the connections."""
    for act in (relay.flow, relay.cut):
        await SystemClock().wait(over, SECONDS / 15)
        relay.stall()
        await SystemClock().wait(over, SECONDS / 15)
        act()
        relay.flow()


async def _stop_and_continue(member: Member, over: asyncio.Event, excused: _Excused) -> None:
    await SystemClock().wait(over, SECONDS / 15)
    member.signal(signal.SIGSTOP)
    excused.add(await member.open_calls())
    await SystemClock().wait(over, min(60.0, SECONDS / 5))
    member.signal(signal.SIGCONT)


async def _all_arrive(fleet: Fleet, tuner: Sandbox, writing: Oracles) -> None:
    """Every call that was written arrives; then every instance stops in order, and the ledger has them all as sent."""
    await writing.finish()
    owed = {owe.call_id for file in writing.obligations for owe in read_obligations(file)}

    async def all_there() -> bool:
        return owed <= set(await tuner.accepted())

    await until(all_there, ceiling_s=120 + KILLS / 5, every_s=1.0)
    for member in fleet.members:
        assert member.daemon is not None
        assert await member.daemon.stop() == 0, member.daemon.said
    assert await fleet.states() == {"sent": len(owed)}


def _judge(tuner: Sandbox, writing: Oracles, excused: _Excused) -> None:
    owed = [owe for file in writing.obligations for owe in read_obligations(file)]
    report = compare(owed, read_journal(tuner.journal))
    print(f"seed {SEED}: {len(owed)} calls, {excused.kills} kills, {excused.landed} of them with open requests (at most {excused.most}), "
          f"{report.repeated} repeats of {excused.counts.total()} that were open")  # fmt: skip
    assert not report.lost, f"seed {SEED}"
    assert not report.unknown, f"seed {SEED}"
    assert not report.differing_bytes, f"seed {SEED}"
    assert not report.wrong_recording, f"seed {SEED}"
    assert not Counter(report.repeats) - excused.counts, f"seed {SEED}: repeated without having been open"
    assert excused.most <= CONCURRENCY, f"seed {SEED}"
