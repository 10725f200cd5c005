"""`tunerd demo`: how calls travel, on this machine and with a stand-in for Tuner; without an account, and without leftovers."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import click

from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.api import OrderRefused, StatusOrder
from tunerd.admin.discovery import find_daemon
from tunerd.admin.protocol import ControlError
from tunerd.call import State
from tunerd.cli.terminal import say, say_lines
from tunerd.clock import SystemClock
from tunerd.sandbox import samples
from tunerd.sandbox.faults import FixedAnswer
from tunerd.sandbox.server import Sandbox

_CEILING_S: Final = 30.0
_LOOK_S: Final = 0.02

_EPILOG = """\b
Example:
  tunerd demo --keep /tmp/tunerd-demo
"""


@click.command("demo", epilog=_EPILOG)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
              help="Use this directory, and keep it. It must not contain a ledger yet.")  # fmt: skip
def command(keep: Path | None) -> None:
    """Start a stand-in for Tuner and a real daemon, give it sample calls, also with problems, and show how they are delivered."""
    with tempfile.TemporaryDirectory(prefix="tunerd-demo-") as temporary:
        directory = keep or Path(temporary)
        _make_ready(directory)
        try:
            asyncio.run(_Demo(directory).run())
        except (TimeoutError, ControlError, OrderRefused) as exc:
            why = f" ({exc})" if str(exc) else ""
            say(err=True)
            say(f"The demo is stuck{why}. The last lines of the daemon's log:", err=True)
            say_lines(_tail(directory / "tunerd.log"), err=True)
            sys.exit(1)
    where = "" if keep is None else f"  ls {keep}\n                                     the files of the demo\n"
    say_lines(f"""
