"""docs/install.md and every other page: configurations load, and the backup works as described."""

import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.fences import DOCS, ROOT, Fence, fences, pages
from tests.real_parts import needs_program
from tunerd.ledger import Admission
from tunerd.ledger.sqlite import SqliteLedger
from tunerd.loading.config_file import load_text
from tunerd.mapping import compile_sources
from tunerd.testing import make_call

_FENCES = [fence for page in pages() for fence in fences(page)]
_CONFIGS = [fence for fence in _FENCES if fence.info == "yaml config"]
_SCRAPES = [fence for fence in _FENCES if fence.info == "yaml prometheus"]


@pytest.mark.parametrize("fence", _CONFIGS, ids=str)
def test_a_configuration_that_is_shown_loads(fence: Fence) -> None:
    """A reader can paste the configuration, and its rules compile."""
    config = load_text(fence.text, str(fence), {})
    assert set(compile_sources(config, {})) == {source.name for source in config.sources}


@pytest.mark.parametrize("fence", _SCRAPES, ids=str)
def test_prometheus_takes_the_scrape_configuration(fence: Fence, tmp_path: Path) -> None:
    """promtool finds no error in the scrape configuration."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "scrape_configs" in yaml.safe_load(fence.text)
        return
    file = tmp_path / "prometheus.yml"
    file.write_text(fence.text)
    subprocess.run([promtool, "check", "config", str(file)], check=True, capture_output=True)


def test_paths_of_the_unit_are_those_that_are_installed() -> None:
    """install.md names the places at which systemd/tunerd.service expects the command and its configuration."""
    page, unit = (DOCS / "install.md").read_text(), (ROOT / "systemd" / "tunerd.service").read_text()
    paths = set(re.findall(r"(/usr/local/bin/\w+|/etc/tunerd/\w+\.yaml)", unit))
    assert len(paths) == 2
    assert not [path for path in paths if path not in page]


@needs_program("systemd-analyze", "systemd itself reads the drop-ins (Debian: systemd)")
@pytest.mark.parametrize("fence", [one for one in _FENCES if one.info == "ini"], ids=str)
def test_systemd_takes_a_drop_in_that_is_shown(fence: Fence, tmp_path: Path) -> None:
    """systemd knows every key of it and takes every value, beside those of the unit."""
    unit, drop_in = tmp_path / "tunerd.service", tmp_path / "tunerd.service.d" / "own.conf"
    unit.write_text((ROOT / "systemd" / "tunerd.service").read_text().replace("/usr/local/bin/tunerd", "/bin/true"))
    drop_in.parent.mkdir()
    drop_in.write_text(fence.text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not [line for line in checked.stderr.splitlines() if str(tmp_path) in line or "tunerd.service" in line], checked.stderr


async def test_a_backup_of_a_ledger_in_use_is_a_ledger(tmp_path: Path) -> None:
    """SQLite's backup, as the page describes it, works beside a daemon, and the copy opens with the calls in it."""
    path, copy = tmp_path / "ledger.db", tmp_path / "backup.db"
    ledger = await SqliteLedger.open(path, now=1.0, emit=lambda _: None)
    try:
        await ledger.admit(Admission(calls=[make_call("kept")]), 2.0)
        with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
    finally:
        await ledger.close()
    again = await SqliteLedger.open(copy, now=3.0, emit=lambda _: None)
    try:
        assert [story.call.call_id for story in await again.story("kept")] == ["kept"]
    finally:
        await again.close()
