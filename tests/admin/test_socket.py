"""The control socket: a real Unix socket, its rights, and that both ends understand each other."""

import asyncio
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from tests.admin.benches import Bench, Rules, refused, remade
from tunerd.admin.api import (
    ORDERS,
    CallsOrder,
    DismissOrder,
    ForgetOrder,
    IdleOrder,
    Order,
    OrderRefused,
    PauseOrder,
    ReloadOrder,
    RemapOrder,
    ResumeOrder,
    RetryOrder,
    StatusOrder,
    StoryOrder,
)
from tunerd.admin.client import QUICK_S, AdminClient
from tunerd.admin.discovery import find_daemon
from tunerd.admin.protocol import ControlError, socket_places
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.admin.typed_json import from_json
from tunerd.call import State
from tunerd.ledger import LedgerUnavailable
from tunerd.ops.encoding import decoded, encoded
from tunerd.outcome import FailReason
from tunerd.testing import MemoryLedger

FAILED: Mapping[str, Any] = {"states": frozenset({State.FAILED})}


def ids(*call_ids: str) -> dict[str, Any]:
    return {"call_ids": frozenset(call_ids)}


def serving(bench: Bench, tmp_path: Path, **env: str) -> AbstractAsyncContextManager[Path]:
    return serve_orders(bench.admin, SocketPlaces(ledger=str(tmp_path / "ledger.db"), env=env))


def one_of_each() -> list[Order[Any]]:
    """Every order of the table, with arguments that reach the calls of `test_every_order_is_understood`."""
    arguments: dict[type[Order[Any]], dict[str, Any]] = {
        CallsOrder: FAILED | {"limit": 2},
        StoryOrder: {"call_id": "call-1"},
        RetryOrder: ids("call-1"),
        RemapOrder: ids("call-2"),
        DismissOrder: FAILED,
        ForgetOrder: {"call_id": "call-3"},
        ResumeOrder: {"destination": "tuner"},
    }
    return [kind(**arguments.get(kind, {})) for kind in ORDERS]


@pytest.mark.parametrize("order", one_of_each(), ids=lambda order: order.name)
async def test_every_order_is_understood(tmp_path: Path, order: Order[Any]) -> None:
    """The answer comes through the socket exactly as the service gives it, and is of the table's type."""
    first, second = [Bench(rules={"agent": Rules(remade())}) for _ in range(2)]
    for bench in (first, second):
        await bench.fail("call-1", "call-2", "call-3")
    async with serving(first, tmp_path) as path:
        answer = await AdminClient(path).ask(order)
    assert answer == await second.ask(order)
    assert type(answer) is order.answer


async def test_questions_can_be_asked_by_hand(tmp_path: Path) -> None:
    """With curl: GET and a query for what only reads, POST for the rest."""
    bench = Bench()
    await bench.fail("call-1", "call-2")
    async with serving(bench, tmp_path) as path, aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        query = "states=failed&states=due&reasons=rejected&dismissed=any&newest=true&since=12.5&limit=1&call_ids=call-2&path=/calls/call-2.json"
        async with session.get(f"http://tunerd/v1/calls?{query}") as response:
            assert [row["call_id"] for row in (await response.json())["calls"]] == ["call-2"]
        async with session.get("http://tunerd/v1/calls?limit=many") as response:
            assert (response.status, await response.json()) == (400, {"error": "limit must be a whole number"})
        async with session.get("http://tunerd/v1/retry") as response:
            assert response.status == 405


async def test_only_the_daemons_user_may_open_it(tmp_path: Path) -> None:
    """0600, whatever the umask."""
    before = os.umask(0)
    try:
        async with serving(Bench(), tmp_path) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.listdir(tmp_path) == ["ledger.db.sock"]
    finally:
        os.umask(before)
    assert not path.exists()


async def test_a_socket_that_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    """After SIGKILL the file is still there; nobody answers, and the next start takes its place."""
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "ledger.db.sock"))
    stale.close()
    assert find_daemon(str(tmp_path / "ledger.db"), {}) is None
    async with serving(Bench(), tmp_path):
        found = await asyncio.to_thread(find_daemon, str(tmp_path / "ledger.db"), {})
        assert found is not None
        assert (await found.ask(StatusOrder())).daemon.version == "1.2.3"


