"""`tunerd demo --fleet`: two tunerds that share a ledger in PostgreSQL, on this machine and with a stand-in for Tuner.

The server is one of its own in a temporary directory, or the one of a URL. There the demo makes its tables in a schema which must
not exist yet, and deletes it at the end.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

from tunerd.call import State
from tunerd.cli.demo_daemon import CEILING_S, DemoDaemon
from tunerd.cli.terminal import say_lines
from tunerd.sandbox import samples
from tunerd.sandbox.private_postgresql import NoPostgresql, PrivatePostgresql
from tunerd.sandbox.server import Sandbox

_SCHEMA: Final = "tunerd"
_ORPHANS: Final = 5
"""How many calls the first instance leaves behind."""


class FleetDemo:
    """`agents` reads calls; `egress` reads what names their recordings."""

    def __init__(self, directory: Path, ledger_url: str) -> None:
        self._ledger_url = ledger_url
        self._agents, self._egress = (
            DemoDaemon(directory / name, directory / name / "local" / name) for name in ("agents", "egress")
        )

    @property
    def logs(self) -> tuple[Path, ...]:
        return self._agents.log, self._egress.log

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            self._tuner = await stack.enter_async_context(Sandbox())
            for daemon in (self._agents, self._egress):
                await self._start(daemon, stack)
            say_lines("A stand-in for Tuner and two tunerds, `agents` and `egress`, are running. Their ledger is in PostgreSQL.")
            await self._cross_host_join()
            await self._death()
            await self._summary()

    async def _start(self, daemon: DemoDaemon, stack: AsyncExitStack) -> None:
        for name in ("rooms", "egress", "local"):
            (daemon.directory / name).mkdir(parents=True)
        config = samples.fleet_config(str(daemon.directory), self._tuner.url, daemon.directory.name, self._ledger_url)
        await daemon.start(config, stack)

    async def _cross_host_join(self) -> None:
        say_lines("\n1. A call in one place, its recording in another")
        self._agents.put("rooms/room-1.json", samples.room_call("room-1", "lobby"))
        await self._egress.until_counts(State.WAITING, 1)
        say_lines("   room-1   `agents` read the call, and it waits for its recording. `egress` sees that in the ledger, too")
        began = time.monotonic()
        self._egress.put("egress/EG_lobby.json", samples.egress_manifest("lobby"))
        await self._accepted("room-1")
        say_lines(f"   room-1   `egress` read the manifest, and the call was sent with it ({_ms_since(began)} ms)")

    async def _death(self) -> None:
        say_lines("\n2. A host is lost")
        orphans = {f"room-{number}": f"hall-{number}" for number in range(2, 2 + _ORPHANS)}
        for call_id, room in orphans.items():
            self._agents.put(f"rooms/{call_id}.json", samples.room_call(call_id, room))
        await self._egress.until_counts(State.WAITING, _ORPHANS)
        await self._agents.kill()
        await asyncio.to_thread(shutil.rmtree, self._agents.directory)
        say_lines(f"   `agents` was killed (SIGKILL) while {_ORPHANS} of its calls waited, and its directory was deleted")
        began = time.monotonic()
        for room in orphans.values():
            self._egress.put(f"egress/EG_{room}.json", samples.egress_manifest(room))
        await self._accepted(*orphans)
        say_lines(f"   `egress` read their manifests, and sent all {_ORPHANS} ({_ms_since(began)} ms)")

    async def _summary(self) -> None:
        await self._egress.until_counts(State.SENT, 1 + _ORPHANS)
        counts = (await self._egress.status()).calls
        told = ", ".join(f"{row.count} {state}" for state, row in counts.items() if row.count)
        arrived = f"{len(self._tuner.accepted)} calls, each exactly once, in {self._tuner.total} requests"
        say_lines(f"\nIn the ledger: {told}. At the stand-in: {arrived}.")

    async def _accepted(self, *call_ids: str) -> None:
        await self._tuner.wait_for(lambda _: set(call_ids) <= set(self._tuner.accepted), CEILING_S)


@contextmanager
def fleet_ledger(url: str | None) -> Iterator[str]:
    """The URL of an empty place for a ledger; it is empty again at the end. Raises NoPostgresql with one line that says what is
    missing."""
    try:
        import psycopg  # noqa: F401 - only whether it is there
    except ImportError:
        raise NoPostgresql("--fleet needs the Python package psycopg: pip install 'tunerd[postgres]'") from None
    if url is None:
        with _own_server() as made:
            yield made
        return
    with _empty_place(url) as given:
        yield given


@contextmanager
def _empty_place(url: str) -> Iterator[str]:
    """A database of the user's, without the demo's schema before and afterwards."""
    import psycopg

    from tunerd.ledger.postgresql.sqlstates import refusal_words

    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            is_used = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (_SCHEMA,)).fetchone() is not None
    except psycopg.Error as exc:
        raise NoPostgresql(f"the server of this URL cannot be used: {refusal_words(exc)}") from None
    if is_used:
        raise NoPostgresql(f"this database already has a schema `{_SCHEMA}`, perhaps a ledger: give the URL of an empty database")
    try:
        yield url
    finally:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE".encode())


@contextmanager
def _own_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tunerd-postgresql-") as place:
        try:
            server = PrivatePostgresql(Path(place))
            server.make()
            server.start()
        except NoPostgresql as exc:
            raise NoPostgresql(f"{exc}; or give the URL of an empty database by --postgresql") from None
        try:
            yield server.url()
        finally:
            server.stop()


def _ms_since(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f}"
