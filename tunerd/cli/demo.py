"""`tunerd demo`: how calls travel, on this machine and with a stand-in for Tuner; without an account, and without leftovers."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import click

from tunerd.admin.api import OrderRefused
from tunerd.admin.protocol import ControlError
from tunerd.call import State
from tunerd.cli.demo_daemon import CEILING_S, DemoDaemon
from tunerd.cli.demo_fleet import FleetDemo, fleet_ledger
from tunerd.cli.terminal import say, say_lines
from tunerd.sandbox import samples
from tunerd.sandbox.faults import FixedAnswer
from tunerd.sandbox.private_postgresql import NoPostgresql
from tunerd.sandbox.server import Sandbox

_EPILOG = """\b
Examples:
  tunerd demo --keep /tmp/tunerd-demo
  tunerd demo --fleet
  tunerd demo --fleet --postgresql postgresql://me@db.example/empty
"""


@click.command("demo", epilog=_EPILOG)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
              help="Use this directory, and keep it. It must not contain a ledger yet.")  # fmt: skip
@click.option("--fleet", is_flag=True,
              help="Show two tunerds that share a ledger, and the death of one. Needs PostgreSQL.")  # fmt: skip
@click.option("--postgresql", metavar="URL",
              help="With --fleet: an empty database instead of a temporary server. The demo deletes its tables.")  # fmt: skip
def command(keep: Path | None, fleet: bool, postgresql: str | None) -> None:
    """Start a stand-in for Tuner and a real daemon, give it sample calls, also with problems, and show how they are delivered."""
    if fleet and keep is not None:
        raise click.UsageError("--keep cannot be used with --fleet.")
    if postgresql is not None and not fleet:
        raise click.UsageError("--postgresql needs --fleet.")
    with tempfile.TemporaryDirectory(prefix="tunerd-demo-") as temporary:
        directory = keep or Path(temporary)
        if fleet:
            _show_fleet(directory, postgresql)
            return
        _make_ready(directory)
        _show(demo := _Demo(directory), (demo.log,))
    where = "" if keep is None else f"  ls {keep}\n                                     the files of the demo\n"
    say_lines(f"""
