"""Commands with a ledger in PostgreSQL: `check` tries the server; the others go to it where no daemon runs here."""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.ledger.claimed_server import claimed_server
from tests.ledger.parts import NOW
from tests.ledger.postgres_server import Cluster, cluster, needs_postgres
from tunerd.cli import main
from tunerd.config import LedgerConfig, Secret
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.open_ledger import open_server
from tunerd.testing import Recorder

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as started:
        from tunerd.ledger.postgresql.postgresql_server import connect

        with connect(started.server()) as connection:
            connection.execute("CREATE ROLE needs_password LOGIN PASSWORD 'the-right-one'")
            connection.execute("CREATE ROLE without_rights LOGIN")
        yield started


@pytest.fixture
def url(postgres: Cluster) -> str:
    return postgres.database()


def configuration(directory: Path, url: str, more: str = "") -> Path:
    (directory / "calls").mkdir(exist_ok=True)
    file = directory / "tunerd.yaml"
    file.write_text(f"""
tuner: {{workspace_id: 42, agent_remote_identifier: bot, api_key: tr_api_made-up}}
sources:
  - name: agent
    path: {directory}/calls
    {more}
    preset: vapi
ledger: {{url: "{url}", directory: {directory}/local}}
instance: web-1
""")
    return file


def run(config: Path, *arguments: str) -> Result:
    name, *rest = arguments
    result = CliRunner().invoke(
        main, [name, "-c", str(config), *rest], env={"RUNTIME_DIRECTORY": str(config.parent), "NO_COLOR": "1"}
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_check_says_what_it_found(tmp_path: Path, url: str) -> None:
    """Version, address, whether there is a ledger, and under which name this instance runs; nothing is made."""
    config = configuration(tmp_path, url)
    for _ in range(2):
        result = run(config, "check")
        assert result.exit_code == 0
        assert "PostgreSQL 15." in result.output
        assert "the first start makes its tables; this is the instance web-1" in result.output


@pytest.mark.parametrize(
    ("user", "words"),
    [("needs_password:mistaken", "the password is wrong"), ("without_rights", "may not make the tables")],
)
def test_check_fails_where_run_would(tmp_path: Path, url: str, user: str, words: str) -> None:
    """With the exit code of `run`, and without the password."""
    result = run(configuration(tmp_path, url.replace("postgres@", f"{user}@")), "check")
    assert result.exit_code == 78
    assert words in result.stderr
    assert "mistaken" not in result.output


def test_a_server_of_the_wrong_kind_ends_the_start(tmp_path: Path, postgres: Cluster) -> None:
    """A real standby, and what says that it is CockroachDB: `check` and `run` end with 78 and one line, without the password."""
    with postgres.standby() as standby, claimed_server("CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu)", "13.0.0") as other:
        wrong = ((standby.port, "ledger.url has to name the primary"), (other.port, "use PostgreSQL"))
        for (port, words), command in product(wrong, ("check", "run")):
            config = configuration(tmp_path, f"postgresql://postgres:mistaken@127.0.0.1:{port}/postgres")
            done = subprocess.run(
                [sys.executable, "-m", "tunerd", command, "-c", str(config)], capture_output=True, text=True, check=False,
                timeout=60, env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "NO_COLOR": "1"},
            )  # fmt: skip
            assert done.returncode == 78, done.stderr
            (line,) = done.stderr.splitlines()
            assert words in line
            assert "mistaken" not in done.stdout + done.stderr


def test_check_warns_of_a_server_that_does_not_answer(tmp_path: Path) -> None:
    """This may be another machine than the one that `run` is meant for."""
    config = configuration(tmp_path, "postgresql://postgres:mistaken@127.0.0.1:1/postgres")
    result = run(config, "check")
    assert result.exit_code == 0
    assert "warning: ledger.url: the ledger's PostgreSQL cannot be used: no connection to the server" in result.stderr
    assert "mistaken" not in result.output
    assert run(config, "check", "--strict").exit_code == 1


def test_check_warns_of_asynchronous_standbys_beside_delete(tmp_path: Path, url: str, postgres: Cluster) -> None:
    """A failover may lose the last commits, and the files are gone."""
    with postgres.standby():
        result = run(configuration(tmp_path, url, "after_sent: delete"), "check")
        assert "are asynchronous: a failover may lose the last calls" in result.stderr
        assert "asynchronous" not in run(configuration(tmp_path, url), "check").stderr


def test_check_says_what_rights_are_missing(tmp_path: Path, url: str, postgres: Cluster) -> None:
    """Another user made the tables."""
    config = configuration(tmp_path, url)
    asyncio.run(make_ledger(url))
    assert "its tables are there" in run(config, "check").output
    result = run(configuration(tmp_path, url.replace("postgres@", "without_rights@")), "check")
    assert result.exit_code == 78
    assert "the user without_rights may not read and change the tables" in result.stderr


def test_a_ledger_is_copied(tmp_path: Path, url: str) -> None:
    """And `check` refuses the old place as `run` does."""
    asyncio.run(make_ledger(url))
    target = f"sqlite://{tmp_path}/ledger.db"
    result = CliRunner().invoke(main, ["ledger", "copy", url, target, "--instance", "one"])
    assert (result.exit_code, result.stderr) == (0, "")
    shown = f"postgresql://{url.partition('@')[2]}"
    assert result.stdout == (
        f"copied 0 calls and 0 recordings, 0 rows in all\nmoved: {shown} is not opened any more; now set ledger.url to {target}\n"
    )
    assert (tmp_path / "ledger.db").exists()
    result = run(configuration(tmp_path, url), "check")
    assert result.exit_code == 78
    assert f"this ledger was moved to {target}" in result.stderr
    again = CliRunner().invoke(main, ["ledger", "copy", url, target, "--instance", "one"])
    assert again.exit_code == 78


def test_a_copy_to_the_server_says_only_what_it_did(tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """psycopg, too, has nothing to complain of."""

    async def made() -> None:
        ledger = await SqliteLedger.open(tmp_path / "ledger.db", now=NOW, emit=Recorder())
        await ledger.close()

    asyncio.run(made())
    result = CliRunner().invoke(main, ["ledger", "copy", f"sqlite://{tmp_path}/ledger.db", url, "--instance", "one"])
    gc.collect()  # what is left open complains at its end
    assert (result.exit_code, result.stderr, caplog.messages) == (0, "", [])


async def make_ledger(url: str) -> None:
    ledger = await open_server(LedgerConfig(server=Secret(url)), NOW, Recorder(), "one")
    await ledger.close()


def test_commands_do_not_make_a_ledger(tmp_path: Path, url: str) -> None:
    """A wrong database name would look like an empty ledger."""
    result = run(configuration(tmp_path, url), "status")
    assert result.exit_code == 1
    assert "there is no ledger in the database of ledger.url yet" in result.stderr
