"""Who is dead in a fleet, who says so, and who stops sending in time. With a pulse of tenths of seconds."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, claimed, put, state, take
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_send import Receiver
from tunerd.call import State
from tunerd.ledger import LedgerUnavailable
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.heartbeat import Heartbeat
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres

HOLDS_A_CALL = """
import asyncio, sys
from tests.ledger.parts import NOW, claimed, put
from tests.ledger.test_fleet_heartbeat import quick
from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
from tunerd.ledger.postgresql.postgresql_server import Server
from tunerd.testing import Recorder, make_call

async def main():
    server = quick(Server(url=sys.argv[1], schema=sys.argv[2]))
    ledger = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="killed")
    await put(ledger, make_call("c1"))
    claim = await claimed(ledger)
    print(claim.body.hex(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def quick(server: "Server") -> "Server":
    from tunerd.ledger.postgresql.postgresql_server import Pulse

    return replace(server, pulse=Pulse(every_s=0.2, stops_after_s=1.0, dead_after_s=2.0))


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return quick(postgres.server())


@pytest.fixture
async def process(server: "Server") -> AsyncIterator[asyncio.subprocess.Process]:
    """Another tunerd's ledger, in its own process, that is sending one call."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    await (await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="first")).close()  # the tables are made
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS_A_CALL, server.url, server.schema, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    yield started
    if started.returncode is None:
        started.kill()
    await started.wait()


async def body_of(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return bytes.fromhex((await process.stdout.readline()).decode())


async def until(server: "Server", is_true: object, ceiling_s: float = 20.0) -> None:
    """Wait for something that another thread says."""
    assert callable(is_true)
    async with asyncio.timeout(ceiling_s):
        while not is_true():
            await asyncio.to_thread(lambda: None)


async def test_a_killed_instance_is_given_up(server: "Server", process: asyncio.subprocess.Process) -> None:
    """Its heartbeats end; another instance sends what it was sending, with the same bytes."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    posted = await body_of(process)
    ledger = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="other")
    try:
        due = asyncio.Event()
        ledger.on_due(lambda destination: due.set())
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(30):
            await due.wait()
        again = await claimed(ledger, NOW + 60)
        assert again.body == posted
    finally:
        await ledger.close()


async def test_an_instance_that_answers_is_not_given_up(server: "Server", process: asyncio.subprocess.Process) -> None:
    """However long it holds a call: its heartbeats count, not the age of the claim."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    await body_of(process)
    ledger = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="other")
    try:
        heartbeat: Heartbeat = ledger.heartbeat
        await until(server, heartbeat.may_judge)
        looks = asyncio.get_running_loop().time() + 3 * server.pulse.dead_after_s
        while asyncio.get_running_loop().time() < looks:
            assert (await take(ledger, NOW + 60)).claimed is None
        assert await state(ledger, "c1") is State.SENDING
    finally:
        await ledger.close()


async def test_nobody_judges_others_before_its_own_heartbeats_were_steady(server: "Server") -> None:
    """After a start, or after the database was away, it may be the database and not the others."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    ledger = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    try:
        assert not ledger.heartbeat.may_judge()
        assert ledger.heartbeat.may_send()
        await until(server, ledger.heartbeat.may_judge)
    finally:
        await ledger.close()


async def test_an_instance_without_a_database_stops_sending(server: "Server", postgres: Cluster) -> None:
    """An instance stops sending before others may give it up, and sends again after its next heartbeat; it judges others later."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    ledger = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    try:
        postgres.stop("immediate")
        try:
            await until(server, lambda: not ledger.heartbeat.may_send())
        finally:
            postgres.start()
        await until(server, ledger.heartbeat.may_send)
        assert not ledger.heartbeat.may_judge()
    finally:
        await ledger.close()


async def test_two_hosts_that_take_a_name_from_each_other_are_told(server: "Server") -> None:
    """Only when the name comes back from a host that is alive: a tunerd that moved, or that started again, is no such case."""
    from tunerd.events import InstanceNameShared
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import connect

    async def start() -> list[InstanceNameShared]:
        emitted = Recorder()
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=emitted, instance="pod-0"))
        return emitted.seen(InstanceNameShared)

    def move(**columns: object) -> None:
        with connect(server) as connection:
            for name, value in columns.items():
                connection.execute(f"UPDATE {server.schema}.instance SET {name} = %s", (value,))

    opened: list[PostgresqlLedger] = []
    try:
        assert await start() == []
        assert await start() == []  # again on this host
        move(host="elsewhere")
        assert await start() == []  # it moved here
        move(host="elsewhere", taken_from=socket.gethostname())
        assert await start() == [InstanceNameShared(name="pod-0", host="elsewhere")]
        move(host="elsewhere", taken_from=socket.gethostname(), is_over=1)
        assert await start() == []  # ended in order there
        move(host="elsewhere", taken_from=socket.gethostname(), is_over=0, heartbeat_at=0.0)
        assert await start() == []  # silent there for long
    finally:
        for one in opened:
            await one.close()


async def test_a_second_start_of_a_name_supersedes_the_first(server: "Server") -> None:
    """The first learns of it at its next heartbeat, and sends nothing more."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    first = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    second = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    try:
        await until(server, lambda: first.heartbeat.is_superseded)
        assert not first.heartbeat.may_send()
        assert second.heartbeat.may_send()
        await put(second, make_call("c1"))
        assert (await claimed(second)).call_id == "c1"
    finally:
        await first.close()
        await second.close()


async def test_a_start_whose_name_was_taken_claims_nothing_before_it_learns_of_it(postgres: Cluster) -> None:
    """Its next heartbeat is seconds away, and others may send what it claims: the claim itself finds that the name is taken."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    server = postgres.server()  # a heartbeat each 5 s
    first = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    second = await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance="a")
    try:
        receiver = Receiver(1)
        first.set_call_receiver(receiver)
        await put(first, make_call("c1"))
        assert receiver.given == [[]], "nor is a call handed over that is admitted now"
        with pytest.raises(LedgerUnavailable):
            await take(first)
        assert (await claimed(second)).call_id == "c1"
    finally:
        await first.close()
        await second.close()
