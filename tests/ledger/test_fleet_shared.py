"""A source that every instance sees (`shared: true`) is read by one of them at a time, and by another one when that is gone."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.harness import until
from tests.intake.harness import map_call, put, source
from tests.ledger.parts import NOW, file_mark, refused
from tests.ledger.postgres_server import Cluster, needs_postgres
from tests.ledger.test_contract_gather import collect, fragment, group
from tests.ledger.test_fleet_heartbeat import quick
from tunerd.clock import SystemClock
from tunerd.events import CallAdmitted, CallFailed, DocumentIgnored, DocumentsRead, ReaderChanged
from tunerd.intake.sources import Intake
from tunerd.ledger import Admission, CheckAgain, Filter, GroupResult, NotTheReader
from tunerd.ledger.disks import Disks
from tunerd.testing import MemoryLedger, Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Connection, Server

pytestmark = needs_postgres

Open = Callable[[str], "Awaitable[PostgresqlLedger]"]
SHARED = frozenset({"agent"})
GIVEN_UP = "UPDATE instance SET is_over = 1 WHERE name = 'a'"
"""After this the other instances count instance `a` as ended, although it still runs."""
READS = """
import asyncio, sys
from pathlib import Path
from tests.ledger.test_fleet_heartbeat import quick
from tests.ledger.test_fleet_shared import reads
from tunerd.ledger.postgresql.postgresql_server import Server

asyncio.run(reads(quick(Server(url=sys.argv[1], schema=sys.argv[2])), sys.argv[3], Path(sys.argv[4])))
"""


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    return quick(postgres.server())


@pytest.fixture
async def open_instance(server: "Server") -> AsyncIterator[Open]:
    """Those that are open at the end are closed."""
    opened: list[PostgresqlLedger] = []

    async def start(name: str) -> "PostgresqlLedger":
        opened.append(await opened_ledger(server, name))
        return opened[-1]

    yield start
    for ledger in opened:
        if not ledger.heartbeat._ended.is_set():
            await ledger.close()


@pytest.fixture
def database(server: "Server") -> "Iterator[Connection]":
    from tunerd.ledger.postgresql.postgresql_server import connect

    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


async def opened_ledger(server: "Server", name: str) -> "PostgresqlLedger":
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    return await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, disks=Disks(shared=SHARED))


def intake_of(ledger: "PostgresqlLedger | MemoryLedger", root: Path, told: Recorder) -> Intake:
    return Intake([source(root, shared=True, rescan_s=0.2)], ledger, {"agent": map_call}, SystemClock(), told)


@dataclass
class Reading:
    intake: Intake
    told: Recorder
    stop: asyncio.Event


@asynccontextmanager
async def reading(ledger: "PostgresqlLedger | MemoryLedger", root: Path) -> AsyncIterator[Reading]:
    """An instance whose intake runs. On PostgreSQL it has said who reads the source."""
    told, stop = Recorder(), asyncio.Event()
    intake = intake_of(ledger, root, told)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(intake.run(stop))
        try:
            if ledger.fleet.is_shared:
                await told.until(ReaderChanged)
            yield Reading(intake, told, stop)
        finally:
            stop.set()


async def reads(server: "Server", name: str, root: Path) -> None:
    """What a process of the tests does: one instance, until its input ends. It writes which calls it admitted."""
    ledger = await opened_ledger(server, name)
    async with reading(ledger, root) as own:
        print(f"reads: {own.told.seen(ReaderChanged)[0].reader or name}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(*[event.call_id for event in own.told.seen(CallAdmitted)], flush=True)
    await ledger.close()


async def process_that_reads(server: "Server", name: str, root: Path) -> asyncio.subprocess.Process:
    """Gives it once it has said who reads the source."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READS, server.url, server.schema, name, str(root),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == f"reads: {name}\n".encode()
    return process


async def rows(ledger: "PostgresqlLedger", count: int) -> list[str]:
    """The call ids of all rows ("" without one), once there are `count` rows."""

    async def found() -> list[str]:
        listed = sorted(one.call_id or "" for one in await ledger.calls(Filter(dismissed=None)))
        return listed if len(listed) >= count else []

    return list(await until(found))


