"""What calls take in a ledger in PostgreSQL, and what one instance takes of the server.

`python -m benchmarks.fleet_sizing [CALLS]` starts a PostgreSQL of its own, and one daemon that reads calls while nothing listens at its
destination; then a daemon that sends calls and keeps no documents of them. docs/fleet.md has the figures.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.servers import counting_server, daemon
from benchmarks.sizing import peak_mb, shown_size, until_counted, written
from tunerd.sandbox.private_postgresql import PrivatePostgresql

_ROWS: Final = (10, 60, 300, 2_000)
_NOBODY: Final = "http://127.0.0.1:9"
_BYTES: Final = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'tunerd' AND c.relkind = 'r'
"""
_TABLES: Final = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'tunerd' AND c.relkind = 'r'
"""
_CONNECTIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_LOG: Final = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"


@dataclass(frozen=True, slots=True)
class Taken:
    document_bytes: float
    disk_bytes: float
    """For each call, in all tables and indexes; of sent calls without the room that later calls use again (VACUUM FULL)."""
    log_bytes: float
    """For each call, in the write-ahead log: what a standby has to receive, and an archive to keep."""
    rows: float
    """For each call, in all tables."""
    connections: int
    """The most that were seen at once."""
    peak_mb: float


class _Database:
    """A new database of the server, as the measurement sees it."""

    def __init__(self, server: PrivatePostgresql, name: str) -> None:
        self.url = server.url(name)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self._connection = psycopg.connect(self.url, autocommit=True, options="-c search_path=tunerd")

    def ask(self, query: str) -> Any:
        found = self._connection.execute(query.encode()).fetchone()
        assert found is not None
        return found[0]

    def rows(self) -> int:
        """In all tables."""
        names = [row[0] for row in self._connection.execute(_TABLES.encode()).fetchall()]
        return sum(self.ask(f'SELECT count(*) FROM "{name}"') for name in names)

    def vacuum(self, *, full: bool) -> None:
        self._connection.execute(b"VACUUM FULL" if full else b"VACUUM")

    def close(self) -> None:
        self._connection.close()


async def _watch(database: _Database, seen: list[int]) -> None:
    while True:
        seen.append(await asyncio.to_thread(database.ask, _CONNECTIONS))
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _counting_connections(database: _Database) -> AsyncIterator[list[int]]:
    seen = [0]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(database, seen))
        try:
            yield seen
        finally:
            watching.cancel()


async def taken(directory: Path, database: _Database, rows: int, calls: int, *, url: str, state: str) -> Taken:
    config, size = written(directory, rows, calls, url)
    ledger = f'ledger: {{url: "{database.url}", directory: {directory}/local, '
    (directory / "local").mkdir()
    text = config.read_text().replace(f'ledger: {{url: "sqlite://{directory}/ledger.db"', ledger.rstrip(", "))
    held = directory / "held"
    (directory / "calls").rename(held)
    (directory / "calls").mkdir()
    config.write_text(text.replace("ledger: {", "ledger: {keep_documents: 0, ") + "instance: bench\n")
    ledger_file = directory / "local" / "bench"
    async with daemon(config) as pid:
        bytes_before, log_before, rows_before = database.ask(_BYTES), database.ask(_LOG), database.rows()
        for file in sorted(held.iterdir()):
            file.rename(directory / "calls" / file.name)
        async with _counting_connections(database) as seen:
            await until_counted(ledger_file, state, calls)
        peak = peak_mb(pid)
    log = database.ask(_LOG) - log_before
    database.vacuum(full=state == "sent")
    return Taken(
        document_bytes=size, disk_bytes=(database.ask(_BYTES) - bytes_before) / calls, log_bytes=float(log) / calls,
        rows=(database.rows() - rows_before) / calls, connections=max(seen), peak_mb=peak,
    )  # fmt: skip


async def main(calls: int) -> None:
    print(
        "| rows of the transcript | document | on the server's disk | write-ahead log | rows in tables | connections | peak memory |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-postgresql-") as cluster:
        server = PrivatePostgresql(Path(cluster), durable=True)
        server.make()
        server.start()
        try:
            for rows in _ROWS:
                await _print(server, f"open, {rows:,}", rows, max(50, calls * _ROWS[0] // rows), None)
            await _print(server, "sent, 10", 10, calls, "sent")
        finally:
            server.stop()


async def _print(server: PrivatePostgresql, name: str, rows: int, calls: int, state: str | None) -> None:
    database = _Database(server, f"of_{rows}_{state or 'due'}")
    with tempfile.TemporaryDirectory(prefix="tunerd-bench-") as place:
        if state is None:
            found = await taken(Path(place), database, rows, calls, url=_NOBODY, state="due")
        else:
            async with counting_server(Path(place), "--no-check") as tuner:
                found = await taken(Path(place), database, rows, calls, url=tuner.url, state=state)
    database.close()
    print(
        f"| {name} | {shown_size(found.document_bytes)} | {shown_size(found.disk_bytes)} | {shown_size(found.log_bytes)} | "
        f"{found.rows:.2f} | {found.connections} | {found.peak_mb:.0f} MB |",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:2] or ["5000"])[0])))
