"""Calls that are gathered from several documents, in a fleet: whose they are to look at, and two instances at one of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.intake.harness import put
from tests.intake.test_gather import WEBHOOKS, document, ended, rules, running
from tests.ledger.parts import NOW, file_mark, state
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_gather import WAIT_S, collect, fragment, gathered_call, group, groups, refusal, settle
from tests.ledger.test_fleet_upkeep import start_that_is_gone
from tunerd.call import KeyStyle, State
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted
from tunerd.ledger import Admission, GroupResult
from tunerd.ledger.disks import Disks
from tunerd.testing import Recorder

if TYPE_CHECKING:
    from psycopg import Connection

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

    async def start(name: str, shared: frozenset[str] = frozenset()) -> PostgresqlLedger:
        disks = Disks(volumes={"agent": "v1"}, shared=shared)
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, disks=disks))
        return opened[-1]

    yield start
    for ledger in opened:
        await ledger.close()


@pytest.fixture
async def two(open_instance: Open) -> "tuple[PostgresqlLedger, PostgresqlLedger]":
    return await open_instance("b"), await open_instance("c")


@pytest.fixture
def holdup(server: "Server", two: object) -> "Iterator[Connection]":
    """A session that holds the others up with locks of its own."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


async def waits(connection: "Connection", count: int) -> None:
    """Wait until `count` sessions wait for a lock."""
    async with asyncio.timeout(5):
        while connection.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").fetchone() != (count,):
            await asyncio.to_thread(connection.execute, "SELECT pg_sleep(0.01)")


# Two at one group.


async def test_a_document_that_comes_during_the_look_of_another_instance_is_not_lost(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]", holdup: "Connection"
) -> None:
    """C brings what it made of the first document while B stores the second: C's result is dropped, and both are looked at."""
    b, c = two
    await collect(b, fragment(b'{"n":1}'))
    one = await group(b)
    holdup.execute("BEGIN")
    holdup.execute("LOCK TABLE fragment IN SHARE MODE")
    collected = asyncio.create_task(collect(b, fragment(b'{"n":2}', "/calls/b.json")))
    await waits(holdup, 1)
    gathered = asyncio.create_task(settle(c, one, refusal()))
    await waits(holdup, 2)
    holdup.execute("COMMIT")
    await collected
    assert (await gathered).states == (None,)
    assert [f.document for f in (await group(b)).fragments] == [b'{"n":1}', b'{"n":2}']


async def test_many_groups_are_held_together(two: "tuple[PostgresqlLedger, PostgresqlLedger]", holdup: "Connection") -> None:
    """Forty groups are one transaction, which is run again once and not for each of them: the names of all are asked first."""
    from tunerd.ledger.postgresql.postgresql_database import _hash

    b, _ = two
    fragments = [fragment(path=f"/calls/{number}.json", key=f"k{number}") for number in range(40)]
    await b.admit(Admission(fragments=fragments), NOW)
    looked = await groups(b)
    calls = [gathered_call(f"call-{one.key}") for one in looked]
    names = [("group", "agent", one.key) for one in looked]
    names += [("call", call.workspace, call.agent, call.call_id) for call in calls]
    holdup.execute("BEGIN")
    holdup.execute("SELECT pg_advisory_xact_lock(%s)", (max(map(_hash, names)),))  # the last that is locked
    results = [GroupResult(row=one.row, version=one.version, result=call) for one, call in zip(looked, calls, strict=True)]
    gathered = asyncio.create_task(b.gather(results, NOW))
    await waits(holdup, 1)
    found = holdup.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    holdup.execute("COMMIT")
    assert found == (81,)  # for each a group and a call, one of them locked here and waited for there
    assert {state for _, state in filter(None, (await gathered).states)} == {State.DUE}


async def test_two_instances_learn_how_a_source_has_its_keys(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]", holdup: "Connection"
) -> None:
    """B reads a document without a key while C reads one with a key: from then on both are known of the source."""
    b, c = two
    holdup.execute("BEGIN")
    holdup.execute("LOCK TABLE key_style IN SHARE MODE")
    admissions = [
        Admission(fragments=[fragment(path="/calls/x.json")], key_style=KeyStyle(keyless=True), mark=file_mark("/calls/x.json")),
        Admission(
            fragments=[fragment(path="/calls/y.json", key="l")], key_style=KeyStyle(own=True), mark=file_mark("/calls/y.json")
        ),
    ]
    both = [asyncio.ensure_future(ledger.admit(one, NOW)) for ledger, one in zip((b, c), admissions, strict=True)]
    await waits(holdup, 2)
    holdup.execute("COMMIT")
    await asyncio.gather(*both)
    assert holdup.execute("SELECT keyless, own FROM key_style").fetchall() == [(1, 1)]