async def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    """A daemon that is slow to end does not take away the socket of the one that follows it."""
    async with serving(Bench(), tmp_path):
        second = serving(Bench(), tmp_path)
        path = await second.__aenter__()
    assert path.exists()
    assert (await AdminClient(path).ask(StatusOrder())).version == 1
    await second.__aexit__(None, None, None)
    assert not path.exists()


async def test_in_a_runtime_directory_it_is_found_from_beside_the_ledger(tmp_path: Path) -> None:
    """systemd gives the daemon RUNTIME_DIRECTORY; a command in a shell does not have it."""
    run, state = tmp_path / "run", tmp_path / "state"
    run.mkdir()
    state.mkdir()
    async with serving(Bench(), state, RUNTIME_DIRECTORY=f"{run}:/elsewhere") as path:
        assert path.parent == run
        assert await asyncio.to_thread(find_daemon, str(state / "ledger.db"), {}) is not None
    assert os.listdir(run) == os.listdir(state) == []


@contextmanager
def another_users(directory: Path) -> Iterator[None]:
    """`directory` is closed to whoever we are in here."""
    if os.geteuid():
        directory.chmod(0)
        yield
        directory.chmod(0o700)
        return
    directory.chmod(0o700)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory into which every user may look."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@pytest.mark.parametrize("has_ledger", [True, False])
def test_the_service_of_another_user_does_not_hide_a_ledger_of_ours(open_path: Path, has_ledger: bool) -> None:
    """/run/tunerd is closed to us, so nobody there can be the daemon of a ledger that is ours (or is not there yet)."""
    run, ledger = open_path / "run", open_path / "ledger.db"
    run.mkdir()
    if has_ledger:
        ledger.touch()
        ledger.chmod(0o666)
    with another_users(run):
        assert find_daemon(str(ledger), {}, run_directory=str(run)) is None


@pytest.mark.parametrize("runtime", [True, False])
def test_a_ledger_of_another_user_is_told_as_such(open_path: Path, runtime: bool) -> None:
    """The ledger is not ours to read, or its own socket is not ours to open: the line says whom to be."""
    run, ledger = open_path / "run", open_path / "ledger.db"
    run.mkdir()
    ledger.touch()
    ledger.chmod(0o666 if runtime else 0)
    env = {"RUNTIME_DIRECTORY": str(run)} if runtime else {}
    with another_users(run), pytest.raises(ControlError, match="answers only the user that tunerd runs as"):
        find_daemon(str(ledger), env, run_directory=str(run))


async def test_two_ledgers_share_a_runtime_directory(tmp_path: Path) -> None:
    """Each has its own socket in there."""
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    assert socket_places("/a/ledger.db", env)[0] != socket_places("/b/ledger.db", env)[0]


