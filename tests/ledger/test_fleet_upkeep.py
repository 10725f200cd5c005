"""Work that one instance of a fleet does for all, and what becomes of those that are gone. Failures of other queues are named."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.ledger.parts import NOW, SENT, claimed, egress, put, recording, state, take, waiting
from tests.ledger.postgres_server import Cluster, needs_postgres
from tunerd.call import AudioPlan, AudioState, Call, Fail, Publish, State, UrlStrategy
from tunerd.clock import Clock
from tunerd.ledger import FAR_NOT_YET, Admission, FarRule, FileMark, Filter, Retention
from tunerd.ledger.disks import Disks
from tunerd.testing import FakeClock, Recorder, make_call

if TYPE_CHECKING:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger
    from tunerd.ledger.postgresql.postgresql_server import Connection, Server

pytestmark = needs_postgres

Open = Callable[..., "Awaitable[PostgresqlLedger]"]
KEEP = Retention(sent_s=1e9, failed_s=1e9, recordings_s=1e9, max_failed_bytes=1 << 40, marks_s=7 * 86_400.0)
LONG_AGO = "extract(epoch FROM clock_timestamp()) - 8 * 86400"
MARK = FileMark(source="agent", path="/calls/call-1.json", device=1, inode=7, size=9, mtime_ns=5, offset=9, content=b"hash")


@pytest.fixture
def server(postgres: Cluster) -> "Server":
    from tunerd.ledger.postgresql.postgresql_server import Pulse

    return replace(postgres.server(), pulse=Pulse(every_s=0.2))


@pytest.fixture
async def open_instance(server: "Server") -> AsyncIterator[Open]:
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    opened: list[PostgresqlLedger] = []

    async def start(name: str, clock: Clock | None = None) -> PostgresqlLedger:
        disks = Disks(volumes={"agent": "v1"})
        opened.append(await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, clock=clock, disks=disks))
        return opened[-1]

    yield start
    for ledger in opened:
        await ledger.close()


@pytest.fixture
def database(server: "Server") -> "Iterator[Connection]":
    """Beside the instances; the tables are there after the first start."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