What to type next:
{where}  tunerd sandbox                     a stand-in for Tuner to point your own configuration at
  tunerd check -c config.yaml        check your configuration
  tunerd explain -c config.yaml FILE show how your rules map this file
  tunerd run -c config.yaml          run the daemon""")


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
        self._clock = SystemClock()
        self._never = asyncio.Event()
        self._config = directory / "config.yaml"
        self._daemon: asyncio.subprocess.Process | None = None

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
        self._config.write_text(samples.config(str(self._directory), self._tuner.url))
        with (self._directory / "tunerd.log").open("wb") as log:
            environ = {name: value for name, value in os.environ.items() if not name.startswith(("TUNER", "NOTIFY_", "RUNTIME_"))}
            self._daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tunerd", "run", "-c", str(self._config),
                stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env=environ,
            )  # fmt: skip
        stack.push_async_callback(self._stop_daemon)
        await self._until(lambda: find_daemon(str(self._directory / "ledger.db")) is not None)
        await self._until(self._has_looked_around)
        say_lines("A stand-in for Tuner and `tunerd run` are running, on this machine only.")

    async def _arrivals(self) -> None:
        say_lines("\n1. Calls arrive as files, and as lines of a log")
        await self._see("vapi-1", lambda: self._put("vapi/vapi-1.json", samples.vapi_report("vapi-1")),
                        "a Vapi report, mapped by the preset")  # fmt: skip
        lines = "".join(json.dumps(samples.log_line(f"log-{n}")) + "\n" for n in (1, 2, 3))
        log = self._directory / "log" / "calls.ndjson"
        await self._see("log-3", lambda: _append(log, lines), "three lines of a log")

    async def _late_recording(self) -> None:
        say_lines("\n2. A recording that arrives after its call")
        self._put("rooms/room-1.json", samples.room_call("room-1", "lobby"))
        await self._until_counts(State.WAITING, 1)
        say_lines("   room-1   waits for its recording (Tuner keeps the first version of a call, so tunerd waits)")
        await self._see("room-1", lambda: self._put("egress/EG_lobby.json", samples.egress_manifest("lobby")),
                        "the manifest arrived, and the call was sent with its recording")  # fmt: skip

    async def _local_recording(self) -> None:
        say_lines("\n3. A recording that is a file on this machine")
        audio, file = samples.tone(), self._directory / "audio" / "bot-1.wav"
        file.write_bytes(audio)
        await self._see("bot-1", lambda: self._put("bot/bot-1.json", samples.bot_call("bot-1", str(file))),
                        "its document names a WAV file: the call was sent")  # fmt: skip
        began = time.monotonic()
        await self._tuner.wait_for(lambda _: "bot-1" in self._tuner.storage.stored, _CEILING_S)
        (stored,) = self._tuner.storage.stored["bot-1"]
        same = stored.path is not None and stored.path.read_bytes() == audio
        what = f"the {stored.size} bytes of the file" if same else "other bytes than the file has"
        say_lines(f"   bot-1    and the audio uploaded: the stand-in has {what} ({(time.monotonic() - began) * 1000:.0f} ms)")

    async def _broken_file(self) -> None:
        say_lines("\n4. A broken file")
        broken = self._directory / "rooms" / "room-2.json"
        broken.write_text('{"call": "room-2", "began": 17676')
        await self._until_counts(State.FAILED, 1)
        failure = (await self._status()).last_failures[0]
        say_lines(f"   room-2   failed({failure.reason}): {failure.detail}")
        self._put("egress/EG_terrace.json", samples.egress_manifest("terrace"))
        await self._see("room-2", lambda: self._put("rooms/room-2.json", samples.room_call("room-2", "terrace")),
                        "the file was repaired, and automatically replaced its failed call")  # fmt: skip

    async def _retry(self) -> None:
        say_lines("\n5. Tuner is unavailable for a moment")
        self._tuner.plan(FixedAnswer(503), FixedAnswer(503), call_id="vapi-2")
        await self._see("vapi-2", lambda: self._put("vapi/vapi-2.json", samples.vapi_report("vapi-2")),
                        "answered 503 twice, then accepted: the same bytes each time")  # fmt: skip

    async def _summary(self) -> None:
        await self._until_counts(State.SENT, 8)
        status = await self._status()
        counts = ", ".join(f"{row.count} {state}" for state, row in status.calls.items() if row.count)
        accepted = self._tuner.accepted
        arrived = f"{len(accepted)} calls, each exactly once, in {self._tuner.total} requests"
        say_lines(f"\nIn the ledger: {counts}. At the stand-in: {arrived}.")

    # How the demo watches the daemon.

    async def _see(self, call_id: str, act: Callable[[], object], what: str) -> None:
        """Do something, wait until the call is accepted, and say how long that took."""
        began = time.monotonic()
        act()
        async with asyncio.timeout(_CEILING_S):
            await self._tuner.wait_for(lambda _: call_id in self._tuner.accepted, _CEILING_S)
        say_lines(f"   {call_id:8} {what} ({(time.monotonic() - began) * 1000:.0f} ms)")

    async def _status(self) -> StatusDocument:
        daemon = await asyncio.to_thread(find_daemon, str(self._directory / "ledger.db"))
        if daemon is None:
            raise TimeoutError
        return await daemon.ask(StatusOrder())

    async def _has_looked_around(self) -> bool:
        return all(source.last_scan_at for source in (await self._status()).sources)

    async def _until_counts(self, state: State, count: int) -> None:
        async def reached() -> bool:
            return (await self._status()).calls[state.value].count >= count

        await self._until(reached)

    async def _until(self, question: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(_CEILING_S):
            while True:
                answer = question()
                if answer if isinstance(answer, bool) else await answer:
                    return
                if self._daemon is not None and self._daemon.returncode is not None:
                    raise TimeoutError
                await self._clock.wait(self._never, _LOOK_S)

    def _put(self, place: str, document: Any) -> None:
        """As a careful writer does: written beside its place, then renamed."""
        target = self._directory / place
        beside = target.with_name(f".{target.name}.tmp")
        beside.write_text(json.dumps(document))
        beside.rename(target)

    async def _stop_daemon(self) -> None:
        if self._daemon is not None and self._daemon.returncode is None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_CEILING_S):
                    await self._daemon.wait()
            except TimeoutError:
                self._daemon.kill()
                await self._daemon.wait()


def _append(file: Path, lines: str) -> None:
    with file.open("a") as out:
        out.write(lines)


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-20:]) if file.exists() else "(nothing)"
