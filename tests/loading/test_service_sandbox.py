"""`tunerd check` names what the installed systemd service hides. That systemd answers like this is tested in a booted Debian
(tests/debian/)."""

from pathlib import Path

import pytest

from tunerd.loading.config_file import load_text
from tunerd.loading.service_sandbox import Service, hidden_from_service, service_of

OURS = {"ProtectHome": "yes", "PrivateTmp": "yes", "ProtectSystem": "strict", "StateDirectory": "tunerd"}
"""What systemd/tunerd.service sets."""


def told(
    path: str, after_sent: str = "keep", key: str = "/etc/tunerd/key", ledger: str = "/var/lib/tunerd/l.db", **properties: str
) -> list[str]:
    text = f"""
tuner: {{workspace_id: 42, agent_remote_identifier: support-bot, api_key_file: {key}}}
sources: [{{name: agent, path: {path}, preset: vapi, after_sent: {after_sent}}}]
ledger: {{url: "sqlite://{ledger}"}}
"""
    config = load_text(text, "/etc/tunerd/config.yaml", {}, resolve_secrets=False)
    return hidden_from_service(config, Service(unit="tunerd.service", properties={**OURS, **properties}))


@pytest.mark.parametrize(
    ("path", "properties"),
    [
        ("/var/spool/calls", {}),
        ("/homes/calls", {}),
        ("/home/agent/calls", {"ProtectHome": "no"}),
        ("/home/agent/calls", {"ProtectHome": "read-only"}),
        ("/home/agent/calls", {"ProtectHome": "tmpfs", "BindPaths": "/home/agent:/home/agent:rbind"}),
        ("/home/agent/calls", {"ProtectHome": "tmpfs", "BindReadOnlyPaths": "/srv /x:/home/agent/calls"}),
        ("/tmp/calls", {"PrivateTmp": "no"}),
        ("/tmp/calls", {"BindPaths": "-/tmp/calls:/tmp/calls:"}),
    ],
)
def test_nothing_is_said_about_what_the_service_sees(path: str, properties: dict[str, str]) -> None:
    """A path outside the hidden directories, or one that a drop-in shows to the service."""
    assert told(path, **properties) == []


@pytest.mark.parametrize(
    ("path", "properties", "because"),
    [
        ("/home/agent/calls", {}, "ProtectHome=yes"),
        ("/root/calls", {}, "ProtectHome=yes"),
        ("/run/user/1000/calls", {"ProtectHome": "tmpfs"}, "ProtectHome=tmpfs"),
        ("/home/agent/calls", {"BindPaths": "/home/other"}, "ProtectHome=yes"),
        ("/tmp/calls", {}, "PrivateTmp=yes"),
        ("/var/tmp/calls", {}, "PrivateTmp=yes"),
    ],
)
def test_a_hidden_source_is_named_with_the_drop_in(path: str, properties: dict[str, str], because: str) -> None:
    """The line says which source and path, by which setting, and what to write where."""
    (line,) = told(path, **properties)
    assert line.startswith(f"source agent: tunerd.service cannot see {path}")
    assert because in line
    assert "`systemctl edit tunerd.service`: [Service]" in line
    assert f"BindPaths={path}" in line


def test_a_hidden_key_and_a_hidden_ledger_are_named_too() -> None:
    """Not only sources have paths."""
    key, ledger = told("/var/spool/calls", key="/root/key", ledger="/tmp/ledger.db")
    assert key.startswith("destination api.usetuner.ai/42: tunerd.service cannot see /root/key (ProtectHome=yes)")
    assert ledger.startswith("ledger: tunerd.service cannot see /tmp/ledger.db")


def test_after_sent_needs_a_directory_that_the_service_may_write() -> None:
    """`delete` and `move_to` change directories that ProtectSystem=strict makes read-only; ReadWritePaths= opens them."""
    (line,) = told("/var/spool/calls", "delete")
    assert line == (
        "source agent: after_sent has to write into /var/spool/calls, but tunerd.service may only read it "
        "(ProtectSystem=strict). `systemctl edit tunerd.service`: [Service] ReadWritePaths=-/var/spool/calls"
    )
    assert [one.split()[7] for one in told("/var/spool/calls", "{move_to: /srv/done}")] == ["/var/spool/calls,", "/srv/done,"]
    assert told("/var/spool/calls", "{move_to: done/}", ReadWritePaths="/srv -/var/spool/calls") == []
    assert told("/var/spool/calls", "delete", ProtectSystem="full") == []
    assert told("/var/lib/tunerd/calls", "delete") == []
    assert told("/home/agent/calls", "delete", ProtectHome="tmpfs", BindPaths="/home/agent/calls") == []


def test_without_an_installed_service_there_is_nothing_to_say(tmp_path: Path) -> None:
    """A configuration that no unit runs with, on a machine with systemd or without."""
    assert service_of(str(tmp_path / "config.yaml")) is None
