"""The image, built by buildah and run by podman: what it contains, and how it runs without rights and with 128 MB of memory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.container.base_tree import make_base_tree
from tests.container.engine import HARDENED, Container, Engine
from tests.docs.fences import ROOT
from tests.e2e.harness import Sandbox, call_document, put, sandbox, until
from tests.real_parts import may_mount, needs, needs_program

BASE: Final = "localhost/python:test"
TAG: Final = "localhost/tunerd:test"
MEMORY: Final = ("--memory", "128m")
_UID: Final = 10001
_PROBES: Final = os.environ.get("TUNERD_PROBES")
"""Set by `make imageload`: how many health checks, one each 10 s."""

pytestmark = [
    needs_program("buildah", "it builds the image (Debian: buildah)"),
    needs_program("podman", "it runs the image (Debian: podman runc)"),
    needs("the right to mount (root with CAP_SYS_ADMIN)", may_mount, "it runs containers"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("image"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    place = tmp_path_factory.mktemp("image")
    (place / "tree").mkdir()
    make_base_tree(place / "tree")
    one = Engine(place)
    try:
        one.import_tree(place / "tree", BASE)
        one.build(ROOT, TAG, BASE=BASE, VERSION="1.2.3", REVISION="abc", CREATED="2026-01-02T03:04:05Z")
        yield one
    finally:
        one.remove_everything()


class World:
    """The directories that a container mounts, and a configuration that sends to a sandbox on this machine."""

    def __init__(self, directory: Path, tuner: Sandbox) -> None:
        self.calls, self.etc, self.ledger = (directory / name for name in ("calls", "etc", "ledger"))
        for place in (self.calls, self.etc, self.ledger):
            place.mkdir()
            os.chown(place, _UID, _UID)
        self.tuner = tuner
        text = f"""
tuner: {{workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_image, base_url: "{tuner.url}"}}
sources:
  - name: calls
    path: /calls
    after_sent: delete
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.messages}}, role: m.role, text: m.text, start_ms: m.at}}
    recording: [{{url: doc.audio}}]
