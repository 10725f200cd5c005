"""A Debian that systemd-nspawn boots for a test: this machine's own one, or that of `make debian`, under an overlay in memory, so that
nothing changes outside. It has a network of its own, in which nothing but the test listens.

This module only boots and asks; the tests say what they expect.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.real_parts import may_mount, needs

CEILING_S: Final = 60.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS: Final = ("systemd-nspawn", "nsenter", "dpkg-deb", "gzip")
TREE: Final = os.environ.get("TUNERD_DEBIAN_TREE", "/")
"""The root directory of a Debian."""
PYTHON: Final = f"/usr/bin/python3.{sys.version_info.minor}"
"""The package is built with this Python, and runs on Debian's of the same version."""


def _boots() -> bool:
    has_programs = all(shutil.which(name) is not None for name in _PROGRAMS)
    return has_programs and Path(TREE + PYTHON).exists() and may_mount()


needs_debian: Final = needs(
    "a Debian that can be booted", _boots,
    f"it needs root, {', '.join(_PROGRAMS)} (packages systemd-container, dpkg), and {PYTHON} in the Debian that it boots",
)  # fmt: skip


class Machine:
    def __init__(self, leader: int) -> None:
        """`leader`: the process number of the booted systemd."""
        self._enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i", f"PATH={_PATH}"]

    def try_to(self, command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The result of a shell command of root."""
        asked = [*self._enter, "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "sh", "-c", command]
        return subprocess.run(asked, input=stdin, capture_output=True, text=True, timeout=CEILING_S, check=False)

    def run(self, command: str, stdin: str | None = None) -> str:
        """What a shell command printed; it has to succeed."""
        done = self.try_to(command, stdin)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        self.run(f"cat > {path}", stdin=text)

    def until(self, command: str, has: Callable[[str], bool]) -> str:
        """What the command printed when it was right for the first time."""
        never, deadline = threading.Event(), time.monotonic() + CEILING_S
        while not has(printed := self.try_to(command).stdout):
            assert time.monotonic() < deadline, f"{command}: {printed}{self.log()}"
            never.wait(0.05)
        return printed

    def show(self, name: str, unit: str = "tunerd") -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def log(self, unit: str = "tunerd") -> str:
        return self.try_to(f"journalctl --no-pager -o cat -n 60 -u {unit}").stdout


@contextmanager
def booted(directory: Path, files: Path) -> Iterator[Machine]:
    """A machine that has started; it sees `files` as /mnt. At the end it is gone, with everything in it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs", str(directory)], check=True)
    try:
        root = directory / "root"
        for name in ("upper", "work", "root"):
            (directory / name).mkdir()
        layers = f"lowerdir={TREE},upperdir={directory}/upper,workdir={directory}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(root)], check=True)
        (root / "etc" / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", f"--bind-ro={files}:/mnt",
                   "-M", f"tunerd-{uuid.uuid4().hex[:8]}", "-D", str(root), "--boot", "--console=pipe",
                   "systemd.unit=basic.target"]  # fmt: skip
        with (directory / "console").open("wb") as console:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            machine = Machine(_leader(process, directory / "console"))
            machine.until("systemctl is-system-running", lambda state: state.strip() in ("running", "degraded"))
            yield machine
        finally:
            process.terminate()
            process.wait(CEILING_S)
    finally:
        for place in (directory / "root", directory):
            subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)


def _leader(process: subprocess.Popen[bytes], console: Path) -> int:
    """The systemd that this systemd-nspawn has started. Its first child only prepares the place, and ends."""
    never, deadline = threading.Event(), time.monotonic() + CEILING_S
    while True:
        assert process.poll() is None, console.read_text()
        assert time.monotonic() < deadline, console.read_text()
        with suppress(OSError):  # the child has ended meanwhile
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        never.wait(0.05)
