"""A real process that is stopped for longer than the others wait for it, and continues: SIGSTOP, with a pulse of tenths of seconds."""

import asyncio
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

from tests.delivery.server import Reply, Request, serving
from tests.ledger.parts import put
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_fleet_heartbeat import quick
from tunerd.call import State
from tunerd.clock import SystemClock
from tunerd.testing import Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres

WORKERS = 2
DELIVERS = f"""
import asyncio, sys
from tests.delivery.made import delivering_to
from tests.ledger.test_fleet_heartbeat import quick
from tunerd.clock import SystemClock
from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
from tunerd.ledger.postgresql.postgresql_server import Server
from tunerd.testing import Recorder

async def main():
    clock = SystemClock()
    server = quick(Server(url=sys.argv[1], schema=sys.argv[2]))
    ledger = await PostgresqlLedger.open(server, now=clock.now(), emit=Recorder(), instance=sys.argv[3])
    async with delivering_to(sys.argv[4], clock=clock, ledger=ledger, fleet=ledger.fleet, concurrency={WORKERS}):
        await asyncio.to_thread(sys.stdin.read)
    await ledger.close()

asyncio.run(main())
"""


async def start(server: "Server", name: str, tuner: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", DELIVERS, server.url, server.schema, name, tuner, stdin=asyncio.subprocess.PIPE, env={**os.environ}
    )


async def end(process: asyncio.subprocess.Process) -> int:
    """Its input ends, and then it stops as the daemon would."""
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(20):
        return await process.wait()


async def renewed_after(server: "Server", name: str, before: float) -> float:
    """When this instance was last heard of; waits until that is later than `before`."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    with connect(server) as connection:
        async with asyncio.timeout(20):
            while True:
                asked = f'SELECT heartbeat_at FROM "{server.schema}".instance WHERE name = %s'
                (at,) = (await asyncio.to_thread(connection.execute, asked, (name,))).fetchone() or (0.0,)
                if at > before:
                    return float(at)


async def test_a_stopped_process_that_continues_sends_nothing_that_another_has(postgres: Cluster) -> None:
    """Its calls are sent by another instance meanwhile. What comes twice is at most what was open when it was stopped."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    clock, never, server = SystemClock(), asyncio.Event(), quick(postgres.server())

    async def behave(request: Request) -> Reply:
        await clock.wait(never, 0.05)
        return Reply()

    ledger = await PostgresqlLedger.open(server, now=clock.now(), emit=Recorder(), instance="watches")
    processes: list[asyncio.subprocess.Process] = []
    async with serving(behave=behave) as tuner:
        try:
            ids = {f"c{number}" for number in range(40)}
            await put(ledger, *map(make_call, sorted(ids)), now=clock.now())
            processes.append(await start(server, "first", tuner.url))
            await tuner.arrived(6)
            processes[0].send_signal(signal.SIGSTOP)
            stopped_at = await renewed_after(server, "first", 0.0)
            processes.append(await start(server, "second", tuner.url))
            async with asyncio.timeout(60):
                while set(tuner.call_ids()) != ids:
                    await tuner.arrived(len(tuner.requests) + 1)
            processes[0].send_signal(signal.SIGCONT)
            await renewed_after(server, "first", stopped_at)
            await put(ledger, make_call("late"), now=clock.now())
            async with asyncio.timeout(30):
                while ledger.gauges().calls.get(State.SENT) != 41:
                    await ledger.alive()
            assert [await end(process) for process in processes] == [0, 0]
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
            await ledger.close()
    counts = Counter(tuner.call_ids())
    assert set(counts) == ids | {"late"}
    assert sum(counts.values()) - len(counts) <= WORKERS