async def test_a_group_is_seen_as_it_was_at_one_time(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]", holdup: "Connection"
) -> None:
    """Its row is read, then its documents; what another instance does in between is not seen of either."""
    b, _ = two
    await collect(b, fragment(b'{"n":1}'))
    holdup.execute("BEGIN")
    holdup.execute("LOCK TABLE fragment IN ACCESS EXCLUSIVE MODE")
    looked = asyncio.create_task(group(b))
    await waits(holdup, 1)
    holdup.execute("UPDATE fragment SET document = NULL")
    holdup.execute("UPDATE gathering SET look_at = NULL, version = 9")
    holdup.execute("COMMIT")
    found = await looked
    assert (found.version, [f.document for f in found.fragments]) == (1, [b'{"n":1}'])


# Whose a group is.


async def test_a_group_is_looked_at_where_it_was_read(two: "tuple[PostgresqlLedger, PostgresqlLedger]") -> None:
    """Only B knows whether there are files that it has not read, and when the wait is over; a document that C read of the same
    call changes nothing of that."""
    b, c = two
    await collect(b, fragment())
    await collect(c, fragment(b'{"n":2}', "/calls/c.json"))
    assert await c.groups("agent", NOW + 1e6) == ([], None)
    assert len((await group(b)).fragments) == 2


async def test_a_group_of_an_instance_that_ended_is_looked_at_by_any(server: "Server", open_instance: Open) -> None:
    """And by its own again, once that is back."""
    c = await open_instance("c")
    b = await start_that_is_gone(server, "b")
    await collect(b, fragment())
    await b.close()
    assert await c.groups("agent", NOW) == ([], NOW + WAIT_S)
    assert (await group(c)).key == "k"
    again = await open_instance("b")
    assert await groups(c) == []
    assert (await group(again)).key == "k"


async def test_a_group_of_an_instance_that_is_silent_is_looked_at_by_any(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]", holdup: "Connection"
) -> None:
    """It was killed: after 30 s without a heartbeat the others map what it has read, and a removed instance counts as dead."""
    b, c = two
    await collect(b, fragment())
    holdup.execute("UPDATE instance SET name = 'gone', heartbeat_at = heartbeat_at - 31 WHERE name = 'b'")
    assert (await group(c)).key == "k"
    holdup.execute("DELETE FROM instance WHERE name = 'gone'")
    assert (await group(c)).key == "k"


async def test_an_instance_gives_up_its_own_groups_of_a_source_that_it_has_no_more(
    two: "tuple[PostgresqlLedger, PostgresqlLedger]",
) -> None:
    """Nobody else looks at them while it lives; and it does not ask for those of others, whose configuration may be newer."""
    b, c = two
    await collect(b, fragment())
    assert [await one.gathering_sources() for one in (b, c)] == [["agent"], []]


async def test_a_group_of_a_shared_source_is_looked_at_by_any(open_instance: Open) -> None:
    """Any instance may read its files, and the one that does looks at its groups."""
    b, c = [await open_instance(name, shared=frozenset({"agent"})) for name in "bc"]
    await b.fleet.begin_reading("agent")
    await collect(b, fragment())
    assert [(await group(one)).key for one in (b, c)] == ["k", "k"]


async def test_a_call_whose_instance_ended_is_mapped_by_another_one(
    server: "Server", open_instance: Open, tmp_path: Path
) -> None:
    """Nothing happens at C any more when B ends: it asks about once a second all the same."""
    c = await open_instance("c")
    b = await start_that_is_gone(server, "b")
    mapping = rules(WEBHOOKS, tmp_path, "1ms")
    read = mapping.map(document(ended(), tmp_path / "1.json")).fragment
    assert read is not None
    await b.admit(Admission(fragments=[read]), SystemClock().now() - 60)
    put(tmp_path / "2.json", ended("c-2"))
    async with running(mapping, c) as run:
        assert [one.call_id for one in await run.told.until(CallAdmitted)] == ["c-2"]
        await b.close()
        assert [one.call_id for one in await run.told.until(CallAdmitted, 2)] == ["c-2", "c-1"]
    assert await state(c, "c-1") is State.DUE
