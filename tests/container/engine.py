"""buildah and podman with a storage of their own: nothing of the machine's configuration is used or changed."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_CONTAINERS: Final = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
HARDENED: Final = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


class Engine:
    """Images and containers of one test run, in `directory`."""

    def __init__(self, directory: Path) -> None:
        (directory / "containers.conf").write_text(_CONTAINERS)
        (directory / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
        )
        self.env = {
            **os.environ,
            "CONTAINERS_CONF": str(directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        }

    def run(self, *words: str, check: bool = True, stdin: int | None = None) -> str:
        """The command's stdout; the programs' own warnings are on stderr."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, check=False, stdin=stdin)
        assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def import_tree(self, tree: Path, name: str) -> None:
        with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            self.run("podman", "import", "--change", "ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--change",
                     "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt", "-", name, stdin=tar.stdout.fileno())  # fmt: skip

    def build(self, context: Path, tag: str, **arguments: str) -> None:
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        self.run("buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker", *given,
                 "-t", tag, str(context))  # fmt: skip

    def image(self, tag: str) -> dict[str, Any]:
        """What the image says of itself."""
        return dict(json.loads(self.run("podman", "image", "inspect", tag))[0])

    def start(self, name: str, tag: str, *options: str, command: Sequence[str] = ()) -> "Container":
        self.run("podman", "run", "-d", "--name", name, "--network", "host", *options, tag, *command)
        return Container(self, name)

    def remove_everything(self) -> None:
        self.run("podman", "rm", "--force", "--all", "--time", "0", check=False)
        self.run("podman", "rmi", "--force", "--all", check=False)
        self.run("umount", "-l", str(Path(self.env["CONTAINERS_STORAGE_CONF"]).parent / "graph" / "overlay"), check=False)


class Container:
    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def execute(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command in the container."""
        done = subprocess.run(["podman", "exec", self._name, *words], env=self._engine.env, capture_output=True, text=True,
                              check=False)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def log(self) -> list[dict[str, Any]]:
        """The daemon's lines. (podman repeats the container's stderr on its own.)"""
        done = subprocess.run(["podman", "logs", self._name], env=self._engine.env, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        return [str(line["event"]) for line in self.log()]

    def state(self) -> dict[str, Any]:
        """`Running`, `ExitCode`, `OOMKilled`, `Pid`."""
        return dict(json.loads(self._engine.run("podman", "inspect", self._name))[0]["State"])

    def is_healthy(self) -> bool:
        """Runs the image's own health check."""
        done = subprocess.run(
            ["podman", "healthcheck", "run", self._name], env=self._engine.env, capture_output=True, check=False
        )
        return done.returncode == 0

    def stop(self, seconds: int = 30) -> None:
        self._engine.run("podman", "stop", "--time", str(seconds), self._name)
