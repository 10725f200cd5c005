"""`tunerd health`: against real sockets, as the process that a container's health check starts."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.admin.benches import Bench
from tunerd.admin.healthcheck import Unhealthy, check, quick_main
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.ops.http import HttpServer
from tunerd.ops.probe_pages import probe_pages


class Patient:
    """A daemon as the probes see it."""

    def __init__(self) -> None:
        self.ill: str | None = None
        self.is_ready = True

    async def ailment(self) -> str | None:
        return self.ill

    def ready(self) -> bool:
        return self.is_ready


@asynccontextmanager
async def patient(directory: Path, name: str = "ledger.db", runtime: Path | None = None) -> AsyncIterator[Patient]:
    one = Patient()
    env = {"RUNTIME_DIRECTORY": str(runtime)} if runtime else {}
    places = SocketPlaces(ledger=str(directory / name), env=env)
    async with serve_orders(Bench().admin, places, probe_pages(one.ailment, one.ready)):
        yield one


async def health(*words: str, **env: str) -> tuple[int, str]:
    """Exit code and output of the installed command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", "health", *words, env={"PATH": os.environ["PATH"], **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_health_and_readiness_are_the_exit_code(tmp_path: Path) -> None:
    """0 and `ok`, or 1 and the reason on one line."""
    async with patient(tmp_path, runtime=tmp_path) as one:
        env = {"RUNTIME_DIRECTORY": str(tmp_path)}
        assert await health(**env) == (0, "ok\n")
        one.ill = "the event loop was 12 s late"
        assert await health(**env) == (1, "tunerd: the event loop was 12 s late\n")
        assert await health("--ready", **env) == (0, "ok\n")
        one.is_ready = False
        assert await health("--ready", **env) == (1, "tunerd: not ready: starting or stopping\n")


async def test_the_daemon_is_found_wherever_its_socket_is(tmp_path: Path) -> None:
    """Named by an option or variable; or beside its ledger, where no runtime directory names it, since the kernel lists it."""
    async with patient(tmp_path):
        path = str(tmp_path / "ledger.db.sock")
        assert await health("--socket", path) == (0, "ok\n")
        assert await health(f"--socket={path}") == (0, "ok\n")
        assert await health(TUNERD_SOCKET=path) == (0, "ok\n")
        code, said = await health()
        assert (code, said) == (0, "ok\n") or ("several daemons run here" in said and path in said), (
            "others may run on this machine"
        )


async def test_two_daemons_in_one_directory_have_to_be_told_apart(tmp_path: Path) -> None:
    """The line names both sockets."""
    async with patient(tmp_path, "a.db", tmp_path), patient(tmp_path, "b.db", tmp_path):
        code, said = await health(RUNTIME_DIRECTORY=str(tmp_path))
    assert code == 1
    assert said.startswith("tunerd: several daemons run here; choose one with --socket: ")
    assert said.count("control-") == 2


async def test_over_http(tmp_path: Path) -> None:
    """For a daemon without a control socket: the same pages of its port, IPv4 and IPv6."""
    one, bench = Patient(), Bench()
    server = HttpServer(probe_pages(one.ailment, bench.status.ready))
    _, port = await server.start(":0")
    try:
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert await health("--http", f"{host}:{port}") == (0, "ok\n")
        one.ill = "the ledger's writer did not answer within 5 s"
        assert await health("--http", f"127.0.0.1:{port}") == (1, "tunerd: the ledger's writer did not answer within 5 s\n")
    finally:
        await server.close()
    code, said = await health("--http", f"127.0.0.1:{port}")
    assert (code, said) == (1, f"tunerd: no daemon answers at 127.0.0.1:{port}: Connection refused\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--http", "9464"], "--http takes HOST:PORT, like 127.0.0.1:9464, not 9464"),
        (["--http", "127.0.0.1:99999"], "no daemon answers at 127.0.0.1:99999"),
        (["--socket", "/nowhere/x.sock"], "no daemon answers at /nowhere/x.sock: No such file"),
    ],
)
async def test_what_leads_to_no_daemon_is_one_line(words: list[str], complaint: str) -> None:
    """No traceback, exit code 1."""
    code, said = await health(*words)
    assert (code, said.count("\n")) == (1, 1)
    assert complaint in said


async def test_an_answer_of_something_else(tmp_path: Path) -> None:
    """Another program at the address is no healthy tunerd."""
    app = web.Application()
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, tmp_path / "s.sock").start()
    try:
        code, said = await health("--socket", str(tmp_path / "s.sock"))
    finally:
        await runner.cleanup()
    assert (code, "is not this version of tunerd" in said) == (1, True)


def test_a_daemon_that_hangs_is_unhealthy(tmp_path: Path) -> None:
    """The kernel takes the connection, nobody answers."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s.sock"))
        silent.listen()
        with pytest.raises(Unhealthy, match="did not answer: timed out"):
            check(socket_file=str(tmp_path / "s.sock"), http="", ready=False, env={}, timeout_s=0.1)


@pytest.mark.parametrize("words", [["--help"], ["--redy"], ["--socket"], ["--socket", "a", "--http", "b"], ["call-1"]])
def test_help_and_mistakes_are_left_to_click(words: list[str]) -> None:
    """The quick way reads only what it understands."""
    assert quick_main(words, {}) is None


async def test_a_mistake_is_a_usage_error() -> None:
    """Exit code 2, as of every command."""
    code, said = await health("--redy")
    assert (code, "No such option" in said) == (2, True)


async def test_it_imports_nothing_of_the_daemon(tmp_path: Path) -> None:
    """It runs each 10 s within the daemon's memory limit: no library, no other part of tunerd."""
    code = (
        "import sys; from tunerd.__main__ import main; sys.argv = ['tunerd', 'health', '--socket', '/nowhere']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('tunerd', 'click', 'aiohttp', 'yaml', 'typing')))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code, stdout=asyncio.subprocess.PIPE,
                                                   env={"PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    said, _ = await process.communicate()
    own = ["tunerd", "tunerd.__main__", "tunerd.admin", "tunerd.admin.healthcheck", "tunerd.admin.socket_names"]
    assert said.decode().strip() == str(own)


async def test_it_takes_little_memory(tmp_path: Path) -> None:
    """At most 20 MB at its peak, by the kernel's count."""
    code = (
        "import sys; from tunerd.__main__ import main; sys.argv = ['tunerd', 'health', '--socket', sys.argv[1]]\n"
        "try: main()\nexcept SystemExit as end: print(end.code)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    async with patient(tmp_path):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path / "ledger.db.sock"), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
    answer, exit_code, kilobytes = said.decode().split()
    assert (answer, exit_code) == ("ok", "0")
    assert int(kilobytes) < 20 * 1024


async def test_a_configuration_leads_to_its_daemon(tmp_path: Path) -> None:
    """`-c FILE`, as for other commands: the daemon whose ledger the file names, also where several daemons run."""
    config = tmp_path / "config.yaml"
    config.write_text(f"ledger: {{url: 'sqlite://{tmp_path}/ledger.db'}}\n")
    code, said = await health("-c", str(config))
    assert (code, f"no tunerd runs with the ledger {tmp_path}/ledger.db" in said) == (1, True)
    async with patient(tmp_path) as one, patient(tmp_path, "other.db"):
        code, said = await health("-c", str(config))
        assert (code, said.splitlines()[-1]) == (0, "ok")
        one.ill = "the event loop was 12 s late"
        code, said = await health("-c", str(config))
        assert (code, said.splitlines()[-1]) == (1, "tunerd: the event loop was 12 s late")