@pytest.fixture
async def database_of_a(open_instance: Open, server: "Server") -> "AsyncIterator[Connection]":
    """With one call that is being sent."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    a = await open_instance("a")
    await put(a, make_call("c1"))
    await claimed(a)
    connection = connect(server)
    connection.execute(f"SET search_path = {server.search_path}")
    yield connection
    connection.close()


async def start_that_is_gone(server: "Server", name: str = "gone") -> "PostgresqlLedger":
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    return await PostgresqlLedger.open(server, now=NOW, emit=Recorder(), instance=name, disks=Disks(volumes={"agent": "v1"}))


def with_audio(call_id: str = "c1") -> Call:
    plan = AudioPlan(publish=Publish.UPLOAD)
    return make_call(call_id, strategies=(UrlStrategy(location="file:///r.ogg"),), audio=plan)


async def test_one_instance_ends_the_waits_of_all(open_instance: Open) -> None:
    """The first that comes to it does it from then on; when it has ended, another one does."""
    from tunerd.ledger.postgresql.postgresql_ledger import PostgresqlLedger

    a: PostgresqlLedger = await open_instance("a")
    b = await open_instance("b")
    await a.tick(NOW)
    await put(b, waiting("c1", egress(wait_s=10), on_missing=Fail()))
    assert await b.tick(NOW + 20) == ((), None)
    assert await state(b, "c1") is State.WAITING
    assert await b.trim(KEEP, NOW + 20) == 0
    failed, _ = await a.tick(NOW + 20)
    assert [one.call_id for one in failed] == ["c1"]


async def test_a_lease_of_an_instance_that_ended_is_free(server: "Server", open_instance: Open) -> None:
    """Nobody waits until it is over."""
    gone = await start_that_is_gone(server)
    await gone.tick(NOW)
    b = await open_instance("b")
    await put(b, waiting("c1", egress(wait_s=10), on_missing=Fail()))
    assert (await b.tick(NOW + 20))[0] == ()
    await gone.close()
    assert [one.call_id for one in (await b.tick(NOW + 20))[0]] == ["c1"]


async def test_a_lease_that_is_over_is_taken(open_instance: Open, database: "Connection") -> None:
    """Of an instance that was killed. One that wakes up again does nothing more under it."""
    a, b = await open_instance("a"), await open_instance("b")
    await a.tick(NOW)
    database.execute("UPDATE lease SET until = until - 3600")
    await put(b, waiting("c1", egress(wait_s=10), on_missing=Fail()))
    assert [one.call_id for one in (await b.tick(NOW + 20))[0]] == ["c1"]
    await put(b, waiting("c2", egress(wait_s=10), at_s=5000.0, on_missing=Fail()))
    assert (await a.tick(NOW + 20))[0] == ()


async def test_the_wall_clock_of_one_host_moves_nobodys_times(open_instance: Open) -> None:
    """oban-py 0.6.2: the clock of a steps back by an hour. What is due for b stays due, and b does the upkeep."""
    a, b = await open_instance("a"), await open_instance("b")
    await put(a, make_call("c1"))
    await a.shift(-3600.0)
    await b.shift(3600.0)
    assert (await claimed(b, NOW)).call_id == "c1"


async def test_a_host_with_a_wrong_clock_leaves_the_upkeep_to_others(open_instance: Open, database: "Connection") -> None:
    """Its idea of `now` would end waits too early or never. If nobody else does the upkeep for a while, it has to."""
    wrong = await open_instance("wrong", FakeClock())
    await with_clock(wrong)
    right = await open_instance("right")
    database.execute(f"INSERT INTO lease (name, holder, until) VALUES ('upkeep', -1, {LONG_AGO} + 8 * 86400 - 1)")
    await put(right, waiting("c1", egress(wait_s=10), on_missing=Fail()))
    assert (await wrong.tick(NOW + 20))[0] == ()
    assert [one.call_id for one in (await right.tick(NOW + 20))[0]] == ["c1"]
    database.execute("UPDATE lease SET until = until - 3600")
    await put(right, waiting("c2", egress(wait_s=10), at_s=5000.0, on_missing=Fail()))
    assert [one.call_id for one in (await wrong.tick(NOW + 20))[0]] == ["c2"]


async def test_alone_a_jump_of_the_clock_moves_what_waits(open_instance: Open) -> None:
    """As where one process owns the ledger."""
    a = await open_instance("a")
    await put(a, make_call("c1"))
    await a.shift(3600.0)
    assert (await take(a, NOW + 10)).claimed is None


async def test_nobody_takes_a_far_recording_while_one_instance_reads_for_the_first_time(open_instance: Open) -> None:
    """The nearer recording may be in what that instance has not read yet."""
    a, b = await open_instance("a"), await open_instance("b")
    await b.set_far_rule(FAR_NOT_YET, NOW)
    await put(a, waiting("c1", egress(within_s=600.0, wait_s=10)))
    await a.admit(Admission(recordings=(recording(at_s=300.0),)), NOW)
    await a.tick(NOW + 100)
    await b.tick(NOW + 100)
    assert await state(a, "c1") is State.WAITING
    await b.set_far_rule(FarRule(), NOW + 100)
    await a.tick(NOW + 200)
    await b.tick(NOW + 200)
    assert await state(a, "c1") is State.DUE


async def test_an_instance_that_died_while_it_read_holds_nobody_up(open_instance: Open, database: "Connection") -> None:
    """It counts as long as it lives."""
    a, b = await open_instance("a"), await open_instance("b")
    await b.set_far_rule(FAR_NOT_YET, NOW)
    database.execute("UPDATE instance SET is_over = 1 WHERE name = 'b'")
    database.execute("DELETE FROM lease")
    await put(a, waiting("c1", egress(within_s=600.0, wait_s=10)))
    await a.admit(Admission(recordings=(recording(at_s=300.0),)), NOW)
    await a.tick(NOW + 100)
    assert await state(a, "c1") is State.DUE


async def test_audio_of_a_host_that_is_gone_fails(server: "Server", open_instance: Open, database: "Connection") -> None:
    """After `keep_marks` and not before: failed(audio_host_lost)."""
    gone = await start_that_is_gone(server)
    await put(gone, with_audio())
    await gone.close()
    a = await start_that_is_gone(server, "a")
    assert (await a.tick(NOW))[0] == ()
    database.execute(f"UPDATE instance SET heartbeat_at = {LONG_AGO} WHERE name = 'gone'")
    b = await open_instance("b")
    await a.close()
    failed, _ = await b.tick(NOW)
    assert [(one.call_id, one.refusal.reason) for one in failed] == [("c1", "audio_host_lost")]
    (call,) = await b.calls(Filter())
    assert (call.state, call.audio) == (State.FAILED, AudioState.FAILED)


async def test_what_an_instance_leaves_behind_is_folded_and_removed(
    server: "Server", open_instance: Open, database: "Connection"
) -> None:
    """Its counts go into one row each at once, its marks and itself after `keep_marks`; the sums stay."""
    gone = await start_that_is_gone(server)
    await gone.admit(Admission(calls=(make_call(),), mark=MARK), NOW)
    await gone.close()
    a = await open_instance("a")
    await a.admit(Admission(mark=MARK), NOW)
    before = database.execute("SELECT name, sum(amount) FROM counts GROUP BY name ORDER BY name").fetchall()
    assert await a.trim(KEEP, NOW) == 0
    assert database.execute("SELECT DISTINCT holder FROM counts").fetchall() == [(0,)]
    assert database.execute("SELECT name, sum(amount) FROM counts GROUP BY name ORDER BY name").fetchall() == before
    assert database.execute("SELECT count(*) FROM file").fetchone() == (2,)
    database.execute(f"UPDATE instance SET heartbeat_at = {LONG_AGO} WHERE name = 'gone'")
    database.execute(f"UPDATE volume SET seen_at = {LONG_AGO} WHERE owner <> (SELECT number FROM instance WHERE name = 'a')")
    while await a.trim(KEEP, NOW):
        pass
    assert database.execute("SELECT name FROM instance").fetchall() == [("a",)]
    assert database.execute("SELECT count(*) FROM file").fetchone() == (1,)
    assert await a.mark("agent", "/calls/call-1.json") == MARK


async def test_calls_of_an_instance_whose_row_is_gone_are_sent(
    server: "Server", open_instance: Open, database: "Connection"
) -> None:
    """procrastinate #1518: a worker's row was pruned before its jobs counted as stalled, and they stayed with nobody; then a pod
    came back under the same name."""
    gone = await start_that_is_gone(server)
    await put(gone, make_call("c1"))
    held = await claimed(gone)
    await gone.close()
    database.execute("DELETE FROM instance WHERE name = 'gone'")
    again = await open_instance("gone")
    assert (await claimed(again)).body == held.body


async def test_a_start_gives_nobody_up_who_is_only_silent(open_instance: Open, database_of_a: "Connection") -> None:
    """After the database was away every instance is silent for a moment: who starts first has not heard anybody for 30 s."""
    database = database_of_a
    database.execute(
        "INSERT INTO instance VALUES ('silent', 98, 998, '1', 'silent', '', 0, extract(epoch FROM clock_timestamp()) - 60, 0, 0)"
    )
    database.execute("UPDATE call SET holder = 998, claims = claims + 1")
    await open_instance("b")
    assert database.execute("SELECT state, holder FROM call").fetchone() == ("sending", 998)


async def test_a_recovery_that_comes_late_takes_nothing_from_the_new_holder(
    server: "Server", open_instance: Open, database: "Connection"
) -> None:
    """DBOS #742: it read who is dead, waits, and meanwhile another instance has recovered the call and sends it."""
    from tunerd.ledger.postgresql.instances import give_up_dead

    gone = await start_that_is_gone(server)
    await put(gone, make_call("c1"))
    held = await claimed(gone)
    a = await open_instance("a")
    database.execute("BEGIN")
    database.execute("UPDATE instance SET is_over = 1 WHERE name = 'gone'")
    recovery = a._do(lambda store: give_up_dead(store, 30.0, NOW))
    late = asyncio.ensure_future(recovery)
    async with asyncio.timeout(10):
        while not database.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            await asyncio.to_thread(lambda: None)
    database.execute("UPDATE call SET holder = 999, claims = claims + 1 WHERE row = %s", (held.row,))
    database.execute("INSERT INTO instance VALUES ('b', 99, 999, '1', 'b', '', 0, extract(epoch FROM clock_timestamp()), 0, 0)")
    database.execute("COMMIT")
    await late
    assert database.execute("SELECT state, holder FROM call").fetchone() == ("sending", 999)
    await gone.close()


