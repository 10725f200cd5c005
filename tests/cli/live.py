"""A real `tunerd run` process that hears and tells systemd what it would, and the commands that ask it."""

import os
import queue
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from click.testing import CliRunner, Result

from tests.cli.test_order_commands import CONFIG
from tunerd.cli import main

CEILING_S = 20.0


class Live:
    """The process, its notify socket, and its log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "calls").mkdir()
        (directory / "run").mkdir()
        (directory / "key").write_text("secret-of-the-key-1")
        self.config = directory / "config.yaml"
        text = CONFIG.format(directory=directory).replace("tuner: {", "tuner: {base_url: 'http://127.0.0.1:9', ")
        self.config.write_text(text + "http: {listen: '127.0.0.1:0'}\nlog: {format: json}\n")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.heard: queue.Queue[str] = queue.Queue()
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()
        env = {**os.environ, "NOTIFY_SOCKET": str(directory / "notify"), "RUNTIME_DIRECTORY": str(directory / "run"),
               "WATCHDOG_USEC": "300000"}  # fmt: skip
        self.log = open(directory / "log", "wb")  # noqa: SIM115
        command = [sys.executable, "-m", "tunerd", "run", "-c", str(self.config)]
        self.process = subprocess.Popen(command, env=env, stderr=self.log)

    def _listen(self) -> None:
        while (message := self.notify.recv(4096)) != b"the end":
            self.heard.put(message.decode())

    def hear(self, start: str) -> str:
        """The next message to systemd that starts so."""
        while not (message := self.heard.get(timeout=CEILING_S)).startswith(start):
            pass
        return message

    def run(self, *arguments: str) -> Result:
        """A command as typed in a shell: without the service's environment."""
        name, *others = arguments
        return CliRunner().invoke(main, [name, "-c", str(self.config), *others])

    def get(self, path: str) -> tuple[int, str]:
        found = re.search(r'"address":"([^"]+)"', (self.directory / "log").read_text())
        assert found
        with urllib.request.urlopen(f"http://{found[1]}{path}", timeout=CEILING_S) as answer:
            return answer.status, answer.read().decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(CEILING_S)
        self.notify.sendto(b"the end", str(self.directory / "notify"))
        self.listener.join(CEILING_S)
        self.notify.close()
        self.log.close()