@pytest.mark.parametrize("name", ["ledger.db", "l" * 120])
async def test_paths_longer_than_a_socket_address(tmp_path: Path, name: str) -> None:
    """The kernel takes 107 bytes; directories and names may be longer."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with serve_orders(Bench().admin, SocketPlaces(ledger=str(deep / name), env={})):
        client = await asyncio.to_thread(find_daemon, str(deep / name), {})
        assert client is not None
        assert (await client.ask(IdleOrder())).idle is True


async def test_a_runtime_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """Where the directory is not there or not writable, the socket lies beside the ledger, and one line says so."""
    told: list[str] = []
    env = {"RUNTIME_DIRECTORY": str(tmp_path / "missing")}
    places = SocketPlaces(ledger=str(tmp_path / "ledger.db"), env=env, refused=told.append)
    async with serve_orders(Bench().admin, places) as path:
        assert path == tmp_path / "ledger.db.sock"
        client = await asyncio.to_thread(find_daemon, str(tmp_path / "ledger.db"), env)
        assert client is not None
    assert len(told) == 1
    assert re.fullmatch(rf"cannot open the control socket {tmp_path}/missing/\S+: No such file .*; it is {path} instead", told[0])


@pytest.mark.needs_root
def test_a_runtime_directory_that_is_closed_to_this_user(tmp_path: Path) -> None:
    """Where the user that tunerd runs as may not look into it, commands find the socket beside the ledger."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    code = (
        "import os, socket, sys\n"
        "from tunerd.admin.discovery import find_daemon\n"
        "os.setegid(65534); os.seteuid(65534)\n"
        "daemon = socket.socket(socket.AF_UNIX); daemon.bind(sys.argv[1] + '.sock'); daemon.listen()\n"
        "print(find_daemon(sys.argv[1], {'RUNTIME_DIRECTORY': sys.argv[2]}).path.name)\n"
        "daemon.close(); os.unlink(sys.argv[1] + '.sock')\n"
        "try: find_daemon(sys.argv[1], {'RUNTIME_DIRECTORY': sys.argv[2]})\n"
        "except Exception as exc: print(exc)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        os.chmod(tmp_path, 0o755)
        ran = subprocess.run([sys.executable, "-c", code, f"{place}/ledger.db", str(closed)], capture_output=True, text=True,
                             check=True)  # fmt: skip
    first, second = ran.stdout.splitlines()
    assert first == "ledger.db.sock"
    assert "answers only the user that tunerd runs as" in second


async def test_a_configured_socket_is_the_only_one(tmp_path: Path) -> None:
    """`control_socket` is used whatever the runtime directory is, and found with it and beside the ledger; where it cannot be
    opened, nothing else is tried."""
    configured, env = tmp_path / "own" / "control.sock", {"RUNTIME_DIRECTORY": str(tmp_path)}
    places = SocketPlaces(ledger=str(tmp_path / "ledger.db"), env=env, configured=str(configured))
    with pytest.raises(ControlError, match=r"cannot open the control socket .*/own/control.sock: No such file"):
        async with serve_orders(Bench().admin, places):
            pass
    configured.parent.mkdir()
    async with serve_orders(Bench().admin, places) as path:
        assert path == configured
        for how in ({"configured": str(configured)}, {}):
            assert await asyncio.to_thread(find_daemon, str(tmp_path / "ledger.db"), {}, **how) is not None
    assert sorted(os.listdir(tmp_path)) == ["own"]


async def test_where_no_socket_can_be(tmp_path: Path) -> None:
    """One line that names the path."""
    with pytest.raises(ControlError, match=r"cannot open the control socket .*No such file"):
        async with serve_orders(Bench().admin, SocketPlaces(ledger=str(tmp_path / "missing" / "ledger.db"), env={})):
            pass


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"reason": ["rejected"]}, "unknown: reason"),
        ({"states": "failed"}, "states must be a list"),
        ({"states": ["lost"]}, "states must be one of gathering"),
        ({"since": "yesterday"}, "since must be a number"),
        ({"since": True}, "since must be a number"),
        ({"path": 7}, "path must be a text"),
        ({"path": "/c", "offset": "7"}, "offset must be"),
        ({"dismissed": "yes"}, "dismissed must be"),
        ({"call_ids": None}, "call_ids must be a list"),
        ([], "must be a JSON object"),
    ],
)
def test_an_order_that_is_not_understood_is_not_carried_out(arguments: object, complaint: str) -> None:
    """A misspelt filter must not widen an order to everything."""
    with pytest.raises(ValueError, match=complaint):
        from_json(RetryOrder, arguments)


@pytest.mark.parametrize(
    "order",
    [
        RetryOrder(),
        RetryOrder(dismissed=None, since=12.5),
        RetryOrder(states=frozenset({State.DUE, State.FAILED}), reasons=frozenset({"invalid"})),
        RetryOrder(call_ids=frozenset({"a/b?c", "ü"}), sources=frozenset({"s"}), path="/p@x", offset=7),
        RetryOrder(path="/p\udcff"),
    ],
)
def test_an_order_survives_the_wire(order: RetryOrder) -> None:
    """The client writes what the server reads, file names that are not UTF-8 included."""
    assert from_json(RetryOrder, decoded(encoded(order, exact=True))) == order