async def test_a_large_backlog_of_a_dead_instance_is_recovered_whole(server: "Server", open_instance: Open) -> None:
    """river #1318: a rescuer looked at one page, again and again. More than two pages of calls, all due at the next start."""
    gone = await start_that_is_gone(server)
    await put(gone, *(make_call(f"c{number}") for number in range(600)))
    for _ in range(600):
        assert (await take(gone)).claimed is not None
    await gone.close()
    again = await open_instance("a")
    assert len(await again.calls(Filter(states=frozenset({State.DUE})), limit=1000)) == 600


async def test_a_start_reads_little_however_much_there_is(server: "Server", database: "Connection") -> None:
    """procrastinate #1454: with 300,000 sent calls and 20,000 due ones a start reads some rows of the table, and not all."""
    first = await start_that_is_gone(server, "first")
    await put(first, make_call("sent"), make_call("due"))
    sent = await claimed(first)
    await first.settle(sent.row, SENT, NOW)
    await first.close()
    names = [name for (name,) in database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = 'call' "
        "AND column_name NOT IN ('row', 'call_id') ORDER BY ordinal_position")]  # fmt: skip
    listed = ", ".join(f'"{name}"' for name in names)
    for kind, count in (("sent", 300_000), ("due", 20_000)):
        database.execute(
            f"INSERT INTO call (row, call_id, {listed}) SELECT nextval('call_row'), '{kind}' || n, {listed} "
            f"FROM call, generate_series(1, {count}) AS n WHERE state = '{kind}' AND call_id IN ('sent', 'due')"
        )
    database.execute("ANALYZE call")
    read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = 'call'::regclass"
    database.execute("SELECT pg_stat_force_next_flush()")
    before = database.execute(read).fetchone()
    await (await start_that_is_gone(server, "second")).close()
    after = database.execute(read).fetchone()
    assert before is not None
    assert after is not None
    assert after[0] - before[0] < 1000


async def with_clock(ledger: "PostgresqlLedger") -> None:
    """Until a heartbeat has told how wrong it is."""
    async with asyncio.timeout(20):
        while not ledger.heartbeat._renewals.clock_ahead_s:
            await ledger.alive()