http: {{listen: "127.0.0.1:0"}}
"""
        (self.etc / "config.yaml").write_text(text)

    def mounts(self) -> list[str]:
        pairs = ((self.etc, "/etc/tunerd:ro"), (self.calls, "/calls"), (self.ledger, "/var/lib/tunerd"))
        return [word for place, target in pairs for word in ("-v", f"{place}:{target}")]

    def put(self, call_id: str) -> None:
        os.chown(put(self.calls / f"{call_id}.json", call_document(call_id)), _UID, _UID)


async def started(container: Container) -> None:
    await until(lambda: "started" in container.events() or not container.state()["Running"], every_s=0.2)
    assert container.state()["Running"], container.log()


def test_the_image_says_what_it_is(engine: Engine) -> None:
    """User, labels, entry point, health check and stop signal are as the docs promise."""
    image = engine.image(TAG)
    config = image["Config"]
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"], config["StopSignal"]) == (["tunerd"], ["run"], "SIGTERM")
    assert config["Volumes"] == {"/var/lib/tunerd": {}}
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    wanted = {"title": "tunerd", "licenses": "MIT", "version": "1.2.3", "revision": "abc", "created": "2026-01-02T03:04:05Z",
              "base.name": BASE}  # fmt: skip
    assert wanted.items() <= labels.items()
    assert image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]["Test"] == ["CMD", "tunerd", "health"]


def test_it_holds_what_the_lock_names_and_nothing_else(engine: Engine) -> None:
    """Each package with the version of requirements.lock, and tunerd; no installer, and no file of the build context."""
    listed = engine.run("podman", "run", "--rm", "--network", "none", "--entrypoint", "python", TAG, "-c",
                        "from importlib.metadata import distributions\n"
                        "print(*(f'{one.name.lower()}=={one.version}' for one in distributions(path=['/opt/tunerd/lib/'"
                        "'python%d.%d/site-packages' % __import__('sys').version_info[:2]])))")  # fmt: skip
    found = {name.replace("_", "-") for name in listed.split() if not name.startswith("tunerd==")}
    assert found == {line.split()[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalpha()}
    listed = engine.run("podman", "run", "--rm", "--network", "none", "--entrypoint", "ls", TAG, "/", "/opt")
    assert "src" not in listed.split()


@pytest.mark.parametrize(
    ("options", "socket"),
    [([], "/run/tunerd/control-"), (["--tmpfs", "/run/tunerd:mode=0755"], "/var/lib/tunerd/ledger.db.sock")],
    ids=["as it is", "a runtime directory of root"],
)
async def test_it_delivers_without_rights_in_128_mb(engine: Engine, tmp_path: Path, options: list[str], socket: str) -> None:
    """Read-only root, no capability, user 10001: calls are sent and their files deleted, commands and the health check reach the
    daemon, and SIGTERM ends it with code 0. Where the runtime directory belongs to root, the socket lies beside the ledger."""
    async with sandbox(tmp_path) as tuner:
        world = World(tmp_path, tuner)
        container = engine.start(f"tunerd-{len(options)}", TAG, *HARDENED, *MEMORY, *options, *world.mounts())
        await started(container)
        world.put("call-1")
        await tuner.has("call-1")
        assert container.execute("tunerd", "health") == (0, "ok\n")
        assert container.execute("tunerd", "health", "--ready") == (0, "ok\n")
        assert container.is_healthy()
        code, status = container.execute("tunerd", "status", "--json")
        assert code == 0, status
        assert json.loads(status)["calls"]["sent"]["count"] == 1
        told = [line for line in container.log() if line["level"] != "info"]
        assert len(told) == bool(options), told
        assert all(socket in str(line["detail"]) for line in told)
        assert container.execute("id", "-u")[1] == "10001\n"
        assert container.execute("sh", "-c", "echo x > /opt/x")[0] != 0
        capabilities = container.execute("cat", "/proc/1/status")[1]
        assert "CapEff:\t0000000000000000" in capabilities
        assert "NoNewPrivs:\t1" in capabilities
        await until(lambda: not list(world.calls.glob("*.json")))
        container.stop()
        assert container.state()["ExitCode"] == 0
        assert container.events()[-1] == "stopped"


async def test_a_daemon_that_hangs_becomes_unhealthy(engine: Engine, tmp_path: Path) -> None:
    """With its process stopped (SIGSTOP), the health check of the image fails within its 10 s; before and after, it succeeds."""
    async with sandbox(tmp_path) as tuner:
        container = engine.start("tunerd-hangs", TAG, *HARDENED, *MEMORY, *World(tmp_path, tuner).mounts())
        await started(container)
        assert container.is_healthy()
        pid = int(container.state()["Pid"])
        os.kill(pid, 19)
        try:
            code, said = container.execute("tunerd", "health")
        finally:
            os.kill(pid, 18)
        assert (code, "did not answer: timed out" in said) == (1, True)
        assert container.is_healthy()


async def test_a_bad_configuration_ends_the_container_with_78(engine: Engine, tmp_path: Path) -> None:
    """The log names the line, so that whoever restarts it sees why."""
    (tmp_path / "config.yaml").write_text("tuner: {nonsense: 1}\n")
    container = engine.start("tunerd-bad", TAG, *HARDENED, "-v", f"{tmp_path}:/etc/tunerd:ro")
    await until(lambda: not container.state()["Running"], every_s=0.2)
    assert container.state()["ExitCode"] == 78


@pytest.mark.timeout(600 + 20 * int(_PROBES or 0))
async def test_health_checks_under_load_stay_within_128_mb(engine: Engine, tmp_path: Path) -> None:
    """While calls arrive without a pause, each health check answers and the kernel kills nothing. `make imageload` makes one check each
    10 s for an hour, at 1,000 calls a minute, and memory has to stop growing after the first tenth of that time."""
    probes, every_s, calls = (int(_PROBES), 10.0, 167) if _PROBES else (20, 0.0, 50)
    async with sandbox(tmp_path) as tuner:
        world = World(tmp_path, tuner)
        container = engine.start("tunerd-load", TAG, *HARDENED, *MEMORY, *world.mounts())
        await started(container)
        pid, began, slowest_s = int(container.state()["Pid"]), time.monotonic(), 0.0
        memory_mb = [_memory_mb(pid, "VmRSS")]
        for probe in range(probes):
            due = began + probe * every_s
            await until(lambda due=due: time.monotonic() >= due, every_s=0.1)  # type: ignore[misc]
            for number in range(calls):
                world.put(f"call-{probe * calls + number}")
            asked = time.monotonic()
            assert container.execute("tunerd", "health") == (0, "ok\n")
            slowest_s = max(slowest_s, time.monotonic() - asked)
            memory_mb.append(_memory_mb(pid, "VmRSS"))
        total = probes * calls

        async def all_arrived() -> bool:
            return int((await tuner.counts())["total"]) >= total

        await until(all_arrived, every_s=1)
        assert len(await tuner.accepted()) == total
        state = container.state()
        assert state["Running"]
        assert not state["OOMKilled"]
        early, peak = max(memory_mb[: probes // 10 + 1]), _memory_mb(pid, "VmHWM")
        print(f"{probes} health checks in {time.monotonic() - began:.0f} s, the slowest {slowest_s:.2f} s with podman; {total} calls; "
              f"daemon: {memory_mb[0]:.0f} MB at the start, {early:.0f} MB in the first tenth, {memory_mb[-1]:.0f} MB at the end, "
              f"peak {peak:.0f} MB")  # fmt: skip
        assert not _PROBES or memory_mb[-1] < early + 5
        container.stop()


def _memory_mb(pid: int, name: str) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def test_hadolint_takes_the_dockerfile() -> None:
    """No finding."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
