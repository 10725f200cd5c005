"""Commands while the configuration on disk cannot be used: a daemon that runs on the old one is found and answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.admin.benches import refused
from tests.cli.test_order_commands import CONFIG, Daemon
from tunerd.cli import main


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon whose ledger holds a failed call and an unreadable file."""
    made = Daemon(tmp_path)
    (tmp_path / "ledger.db").touch()
    made.do(lambda bench: bench.fail("call-1"))
    made.do(lambda bench: bench.refuse(refused(str(tmp_path / "calls" / "half.json"))))
    yield made
    made.close()


def good(directory: Path) -> str:
    return CONFIG.format(directory=directory)


BAD = {
    "a tab": lambda good: "\tledger:\n" + good,
    "a bracket that is never closed": lambda good: good + "http: [\n",
    "a second document": lambda good: good + "---\nsources: []\n",
    "an unknown key": lambda good: good + "ledgre: {}\n",
    "a rule that YAML misreads": lambda good: good.replace("doc.id", "[doc.id"),
    "no source": lambda good: good[good.index("ledger:") :],
    "another ledger": lambda good: good.replace("ledger.db", "other.db") + "unknown: 1\n",
    "a ledger that is none": lambda good: good.replace("sqlite://", "mysql://"),
    "two ledgers": lambda good: good + "ledger: {url: 'sqlite:///elsewhere/ledger.db'}\n",
    "nothing": lambda good: "",
    "not UTF-8": lambda good: good + "# \udcff\n",
}
ORDERS = (
    ("status",),
    ("status", "call-1"),
    ("failed",),
    ("pause",),
    ("resume",),
    ("dismiss", "call-1"),
    ("forget", "--yes", "call-1"),
    ("remap", "--state", "due"),
)


@pytest.mark.parametrize("name", BAD)
def test_the_running_daemon_answers_whatever_is_wrong_on_disk(daemon: Daemon, name: str) -> None:
    """Every command asks it, says in one line what is wrong on disk, and ends as it would with a good file."""
    before = {order: daemon.run(*order).exit_code for order in ORDERS if order[0] != "forget" and order[0] != "dismiss"}
    daemon.config.write_bytes(BAD[name](good(daemon.directory)).encode("utf-8", "surrogateescape"))
    for order in ORDERS:
        result = daemon.run(*order)
        assert result.exit_code == before.get(order, 0), (order, result.output)
        assert result.stderr.count("tunerd: the configuration on disk is invalid: ") == 1, (order, result.stderr)
        assert f"{daemon.config}:" in result.stderr


def test_the_file_may_be_gone(daemon: Daemon) -> None:
    """The daemon is found by the path of the file that it was started with, also through a link to its directory."""
    daemon.config.unlink()
    assert daemon.run("status").exit_code == 0
    daemon.config.mkdir()  # or no file any more
    assert daemon.run("status").exit_code == 0
    daemon.config.rmdir()
    (daemon.directory / "link").symlink_to(daemon.directory)
    other = CliRunner().invoke(main, ["status", "-c", str(daemon.directory / "link" / "config.yaml")])
    assert other.exit_code == 0
    assert "there is no such file" in other.stderr


def test_another_file_leads_to_no_daemon(daemon: Daemon) -> None:
    """A misspelt -c must not reach a daemon that was not meant."""
    result = CliRunner().invoke(main, ["pause", "-c", str(daemon.directory / "confg.yaml")])
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr


def test_a_changed_ledger_url_is_told(daemon: Daemon) -> None:
    """The file is right, but names another ledger than the daemon has: that counts from the next start."""
    daemon.config.write_text(good(daemon.directory).replace("ledger.db", "other.db"))
    result = daemon.run("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["daemon"]["ledger"] == str(daemon.directory / "ledger.db")
    assert f"the running daemon uses the ledger {daemon.directory}/ledger.db" in result.stderr


def test_a_ledger_from_the_environment_is_that_of_this_environment(daemon: Daemon) -> None:
    """Two daemons may share one file and differ by a variable: the other one is not taken for the one that is meant."""
    daemon.config.write_text(good(daemon.directory).replace("ledger.db", "${WHICH}.db"))
    run = CliRunner()
    there = run.invoke(main, ["status", "-c", str(daemon.config)], env={"WHICH": "ledger"})
    assert (there.exit_code, there.stderr) == (0, "")
    assert "is running" in there.stdout
    other = run.invoke(main, ["status", "-c", str(daemon.config)], env={"WHICH": "other"})
    assert other.exit_code == 1
    assert "there is no ledger at" in other.stderr
    assert run.invoke(main, ["status", "-c", str(daemon.config)]).exit_code == 0  # unset here: found by its file


def test_the_socket_can_be_named(daemon: Daemon) -> None:
    """--socket, or TUNERD_SOCKET, needs no configuration at all; a socket where nobody listens is told."""
    sock = str(daemon.directory / "ledger.db.sock")
    run = CliRunner()
    assert run.invoke(main, ["status", "-c", "/nowhere/config.yaml", "--socket", sock]).exit_code == 0
    assert run.invoke(main, ["failed", "-c", "/nowhere/config.yaml"], env={"TUNERD_SOCKET": sock}).exit_code == 0
    result = run.invoke(main, ["status", "--socket", str(daemon.directory / "none.sock")])
    assert (result.exit_code, result.stderr) == (1, f"tunerd: no daemon answers at {daemon.directory}/none.sock\n")


def test_variables_of_the_service_need_not_be_set_for_a_command(daemon: Daemon) -> None:
    """With LoadCredential the key's path is known to the service only: nothing is wrong, and nothing is said."""
    text = good(daemon.directory).replace(f"{daemon.directory}/key", "'${CREDENTIALS_DIRECTORY}/key'")
    daemon.config.write_text(text.replace(f"path: {daemon.directory}/calls", "path: ${SPOOL}/calls"))
    result = daemon.run("status")
    assert (result.exit_code, result.stderr) == (0, "")


def without_daemon(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [arguments[0], "-c", str(directory / "config.yaml"), *arguments[1:]])


def test_check_only_warns_of_a_credential_of_the_service(tmp_path: Path) -> None:
    """A shell has no CREDENTIALS_DIRECTORY: that the key cannot be looked at is a warning; other variables are errors."""
    (tmp_path / "calls").mkdir()
    text = good(tmp_path).replace(f"{tmp_path}/key", "'${CREDENTIALS_DIRECTORY}/key'")
    (tmp_path / "config.yaml").write_text(text)
    result = without_daemon(tmp_path, "check")
    assert result.exit_code == 0
    assert "CREDENTIALS_DIRECTORY is not set here" in result.stderr
    assert without_daemon(tmp_path, "check", "--strict").exit_code == 1
    (tmp_path / "config.yaml").write_text(text.replace("CREDENTIALS_DIRECTORY", "OTHER"))
    assert without_daemon(tmp_path, "check").exit_code == 78


def test_without_a_daemon_and_without_a_ledger_a_bad_file_is_78(tmp_path: Path) -> None:
    """There is nobody else to ask."""
    (tmp_path / "config.yaml").write_text(good(tmp_path) + "unknown: 1\n")
    result = without_daemon(tmp_path, "status")
    assert result.exit_code == 78
    assert "unknown key `unknown`" in result.stderr
