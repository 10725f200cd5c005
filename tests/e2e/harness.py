"""Real processes for the end-to-end tests: `tunerd run`, started, watched and killed, beside a sandbox that listens in this process.

This module only handles processes and makes inputs; the tests say what they expect.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
from click.testing import CliRunner

from tunerd.cli import main
from tunerd.sandbox.faults import Faults
from tunerd.sandbox.server import Sandbox as SandboxServer

CEILING_S = 60.0
KEY = "tr_api_e2e-key"


async def until(question: Callable[[], Any], ceiling_s: float = CEILING_S, every_s: float = 0.02) -> Any:
    """Call `ask` (a function or coroutine function) until the answer is true; TimeoutError after the ceiling."""
    never = asyncio.Event()
    async with asyncio.timeout(ceiling_s):
        while True:
            answer = question()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            with suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await never.wait()


class Process:
    """A `tunerd` command as a real process; its output goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self._process = process
        self._output = output

    @classmethod
    async def start(cls, *arguments: str, output: Path, environ: dict[str, str] | None = None, under: Sequence[str] = ()) -> Self:
        with output.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *under, sys.executable, "-m", "tunerd", *arguments,
                stdout=sink, stderr=sink, stdin=asyncio.subprocess.DEVNULL,
                env={**_plain_environment(), **(environ or {})},
            )  # fmt: skip
        return cls(process, output)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def directory(self) -> Path:
        """The file with its output."""
        return self._output.parent

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self, ceiling_s: float = CEILING_S) -> int:
        async with asyncio.timeout(ceiling_s):
            return await self._process.wait()

    async def kill(self) -> None:
        if self.running:
            self._process.kill()
        await self._process.wait()


def _plain_environment() -> dict[str, str]:
    kept = {"PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START"}
    return {name: value for name, value in os.environ.items() if name in kept} | {"NO_COLOR": "1"}


class Sandbox:
    """The sandbox on a real socket, queried over HTTP, and by its journal."""

    def __init__(self, url: str, journal: Path, session: aiohttp.ClientSession) -> None:
        self.url, self.journal, self._session = url, journal, session

    async def arrivals(self) -> list[dict[str, Any]]:
        """Every call in the journal, in order of arrival."""
        return [line for line in self._lines() if "upload" not in line]

    async def uploads(self) -> list[dict[str, Any]]:
        """Every upload of audio in the journal, in the order in which they ended."""
        return [line for line in self._lines() if "upload" in line]

    def _lines(self) -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        lines = self.journal.read_bytes().split(b"\n")
        return [json.loads(line) for line in lines[:-1] if line]

    async def accepted(self) -> dict[str, int]:
        """Call id -> how often a call with this id was accepted as new."""
        counts: dict[str, int] = {}
        for arrival in await self.arrivals():
            if arrival["status"] in (200, 201):
                counts[arrival["call_id"]] = counts.get(arrival["call_id"], 0) + 1
        return counts

    async def bodies(self) -> dict[str, dict[str, Any]]:
        """Call id -> the newest body that arrived for it."""
        async with self._session.get(f"{self.url}/arrivals.json") as answer:
            arrivals = (await answer.json())["arrivals"]
        return {one["call_id"]: json.loads(one["body"]) for one in sorted(arrivals, key=lambda one: one["at"])}

    async def counts(self) -> dict[str, Any]:
        """`total`, `in_flight` and the like, as the sandbox counts them."""
        async with self._session.get(f"{self.url}/arrivals.json?since=1000000000") as answer:
            return dict(await answer.json())

    async def busy(self, count: int = 1) -> None:
        """Wait until this many requests are open."""

        async def are_open() -> bool:
            return int((await self.counts())["in_flight"]) >= count

        await until(are_open)

    async def plan(self, faults: dict[str, Any]) -> None:
        """Change the faults of the running sandbox (docs of tunerd/sandbox/faults.py)."""
        async with self._session.post(f"{self.url}/_sandbox/plan", json=faults) as answer:
            assert answer.status == 200, await answer.text()

    async def has(self, *call_ids: str, ceiling_s: float = CEILING_S) -> None:
        """Wait until each of these calls was accepted."""

        async def there() -> bool:
            return set(call_ids) <= set(await self.accepted())

        await until(there, ceiling_s)


@asynccontextmanager
async def sandbox(directory: Path, faults: Faults | None = None) -> AsyncIterator[Sandbox]:
    """A sandbox that listens until the end of the block, with its journal in `directory`."""
    journal = directory / "journal.ndjson"
    async with SandboxServer(faults=faults, show=True, journal=journal) as server, aiohttp.ClientSession() as session:
        yield Sandbox(server.url, journal, session)