def write(root: Path, first: int, last: int) -> None:
    for number in range(first, last):
        put(root / f"{number}.json", {"id": f"c{number}"})


async def test_of_two_instances_one_reads(open_instance: Open, tmp_path: Path) -> None:
    """Calls, documents that are left out and documents that are refused: each is read, counted and stored once."""
    a, b = await open_instance("a"), await open_instance("b")
    async with reading(a, tmp_path) as here, reading(b, tmp_path) as there:
        write(tmp_path, 0, 5)
        put(tmp_path / "ignored.json", {"ignore": True})
        put(tmp_path / "refused.json", {"boom": True})
        await here.told.until(DocumentsRead, 7)
        assert await rows(b, 7) == ["", "", "c0", "c1", "c2", "c3", "c4"]
        assert [one.read_by for one in (*here.intake.statuses(), *there.intake.statuses())] == [None, "a"]
        assert there.intake.look() == there.intake.looked(), "where another instance reads nothing is left to be looked at"
    facts = (DocumentsRead, CallAdmitted, CallFailed, DocumentIgnored)
    assert [len(here.told.seen(kind)) for kind in facts] == [7, 5, 1, 1]
    assert [len(there.told.seen(kind)) for kind in facts] == [0, 0, 0, 0]
    assert [one.reader for one in (*here.told.seen(ReaderChanged), *there.told.seen(ReaderChanged))] == ["", "a"]


async def test_after_an_orderly_stop_another_one_reads_on(open_instance: Open, tmp_path: Path) -> None:
    """It does so before the first has closed its ledger, and begins where that one stopped: the mark of a log never goes back."""
    a, b = await open_instance("a"), await open_instance("b")
    log = tmp_path / "calls.ndjson"
    lines = [json.dumps({"id": f"l{number}"}) + "\n" for number in range(40)]
    async with reading(a, tmp_path) as here, reading(b, tmp_path) as there:
        log.write_text("".join(lines[:20]))
        await here.told.until(CallAdmitted, 20)
        here.stop.set()
        await there.told.until(ReaderChanged, 2)
        mark = await b.mark("agent", str(log))
        assert mark is not None
        assert mark.offset == len("".join(lines[:20]))
        with log.open("a") as end:
            end.writelines(lines[20:])
        assert [one.call_id for one in await there.told.until(CallAdmitted, 20)] == [f"l{number}" for number in range(20, 40)]
    assert len(await rows(b, 40)) == 40


async def test_a_reader_that_is_killed_is_succeeded(server: "Server", open_instance: Open, tmp_path: Path) -> None:
    """kill -9 while files come: the other instance reads on once the first is silent. Nothing is lost, and nothing is there twice."""
    b = await open_instance("b")
    process = await process_that_reads(server, "a", tmp_path)
    async with reading(b, tmp_path) as there:
        write(tmp_path, 0, 30)
        await rows(b, 5)
        process.kill()
        await process.wait()
        write(tmp_path, 30, 40)
        assert await rows(b, 40) == sorted(f"c{number}" for number in range(40))
        read_there = [one.call_id for one in there.told.seen(CallAdmitted)]
        assert {f"c{number}" for number in range(30, 40)} <= set(read_there)
        assert there.intake.statuses()[0].read_by is None


async def test_a_reader_that_is_stopped_for_long_reads_nothing_more(
    server: "Server", open_instance: Open, tmp_path: Path
) -> None:
    """SIGSTOP until another instance has taken over: when it continues it admits nothing of what is in the directory."""
    b = await open_instance("b")
    process = await process_that_reads(server, "a", tmp_path)
    async with reading(b, tmp_path) as there:
        write(tmp_path, 0, 5)
        await rows(b, 5)
        process.send_signal(signal.SIGSTOP)
        write(tmp_path, 5, 10)
        assert len(await there.told.until(CallAdmitted, 5)) == 5
        process.send_signal(signal.SIGCONT)
        write(tmp_path, 10, 15)
        await there.told.until(CallAdmitted, 10)
        said, _ = await process.communicate(b"")
        assert sorted(said.decode().split()) == [f"c{number}" for number in range(5)]
    assert await rows(b, 15) == sorted(f"c{number}" for number in range(15))


