"""Hints between the instances of a fleet: LISTEN and NOTIFY on real connections."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, bring, claimed, put, recording, waiting
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.stalling_proxy import stalling_proxy
from tunerd.testing import Recorder

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.hint_listener import HintListener
    from tunerd.ledger.postgresql.postgresql_server import Server

pytestmark = needs_postgres

Listen = Callable[..., "HintListener"]


class Heard:
    """Counts calls from a thread."""

    def __init__(self) -> None:
        self.count = 0
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return postgres.server()


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    from tunerd.ledger.postgresql.hint_listener import HintListener

    started: list[HintListener] = []

    def start(server: "Server", name: str, heard: Heard, **times: float) -> HintListener:
        started.append(HintListener(server, name, heard, **times))
        return started[-1]

    yield start
    for one in started:
        await asyncio.to_thread(one.end)


async def test_a_hint_reaches_the_others(server: "Server", listen: Listen) -> None:
    """Not the sender itself; and each new connection counts as a hint, since there was none while it was missing."""
    a, b = Heard(), Heard()
    sender = listen(server, "1", a)
    listen(server, "2", b)
    await a.until(1)
    await b.until(1)
    sender.hint()
    await b.until(2)
    assert a.count == 1


async def test_many_changes_are_few_hints(server: "Server", listen: Listen) -> None:
    """At most five a second leave an instance, and the last change is never left out."""
    a, b = Heard(), Heard()
    sender = listen(server, "1", a)
    listen(server, "2", b)
    await a.until(1)
    await b.until(1)
    began = time.monotonic()
    while time.monotonic() < began + 1.0:
        sender.hint()
        await asyncio.to_thread(lambda: None)
    before = b.count
    sender.hint()
    await b.until(before + 1)
    assert b.count - 1 <= 5 * (time.monotonic() - began) + 1


async def test_a_half_open_listener_connects_again(server: "Server", listen: Listen, postgres: Cluster) -> None:
    """The other side stays connected and passes nothing on: the listener's own notification does not come back (pg-boss #850)."""
    heard, other = Heard(), Heard()
    async with stalling_proxy(postgres.port) as proxy:
        through = replace(server, url=server.url.replace(f":{postgres.port}/", f":{proxy.port}/"))
        listen(through, "1", heard, probe_s=0.3, answer_s=0.5)
        sender = listen(server, "2", other)
        await heard.until(1)
        await other.until(1)
        proxy.stall()
        await heard.until(2)
        assert proxy.connections == 2
        sender.hint()
        await heard.until(3)


@pytest.mark.parametrize(("notifies", "within_s"), [(True, 1.0), (False, 2.0)])
async def test_a_manifest_at_one_instance_wakes_the_other(server: "Server", notifies: bool, within_s: float) -> None:
    """The call's own instance learns that its call is due: within a second by a hint, within two by polling alone."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    a, b = [
        await PostgresqlLedger.open(replace(server, notifies=notifies), now=NOW, emit=Recorder(), instance=name) for name in "ab"
    ]
    try:
        woken = asyncio.Event()
        a.on_due(lambda destination: woken.set())
        for number in range(4):
            await put(a, waiting(f"c{number}", at_s=1000.0 * number))
            woken.clear()
            began = time.monotonic()
            await bring(b, recording(f"https://audio.example/{number}.ogg", at_s=1000.0 * number + 2))
            async with asyncio.timeout(10):
                await woken.wait()
            assert time.monotonic() - began < within_s
            assert (await claimed(a)).call_id == f"c{number}"
    finally:
        await a.close()
        await b.close()