class Daemon(Process):
    """`tunerd run` as a process; `start` returns when the process has reported READY=1 to its supervisor (sd_notify)."""

    @classmethod
    async def run(
        cls, config: Path, *arguments: str, environ: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> "Daemon":
        """`under`: a command that runs the daemon, such as strace."""
        directory = config.parent
        address = directory / "notify.sock"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
            notify.bind(str(address))
            process = await cls.start(
                "run", "--config", str(config), *arguments,
                output=directory / "tunerd.log",
                environ={"NOTIFY_SOCKET": str(address), "RUNTIME_DIRECTORY": str(directory), **(environ or {})},
                under=under,
            )  # fmt: skip

            async def ready() -> bool:
                with suppress(BlockingIOError):
                    return b"READY=1" in notify.recv(4096)
                return not process.running

            await until(ready)
        assert process.running, process.said
        return process

    async def stop(self, number: int = signal.SIGTERM, ceiling_s: float = CEILING_S) -> int:
        self.signal(number)
        return await self.ended(ceiling_s)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log; lines that are not JSON are left out."""
        found = []
        for line in self.said.splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def told(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one kind."""
        return [line for line in self.lines() if line.get("event") == event]

    async def get(self, path: str) -> str:
        """The response of the daemon: of the scraped port for its paths, else of the status page."""
        is_scraped = path in ("/metrics", "/healthz", "/readyz")
        address = self.told("listening")[-1]["address"] if is_scraped else self.told("status page")[-1]["url"][7:-1]
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
            return await answer.text()

    async def healthy(self) -> bool:
        """Whether /healthz answers 200."""
        address = self.told("listening")[-1]["address"]
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/healthz") as answer:
            return answer.status == 200

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of one series of /metrics; None: the series does not exist."""
        for line in (await self.get("/metrics")).splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{label}="{text}"' in series for label, text in labels.items()):
                return float(value)
        return None

    async def states(self) -> dict[str, int]:
        """The number of calls in each state."""
        return {state: row["count"] for state, row in json.loads(await self.get("/status.json"))["calls"].items() if row["count"]}


@asynccontextmanager
async def world(directory: Path, faults: Faults | None = None, **changes: str) -> AsyncIterator[tuple[Sandbox, Path]]:
    """A sandbox, the two directories and a configuration; the test starts the daemon."""
    (directory / "calls").mkdir()
    (directory / "recordings").mkdir()
    async with sandbox(directory, faults) as tuner:
        config = directory / "tunerd.yaml"
        config.write_text(config_text(tuner.url, directory, **changes))
        yield tuner, config


@asynccontextmanager
async def running(config: Path, *arguments: str, environ: dict[str, str] | None = None) -> AsyncIterator[Daemon]:
    """`tunerd run`, ready; killed at the end of the block if it still runs."""
    daemon = await Daemon.run(config, *arguments, environ=environ)
    try:
        yield daemon
    finally:
        await daemon.kill()


_QUICK: Final = {"status", "failed", "pause", "resume", "retry", "remap"}
"""Commands that only ask the daemon or the ledger. A process of their own would be half a second of imports."""


_ONE_AT_A_TIME: Final = threading.Lock()
"""Two commands in two threads would take each other's output, which click's runner finds in sys.stdout."""


def _in_this_process(config: Path, name: str, *arguments: str) -> tuple[int, str]:
    with _ONE_AT_A_TIME:
        result = CliRunner().invoke(
            main, [name, "--config", str(config), *arguments],
            env={"RUNTIME_DIRECTORY": str(config.parent), "NO_COLOR": "1"},
        )  # fmt: skip
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


async def command(config: Path, name: str, *arguments: str) -> tuple[int, str]:
    """Run a `tunerd` command, as a process unless it is a quick one; return its exit code, and stdout and stderr together."""
    if name in _QUICK:
        return await asyncio.to_thread(_in_this_process, config, name, *arguments)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunerd", name, "--config", str(config), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**_plain_environment(), "RUNTIME_DIRECTORY": str(config.parent)},
    )  # fmt: skip
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()


def config_text(sandbox_url: str, directory: Path, **changes: str) -> str:
    """A configuration with a call source (five lines of rules) and a manifest source."""
    key_file = changes.get("key_file")
    key = f"api_key_file: {key_file}" if key_file else f"api_key: {KEY}"
    return f"""
tuner:
  workspace_id: 42
  agent_remote_identifier: support-bot
  base_url: {sandbox_url}
  {key}
sources:
  - name: calls
    path: {directory}/calls
    include: ["*.json", "*.ndjson", "*.ndjson.1"]
    rescan: {changes.get("rescan", "2s")}
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls:
        for_each: {{m: doc.messages}}
        role: m.role
        text: m.text
        start_ms: m.at
    recording:
      - url: doc.audio
      - manifest: recordings
        key: doc.room
        within: 10m
        wait: 30m
{changes.get("source", "")}
  - name: recordings
    path: {directory}/recordings
    rescan: 2s
    manifest:
      key: doc.room
      url: doc.url
      started_at: doc.started
delivery:
  concurrency: 8
  timeout: {changes.get("timeout", "5s")}
  drain: {changes.get("drain", "5s")}
{changes.get("delivery", "")}
ledger:
  url: sqlite://{directory}/ledger.db
http:
  listen: 127.0.0.1:0
  admin_listen: 127.0.0.1:0
log:
  format: json
"""


def call_document(
    call_id: str, *, room: str | None = None, audio: bool = True, started: int = 1_767_225_600_000
) -> dict[str, Any]:
    """A call document that the rules of `config_text` can read."""
    document: dict[str, Any] = {
        "id": call_id,
        "started": started,
        "ended": started + 60_000,
        "messages": [
            {"role": "agent", "text": f"This is the town library, call {call_id}.", "at": 0},
            {"role": "user", "text": "Until when are you open?", "at": 2400},
            {"role": "agent", "text": "Until seven this evening.", "at": 4100},
        ],
    }
    if room is not None:
        document["room"] = room
    elif audio:
        document["audio"] = f"https://audio.example/{call_id}.wav"
    return document


def manifest(room: str, *, started: int = 1_767_225_600_000) -> dict[str, Any]:
    return {"room": room, "url": f"https://audio.example/rooms/{room}.ogg", "started": started}


def put(path: Path, document: Any) -> Path:
    """Write a document as a careful writer does: to a temporary name, then renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(document))
    beside.rename(path)
    return path
