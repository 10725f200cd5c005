"""The control socket: a real Unix socket, its rights, and that both ends understand each other."""

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest

from tests.ops.offices import Bench, Rules, refused, remade
from tunerd.call import State
from tunerd.ledger import Filter, LedgerUnavailable
from tunerd.ops.client import QUESTION_S, ControlClient, find_daemon
from tunerd.ops.control import serve_control
from tunerd.ops.desk import Choice
from tunerd.ops.office import OrderRefused
from tunerd.ops.wire import ControlError, asked_of, choice_of, socket_places
from tunerd.outcome import FailReason

FAILED = Choice(where=Filter(states=frozenset({State.FAILED})))


def serving(bench: Bench, tmp_path: Path, **env: str) -> AbstractAsyncContextManager[Path]:
    return serve_control(bench.office, str(tmp_path / "ledger.db"), env)


async def test_both_ends_understand_each_other(tmp_path: Path) -> None:
    """Each question comes back through the socket exactly as the office answers it."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.fail("call-1", "call-2", "call-3")
    async with serving(bench, tmp_path) as path:
        client = ControlClient(path)
        assert await client.status() == await bench.office.status()
        assert await client.idle() == await bench.office.idle()
        assert await client.story("call-1") == await bench.office.story("call-1")
        page = await client.calls(FAILED, limit=2)
        assert page == await bench.office.calls(FAILED, limit=2)
        rest = await client.calls(FAILED, limit=2, after_row=page["next_after_row"] or 0)
        assert [row["call_id"] for row in page["calls"] + rest["calls"]] == ["call-1", "call-2", "call-3"]
        assert [row["call_id"] for row in (await client.calls(FAILED, limit=1, newest=True))["calls"]] == ["call-3"]
        assert (await client.retry(Choice(where=Filter(call_ids=frozenset({"call-1"})))))["done"] == {"due": 1}
        assert (await client.remap(Choice(where=Filter(call_ids=frozenset({"call-2"})))))["done"] == {"due": 1}
        assert (await client.dismiss(FAILED))["done"] == {"dismissed": 1}
        assert (await client.forget("call-3"))["done"] == {"forgotten": 1}
        assert list(await client.pause(None)) == ["tuner"]
        assert list(await client.resume("tuner")) == ["tuner"]
        assert list(await client.reload()) == []


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
        assert (await found.status())["daemon"]["version"] == "1.2.3"


async def test_a_successors_socket_is_left_alone(tmp_path: Path) -> None:
    """A daemon that is slow to end does not take away the socket of the one that follows it."""
    async with serving(Bench(), tmp_path):
        second = serving(Bench(), tmp_path)
        path = await second.__aenter__()
    assert path.exists()
    assert (await ControlClient(path).status())["version"] == 1
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
    async with serve_control(Bench().office, str(deep / name), {}):
        client = await asyncio.to_thread(find_daemon, str(deep / name), {})
        assert client is not None
        assert (await client.idle())["idle"] is True


async def test_where_no_socket_can_be(tmp_path: Path) -> None:
    """One line that names the path."""
    with pytest.raises(ControlError, match=r"cannot open the control socket .*No such file"):
        async with serve_control(Bench().office, str(tmp_path / "missing" / "ledger.db"), {}):
            pass


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"reason": ["rejected"]}, "unknown: reason"),
        ({"states": "failed"}, "states must be a list"),
        ({"states": ["lost"]}, "states: there is gathering"),
        ({"since": "yesterday"}, "since must be a number"),
        ({"since": True}, "since must be a number"),
        ({"path": 7}, "path must be a text"),
        ({"path": "/c", "offset": "7"}, "offset must be"),
        ({"dismissed": "yes"}, "dismissed must be"),
    ],
)
def test_an_order_that_is_not_understood_is_not_carried_out(asked: dict[str, object], complaint: str) -> None:
    """A misspelt filter must not widen an order to everything."""
    with pytest.raises(OrderRefused, match=complaint):
        choice_of(asked)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(where=Filter()),
        Choice(where=Filter(dismissed=None, since=12.5)),
        Choice(where=Filter(states=frozenset({State.DUE, State.FAILED}), reasons=frozenset({"invalid"}))),
        Choice(where=Filter(call_ids=frozenset({"a/b?c", "ü"}), sources=frozenset({"s"})), place=("/p@x", 7)),
        Choice(where=Filter(), place=("/p", None)),
    ],
)
def test_a_choice_survives_the_wire(choice: Choice) -> None:
    """asked_of and choice_of undo each other."""
    assert choice_of(asked_of(choice)) == choice


async def test_what_the_daemon_refuses_is_one_line(tmp_path: Path) -> None:
    """An unknown destination, a refused reload, a ledger that cannot be written."""
    bench = Bench(problems=["config.yaml:1:1: wrong"])
    async with serving(bench, tmp_path) as path:
        client = ControlClient(path)
        with pytest.raises(OrderRefused, match="there is no destination 'x'; there is: tuner"):
            await client.pause("x")
        with pytest.raises(OrderRefused, match="call_id is missing"):
            await client.story("")
        assert list(await client.reload()) == bench.problems

        async def full(*_: object, **__: object) -> None:
            raise LedgerUnavailable("the disk is full")

        bench.office.dismiss = full  # type: ignore[assignment]
    async with serving(bench, tmp_path) as path:
        with pytest.raises(OrderRefused, match="cannot be written now: the disk is full"):
            await ControlClient(path).dismiss(FAILED)


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
            await ControlClient(path, timeout_s=0.1).status()
        for writer in held:
            writer.close()
    path.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(drop, path):
        with pytest.raises(ControlError, match="try again"):
            await ControlClient(path).status()


async def test_a_daemon_that_stands_still_is_told_soon(tmp_path: Path) -> None:
    """The kernel takes the connection, nobody answers: a question waits 5 s, an order longer, and the line names the process
    and what to do."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "ledger.db.sock"))
        silent.listen()
        found = await asyncio.to_thread(find_daemon, str(tmp_path / "ledger.db"), {}, 0.3)
        assert found is not None
        client = ControlClient(found.path, timeout_s=0.3, question_s=0.05)
        who = rf"the daemon \(pid {os.getpid()}\) did not answer within"
        for question in (client.status(), client.story("a")):
            with pytest.raises(ControlError, match=rf"{who} 0.05 s .*it makes no progress.*restart it"):
                await question
        with pytest.raises(ControlError, match=rf"{who} 0.3 s"):
            await client.retry(FAILED)
    assert QUESTION_S == 5


async def test_many_ids_in_one_order(tmp_path: Path) -> None:
    """500 ids of 300 characters each are one request."""
    bench = Bench(rules={"agent": Rules(remade())})
    await bench.refuse(refused(reason=FailReason.INVALID, call_id="x", document=b'{"id": "x"}'))
    many = frozenset(["x", *("y" * 297 + f"{n:03}" for n in range(499))])
    async with serving(bench, tmp_path) as path:
        report = await ControlClient(path).retry(Choice(where=Filter(call_ids=many)))
    assert report["done"] == {"due": 1}
