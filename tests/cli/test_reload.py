"""`tunerd reload` asks a real daemon to load its configuration again, and says what is wrong with it."""

from tests.cli.live import Live


def test_a_reload_answers_with_the_problems(live: Live) -> None:
    """A good configuration is loaded, with exit code 0. A bad one is refused with all its problems once, and exit code 1; the
    daemon keeps the previous one. systemd hears of both reloads."""
    done = live.run("reload")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "reloaded\n", "")
    live.hear("RELOADING=1")
    live.hear("READY=1")

    good = live.config.read_text()
    live.config.write_text(good + "nonsense: 1\nmore: 2\n")
    done = live.run("reload")
    assert (done.exit_code, done.stdout) == (1, "")
    *problems, last = done.stderr.splitlines()
    assert sorted(line.partition(": ")[2].partition(":")[0] for line in problems) == ["more", "nonsense"]
    assert all(line.startswith(f"{live.config}:") for line in problems)
    assert last == "tunerd: 2 problems in the configuration; the daemon keeps the previous one"
    live.hear("RELOADING=1")
    live.hear("READY=1")

    live.config.write_text(good)
    assert live.run("reload").exit_code == 0


def test_without_a_daemon_nothing_is_reloaded(live: Live) -> None:
    """The command says so with exit code 1, and does not open the ledger instead."""
    live.process.terminate()
    assert live.process.wait(20) == 0
    done = live.run("reload")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"tunerd: no tunerd runs with the ledger {live.directory}/ledger.db: there is nothing to reload\n"
