"""The life of a tunerd on a Debian machine: installed, started as its unit says, used, upgraded, removed."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian.machine import Machine, booted, needs_debian

ROOT = Path(__file__).parent.parent.parent
pytestmark = [needs_debian, pytest.mark.slow, pytest.mark.timeout(600)]
MAX_EXPOSURE = 1.3
"""What `systemd-analyze security` says about the unit (docs/systemd.md)."""

TUNER = """\
tuner: {workspace_id: 42, agent_remote_identifier: support-bot, api_key_file: /etc/tunerd/key, base_url: "http://127.0.0.1:8099"}
sources:
"""
SOURCE = """\
  - name: NAME
    path: PATH
    after_sent: AFTER
    call:
      call_id: doc.id
      call_type: {const: phone_call}
      start_timestamp: doc.start
      end_timestamp: doc.start
      transcript_with_tool_calls: {rows: [{role: {const: user}, text: {const: Hello}, start_ms: 0, end_ms: 500}]}
    recording: [{url: doc.url}]
"""


def source(name: str, path: str, after: str = "delete") -> str:
    return SOURCE.replace("NAME", name).replace("PATH", path).replace("AFTER", after)


CONFIG = TUNER + source("agent", "/var/spool/calls")
DROP_IN = """\
[Service]
SupplementaryGroups=agents
ReadWritePaths=-/var/spool/calls -/var/spool/later
WatchdogSec=6s
"""
IMPORTS = "[Service]\nExecStartPre=/opt/tunerd/bin/python /mnt/import_all.py\n"
"""At a start, everything that tunerd can import is imported in the service's sandbox."""
IMPORT_ALL = """\
import importlib, pkgutil, socket, sys
from importlib.metadata import packages_distributions
import tunerd
sys.path.append("/mnt/extras")
for name in sorted(packages_distributions()):  # psycopg before psycopg_binary, which asks for that
    if name.isidentifier() and not name.startswith("_"):
        importlib.import_module(name)
for module in pkgutil.walk_packages(tunerd.__path__, "tunerd."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert "uvloop" in sys.modules
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout as 1.deb, and as 2.deb the same with a higher version and another example configuration."""
    directory = tmp_path_factory.mktemp("packages")
    directory.chmod(0o755)  # the service reads import_all.py
    environ = {**os.environ, "PYTHON": sys.executable}
    built = subprocess.run(["deb/build", directory], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    first = Path(built.stdout.splitlines()[-1]).rename(directory / "1.deb")
    unpacked = directory / "unpacked"
    subprocess.run(["dpkg-deb", "-R", first, unpacked], check=True)
    control, config = unpacked / "DEBIAN" / "control", unpacked / "etc" / "tunerd" / "config.yaml"
    control.write_text(re.sub(r"^Version: .*$", "Version: 999", control.read_text(), flags=re.MULTILINE))
    config.write_text("# the example of a newer version\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, directory / "2.deb"], check=True, stdout=-3)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].values()
    wanted = [requirement for extra in extras for requirement in extra]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(directory / "extras"), *wanted]
    subprocess.run(pip, check=True, capture_output=True)
    (directory / "import_all.py").write_text(IMPORT_ALL)
    return directory


@pytest.fixture(scope="module")
def machine(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine"), packages) as one:
        yield one


def call(number: int) -> str:
    url = "https://audio.example/a.wav"
    return json.dumps({"id": f"call-{number}", "start": 1_767_225_000_000 + number, "url": url})


def hand_over(machine: Machine, number: int, directory: str = "/var/spool/calls") -> None:
    """The agent, with a user and a group of its own, finishes a call."""
    machine.run(f"runuser -u agent -- sh -c 'umask 027; cat > {directory}/t; mv {directory}/t {directory}/{number}.json'",
                stdin=call(number))  # fmt: skip


def arrives(machine: Machine, number: int) -> None:
    machine.until("cat /run/journal", lambda text: f'"call-{number}"' in accepted(text))


def accepted(journal: str) -> str:
    return "\n".join(line for line in journal.splitlines() if json.loads(line)["status"] in (200, 201))


def plan(machine: Machine, settings: str) -> None:
    """Change what the sandbox does."""
    program = "import sys, urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:8099/_sandbox/plan', sys.stdin.buffer.read(), {'Content-Type': 'application/json'}))"
    machine.run(f'/opt/tunerd/bin/python -c "{program}"', stdin=settings)


def test_a_life_on_debian(machine: Machine) -> None:
    """The steps below, one after the other on one machine."""
    for step in (installed, checked, started, delivered, key_rotated, reloaded, told_in_the_status, hidden_until_bound, watched,
                 another_instance, upgraded, removed, installed_from_the_wheel):  # fmt: skip
        step(machine)


def installed(machine: Machine) -> None:
    """The package makes the user and the directory, starts nothing, and its files are where systemd, man and bash look."""
    said = machine.run("dpkg -i /mnt/1.deb")
    assert "tunerd is installed and not started" in said
    assert machine.run("stat -c '%a %U %G' /etc/tunerd") == "750 root tunerd\n"
    assert machine.run("getent passwd tunerd").strip().endswith(":/usr/sbin/nologin")
    assert (machine.show("ActiveState"), machine.show("LoadState")) == ("inactive", "loaded")
    assert machine.try_to("systemctl is-enabled tunerd").stdout == "disabled\n"
    assert machine.run("tunerd --version").startswith("tunerd, version ")
    machine.run("test -s /usr/share/man/man1/tunerd.1.gz && test -s /usr/share/bash-completion/completions/tunerd")
    assert "/etc/tunerd/config.yaml" in machine.run("dpkg-query -W -f '${Conffiles}' tunerd")
    left = machine.run("grep -rIl /tmp/tmp /opt/tunerd | head -3 || true")
    assert left == "", "the build directory is named nowhere"
    machine.run("useradd --system --user-group agent && groupadd agents && usermod -aG agents agent")
    machine.run("install -d -o agent -g agents -m 2770 /var/spool/calls")


def checked(machine: Machine) -> None:
    """`tunerd check` names what the installed unit hides or may not write, and is content with the drop-in."""
    machine.write("/etc/tunerd/config.yaml", TUNER + source("agent", "/home/agent/calls"))
    machine.run("install -m 0640 -g tunerd /dev/null /etc/tunerd/key && echo tr_api_one > /etc/tunerd/key")
    assert "tunerd.service cannot see /home/agent/calls (ProtectHome=yes)" in machine.try_to("tunerd check").stderr
    machine.write("/etc/tunerd/config.yaml", TUNER + source("agent", "/tmp/calls"))
    assert "tunerd.service cannot see /tmp/calls" in machine.try_to("tunerd check").stderr
    machine.write("/etc/tunerd/config.yaml", CONFIG)
    assert "after_sent has to write into /var/spool/calls" in machine.run("tunerd check 2>&1")
    machine.run("mkdir -p /etc/systemd/system/tunerd.service.d")
    machine.write("/etc/systemd/system/tunerd.service.d/own.conf", DROP_IN)
    machine.run("systemctl daemon-reload")
    assert "warning" not in machine.run("tunerd check --strict 2>&1")


def started(machine: Machine) -> None:
    """`systemctl start` returns when tunerd is ready, as its own user without rights, at the exposure that the docs promise."""
    machine.run("systemd-run --quiet --unit=sandbox tunerd sandbox --journal /run/journal --ready-file /run/sandbox.url "
                "--require-key tr_api_one")  # fmt: skip
    machine.until("cat /run/sandbox.url", bool)
    machine.write("/etc/systemd/system/tunerd.service.d/imports.conf", IMPORTS)
    machine.run("systemctl daemon-reload && systemctl start tunerd")
    machine.run("rm /etc/systemd/system/tunerd.service.d/imports.conf && systemctl daemon-reload")
    assert (machine.show("ActiveState"), machine.show("StatusText")) == ("active", "no calls yet")
    exposure = machine.run("systemd-analyze security --no-pager tunerd.service | tail -1")
    assert float(re.findall(r"(\d+\.\d)", exposure)[0]) <= MAX_EXPOSURE, exposure
    status = machine.run(f"cat /proc/{machine.show('MainPID')}/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert "ConfigurationDirectory" not in machine.log(), "no complaint about its mode"
    assert machine.run("tunerd status").startswith("tunerd ")


def delivered(machine: Machine) -> None:
    """A call in a directory that only its group may read arrives, and `after_sent` deletes its file."""
    hand_over(machine, 1)
    arrives(machine, 1)
    machine.until("ls /var/spool/calls", lambda files: files == "")


def key_rotated(machine: Machine) -> None:
    """Tuner takes another key: delivery pauses, systemd's status line says so, and the new key in the file ends the pause."""
    plan(machine, '{"require_key": "tr_api_two"}')
    hand_over(machine, 2)
    machine.until(
        "systemctl status tunerd", lambda text: re.search(r'Status: ".*paused: 127\.0\.0\.1:8099/42 \(auth\)', text) is not None
    )
    machine.write("/etc/tunerd/key", "tr_api_two\n")
    arrives(machine, 2)
    machine.until("systemctl show -P StatusText tunerd", lambda text: text == "2 sent\n")


def reloaded(machine: Machine) -> None:
    """A bad configuration fails `systemctl reload`, with each problem in the journal, and tunerd keeps the previous one. A
    good one is loaded."""
    pid = machine.show("MainPID")
    machine.write("/etc/tunerd/config.yaml", CONFIG + "nonsense: 1\n")
    assert machine.try_to("systemctl reload tunerd").returncode == 1
    assert re.search(r"^/etc/tunerd/config.yaml:\d+:1: nonsense: ", machine.log(), re.MULTILINE)
    assert machine.show("ActiveState") == "active"
    hand_over(machine, 3)
    arrives(machine, 3)
    machine.write("/etc/tunerd/config.yaml", CONFIG + source("later", "/var/spool/later"))
    machine.run("systemctl reload tunerd")
    assert machine.run('tunerd status --json | grep -c \'"name": "later"\'') == "1\n"
    assert machine.show("MainPID") == pid


def told_in_the_status(machine: Machine) -> None:
    """A source that is not there, or that tunerd may not read, is in systemd's status line with the reason."""
    machine.until("systemctl show -P StatusText tunerd", lambda text: "; not read: later (missing)" in text)
    machine.run("install -d -m 0700 /var/spool/later")
    machine.until("systemctl show -P StatusText tunerd", lambda text: "; not read: later (denied)" in text)
    machine.run("chown agent:agents /var/spool/later && chmod 2770 /var/spool/later")
    machine.until("systemctl show -P StatusText tunerd", lambda text: "not read" not in text)


def hidden_until_bound(machine: Machine) -> None:
    """A source in /home and one in /tmp are read and emptied with the drop-in that `tunerd check` proposes."""
    machine.run("install -d -o agent -g agents -m 2770 /home/agent/calls /tmp/calls && chmod 755 /home/agent")
    sources = source("agent", "/home/agent/calls") + source("tmp", "/tmp/calls")
    machine.write("/etc/tunerd/config.yaml", TUNER + sources)
    proposed = re.findall(r"\[Service\] (.*)$", machine.run("tunerd check 2>&1"), re.MULTILINE)
    assert len(proposed) == 2
    lines = "\n".join(word for line in proposed for word in line.split())
    machine.write("/etc/systemd/system/tunerd.service.d/homes.conf", f"[Service]\n{lines}\n")
    machine.run("systemctl daemon-reload && systemctl restart tunerd && tunerd check --strict")
    for number, directory in ((4, "/home/agent/calls"), (5, "/tmp/calls")):
        hand_over(machine, number, directory)
        arrives(machine, number)
        machine.until(f"ls {directory}", lambda files: files == "")
    machine.run("rm /etc/systemd/system/tunerd.service.d/homes.conf")
    machine.write("/etc/tunerd/config.yaml", CONFIG)
    machine.run("systemctl daemon-reload && systemctl restart tunerd")


def watched(machine: Machine) -> None:
    """A process that stops feeding the watchdog is killed and started again."""
    pid = machine.show("MainPID")
    machine.run(f"kill -STOP {pid}")
    machine.until("systemctl show -P NRestarts tunerd", lambda text: text == "1\n")
    machine.until("systemctl show -P ActiveState tunerd", lambda text: text == "active\n")
    assert "Watchdog timeout" in machine.log()
    assert machine.show("MainPID") != pid
    hand_over(machine, 6)
    arrives(machine, 6)


def another_instance(machine: Machine) -> None:
    """`tunerd@second` runs beside it with a configuration, ledger and socket of its own; both answer their commands."""
    machine.run("install -d -o agent -g agents -m 2770 /var/spool/second")
    others = "ledger: {url: sqlite:///var/lib/tunerd-second/ledger.db}\nhttp: {listen: 127.0.0.1:9466}\n"
    machine.write("/etc/tunerd/second.yaml", TUNER + source("agent", "/var/spool/second", "keep") + others)
    machine.run("mkdir -p /etc/systemd/system/tunerd@.service.d")
    machine.write("/etc/systemd/system/tunerd@.service.d/own.conf", "[Service]\nSupplementaryGroups=agents\n")
    machine.run("systemctl daemon-reload && systemctl start tunerd@second")
    hand_over(machine, 7, "/var/spool/second")
    arrives(machine, 7)
    assert "/var/spool/second" in machine.run("tunerd status -c /etc/tunerd/second.yaml")
    assert "/var/spool/second" not in machine.run("tunerd status")
    machine.run("systemctl reload tunerd@second && systemctl stop tunerd@second && tunerd status")


def upgraded(machine: Machine) -> None:
    """dpkg keeps the configuration that was edited, and restarts the running service. No file of the old version stays."""
    pid = machine.show("MainPID")
    machine.run("dpkg --force-confdef --force-confold -i /mnt/2.deb")
    assert machine.run("cat /etc/tunerd/config.yaml") == CONFIG
    assert "the example of a newer version" in machine.run("cat /etc/tunerd/config.yaml.dpkg-dist")
    assert machine.show("ActiveState") == "active"
    assert machine.show("MainPID") != pid
    hand_over(machine, 8)
    arrives(machine, 8)


def removed(machine: Machine) -> None:
    """A removal stops the service and leaves configuration, key and ledger; a purge deletes them, too."""
    machine.run("systemctl enable tunerd && dpkg -r tunerd")
    assert machine.show("ActiveState") == "inactive"
    assert machine.run("ls -d /opt/tunerd /usr/bin/tunerd /etc/systemd/system/*/tunerd.service 2>/dev/null || true") == ""
    machine.run("test -e /etc/tunerd/config.yaml -a -e /etc/tunerd/key -a -e /var/lib/tunerd/ledger.db")
    machine.run("dpkg -P tunerd")
    assert machine.run("ls -d /etc/tunerd /var/lib/tunerd* 2>/dev/null || true") == ""
    assert machine.run("systemctl show -P LoadState tunerd") == "not-found\n"


def installed_from_the_wheel(machine: Machine) -> None:
    """A tunerd in a virtual environment, as pip makes it, becomes a service by `tunerd install-service`: it starts, delivers and
    reloads, with the files that the wheel carries. The dry run before that changes nothing."""
    machine.run("dpkg-deb -x /mnt/1.deb /srv/unpacked && mkdir -p /opt && mv /srv/unpacked/opt/tunerd /opt/tunerd")
    planned = machine.run("/opt/tunerd/bin/tunerd install-service --dry-run")
    machine.run("test ! -e /etc/tunerd -a ! -e /etc/systemd/system/tunerd.service -a ! -e /usr/local/bin/tunerd")
    said = machine.run("/opt/tunerd/bin/tunerd install-service")
    assert set(planned.splitlines()) <= set(said.splitlines())
    machine.write("/etc/tunerd/config.yaml", CONFIG)
    machine.run("install -m 0640 -g tunerd /dev/null /etc/tunerd/key && echo tr_api_two > /etc/tunerd/key")
    machine.run("systemctl enable --now tunerd && systemctl reload tunerd")
    hand_over(machine, 9)
    arrives(machine, 9)
    machine.run("test -s /usr/local/share/man/man1/tunerd.1 && test -s /usr/local/share/bash-completion/completions/tunerd")
    assert "keep   /etc/tunerd/config.yaml" in machine.run("tunerd install-service")
