"""A real `tunerd run` process, asked by the commands, scraped over HTTP and supervised like under systemd."""

import json
import os
import re
import signal
import subprocess
import sys
import time

from tests.cli.live import CEILING_S, Live


def test_a_day_with_an_operator(live: Live) -> None:
    """Ready, fed, asked, paused, scraped, a broken file seen and dismissed, stopped; its socket is gone afterwards."""
    live.hear("WATCHDOG=1")
    assert live.get("/healthz") == live.get("/readyz") == (200, "ok\n")
    assert "is running" in live.run("status").stdout
    assert live.run("health").stdout == "ok\n"
    assert live.run("pause").stdout == "paused: 127.0.0.1:9/42\n"
    assert "paused (operator)" in live.run("status").stdout

    broken = live.directory / "calls" / "half.json"
    broken.with_suffix(".tmp").write_text('{"id": "canary-in-a-broken-file", ]')
    broken.with_suffix(".tmp").rename(broken)
    live.hear("STATUS=1 failed")
    failed = live.run("failed")
    assert f"{broken}   unreadable" in failed.stdout
    assert 'tunerd_calls_failed_total{reason="unreadable",source="agent"} 1.0' in live.get("/metrics")[1].replace(
        'source="agent",reason="unreadable"', 'reason="unreadable",source="agent"'
    )
    assert live.run("retry", "--place", str(broken)).exit_code == 1
    assert live.run("dismiss", "--place", str(broken)).stdout == "1 call dismissed\n"

    live.process.send_signal(signal.SIGTERM)
    live.hear("STOPPING=1")
    assert live.process.wait(CEILING_S) == 0
    assert os.listdir(live.directory / "run") == []
    assert not os.path.lexists(live.directory / "ledger.db.sock")
    told = (live.directory / "log").read_text() + failed.stdout
    assert "canary" not in told
    assert "secret-of-the-key" not in told


def test_a_file_that_cannot_be_read_is_named_by_status(live: Live) -> None:
    """Nothing of it stands in `failed`: it is tried again, and whoever asks hears which file it is, and why."""
    (live.directory / "calls" / "loop.json").symlink_to("loop.json")
    (live.directory / "calls" / "other.json").symlink_to("other.json")
    deadline = time.monotonic() + CEILING_S
    while 'tunerd_files_unreadable{source="agent"} 2.0' not in live.get("/metrics")[1]:
        assert time.monotonic() < deadline
    said = " ".join(live.run("status").stdout.split())
    assert re.search(r"2 cannot be read, for example \S+/calls/\w+\.json: cannot be read \(Too many levels", said), said


def test_after_a_kill_commands_go_on_alone(live: Live) -> None:
    """The socket that SIGKILL leaves behind is no obstacle: the command takes the ledger, and a pause is remembered."""
    live.run("pause")
    live.process.kill()
    live.process.wait(CEILING_S)
    result = live.run("status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "tunerd is not running" in result.stdout
    assert "paused (operator)" in result.stdout


def test_a_bad_configuration_on_disk_stops_no_command(live: Live) -> None:
    """The daemon keeps the one that it has loaded; status, drain and audit work with that, and say what is bad."""
    call = {"id": "call-7", "start": 1_767_225_000_000, "url": "https://audio.example/a.wav", "messages": []}
    live.run("pause")
    (live.directory / "calls" / "7.json").write_text(json.dumps(call))
    live.hear("STATUS=1 ")
    live.config.write_text("sources: [\n")
    live.process.send_signal(signal.SIGHUP)
    live.hear("READY=1")
    said = live.run("status")
    assert said.exit_code == 0
    assert "the configuration on disk is invalid" in said.stderr
    for name, *others in (("failed",), ("resume",), ("drain", "--deadline", "9s"), ("audit", "--json")):
        result = live.run(name, *others)
        assert result.exit_code == 0, (name, result.stdout, result.stderr)
        assert result.stderr.count("the configuration on disk is invalid") == 1, (name, result.stderr)
    (of,) = json.loads(result.stdout)["sources"]
    assert (of["documents"], of["missing"]) == (1, 0)


def test_a_second_daemon_says_who_reads_there_already(live: Live) -> None:
    """Another ledger, the same directory: one line of its log names the first one's process and ledger."""
    config = live.directory / "second.yaml"
    config.write_text(live.config.read_text().replace("ledger.db", "second.db"))
    env = {name: value for name, value in os.environ.items() if name != "RUNTIME_DIRECTORY"}
    command = [sys.executable, "-m", "tunerd", "run", "-c", str(config)]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        line = next(line for line in second.stderr if "another tunerd reads this directory" in line)
        second.terminate()
    who = json.loads(line)["who"]
    assert who.startswith(f"another tunerd (process {live.process.pid}, ledger ")
    assert who.endswith(f"{live.directory.name}/ledger.db)"), "a long path is cut in front"