async def test_what_comes_late_from_an_instance_that_lost_its_turn_changes_nothing(
    open_instance: Open, database: "Connection"
) -> None:
    """It was silent for too long and another one reads now: documents, marks, vanished files and looks at gathered calls."""
    a, b = await open_instance("a"), await open_instance("b")
    assert await a.fleet.begin_reading("agent") == ""
    assert await b.fleet.begin_reading("agent") == "a"
    await collect(a, fragment())
    late = GroupResult(row=(await group(a)).row, version=(await group(a)).version, result=CheckAgain(at=NOW + 5))
    database.execute(GIVEN_UP)
    assert await b.fleet.begin_reading("agent") == ""
    await b.set_mark(file_mark(offset=100), NOW)
    for command in (
        a.admit(Admission(calls=(make_call(),), mark=file_mark(offset=50)), NOW),
        a.admit(Admission(refused=(refused(),)), NOW),
        a.admit(Admission(lost=[("agent", 1)]), NOW),
        a.set_mark(file_mark(offset=50), NOW),
        a.vanished("agent", [file_mark().path], NOW),
        a.disposed("agent", file_mark().path, NOW),
        a.gather([late], NOW),
    ):
        with pytest.raises(NotTheReader):
            await command
    assert not await a.fleet.still_reads("agent")
    mark = await b.mark("agent", file_mark().path)
    assert mark is not None
    assert mark.offset == 100
    assert [one.call_id for one in await b.calls(Filter())] == ["k"]


async def test_an_instance_that_lost_its_turn_has_to_begin_anew(open_instance: Open, database: "Connection") -> None:
    """The turn that another one had meanwhile, and has given back, is not the first one's again without being asked for."""
    a, b = await open_instance("a"), await open_instance("b")
    await a.fleet.begin_reading("agent")
    database.execute(GIVEN_UP)
    assert await b.fleet.begin_reading("agent") == ""
    await b.fleet.end_reading("agent")
    assert not await a.fleet.still_reads("agent")
    with pytest.raises(NotTheReader):
        await a.set_mark(file_mark(), NOW)
    assert await a.fleet.begin_reading("agent") == ""
    await a.set_mark(file_mark(), NOW)


async def test_a_sweep_leaves_the_source_to_an_instance_that_reads_it(open_instance: Open, tmp_path: Path) -> None:
    """`tunerd run --once` beside a daemon. Once nobody reads the source a sweep does, and `dispose` is for the one that reads."""
    a, b = await open_instance("a"), await open_instance("b")
    told = Recorder()
    once = intake_of(b, tmp_path, told)
    async with reading(a, tmp_path) as here:
        write(tmp_path, 0, 3)
        await here.told.until(CallAdmitted, 3)
        assert await once.sweep() == 0
        await once.dispose(asyncio.Event())
        assert (told.seen(DocumentsRead), list(once.unread())) == ([], [])
    write(tmp_path, 3, 5)
    await once.sweep()
    once.close()
    assert sorted(one.call_id for one in told.seen(CallAdmitted)) == ["c3", "c4"]
    assert [one.reader for one in told.seen(ReaderChanged)] == ["a", ""]


async def test_a_reload_gives_back_what_is_no_longer_read(open_instance: Open, tmp_path: Path) -> None:
    """The source is gone from one instance's configuration: another one reads it."""
    a, b = await open_instance("a"), await open_instance("b")
    async with reading(a, tmp_path) as here, reading(b, tmp_path) as there:
        await here.intake.update([], {})
        write(tmp_path, 0, 3)
        assert len(await there.told.until(CallAdmitted, 3)) == 3
        await there.intake.update([source(tmp_path, shared=True, rescan_s=0.3)], {"agent": map_call})
        write(tmp_path, 3, 5)
        assert len(await there.told.until(CallAdmitted, 5)) == 5


async def test_with_a_ledger_of_its_own_nobody_is_asked(tmp_path: Path) -> None:
    """`shared: true` has no effect on a ledger in a file."""
    async with reading(MemoryLedger(), tmp_path) as here:
        write(tmp_path, 0, 3)
        await here.told.until(CallAdmitted, 3)
        assert [one.read_by for one in here.intake.statuses()] == [None]
    assert here.told.seen(ReaderChanged) == []
