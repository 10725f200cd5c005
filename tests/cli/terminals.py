"""A command on a real pseudo-terminal, and in a pipe, as a process of its own."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

CEILING_S: Final = 30.0


def _command(config: Path, words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tunerd", words[0], "-c", str(config), *words[1:]]


def _environment(**more: str) -> dict[str, str]:
    kept = {"PATH", "HOME", "LANG", "COVERAGE_PROCESS_START"}
    return {name: value for name, value in os.environ.items() if name in kept} | {"TERM": "xterm-256color"} | more


class OnTerminal:
    """A process whose stdin, stdout and stderr are a terminal of a given size."""

    def __init__(self, config: Path, *words: str, rows: int = 40, columns: int = 100, **environment: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            _command(config, words), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env=_environment(**environment),
        )  # fmt: skip
        self._slave = slave
        self.written = ""

    def read(self, ceiling_s: float = 0.1) -> bool:
        """Take what the process has written; False: nothing came."""
        readable, _, _ = select.select([self.master], [], [], ceiling_s)
        if readable:
            self.written += os.read(self.master, 65536).decode()
        return bool(readable)

    def until(self, pattern: str) -> str:
        """Wait until the pattern is in what was written since the last time; gives that."""
        deadline = time.monotonic() + CEILING_S
        while not re.search(pattern, self.written):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.written!r}"
            assert self.process.poll() is None or self.read(), self.written
            self.read()
        seen, self.written = self.written, ""
        return seen

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Wait for the end, and take the rest of the output; gives the exit code."""
        deadline = time.monotonic() + CEILING_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.written
            self.read()
        while self.read(0):
            pass
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal has the settings that it had before."""
        return termios.tcgetattr(self._slave) == self.settings

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(CEILING_S)
        os.close(self.master)
        os.close(self._slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def screen(written: str) -> list[str]:
    """The lines of the last whole picture in what was written."""
    picture = written.rpartition("\x1b[H")[2].partition("\x1b[J")[0]
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in picture.split("\r\n")]


@contextmanager
def piped(config: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes into pipes."""
    process = subprocess.Popen(
        _command(config, words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=_environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(CEILING_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def interrupted(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Ctrl-C; gives the exit code, and what was written to stderr."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=CEILING_S)
    return process.returncode, err


def reader_gone(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The other end of stdout is closed, as `head` does; gives the exit code, and what was written to stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    return process.wait(CEILING_S), err
