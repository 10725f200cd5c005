"""`tunerd run` with a ledger in PostgreSQL: several daemons share it."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.fleet import Relay
from tests.e2e.harness import (
    Daemon,
    Process,
    Sandbox,
    call_document,
    command,
    config_text,
    manifest,
    put,
    running,
    sandbox,
    until,
)
from tests.ledger.postgres_server import Cluster, cluster, needs_postgres
from tunerd.sandbox.faults import Faults

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture
def url(postgres: Cluster) -> str:
    """Of a new database."""
    return postgres.database()


@pytest.fixture
async def tuner(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with sandbox(tmp_path, Faults(latency_s=0.05)) as server:
        yield server


def configuration(directory: Path, tuner: Sandbox, url: str, name: str, more: str = "") -> Path:
    """Of an instance with directories of its own."""
    own = directory / name
    for part in ("calls", "recordings"):
        (own / part).mkdir(parents=True)
    text = config_text(tuner.url, own).replace(f"sqlite://{own}/ledger.db", f"{url}\n  directory: {own}/local")
    (own / "tunerd.yaml").write_text(f"{text}instance: {name}\n{more}")
    return own / "tunerd.yaml"


async def test_two_daemons_share_the_work(tmp_path: Path, url: str) -> None:
    """What one reads both send, each call once."""
    ids = [f"c{number}" for number in range(60)]
    async with AsyncExitStack() as stack:
        tuner = await stack.enter_async_context(sandbox(tmp_path, Faults(latency_s=0.5)))  # one alone would take 4 s
        one, other = (configuration(tmp_path, tuner, url, name) for name in ("one", "other"))
        a, b = [await stack.enter_async_context(running(config)) for config in (one, other)]
        for call_id in ids:
            put(one.parent / "calls" / f"{call_id}.json", call_document(call_id))
        await tuner.has(*ids)
        assert await tuner.accepted() == dict.fromkeys(ids, 1)

        async def both() -> bool:
            counts = [await daemon.metric("tunerd_calls_sent_total") or 0 for daemon in (a, b)]
            return sum(counts) == len(ids) and all(counts)

        await until(both)
        assert await a.stop() == 0
        assert await b.stop() == 0


async def test_the_manifest_at_one_sends_the_call_of_the_other(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """Egress writes in one place, agents in another."""
    one, other = (configuration(tmp_path, tuner, url, name) for name in ("one", "other"))
    async with running(one) as a, running(other):
        put(one.parent / "calls" / "c1.json", call_document("c1", room="room-1"))

        async def waits() -> bool:
            return await a.states() == {"waiting": 1}

        await until(waits)
        put(other.parent / "recordings" / "r1.json", manifest("room-1"))
        await tuner.has("c1", ceiling_s=10)
        assert (await tuner.bodies())["c1"]["recording_url"] == "https://audio.example/rooms/room-1.ogg"


async def test_a_wrong_password_is_one_line_and_78(tmp_path: Path, tuner: Sandbox, url: str, postgres: Cluster) -> None:
    """And the line does not quote it."""
    from tunerd.ledger.postgresql.postgresql_server import connect

    with connect(postgres.server()) as connection:
        connection.execute("CREATE ROLE needs_password LOGIN PASSWORD 'the-right-one'")
    config = configuration(tmp_path, tuner, url.replace("postgres@", "needs_password:mistaken@"), "one")
    code, said = await ended(config)
    assert code == 78
    (line,) = [line for line in said.splitlines() if line.startswith("tunerd:")]
    assert "the password is wrong" in line
    assert "mistaken" not in said


async def test_without_psycopg_it_is_one_line_and_78(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """It names what to install."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "psycopg.py").write_text("raise ImportError('not installed')\n")
    code, said = await ended(configuration(tmp_path, tuner, url, "one"), PYTHONPATH=str(tmp_path / "broken"))
    assert code == 78
    (line,) = [line for line in said.splitlines() if line.startswith("tunerd:")]
    assert "pip install 'tunerd[postgres]'" in line


