"""`tunerd top` on a real terminal and in a pipe, against a daemon's control socket."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.admin.test_activity import admitted
from tests.cli.terminals import OnTerminal, interrupted, piped, reader_gone, screen
from tests.cli.test_order_commands import Daemon, serving
from tests.cli.test_tap import happen
from tests.ops.parts import destination, failed, retried, sent, source
from tests.ops.test_canaries import LEAKY, SECRETS, leaks
from tunerd import events as e
from tunerd.ops.mask import keep_out
from tunerd.outcome import IntakeReason, PauseReason

TOP = ("top", "--interval", "100ms")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path) as made:
        yield made


def advance(daemon: Daemon, seconds: float) -> None:
    async def do(bench: object) -> None:
        daemon.bench.now += seconds

    daemon.do(do)


def test_a_terminal_shows_rates_durations_states_and_pauses(daemon: Daemon) -> None:
    """Live, in place, for each source; `q` ends it with 0."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.bench.destinations[:] = [destination(pause=PauseReason.AUTH, since=daemon.bench.now - 30, detail="401", limit=8)]
    daemon.bench.sources[:] = [source(), source(name="gone", paused=IntakeReason.MISSING)]
    with OnTerminal(daemon.config, *TOP) as terminal:
        first = screen(terminal.until(r"\x1b\[J"))
        assert "  all sources                      -         -         -         -" in first
        happen(daemon, *(admitted(f"call-{n}") for n in range(20)), *(sent(f"call-{n}") for n in range(10)),
               admitted("x", "other"), retried(), failed(),
               e.AttemptEnded(destination="d", outcome="sent", took_s=0.025))  # fmt: skip
        advance(daemon, 10)
        lines = screen(terminal.until(r"all sources +2\.1[\s\S]*\x1b\[J"))
        terminal.type("q")
        assert terminal.ended() == 0
        assert terminal.is_restored()
    for line in (
        "  failed              1",
        "  calls a second            admitted      sent   retried    failed",
        "  all sources                    2.1       1.0       0.1       0.1",
        "  agent                          2.0       1.0       0.1       0.1",
        "  other                          0.1       0.0       0.0       0.0",
        "  read to accepted                10    500 ms    500 ms    500 ms",
        "  one upload                       1     25 ms     25 ms     25 ms",
        "  tuner.example/42   0 of 8 uploads in flight",
        "    paused (auth) for 40 s: 401",
        "  gone   paused (missing)",
    ):
        assert line in lines, (line, lines)
    assert all(len(line) <= 100 for line in lines)
    assert not any(line.startswith("  agent   ") and "file" in line for line in lines), "a source without trouble takes no line"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_restore_the_terminal(daemon: Daemon, number: int, code: int) -> None:
    """Without a traceback."""
    with OnTerminal(daemon.config, *TOP) as terminal:
        terminal.until(r"\x1b\[J")
        terminal.process.send_signal(number)
        assert terminal.ended() == code
        assert terminal.is_restored()
        assert "Traceback" not in terminal.written


def test_a_small_terminal(daemon: Daemon) -> None:
    """The picture is cut, what matters most comes first, and nothing scrolls."""
    with OnTerminal(daemon.config, *TOP, rows=6, columns=30) as terminal:
        lines = screen(terminal.until(r"\x1b\[J"))
        assert len(lines) == 6
        assert lines[0].startswith("tunerd 1.2.3 running")


def test_a_pipe_gets_a_line_each_time(daemon: Daemon) -> None:
    """With the rates since the line before, and no escape sequence; Ctrl-C ends it with 130 and without a traceback."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.bench.destinations[:] = [destination(pause=PauseReason.OPERATOR)]
    with piped(daemon.config, *TOP) as process:
        assert process.stdout is not None
        happen(daemon, *(sent(f"call-{n}") for n in range(10)))
        line = process.stdout.readline()
        assert line == (
            "2026-01-01 00:00:00Z  admitted -/s  sent -/s  retried -/s  failed -/s  0 waiting  0 due  0 sending  1 failed  "
            "median 500 ms  95 % 500 ms  paused: tuner.example/42 (operator)\n"
        )
        advance(daemon, 5)
        happen(daemon, *(sent(f"call-{n}") for n in range(10)))
        advance(daemon, 5)
        lines = [process.stdout.readline() for _ in range(8)]
        assert any(float(line.split("sent ")[1].split("/s")[0].replace("-", "0")) > 0 for line in lines), lines
        assert interrupted(process) == (130, "")


def test_count_and_a_closed_pipe(daemon: Daemon) -> None:
    """`--count` ends it; whoever closes the pipe gets no traceback."""
    result = daemon.run(*TOP, "--count", "2")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    with piped(daemon.config, *TOP) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert reader_gone(process) == (1, "")


def test_a_restarted_daemon_is_waited_for(tmp_path: Path) -> None:
    """The screen says that it does not answer, and shows the next one."""
    with serving(tmp_path) as daemon, ExitStack() as stack:
        terminal = stack.enter_context(OnTerminal(daemon.config, *TOP))
        terminal.until(r"tunerd 1\.2\.3 running")
        kept = stack.pop_all()
    with kept:
        terminal.until(r"the daemon went away")
        with serving(tmp_path):
            terminal.until(r"tunerd 1\.2\.3 running")


def test_without_a_daemon(tmp_path: Path) -> None:
    """One line, exit code 1, and the terminal is never taken."""
    with serving(tmp_path) as made:
        pass
    with OnTerminal(made.config, *TOP) as terminal:
        assert terminal.ended() == 1
        assert "there is nothing to show" in terminal.written
        assert "\x1b[?1049h" not in terminal.written


def test_no_secret(daemon: Daemon) -> None:
    """Of what stands in pauses and failures by mistake, nothing is shown."""
    keep_out(SECRETS["own key"])
    daemon.do(lambda bench: bench.fail("call-1", detail=LEAKY))
    daemon.bench.destinations[:] = [destination(pause=PauseReason.AUTH, detail=LEAKY)]
    with OnTerminal(daemon.config, *TOP, columns=250) as terminal:
        written = terminal.until(r"last failure[\s\S]*\x1b\[J")
        assert "[redacted]" in written
        assert leaks(written) == []
