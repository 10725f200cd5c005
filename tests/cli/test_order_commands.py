"""The commands that ask the ledger: run as a user runs them, against a real control socket in another thread."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import pytest
from click.testing import CliRunner, Result

from tests.admin.benches import Bench, Rules, refused, remade
from tests.ops.parts import NOW, destination, source
from tunerd.admin.api import CallsOrder, StatusOrder
from tunerd.admin.phrases import span
from tunerd.admin.socket_server import SocketPlaces, serve_orders
from tunerd.call import State
from tunerd.cli import main
from tunerd.ops.encoding import encoded
from tunerd.outcome import FailReason, IntakeReason, PauseReason

T = TypeVar("T")

CONFIG = """
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, api_key_file: {directory}/key}}
sources:
  - name: agent
    path: {directory}/calls
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.start
      transcript_with_tool_calls: doc.messages
    recording: [{{url: doc.url}}]
ledger: {{url: "sqlite://{directory}/ledger.db"}}
"""


class Daemon:
    """A daemon's office on its socket, in a loop of its own; `do` runs something in there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.yaml"
        self.config.write_text(CONFIG.format(directory=directory))
        self.bench = Bench(rules={"agent": Rules(remade())})
        self.bench.facts.config_file, self.bench.facts.ledger = str(self.config), str(directory / "ledger.db")
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        assert self._up.wait(10)

    async def _serve(self) -> None:
        async with serve_orders(self.bench.admin, SocketPlaces(ledger=str(self.directory / "ledger.db"), env={})):
            self._up.set()
            await self._stop.wait()

    def do(self, what: Callable[[Bench], Coroutine[object, object, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(what(self.bench), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def run(self, *arguments: str, **options: str) -> Result:
        name, *others = arguments
        return CliRunner().invoke(main, [name, "-c", str(self.config), *others], **options)  # type: ignore[arg-type]


@contextmanager
def serving(directory: Path) -> Iterator[Daemon]:
    """A daemon that is closed at the end of the block."""
    made = Daemon(directory)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon with one configuration."""
    with serving(tmp_path) as made:
        yield made


def states(daemon: Daemon) -> dict[str | None, str]:
    page = daemon.do(lambda bench: bench.ask(CallsOrder(dismissed=None)))
    return {row.call_id: row.state for row in page.calls}


def fits_the_screen(text: str) -> bool:
    """At most eighty columns, except where a single word (a path) is longer."""
    return all(len(line) <= 80 or len(line.split()) <= 2 for line in text.splitlines())


COMMANDS = ("status", "failed", "retry", "remap", "dismiss", "forget", "pause", "resume")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    """One that can be typed as it stands."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"Examples:\n    tunerd {name}" in result.output
    assert "--config" in result.output


def test_status_says_where_everything_stands(daemon: Daemon) -> None:
    """Counts, ages, pauses with the next probe, sources that are not read, the last failures; at most eighty columns."""

    async def plant(bench: Bench) -> None:
        await bench.fail("call-2", detail="HTTP 422: end_timestamp lies before start_timestamp; see the rule end_timestamp")
        await bench.admit("call-1")
        bench.now += 90
        bench.destinations[:] = [
            destination(pause=PauseReason.AUTH, since=bench.now - 30, detail="401", next_probe_at=bench.now + 5, limit=8),
            destination("eu.example/7", label="eu"),
        ]
        bench.sources[:] = [source(paused=IntakeReason.MISSING), source(name="egress", files=1234, watching=False)]
        bench.sources.append(source(name="secret", paused=IntakeReason.DENIED))

    daemon.do(plant)
    result = daemon.run("status")
    assert result.exit_code == 0
    for line in (
        "tunerd 1.2.3 is running; it started 2 min ago (process",
        "  due                 1   oldest 90 s ago\n",
        "  failed              1   tunerd failed\n",
        "  tuner.example/42   0 of 8 uploads in flight\n    paused (auth) for 30 s; next probe in 5 s: 401\n",
        "  eu.example/7 (eu)   0 of 8 uploads in flight\n",
        "  agent   paused (missing)\n    /var/spool/calls\n    the directory does not exist",
        "  secret   paused (denied)\n    /var/spool/calls\n    this process cannot read the directory: give it read",
        "  egress   1,234 files, found by scans\n",
        "  call-2   rejected   90 s ago\n",
    ):
        assert line in result.output
    assert fits_the_screen(result.output)
    assert "\x1b" not in result.output


def test_status_json_is_the_documented_one(daemon: Daemon) -> None:
    """Exactly what /status.json answers."""
    assert json.loads(daemon.run("status", "--json").output) == json.loads(
        encoded(daemon.do(lambda bench: bench.ask(StatusOrder())))
    )


def test_the_whole_story_of_a_call(daemon: Daemon) -> None:
    """Every change with its time, the HTTP status, the reason, and what to do."""
    daemon.do(lambda bench: bench.fail("call-1"))
    result = daemon.run("status", "call-1")
    assert result.exit_code == 0
    assert result.output.startswith("call-1   failed\n")
    for line in (
        "  reason        rejected: HTTP 422\n",
        "  http status   422\n",
        "  recording     https://audio.example/a.wav\n",
        "  read from     /calls/call-1.json\n",
        "    2026-01-01 00:00:00Z  admitted",
        "    2026-01-01 00:00:00Z  failed 422: attempt 1, rejected: HTTP 422\n",
        "  what to do    Tuner does not accept it as it is",
    ):
        assert line in result.output
    assert fits_the_screen(result.output)
    assert len(json.loads(daemon.run("status", "call-1", "--json").output)["stories"][0]["events"]) >= 2


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({}, "as soon as an upload slot is free"),
        ({"dry_run": True}, "none: dry run, nothing is sent"),
        ({"pause": PauseReason.UNREACHABLE}, "after the pause (unreachable) of tuner"),
        (
            {"pause": PauseReason.AUTH, "next_probe_at": NOW + 95},
            "after the pause (auth) of tuner; next probe in 5 s",
        ),
        ({"pause": PauseReason.OPERATOR}, "after the pause (operator) of tuner; end it with: tunerd resume"),
        (
            {"agents": {"support-bot": (PauseReason.AUTH, NOW)}},
            "after the pause (auth) of agent support-bot; tunerd probes every 30 s",
        ),
        ({"agents": {"other": (PauseReason.AUTH, NOW)}}, "as soon as an upload slot is free"),
        ({"closed_until": NOW + 150}, "in 60 s: Tuner asked for this wait (Retry-After)"),
        ({"closed_until": NOW + 80}, "as soon as an upload slot is free"),
    ],
)
def test_a_due_call_says_what_it_waits_for(daemon: Daemon, held: dict[str, Any], told: str) -> None:
    """A pause of its destination or its agent, a Retry-After; never that it goes out in 0 s while nothing does."""

    async def plant(bench: Bench) -> None:
        await bench.admit("call-1")
        bench.now += 90
        bench.destinations[:] = [destination(name="tuner", **held)]

    daemon.do(plant)
    output = daemon.run("status", "call-1").output
    assert f" next attempt {told} read from " in " ".join(output.split())
    assert fits_the_screen(output)


def test_a_call_that_is_due_later_says_when(daemon: Daemon) -> None:
    """Its own wait, where nothing else holds it up."""

    async def plant(bench: Bench) -> None:
        await bench.admit("call-1")
        bench.now -= 45

    daemon.do(plant)
    assert "  next attempt  in 45 s\n" in daemon.run("status", "call-1").output


def test_an_unknown_call(daemon: Daemon) -> None:
    """One line, exit code 1."""
    result = daemon.run("status", "call-9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("tunerd: the ledger holds no call with the id 'call-9'")


def test_failed_lists_what_and_why_and_what_to_do(daemon: Daemon) -> None:
    """Newest first; by call id, or by place where the mapping did not get that far."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.do(lambda bench: bench.refuse(refused("/calls/a.ndjson", offset=81920)))
    result = daemon.run("failed")
    assert result.exit_code == 0
    first, second = result.output.index("/calls/a.ndjson@81920   unreadable"), result.output.index("call-1   rejected")
    assert first < second
    for line in ("  why   byte 7: not JSON; mend the file\n", "  do    correct it there, then: tunerd retry --place /calls/a.ndjson@81920\n",
                 "  from  /calls/call-1.json\n"):  # fmt: skip
        assert line in result.output
    assert fits_the_screen(result.output)
    assert "call-1" not in daemon.run("failed", "--reason", "unreadable").output
    assert "no call matches" in daemon.run("failed", "--source", "other").output
    assert "newest are shown" in daemon.run("failed", "--limit", "1").output
    assert len(json.loads(daemon.run("failed", "--json").output)["calls"]) == 2


def test_failed_groups_calls_by_cause(daemon: Daemon) -> None:
    """The largest cause first, whatever differs between its calls in ids and numbers; one command that selects them all."""
    for n in range(5):
        daemon.do(lambda bench, n=n: bench.fail(f"call-{n}", detail=f"HTTP 422: transcript[{n}].role of 'call-{n}' is wrong"))
    daemon.do(lambda bench: bench.fail("other-1", "other-2", detail="HTTP 422: call_type is missing"))
    daemon.do(lambda bench: bench.refuse(refused("/calls/half.json")))
    out = daemon.run("failed").output
    assert out.startswith("5 calls   rejected   source agent, "), out
    assert "  why   HTTP 422: transcript[4].role of 'call-4' is wrong\n  calls call-4, call-3, call-2 and 2 more\n" in out
    assert "tunerd retry --reason rejected --source agent These" in " ".join(out.split())
    assert "These options also select the 2 other calls that failed for this reason." in out
    assert "2 calls   rejected   source agent, " in out
    assert "tunerd retry other-2 other-1" in " ".join(out.split())
    assert "/calls/half.json   unreadable   source agent" in out
    assert out.endswith("\nTo list each call: tunerd failed --limit 0\n")
    assert fits_the_screen(out)


def test_the_command_for_a_group_selects_no_older_calls(daemon: Daemon) -> None:
    """`--since` narrows what is shown, and is repeated in the command to copy."""
    daemon.do(lambda bench: bench.fail("call-1", "call-2", "call-3", "call-4"))
    out = " ".join(daemon.run("failed", "--since", "2025-12-31T00:00Z").output.split())
    assert "tunerd retry --reason rejected --source agent --since 2025-12-31T00:00:00Z" in out


def test_each_reason_of_a_group_says_what_to_do(daemon: Daemon) -> None:
    """Whatever the reason, no placeholder is left and a command is named, or that nothing needs to be typed."""
    for reason in FailReason:
        daemon.do(
            lambda bench, reason=reason: bench.refuse(
                *(refused(f"/calls/{reason.value}-{n}.json", reason=reason, call_id=f"{reason.value}-{n}") for n in range(4))
            )
        )
    out = daemon.run("failed").output
    assert out.count("4 calls   ") == len(FailReason)
    assert out.count("  do    ") == len(FailReason)
    assert "{" not in out
    assert fits_the_screen(out)


def test_failed_of_audio_that_the_spool_cannot_hold_names_the_spool(daemon: Daemon) -> None:
    """`too_large` has two causes, and what to raise is in the message: the advice names both."""
    what = "the audio in the document is larger than all that ledger.max_spool allows (1,000 bytes)"
    daemon.do(lambda bench: bench.refuse(refused("/calls/a.json", reason=FailReason.TOO_LARGE, what=what)))
    _, advice = daemon.run("failed").output.split("  do    ")
    assert "max_document" in advice
    assert "ledger.max_spool" in advice


def test_failed_shows_as_many_as_are_asked_for(daemon: Daemon) -> None:
    """A page of the daemon holds a thousand; `--limit` may be more, and what is not shown is told."""
    daemon.do(lambda bench: bench.refuse(*(refused(f"/calls/{number:04}.json") for number in range(2010))))
    for limit, is_more in ((1005, True), (2009, True), (2010, False), (5000, False)):
        out = daemon.run("failed", "--limit", str(limit)).output
        assert out.count(".json   unreadable") == min(limit, 2010)
        assert (f"Only the {limit} newest are shown" in out) == is_more
        assert "/calls/2009.json" in out
    assert "/calls/1004.json" not in daemon.run("failed", "--limit", "1005").output


@pytest.mark.parametrize(("order", "told"), [("retry", "now due"), ("dismiss", "600 calls dismissed")])
def test_more_ids_than_a_url_holds(daemon: Daemon, order: str, told: str) -> None:
    """Hundreds of UUIDs in one command line; the one that is not there is named."""
    ids = [str(uuid.UUID(int=number, version=4)) for number in range(601)]
    daemon.do(
        lambda bench: bench.refuse(
            *(refused(f"/calls/{one}.json", reason=FailReason.INVALID, call_id=one, document=f'{{"id": "{one}"}}'.encode())
              for one in ids[1:])
        )
    )  # fmt: skip
    result = daemon.run(order, *ids)
    assert told in result.output
    assert "600 calls" in result.output
    assert result.stderr == f"tunerd: not in the ledger: {ids[0]}\n"


def test_failed_with_nothing_to_show(daemon: Daemon) -> None:
    """Says so; an empty list as JSON."""
    assert daemon.run("failed").output == "no call has failed\n"
    assert json.loads(daemon.run("failed", "--json").output) == {"version": 1, "calls": []}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("call-1",), {"call-1"}),
        (("call-1", "call-2"), {"call-1", "call-2"}),
        (("--reason", "gave_up"), {"call-2"}),
        (("--source", "agent"), {"call-1", "call-2"}),
        (("--source", "other"), set()),
        (("--since", "2h"), set()),
        (("--since", "2025-12-31"), {"call-1", "call-2"}),
        (("--place", "/calls/call-2.json"), {"call-2"}),
        (("--all",), {"call-1", "call-2"}),
    ],
)
def test_retry_takes_what_was_chosen(daemon: Daemon, arguments: tuple[str, ...], sent: set[str]) -> None:
    """And nothing else."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.do(lambda bench: bench.fail("call-2", reason=FailReason.GAVE_UP))
    result = daemon.run("retry", *arguments)
    assert {call_id for call_id, state in states(daemon).items() if state == "due"} == sent
    assert result.exit_code == 0
    if sent:
        assert result.output == f"{len(sent)} call{'s' if len(sent) != 1 else ''} to be sent again: now due\n"
    else:
        assert result.output == "there is nothing to send again\n"


def test_retry_says_what_it_could_not_do(daemon: Daemon) -> None:
    """Each with its reason; exit code 1; an id that nobody knows too."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.do(lambda bench: bench.refuse(refused("/calls/gone.json")))
    daemon.do(lambda bench: bench.admit("open"))
    result = daemon.run("retry", "--all")
    assert result.exit_code == 1
    assert "1 call to be sent again: now due\n1 not changed:\n  /calls/gone.json   gone: its file is gone" in result.output
    assert json.loads(daemon.run("retry", "open", "--json").stdout)["skipped"][0]["reason"] == "due"
    result = daemon.run("retry", "call-9", "open")
    assert (result.exit_code, result.stderr) == (1, "tunerd: not in the ledger: call-9\n")
    assert daemon.run("retry", "--place", "/calls/none.json").exit_code == 1


@pytest.mark.parametrize("order", [("retry", "--all"), ("remap", "--state", "failed")])
def test_another_copy_of_a_call_that_is_sent_is_not_told_as_sent_now(daemon: Daemon, order: tuple[str, ...]) -> None:
    """Its failed row is done with, but it was not this order that sent it."""
    daemon.do(lambda bench: bench.admit("call-1"))
    daemon.do(lambda bench: bench.deliver())
    copy = refused("/calls/copy.json", reason=FailReason.UNMAPPABLE, document=b'{"id": "call-1"}')
    daemon.do(lambda bench: bench.refuse(copy))
    result = daemon.run(*order)
    assert (result.exit_code, result.output) == (0, "1 call sent already\n")
    assert states(daemon) == {"call-1": "sent"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "call-1", "--all"),
        ("retry", "--reason", "bad luck"),
        ("retry", "--all", "--since", "yesterday"),
        ("dismiss",),
        ("remap",),
        ("remap", "--state", "sent"),
        ("forget",),
        ("failed", "--limit", "-1"),
    ],
)
def test_usage_errors(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing happens."""
    daemon.do(lambda bench: bench.fail("call-1"))
    assert daemon.run(*arguments).exit_code == 2
    assert states(daemon) == {"call-1": "failed"}


def test_remap(daemon: Daemon) -> None:
    """Open and failed calls, as chosen by state."""
    daemon.do(lambda bench: bench.fail("call-1"))
    daemon.do(lambda bench: bench.admit("call-2"))
    assert daemon.run("remap", "--state", "waiting").output == "there is nothing to map again\n"
    result = daemon.run("remap", "--state", "due,failed")
    assert (result.exit_code, result.output) == (0, "2 calls mapped again: now due\n")


def test_dismiss(daemon: Daemon) -> None:
    """Out of the list; `failed --dismissed` still shows it."""
    daemon.do(lambda bench: bench.fail("call-1", "call-2"))
    result = daemon.run("dismiss", "call-1")
    assert (result.exit_code, result.output) == (0, "1 call dismissed\n")
    assert "call-1" not in daemon.run("failed").output
    assert "call-1" in daemon.run("failed", "--dismissed").output
    assert daemon.run("dismiss", "call-9").exit_code == 1
    assert daemon.run("dismiss", "--reason", "crashed").output == "there is nothing to dismiss\n"


def test_forget_asks_first(daemon: Daemon) -> None:
    """Not without a person or --yes; then it names what is still on disk."""
    daemon.do(lambda bench: bench.fail("call-1"))
    assert daemon.run("forget", "call-1").exit_code == 2
    assert states(daemon) == {"call-1": "failed"}
    result = daemon.run("forget", "call-1", "--yes")
    assert (result.exit_code, result.output) == (
        0, "1 call forgotten\nits file is still on disk: /calls/call-1.json\n",
    )  # fmt: skip
    assert states(daemon) == {}
    assert daemon.run("forget", "call-1", "--yes").exit_code == 1


def test_a_call_that_was_rejected_with_400_names_workspace_and_agent(daemon: Daemon) -> None:
    """What a 400 usually means comes before the rules."""
    daemon.do(lambda bench: bench.fail("call-1", status=400))
    daemon.do(lambda bench: bench.fail("call-2", status=422))
    said = " ".join(daemon.run("failed").stdout.split())
    assert said.count("400 usually means a wrong workspace_id or agent_remote_identifier") == 1


def test_forget_names_the_copies_of_the_ledger(daemon: Daemon) -> None:
    """Those set aside after damage, with their logs, and those of an upgrade hold the call too, even one that the ledger no
    longer knows; what belongs to another ledger is not named."""
    daemon.do(lambda bench: bench.fail("call-1"))
    copies = ["ledger.db.corrupt-20260101T000010Z", "ledger.db.corrupt-20260101T000010Z-wal", "ledger.db.v1-1767225600"]
    for name in (*copies, "ledger.db.lock", "ledger.db.vault", "other.db.v1-1767225600"):
        (daemon.directory / name).touch()
    named = "".join(f"a copy of the whole ledger may contain it, too: {daemon.directory / name}\n" for name in copies)
    result = daemon.run("forget", "call-1", "--yes")
    assert (result.exit_code, result.output.partition("call-1.json\n")[2]) == (0, named)
    result = daemon.run("forget", "call-1", "--yes")
    assert (result.exit_code, result.stderr) == (1, named + "tunerd: the ledger holds no call with the id 'call-1'\n")


def test_pause_and_resume(daemon: Daemon) -> None:
    """All destinations, or one by its name; the ledger remembers it."""
    assert daemon.run("pause").output == "paused: tuner\n"
    assert daemon.do(lambda bench: bench.ledger.stored_pauses())["tuner"].pause is PauseReason.OPERATOR
    assert daemon.run("resume", "tuner").output == "resumed: tuner\n"
    assert daemon.do(lambda bench: bench.ledger.stored_pauses())["tuner"].pause is None
    result = daemon.run("pause", "other")
    assert (result.exit_code, result.stderr) == (1, "tunerd: there is no destination 'other'; there is: tuner\n")


@pytest.mark.parametrize("name", ["status", "failed", "pause"])
def test_without_a_ledger_none_is_made(tmp_path: Path, name: str) -> None:
    """A command never creates one: a mistyped configuration would look like an empty daemon."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(directory=tmp_path))
    result = CliRunner().invoke(main, [name, "-c", str(config)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"tunerd: there is no ledger at {tmp_path}/ledger.db yet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_a_bad_configuration_is_78(tmp_path: Path) -> None:
    """As with every command."""
    (tmp_path / "config.yaml").write_text("sources: 7")
    assert CliRunner().invoke(main, ["status", "-c", str(tmp_path / "config.yaml")]).exit_code == 78


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (11_520, "3 h 12 min"),
     (172_800, "2 d"), (190_800, "2 d 5 h")],
)  # fmt: skip
def test_spans_are_short(seconds: float, text: str) -> None:
    """Two units at most."""
    assert span(seconds) == text


def test_file_names_cannot_play_with_the_terminal(daemon: Daemon) -> None:
    """Escape sequences in a path are shown, not carried out."""
    daemon.do(lambda bench: bench.refuse(refused("/calls/\x1b[31m\nx.json")))
    for arguments in (("failed",), ("status",)):
        output = daemon.run(*arguments).output
        assert "\x1b" not in click.unstyle(output)
        assert "\nx.json" not in output


def test_every_state_has_its_line(daemon: Daemon) -> None:
    """`status --json` counts every state."""
    assert set(json.loads(daemon.run("status", "--json").output)["calls"]) == {state.value for state in State}


def test_a_file_name_that_is_no_utf8(daemon: Daemon) -> None:
    """One such file must not make the commands unanswerable; and it can be named in an order."""
    odd = "/calls/a\udcff b.json"
    daemon.do(lambda bench: bench.refuse(refused(odd), refused("/calls/plain.json")))
    for name in ("status", "failed"):
        result = daemon.run(name)
        assert result.exit_code == 0, result.output
        assert r"/calls/a\udcff b.json" in result.output
    rows = json.loads(daemon.run("failed", "--json").stdout_bytes)["calls"]
    assert sorted(row["path"] for row in rows) == [r"/calls/a\xff b.json", "/calls/plain.json"]
    assert daemon.run("dismiss", "--place", odd).output == "1 call dismissed\n"
    assert [row["path"] for row in json.loads(daemon.run("failed", "--json").stdout_bytes)["calls"]] == ["/calls/plain.json"]


@pytest.mark.parametrize("path", ["/calls/sp ace.json", "/calls/it's.json", "/calls/a\nb.json", "/calls/caf\udce9 1.json"])
def test_what_to_do_can_be_copied(daemon: Daemon, path: str) -> None:
    """The command that `failed` proposes is one word for each argument in a shell, however the file is called."""
    daemon.do(lambda bench: bench.refuse(refused(path, reason=FailReason.TOO_LARGE)))
    word = daemon.run("failed").output.split("--place", 1)[1].strip().splitlines()[0]
    told = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert os.fsdecode(told.stdout) == path


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_no_color(daemon: Daemon, environment: dict[str, str], coloured: bool) -> None:
    """NO_COLOR takes the colours away on a terminal, too."""
    daemon.do(lambda bench: bench.fail("call-1"))
    leader, follower = os.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with open(follower, "wb") as terminal:
        subprocess.run(
            [sys.executable, "-m", "tunerd", "failed", "-c", str(daemon.config)], env=kept | environment, check=True,
            stdin=terminal, stdout=terminal, stderr=terminal,
        )  # fmt: skip
    shown = os.read(leader, 65536)
    os.close(leader)
    assert b"call-1" in shown
    assert (b"\x1b[" in shown) == coloured
