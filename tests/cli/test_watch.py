"""`tunerd status --watch` on a real terminal and in pipes, against a daemon's control socket."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.terminals import OnTerminal, interrupted, piped, reader_gone, screen
from tests.cli.test_order_commands import Daemon, serving

WATCH = ("status", "--watch", "--interval", "100ms")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path) as made:
        yield made


def test_a_terminal_shows_the_state_in_place(daemon: Daemon) -> None:
    """A call that fails meanwhile appears without a new command; `q` ends it with 0 and the terminal is as before."""
    with OnTerminal(daemon.config, *WATCH) as terminal:
        assert "no call" not in terminal.until(r"tunerd 1\.2\.3 is running")
        daemon.do(lambda bench: bench.fail("call-1"))
        lines = screen(terminal.until(r"Last failures[\s\S]*call-1[\s\S]*\x1b\[J"))
        assert any(line.startswith("  call-1   rejected") for line in lines)
        assert any("failed              1   tunerd failed" in line for line in lines)
        terminal.type("q")
        assert terminal.ended() == 0
        assert terminal.written.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")
        assert terminal.is_restored()


def test_more_lines_than_the_terminal_has(daemon: Daemon) -> None:
    """The picture never scrolls: it is cut, and its last line says how much is hidden."""
    daemon.do(lambda bench: bench.fail(*(f"call-{n}" for n in range(9))))
    with OnTerminal(daemon.config, *WATCH, rows=8) as terminal:
        lines = screen(terminal.until(r"\x1b\[J"))
        assert len(lines) == 8
        assert lines[-1].endswith("more lines; make the window higher, or run the command without a terminal)")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_restore_the_terminal(daemon: Daemon, number: int, code: int) -> None:
    """Whoever ends it finds a terminal that shows what is typed."""
    with OnTerminal(daemon.config, *WATCH) as terminal:
        terminal.until(r"\x1b\[J")
        terminal.process.send_signal(number)
        assert terminal.ended() == code
        assert terminal.is_restored()
        assert "Traceback" not in terminal.written


def test_no_color(daemon: Daemon) -> None:
    """NO_COLOR leaves the picture without colours."""
    daemon.do(lambda bench: bench.fail("call-1"))
    with OnTerminal(daemon.config, *WATCH, NO_COLOR="1") as terminal:
        assert "\x1b[3" not in terminal.until(r"call-1[\s\S]*\x1b\[J")


def test_one_call(daemon: Daemon) -> None:
    """The history of a call that is not there yet appears when it is."""
    with OnTerminal(daemon.config, *WATCH, "call-1") as terminal:
        terminal.until(r"the ledger holds no call with the id 'call-1' yet")
        daemon.do(lambda bench: bench.admit("call-1"))
        terminal.until(r"next attempt  as soon as an upload slot is free")


def test_a_pipe_gets_further_text(daemon: Daemon) -> None:
    """No escape sequence; Ctrl-C ends it with 130 and without a traceback."""
    with piped(daemon.config, *WATCH) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(30)]
        assert sum("tunerd 1.2.3 is running" in line for line in lines) >= 2
        assert "\x1b" not in "".join(lines)
        assert interrupted(process) == (130, "")


def test_json_is_one_line_each_time(daemon: Daemon) -> None:
    """The document of --json, for a program that follows."""
    with piped(daemon.config, *WATCH, "--json") as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["daemon"]["running"] is True
        code, err = reader_gone(process)
        assert code == 1
        assert err == ""


def test_a_daemon_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """One line says so, and the next daemon's state follows."""
    with serving(tmp_path) as daemon, ExitStack() as stack:
        process = stack.enter_context(piped(daemon.config, *WATCH))
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        kept = stack.pop_all()
    with kept:
        assert "the daemon went away" in process.stderr.readline()
        with serving(tmp_path) as again:
            again.do(lambda bench: bench.admit("call-2"))
            while not (line := process.stdout.readline()).startswith("  due                 1"):
                assert line


def test_without_a_daemon(tmp_path: Path) -> None:
    """The ledger is not opened again and again, which would stop a daemon from starting: one line, exit code 1."""
    with serving(tmp_path) as made:
        pass
    with piped(made.config, *WATCH) as process:
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (1, "")
        assert err == f"tunerd: no tunerd runs with the ledger {tmp_path}/ledger.db: there is nothing to watch\n"
    with piped(made.config, "status", "--interval", "1s") as process:
        assert process.communicate(timeout=30)[1].endswith("Error: --interval needs --watch\n")
        assert process.returncode == 2