What to type next:
{where}  tunerd sandbox                     a stand-in for Tuner to point your own configuration at
  tunerd check -c config.yaml        check your configuration
  tunerd explain -c config.yaml FILE show how your rules map this file
  tunerd run -c config.yaml          run the daemon""")


def _show_fleet(directory: Path, postgresql: str | None) -> None:
    try:
        with fleet_ledger(postgresql) as url:
            demo = FleetDemo(directory, url)
            _show(demo, demo.logs)
    except NoPostgresql as exc:
        say(f"tunerd: {exc}", err=True)
        sys.exit(1)


def _show(demo: "_Demo | FleetDemo", logs: Sequence[Path]) -> None:
    try:
        asyncio.run(demo.run())
    except (TimeoutError, ControlError, OrderRefused) as exc:
        why = f" ({exc})" if str(exc) else ""
        say(err=True)
        say(f"The demo is stuck{why}. The last lines of the daemon's log:", err=True)
        for log in logs:
            say_lines(_tail(log), err=True)
        sys.exit(1)


def _make_ready(directory: Path) -> None:
    """Create the directory, or exit with 1: the calls of an earlier demo would be known already, and never arrive."""
    wrong = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "ledger.db").exists():
            wrong = f"{directory} already contains a ledger: choose another directory, or delete this one"
    except OSError as exc:
        wrong = f"{directory} cannot be used: {exc.strerror}"
    if wrong is not None:
        say(f"tunerd: {wrong}", err=True)
        sys.exit(1)


class _Demo:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._daemon = DemoDaemon(directory, directory / "ledger.db")

    @property
    def log(self) -> Path:
        return self._daemon.log

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            self._tuner = await stack.enter_async_context(Sandbox(recordings=self._directory / "at-tuner"))
            await self._start_daemon(stack)
            await self._arrivals()
            await self._late_recording()
            await self._local_recording()
            await self._broken_file()
            await self._retry()
            await self._summary()

    async def _start_daemon(self, stack: AsyncExitStack) -> None:
        for name in ("vapi", "log", "rooms", "egress", "bot", "audio"):
            (self._directory / name).mkdir(exist_ok=True)
        await self._daemon.start(samples.config(str(self._directory), self._tuner.url), stack)
        say_lines("A stand-in for Tuner and `tunerd run` are running, on this machine only.")

    async def _arrivals(self) -> None:
        say_lines("\n1. Calls arrive as files, and as lines of a log")
        await self._see("vapi-1", lambda: self._daemon.put("vapi/vapi-1.json", samples.vapi_report("vapi-1")),
                        "a Vapi report, mapped by the preset")  # fmt: skip
        lines = "".join(json.dumps(samples.log_line(f"log-{n}")) + "\n" for n in (1, 2, 3))
        log = self._directory / "log" / "calls.ndjson"
        await self._see("log-3", lambda: _append(log, lines), "three lines of a log")

    async def _late_recording(self) -> None:
        say_lines("\n2. A recording that arrives after its call")
        self._daemon.put("rooms/room-1.json", samples.room_call("room-1", "lobby"))
        await self._daemon.until_counts(State.WAITING, 1)
        say_lines("   room-1   waits for its recording (Tuner keeps the first version of a call, so tunerd waits)")
        await self._see("room-1", lambda: self._daemon.put("egress/EG_lobby.json", samples.egress_manifest("lobby")),
                        "the manifest arrived, and the call was sent with its recording")  # fmt: skip

    async def _local_recording(self) -> None:
        say_lines("\n3. A recording that is a file on this machine")
        audio, file = samples.tone(), self._directory / "audio" / "bot-1.wav"
        file.write_bytes(audio)
        await self._see("bot-1", lambda: self._daemon.put("bot/bot-1.json", samples.bot_call("bot-1", str(file))),
                        "its document names a WAV file: the call was sent")  # fmt: skip
        began = time.monotonic()
        await self._tuner.wait_for(lambda _: "bot-1" in self._tuner.storage.stored, CEILING_S)
        (stored,) = self._tuner.storage.stored["bot-1"]
        same = stored.path is not None and stored.path.read_bytes() == audio
        what = f"the {stored.size} bytes of the file" if same else "other bytes than the file has"
        say_lines(f"   bot-1    and the audio uploaded: the stand-in has {what} ({(time.monotonic() - began) * 1000:.0f} ms)")

    async def _broken_file(self) -> None:
        say_lines("\n4. A broken file")
        broken = self._directory / "rooms" / "room-2.json"
        broken.write_text('{"call": "room-2", "began": 17676')
        await self._daemon.until_counts(State.FAILED, 1)
        failure = (await self._daemon.status()).last_failures[0]
        say_lines(f"   room-2   failed({failure.reason}): {failure.detail}")
        self._daemon.put("egress/EG_terrace.json", samples.egress_manifest("terrace"))
        await self._see("room-2", lambda: self._daemon.put("rooms/room-2.json", samples.room_call("room-2", "terrace")),
                        "the file was repaired, and automatically replaced its failed call")  # fmt: skip

    async def _retry(self) -> None:
        say_lines("\n5. Tuner is unavailable for a moment")
        self._tuner.plan(FixedAnswer(503), FixedAnswer(503), call_id="vapi-2")
        await self._see("vapi-2", lambda: self._daemon.put("vapi/vapi-2.json", samples.vapi_report("vapi-2")),
                        "answered 503 twice, then accepted: the same bytes each time")  # fmt: skip

    async def _summary(self) -> None:
        await self._daemon.until_counts(State.SENT, 8)
        status = await self._daemon.status()
        counts = ", ".join(f"{row.count} {state}" for state, row in status.calls.items() if row.count)
        accepted = self._tuner.accepted
        arrived = f"{len(accepted)} calls, each exactly once, in {self._tuner.total} requests"
        say_lines(f"\nIn the ledger: {counts}. At the stand-in: {arrived}.")

    async def _see(self, call_id: str, act: Callable[[], object], what: str) -> None:
        """Do something, wait until the call is accepted, and say how long that took."""
        began = time.monotonic()
        act()
        async with asyncio.timeout(CEILING_S):
            await self._tuner.wait_for(lambda _: call_id in self._tuner.accepted, CEILING_S)
        say_lines(f"   {call_id:8} {what} ({(time.monotonic() - began) * 1000:.0f} ms)")


def _append(file: Path, lines: str) -> None:
    with file.open("a") as out:
        out.write(lines)


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-20:]) if file.exists() else "(nothing)"
