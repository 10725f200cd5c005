"""`tunerd tap`: what it prints against a daemon's control socket, and how it ends."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.admin.test_activity import admitted
from tests.cli.terminals import interrupted, piped, reader_gone
from tests.cli.test_hostile_text import HOSTILE, is_harmless
from tests.cli.test_order_commands import Daemon, serving
from tests.ops.parts import failed, retried, sent
from tests.ops.test_canaries import LEAKY, SECRETS, leaks
from tunerd import events as e
from tunerd.admin.activity_answers import TapRow
from tunerd.call import State
from tunerd.events import Event
from tunerd.ops.activity import KEPT
from tunerd.ops.mask import keep_out
from tunerd.outcome import FailReason, IntakeReason, PauseReason


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(tmp_path) as made:
        yield made


def happen(daemon: Daemon, *events: Event) -> None:
    async def all_of_them(bench: object) -> None:
        for event in events:
            daemon.bench.activity(event)

    daemon.do(all_of_them)


def lines_of(daemon: Daemon, *options: str) -> list[str]:
    """The lines without their times."""
    result = daemon.run("tap", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}Z  ", line) for line in lines), lines
    return [line[15:] for line in lines]


def test_a_line_for_each_event(daemon: Daemon) -> None:
    """What happened, to which call of which source, why, and how long it took."""
    happen(
        daemon, admitted("call-1", state=State.WAITING), e.RecordingMatched(source="agent", call_id="call-1", waited_s=12.0),
        retried(), sent("call-1", attempts=2), failed(), failed(call_id=None),
        e.CallDuplicate(source="agent", call_id="call-1", replaced=False),
        e.PauseBegan(destination="tuner.example/42", agent="bot", reason=PauseReason.AUTH, detail="answered 403"),
        e.PauseEnded(destination="tuner.example/42", agent=None, reason=PauseReason.AUTH, lasted_s=61.0),
        e.IntakePaused(source="agent", reason=IntakeReason.MISSING, detail="no such directory"),
    )  # fmt: skip
    assert lines_of(daemon, "--last", "10", "--count", "10") == [
        "admitted   call-1   agent   waits for its recording",
        "matched    call-1   agent   after 12 s",
        "retried    call-1   agent   server_error 503: 503 Service Unavailable, attempt 1, again in 2.0 s",
        "sent       call-1   agent   after 500 ms, attempt 2, Tuner's id t-1",
        "failed     call-1   agent   invalid: call.call_id: too long",
        "failed     /c/1.json   agent   invalid: call.call_id: too long",
        "duplicate  call-1   agent   the call is known already",
        "paused     tuner.example/42   agent bot   auth: answered 403",
        "resumed    tuner.example/42   auth, after 61 s",
        "paused     source agent   missing: no such directory",
    ]


def test_what_is_selected(daemon: Daemon) -> None:
    """By source, state, reason and id."""
    happen(daemon, admitted("call-1"), sent("call-1"), admitted("call-2", "other"), failed(FailReason.INVALID, "call-3"))
    for options, whats in (
        (("--source", "other"), ["admitted"]),
        (("--state", "sent", "--state", "failed"), ["sent", "failed"]),
        (("--reason", "invalid"), ["failed"]),
        (("call-1",), ["admitted", "sent"]),
    ):
        found = lines_of(daemon, "--last", "9", "--count", str(len(whats)), *options)
        assert [line.split()[0] for line in found] == whats
    assert daemon.run("tap", "--state", "ignored").exit_code == 2
    assert daemon.run("tap", "--reason", "bad luck").exit_code == 2


def test_json_lines(daemon: Daemon) -> None:
    """One object each, with every field of the row."""
    happen(daemon, admitted("call-1"), sent("call-1"))
    first, second = map(json.loads, daemon.run("tap", "--json", "--last", "2", "--count", "2").stdout.splitlines())
    assert set(first) == set(TapRow.__slots__)
    assert (first["what"], first["call_id"], first["state"], second["took_s"]) == ("admitted", "call-1", "due", 0.5)


def test_it_follows_and_says_what_it_missed(daemon: Daemon) -> None:
    """Events come as they happen; while nobody reads its pipe, the daemon works as before, and the tap then shows how many it missed."""
    with piped(daemon.config, "tap", "--last", "1") as process:
        assert process.stdout is not None
        happen(daemon, admitted("call-0"))
        assert "admitted   call-0" in process.stdout.readline()
        happen(daemon, *(admitted(f"call-{n}", state=State.WAITING) for n in range(1, KEPT + 101)))
        many = [admitted(f"later-{n}") for n in range(KEPT + 500)]
        happen(daemon, *many)
        lines = []
        while "later" not in (line := process.stdout.readline()):
            lines.append(line)
        missed = [int(line.split()[0].replace(",", "")) for line in lines if "missed: the tap was slower" in line]
        first = int(line.split("later-")[1].split()[0])
        assert sum(missed) + len(lines) - len(missed) == KEPT + 100 + first
        assert missed
        assert interrupted(process) == (130, "")


def test_json_says_what_was_missed(daemon: Daemon) -> None:
    """As an object of its own."""
    with piped(daemon.config, "tap", "--json", "--last", "1") as process:
        assert process.stdout is not None
        happen(daemon, admitted("call-0"))
        assert json.loads(process.stdout.readline())["call_id"] == "call-0"
        happen(daemon, *(admitted(f"call-{n}") for n in range(3 * KEPT)))
        found = next(one for line in process.stdout if (one := json.loads(line))["what"] == "missed")
        assert found["count"] >= 2 * KEPT
        assert reader_gone(process) == (1, "")


def test_a_restarted_daemon_is_waited_for(tmp_path: Path) -> None:
    """One line on stderr, and then the events of the new one."""
    with serving(tmp_path) as daemon, ExitStack() as stack:
        process = stack.enter_context(piped(daemon.config, "tap", "--last", "1"))
        assert process.stdout is not None
        assert process.stderr is not None
        happen(daemon, admitted("call-0"), admitted("call-1"))
        process.stdout.readline()
        kept = stack.pop_all()
    with kept:
        assert process.stderr.readline().endswith("try again; the tap waits for it\n")
        with serving(tmp_path) as again:
            again.bench.activity.stream = "stream-2"
            happen(again, admitted("call-2"))
            while "call-2" not in (line := process.stdout.readline()):
                assert line
            assert interrupted(process)[0] == 130


def test_without_a_daemon(tmp_path: Path) -> None:
    """One line, exit code 1."""
    with serving(tmp_path) as made:
        pass
    result = made.run("tap")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"tunerd: no tunerd runs with the ledger {tmp_path}/ledger.db: there is nothing to follow\n"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_moves_the_terminal(daemon: Daemon, text: str) -> None:
    """Ids, paths and details of hostile documents are one line of visible characters."""
    happen(daemon, admitted(text, text), failed(call_id=None, what=text), sent(text))
    for options in ((), ("--json",)):
        result = daemon.run("tap", "--last", "3", "--count", "3", *options)
        assert len(result.stdout.splitlines()) == 3
        assert is_harmless(result.stdout)


def test_no_secret(daemon: Daemon) -> None:
    """What stands in the words of an error by mistake is masked."""
    keep_out(SECRETS["own key"])
    happen(daemon, failed(what=LEAKY), e.PauseBegan(destination="d", agent=None, reason=PauseReason.AUTH, detail=LEAKY))
    for options in ((), ("--json",)):
        out = daemon.run("tap", "--last", "2", "--count", "2", *options).stdout
        assert "[redacted]" in out
        assert leaks(out) == []
