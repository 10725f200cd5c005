"""`tunerd demo` in different directories; tests/test_readme.py checks its output."""

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from tests.e2e.harness import _plain_environment
from tests.ledger.postgres_server import cluster, needs_postgres
from tests.real_parts import needs_mount


async def demo(directory: Path, *arguments: str, under: Sequence[str] = ()) -> tuple[int, str]:
    """Run the demo in `directory`; return its exit code and all its output."""
    process = await asyncio.create_subprocess_exec(
        *under, sys.executable, "-m", "tunerd", "demo", *arguments, cwd=directory,
        env={**_plain_environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(90):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_relative_directory_is_kept_and_not_used_twice(tmp_path: Path) -> None:
    """The demo leaves its ledger in the directory; a second demo there is refused at once, in one line."""
    code, said = await demo(tmp_path, "--keep", "kept")
    assert code == 0, said
    assert f"ls {tmp_path}/kept\n" in said
    assert (tmp_path / "kept" / "ledger.db").exists()
    code, said = await demo(tmp_path, "--keep", "kept")
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith(f"tunerd: {tmp_path}/kept already contains a ledger: choose another directory")


@pytest.mark.parametrize("name", ["file/below", "/proc/nowhere"])
async def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, name: str) -> None:
    """A directory that cannot be created gives one line and no traceback."""
    (tmp_path / "file").touch()
    code, said = await demo(tmp_path, "--keep", name)
    assert (code, said.count("\n")) == (1, 1), said
    assert "cannot be used: " in said


@needs_postgres
async def test_the_fleet_of_the_demo(tmp_path: Path) -> None:
    """Two instances on a temporary PostgreSQL: a join across them, and the calls of the one that was killed; each arrives once."""
    code, said = await demo(tmp_path, "--fleet")
    assert code == 0, said
    assert re.search(r"room-1   `egress` read the manifest, and the call was sent with it \(\d+ ms\)", said), said
    assert "`agents` was killed (SIGKILL) while 5 of its calls waited" in said
    assert "In the ledger: 6 sent. At the stand-in: 6 calls, each exactly once, in 6 requests." in said
    assert list(tmp_path.iterdir()) == []


@needs_postgres
async def test_the_fleet_on_a_server_of_the_users(tmp_path: Path) -> None:
    """The demo leaves nothing in the database, and does not touch a database that already has a ledger."""
    with cluster() as server:
        url = f"postgresql://postgres@127.0.0.1:{server.port}/postgres"
        code, said = await demo(tmp_path, "--fleet", "--postgresql", url)
        assert code == 0, said
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'tunerd'").fetchone() is None
            connection.execute("CREATE SCHEMA tunerd")
            code, said = await demo(tmp_path, "--fleet", "--postgresql", url)
            assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'tunerd'").fetchone() is not None
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("tunerd: this database already has a schema `tunerd`")
    code, said = await demo(tmp_path, "--fleet", "--postgresql", url)
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("tunerd: the server of this URL cannot be used: no connection to the server")


@needs_mount
async def test_the_fleet_says_what_is_missing(tmp_path: Path) -> None:
    """Without PostgreSQL one line says so, and what to do. (Its programs are hidden under an empty file system.)"""
    hide = 'mkdir -p /usr/lib/postgresql && mount -t tmpfs tmpfs /usr/lib/postgresql && exec "$@"'
    code, said = await demo(tmp_path, "--fleet", under=("unshare", "--mount", "sh", "-c", hide, "sh"))
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("tunerd: there is no PostgreSQL here"), said
    assert "--postgresql" in said
