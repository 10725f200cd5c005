"""Which source a file belongs to, for the commands that read files by hand: the one whose scan would take it."""

from pathlib import Path

import click
import pytest

from tunerd.cli.input_files import source_of
from tunerd.loading.config_file import load_text

CONFIG = """
tuner: {workspace_id: 1, agent_remote_identifier: bot, api_key: made-up}
sources:
  - {name: calls, path: DIR, include: ["*.json"], exclude: ["EG_*"], call: {call_id: doc.id}, recording: [{url: doc.url}]}
  - {name: egress, path: DIR, include: ["EG_*.json"], manifest: {key: doc.room, url: doc.url}}
  - {name: logs, path: DIR, include: ["*.ndjson"], exclude: ["old.*"], call: {call_id: doc.id}, recording: [{url: doc.url}]}
  - {name: deep, path: DIR/deep, recursive: true, include: ["**/*.json"], call: {call_id: doc.id}, recording: [{url: doc.url}]}
"""


def source_named(directory: Path, file: str, named: str | None = None) -> str:
    config = load_text(CONFIG.replace("DIR", str(directory)), str(directory / "config.yaml"), {})
    return source_of(config, directory / file, named).name


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("a.json", "calls"),
        ("EG_1.json", "egress"),
        ("calls.ndjson", "logs"),
        ("calls.ndjson.1", "logs"),
        ("calls.ndjson-20260101.gz", "logs"),
        ("deep/down/a.json", "deep"),
    ],
)
def test_the_source_whose_scan_would_take_it(tmp_path: Path, file: str, source: str) -> None:
    """Two sources in one directory are told apart by `exclude`; a rotated log is of the source of its log."""
    assert source_named(tmp_path, file) == source


@pytest.mark.parametrize(
    "file", ["old.ndjson", "old.ndjson.1", "deep/.hidden/a.json", "elsewhere/a.json", "../a.json", ".a.json"]
)
def test_a_file_that_no_source_would_take_is_asked_about(tmp_path: Path, file: str) -> None:
    """Several sources have calls, so nobody guesses; the message lists them, and --source decides."""
    with pytest.raises(click.UsageError, match="choose one with --source: calls, egress, logs, deep"):
        source_named(tmp_path, file)
    assert source_named(tmp_path, file, "logs") == "logs"
