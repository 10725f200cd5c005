"""What is installed beside the package: the service unit is checked by systemd itself, the versions are one."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import tunerd

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"), reason="needs systemd-analyze (package systemd)"
)
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No key of the unit is unknown to systemd, and every dependency resolves."""
    unit = tmp_path / "tunerd.service"
    text = (ROOT / "systemd" / "tunerd.service").read_text()
    unit.write_text(re.sub(r"/usr/local/bin/tunerd", "/bin/true", text))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", str(unit)], capture_output=True, text=True, check=False
    )
    own = [line for line in checked.stderr.splitlines() if "tunerd.service" in line]
    assert not own, checked.stderr


def test_the_image_runs_without_rights_and_the_unit_does_not_restart_a_bad_configuration() -> None:
    """Two promises of the docs that are a line in a file."""
    assert re.search(r"^USER 10001", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert "RestartPreventExitStatus=78" in (ROOT / "systemd" / "tunerd.service").read_text()


def test_the_version_stands_in_one_place() -> None:
    """The package says its own version, and pyproject takes it from there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "tunerd/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tunerd.__version__)