async def test_what_the_daemon_refuses_is_one_line(tmp_path: Path) -> None:
    """An unknown destination, a refused reload, a ledger that cannot be written."""
    bench = Bench(problems=["config.yaml:1:1: wrong"])
    async with serving(bench, tmp_path) as path:
        client = AdminClient(path)
        with pytest.raises(OrderRefused, match="there is no destination 'x'; there is: tuner"):
            await client.ask(PauseOrder(destination="x"))
        with pytest.raises(OrderRefused, match="call_id is missing"):
            await client.ask(StoryOrder(call_id=""))
        assert (await client.ask(ReloadOrder())).problems == bench.problems


class FullLedger(MemoryLedger):
    """A ledger whose disk is full."""

    async def dismiss(self, *_: object) -> int:
        raise LedgerUnavailable("the disk is full")


async def test_a_ledger_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The order is refused with the reason; the daemon goes on."""
    bench = Bench(ledger=FullLedger())
    await bench.fail("call-1")
    async with serving(bench, tmp_path) as path:
        with pytest.raises(OrderRefused, match="cannot be written now: the disk is full"):
            await AdminClient(path).ask(DismissOrder(**FAILED))


async def test_a_daemon_that_hangs_or_dies_is_one_line(tmp_path: Path) -> None:
    """No traceback: a timeout says how long it waited, a broken connection says to try again."""
    path = tmp_path / "s"
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(hold, path):
        with pytest.raises(ControlError, match="did not answer within"):
            await AdminClient(path, timeout_s=0.1).ask(StatusOrder())
        for writer in held:
            writer.close()
    path.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(drop, path):
        with pytest.raises(ControlError, match="try again"):
            await AdminClient(path).ask(StatusOrder())


async def test_a_daemon_that_stands_still_is_told_soon(tmp_path: Path) -> None:
    """The kernel takes the connection, nobody answers: a question waits 5 s, an order longer, and the line names the process
    and what to do."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "ledger.db.sock"))
        silent.listen()
        found = await asyncio.to_thread(find_daemon, str(tmp_path / "ledger.db"), {}, 0.3)
        assert found is not None
        client = AdminClient(found.path, timeout_s=0.3, quick_s=0.05)
        who = rf"the daemon \(pid {os.getpid()}\) did not answer within"
        for question in (client.ask(StatusOrder()), client.ask(StoryOrder(call_id="a"))):
            with pytest.raises(ControlError, match=rf"{who} 0.05 s .*it makes no progress.*[Rr]estart it"):
                await question
        with pytest.raises(ControlError, match=rf"{who} 0.3 s"):
            await client.ask(RetryOrder(**FAILED))
    assert QUICK_S == 5


async def test_many_ids_in_one_order(tmp_path: Path) -> None:
    """500 ids of 300 characters each are one request."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.refuse(refused(reason=FailReason.INVALID, call_id="x", document=b'{"id": "x"}'))
    many = frozenset(["x", *("y" * 297 + f"{n:03}" for n in range(499))])
    async with serving(bench, tmp_path) as path:
        report = await AdminClient(path).ask(RetryOrder(call_ids=many))
    assert report.done == {"due": 1}


async def test_a_daemon_of_another_version_is_one_line(tmp_path: Path) -> None:
    """An order that it does not know, and an answer that this command cannot read: both say to use the same version."""
    app = aiohttp.web.Application()

    async def other(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"version": 1, "left": "many"})

    app.router.add_post("/v1/idle", other)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.UnixSite(runner, tmp_path / "s").start()
    client = AdminClient(tmp_path / "s")
    with pytest.raises(ControlError, match="does not know the order 'reload': use the same version"):
        await client.ask(ReloadOrder())
    with pytest.raises(ControlError, match=r"is not understood \(left must be a JSON object\): use the same version"):
        await client.ask(IdleOrder())
    await runner.cleanup()