async def test_a_server_that_comes_later_is_waited_for(tmp_path: Path, tuner: Sandbox) -> None:
    """A pod that starts before its database starts to work without a restart."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    config = configuration(tmp_path, tuner, f"postgresql://postgres@127.0.0.1:{port}/postgres", "one")
    daemon = await Daemon.start("run", "--config", str(config), output=config.parent / "tunerd.log")
    try:
        await until(lambda: daemon.told("the ledger cannot be written; reading is paused until it can"))
        with cluster(port):
            put(config.parent / "calls" / "c1.json", call_document("c1"))
            await tuner.has("c1")
            await daemon.stop()
    finally:
        await daemon.kill()


async def ended(config: Path, **environ: str) -> tuple[int, str]:
    process = await Process.start("run", "--config", str(config), output=config.parent / "said", environ=environ)
    try:
        return await process.ended(), process.said
    finally:
        await process.kill()


async def test_status_lists_the_instances(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """From anywhere: since when, on which host, how old the heartbeat is, how many calls are in flight. One that stopped in order
    is not listed any more, and a command without a daemon is none."""
    one, other = (configuration(tmp_path, tuner, url, name) for name in ("one", "other"))
    async with running(one) as a:
        async with running(other):
            document = json.loads(await a.get("/status.json"))
            assert document["daemon"]["instance"] == "one"
            assert document["daemon"]["ledger"].endswith(url.rpartition("@")[2])
            rows = document["instances"]
            assert [(row["name"], row["host"], row["in_flight"]) for row in rows] == [
                ("one", socket.gethostname(), 0), ("other", socket.gethostname(), 0),
            ]  # fmt: skip
            assert all(0 <= row["heartbeat_age_s"] < 20 and row["started_at"] > 0 for row in rows)
            assert await a.metric("tunerd_ledger_calls", state="sent") == 0
            put(other.parent / "calls" / "c1.json", call_document("c1"))

            async def is_counted() -> bool:
                return await a.metric("tunerd_ledger_calls", state="sent") == 1

            await until(is_counted)
            code, said = await command(one, "status")
            assert code == 0
            assert "one (this one)   tunerd" in said
        code, said = await command(other, "status", "--json")  # of the ledger itself: its daemon has ended
        status = json.loads(said)
        assert (code, status["daemon"]["running"], status["calls"]["sent"]["count"]) == (0, False, 1)
    assert [row["name"] for row in status["instances"]] == ["one", "other"], "killed, and not given up yet"


async def test_orders_go_to_the_ledger_where_no_daemon_runs(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """A failed call is listed, retried and dismissed from a machine without a daemon."""
    one, other = (configuration(tmp_path, tuner, url, name) for name in ("one", "other"))
    async with running(one) as a:
        put(one.parent / "calls" / "broken.json", {"id": "broken"})

        async def has_failed() -> bool:
            return await a.states() == {"failed": 1}

        await until(has_failed)
        code, said = await command(other, "failed")
        assert "broken" in said
        code, said = await command(other, "dismiss", "broken")
        assert (code, said) == (0, "1 call dismissed\n")

        async def is_gone() -> bool:
            return await a.states() == {}

        await until(is_gone)


async def test_a_second_daemon_of_one_name_ends_the_first_with_75(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """The first learns of it at its next heartbeat, sends nothing more, and says what to do."""
    one = configuration(tmp_path, tuner, url, "one")
    other = configuration(tmp_path, tuner, url, "other")
    other.write_text(other.read_text().replace("instance: other", "instance: one"))
    async with running(one) as a, running(other) as b:
        assert await a.ended(ceiling_s=30) == 75
        assert "another tunerd was started with this instance's name" in a.said
        put(one.parent / "calls" / "late.json", call_document("late"))
        put(other.parent / "calls" / "c1.json", call_document("c1"))
        await tuner.has("c1")
        assert await tuner.accepted() == {"c1": 1}
        assert await b.stop() == 0


async def test_sigterm_leaves_no_call_behind(tmp_path: Path, url: str) -> None:
    """Calls whose requests were open are due again when the process has ended, and another daemon sends them at once
    (pgqueuer #630)."""
    async with sandbox(tmp_path, Faults(latency_s=60.0)) as slow:
        one = configuration(tmp_path, slow, url, "one")
        async with running(one) as a:
            for number in range(20):
                put(one.parent / "calls" / f"c{number}.json", call_document(f"c{number}"))

            async def sends() -> bool:
                return (await a.states()).get("sending", 0) >= 1

            await until(sends)
            assert await a.stop() == 0
        from tunerd.ledger.postgresql.postgresql_server import Server, connect

        with connect(Server(url=url)) as connection:
            found = connection.execute("SELECT state, count(*) FROM tunerd.call GROUP BY state").fetchall()
        assert found == [("due", 20)]


async def test_a_network_that_stalls_is_no_reason_to_restart(tmp_path: Path, tuner: Sandbox, url: str, postgres: Cluster) -> None:
    """While the connections to the database are open and nothing comes through, the health check does not fail: a restart would not
    help, and would restart the agents' pods. Afterwards every call arrives, once."""
    async with Relay(postgres.port).listening() as relay:
        one = configuration(tmp_path, tuner, url.replace(f":{postgres.port}/", f":{relay.port}/"), "one")
        async with running(one) as a:
            await until(lambda: a.told("listening"))
            put(one.parent / "calls" / "before.json", call_document("before"))
            await tuner.has("before")
            relay.stall()
            put(one.parent / "calls" / "meanwhile.json", call_document("meanwhile"))
            for _ in range(2):  # each takes some seconds: the writer does not answer
                assert await a.healthy()
            relay.flow()
            await tuner.has("meanwhile")
            assert await a.stop() == 0
    assert await tuner.accepted() == {"before": 1, "meanwhile": 1}


async def test_the_database_is_away_for_a_while(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """Files wait, and the daemon stays healthy; when the server is back every call arrives once, without a restart."""
    with cluster() as server:
        one = configuration(tmp_path, tuner, server.database(), "one")
        async with running(one) as a:
            await until(lambda: a.told("listening"))
            put(one.parent / "calls" / "before.json", call_document("before"))
            await tuner.has("before")
            await asyncio.to_thread(server.stop)
            put(one.parent / "calls" / "meanwhile.json", call_document("meanwhile"))
            await until(lambda: a.told("source paused"))
            assert await a.healthy()
            await asyncio.to_thread(server.start)
            await tuner.has("meanwhile")
            assert await a.stop() == 0
    assert await tuner.accepted() == {"before": 1, "meanwhile": 1}


async def test_the_calls_of_a_lost_host_are_sent(tmp_path: Path, url: str) -> None:
    """An instance is killed while Tuner takes nothing, and its directory is deleted. Another one sends what it had read, once."""
    async with sandbox(tmp_path, Faults(require_key="another")) as down:
        one, other = (configuration(tmp_path, down, url, name) for name in ("one", "other"))
        ids = [f"c{number}" for number in range(10)]
        async with running(one) as a, running(other):
            for call_id in ids:
                put(one.parent / "calls" / f"{call_id}.json", call_document(call_id))

            async def are_read() -> bool:
                return await a.states() == {"due": len(ids)}

            await until(are_read)
            await a.kill()
            await asyncio.to_thread(shutil.rmtree, one.parent)
            await down.plan({"require_key": None})
            assert (await command(other, "resume"))[0] == 0
            await down.has(*ids)
            assert await down.accepted() == dict.fromkeys(ids, 1)


async def test_a_shared_directory_is_read_by_one_instance(tmp_path: Path, tuner: Sandbox, url: str) -> None:
    """kill -9 of the one that reads: the other reads on. `tunerd run --once` beside it reads nothing. Each document is read, counted
    and sent once."""
    calls = tmp_path / "volume"
    calls.mkdir()

    def sharing(name: str) -> Path:
        config = configuration(tmp_path, tuner, url, name)
        own = f"path: {config.parent}/calls"
        config.write_text(config.read_text().replace(own, f"path: {calls}\n    shared: true"))
        return config

    async with running(sharing("one")) as a:
        await until(lambda: a.told("this instance reads the shared source"))
        async with running(sharing("other")) as b:
            await until(lambda: b.told("another instance reads the shared source"))
            for number in range(10):
                put(calls / f"{number}.json", call_document(f"c{number}"))
            put(calls / "bad.json", {"neither": "a call"})
            await tuner.has(*[f"c{number}" for number in range(10)])
            code, said = await command(sharing("once"), "run", "--once")
            assert code == 1, said
            assert "10 sent, 1 failed" in said
            assert "another instance reads the shared source" in said
            await a.kill()
            for number in range(10, 20):
                put(calls / f"{number}.json", call_document(f"c{number}"))
            await tuner.has(*[f"c{number}" for number in range(20)])
            assert b.told("this instance reads the shared source")
            assert await b.metric("tunerd_documents_read_total") == 10
            assert (await b.states())["failed"] == 1
            assert await b.stop() == 0
    assert await tuner.accepted() == {f"c{number}": 1 for number in range(20)}
