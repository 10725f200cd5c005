"""The image, built by buildah and run by podman: what it contains, and how it runs without rights and with 128 MB of memory."""

import json
import os
import subprocess
import sys
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


@pytest.mark.parametrize("probes", [int(os.environ.get("TUNERD_PROBES") or 20)])
async def test_health_checks_under_load_stay_within_128_mb(engine: Engine, tmp_path: Path, probes: int) -> None:
    """While calls arrive without a pause, each health check answers and the kernel kills nothing. (`make imageload` makes 360, as many as
    an hour has at one each 10 s.)"""
    async with sandbox(tmp_path) as tuner:
        world = World(tmp_path, tuner)
        container = engine.start("tunerd-load", TAG, *HARDENED, *MEMORY, *world.mounts())
        await started(container)
        number = 0
        for _ in range(probes):
            for _ in range(50):
                number += 1
                world.put(f"call-{number}")
            assert container.execute("tunerd", "health") == (0, "ok\n")
        await tuner.has(*(f"call-{one}" for one in range(1, number + 1)))
        state = container.state()
        assert state["Running"]
        assert not state["OOMKilled"]
        peak = next(line.split()[1] for line in Path(f"/proc/{state['Pid']}/status").read_text().splitlines() if "VmHWM" in line)
        print(f"{probes} health checks, {number} calls, peak of the daemon {int(peak) / 1024:.0f} MB")
        container.stop()


def test_hadolint_takes_the_dockerfile() -> None:
    """No finding."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
