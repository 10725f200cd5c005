"""A fleet for the end-to-end tests: several `tunerd run` on one PostgreSQL, each with directories of its own as on a host of its own,
and a relay between an instance and the server that stalls and cuts.

This module only handles processes and makes inputs; the tests say what they expect.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.e2e.harness import Daemon, until
from tests.ledger.postgres_server import Cluster

CONCURRENCY: Final = 8

_CONFIG: Final = """
instance: {name}
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, base_url: "{url}", api_key: tr_api_fleet}}
sources:
  - name: calls
    path: {directory}/calls
    rescan: 2s
    call:
      call_id: doc.id
      call_type: {{const: phone_call}}
      start_timestamp: doc.started
      end_timestamp: doc.ended
      transcript_with_tool_calls: {{for_each: {{m: doc.messages}}, role: m.role, text: m.content, start_ms: m.start_ms, end_ms: m.end_ms}}
    recording:
      - url: doc.recording_url
      - {{manifest: recordings, key: doc.room, within: 10m, wait: 1h}}
  - name: recordings
    path: {directory}/recordings
    rescan: 2s
    manifest: {{key: doc.room_name, url: doc.location, started_at: doc.started_at}}
delivery: {{concurrency: {concurrency}}}
ledger: {{url: "{ledger}", directory: {directory}}}
http: {{listen: null}}
log: {{format: json}}
"""

_OPEN: Final = """
SELECT call_id FROM call JOIN instance ON call.holder = instance.generation
WHERE instance.name = %s AND call.state = 'sending'
"""


class Relay:
    """Between an instance and the server: what it lets through can be held back, or cut off."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Relay"]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                self.flow()
                self.cut()

    def stall(self) -> None:
        """Hold back every byte, in both directions; connections stay open, and new ones are taken and get no answer."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, their_writer}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, their_writer))
                group.create_task(self._pass(their_reader, writer))
        finally:
            self._open -= both
            for each in both:
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                await self._flows.wait()
                writer.write(chunk)
                await writer.drain()
        writer.transport.abort()


class Member:
    """One instance of the fleet, on a host of its own. `daemon` is its newest process."""

    def __init__(self, fleet: "Fleet", name: str, port: int) -> None:
        self.name = name
        self.directory = fleet.directory / name
        self.calls, self.recordings = self.directory / "calls", self.directory / "recordings"
        self.calls.mkdir(parents=True)
        self.recordings.mkdir()
        self.config = self.directory / "tunerd.yaml"
        self.config.write_text(
            _CONFIG.format(
                name=name, url=fleet.tuner_url, directory=self.directory, concurrency=CONCURRENCY, ledger=fleet.ledger_url(port)
            )
        )
        self._fleet = fleet
        self.daemon: Daemon | None = None

    async def start(self) -> Daemon:
        self.daemon = await Daemon.run(self.config)
        return self.daemon

    async def open_calls(self) -> list[str]:
        """The calls that this instance is sending, as the ledger has it."""
        return [row[0] for row in await self._fleet.ask(_OPEN, self.name)]

    async def calls_read(self) -> int:
        """How many calls of this instance's own directory are in the ledger."""
        [(count,)] = await self._fleet.ask("SELECT count(*) FROM call WHERE starts_with(path, %s)", f"{self.calls}/")
        return int(count)

    async def kill(self) -> list[str]:
        """SIGKILL. Returns the calls that were open: what it had claimed, and no answer to is in the ledger."""
        assert self.daemon is not None
        await self.daemon.kill()
        return await self.open_calls()

    def signal(self, number: int) -> None:
        assert self.daemon is not None
        self.daemon.signal(number)


class Fleet:
    """Several instances on one database of `cluster`."""

    def __init__(self, cluster: Cluster, database: str, directory: Path, tuner_url: str) -> None:
        self.cluster, self.directory, self.tuner_url = cluster, directory, tuner_url
        self._database = database
        self._asking = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self.members: list[Member] = []

    def ledger_url(self, port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/{self._database}"

    def add(self, name: str, *, relay: Relay | None = None) -> Member:
        self.members.append(Member(self, name, self.cluster.port if relay is None else relay.port))
        return self.members[-1]

    async def ask(self, query: str, *values: object) -> list[Any]:
        """The rows of a query. While the server is away it waits."""
        found: list[list[Any]] = []

        async def answered() -> bool:
            try:
                if self._connection is None:
                    self._connection = await psycopg.AsyncConnection.connect(
                        self.ledger_url(self.cluster.port), autocommit=True, options="-c search_path=tunerd"
                    )
                found.append(await (await self._connection.execute(query.encode(), values)).fetchall())
            except psycopg.OperationalError:
                await self._close()
            return bool(found)

        async with self._asking:
            await until(answered)
        return found[0]

    async def states(self) -> dict[str, int]:
        """The number of calls in each state."""
        return dict(await self.ask("SELECT state, count(*)::int FROM call GROUP BY state"))

    async def end(self) -> None:
        for member in self.members:
            if member.daemon is not None and member.daemon.running:
                member.signal(signal.SIGCONT)
                await member.daemon.kill()
        await self._close()

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


@asynccontextmanager
async def fleet_of(cluster: Cluster, names: Sequence[str], directory: Path, tuner_url: str) -> AsyncIterator[Fleet]:
    """Instances with these names, all started, on a new database. At the end whatever still runs is killed."""
    fleet = Fleet(cluster, cluster.database().rpartition("/")[2], directory, tuner_url)
    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(fleet.add(name).start())
        yield fleet
    finally:
        await fleet.end()


class Oracles:
    """Beside each instance a process that writes calls (oracle.py). The manifests of its calls go to the next instance."""

    def __init__(self, directory: Path, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._directory = directory
        self._processes = processes

    @property
    def obligations(self) -> list[Path]:
        return sorted(self._directory.glob("obligations-*"))

    async def finish(self) -> None:
        """Each writes the manifests that are still missing, and ends."""
        for each in self._processes:
            each.terminate()
        for each in self._processes:
            assert await each.wait() == 0


@asynccontextmanager
async def oracles(fleet: Fleet, *, rate: float, seed: int) -> AsyncIterator[Oracles]:
    """`rate`: calls a second, at each instance."""
    async with AsyncExitStack() as stack:
        processes = []
        for at, member in enumerate(fleet.members):
            beside = fleet.members[(at + 1) % len(fleet.members)]
            processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.e2e.oracle", "--calls", str(member.calls), "--recordings", str(beside.recordings),
                    "--obligations", str(fleet.directory / f"obligations-{member.name}"), "--rate", str(rate),
                    "--seed", str(seed + at), "--prefix", member.name, stdout=asyncio.subprocess.DEVNULL,
                )
            )  # fmt: skip
            stack.push_async_callback(_end, processes[-1])
        yield Oracles(fleet.directory, processes)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
