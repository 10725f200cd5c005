"""The files that are installed with the package: systemd itself checks the service unit, and there is one version number."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import tunerd
from tests.real_parts import needs_program
from tunerd.cli import main

ROOT = Path(__file__).parent.parent


needs_systemd_analyze = needs_program("systemd-analyze", "systemd itself reads the unit (Debian: systemd)")
UNITS = ["tunerd.service", "tunerd@.service"]
OF_AN_INSTANCE = {"Description", "Environment", "StateDirectory", "RuntimeDirectory"}


@needs_systemd_analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    """systemd knows every key of the unit, and every dependency resolves."""
    unit = tmp_path / name.replace("@", "@support")
    unit.write_text((ROOT / "systemd" / name).read_text().replace("/usr/local/bin/tunerd", "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in checked.stderr.splitlines() if unit.name in line]
    assert not own, checked.stderr


@needs_systemd_analyze
@pytest.mark.parametrize("name", UNITS)
def test_the_unit_is_as_closed_as_the_docs_say(name: str) -> None:
    """`systemd-analyze security` gives the exposure that docs/systemd.md names, or less."""
    (promised,) = re.findall(r"shows an exposure of (\d\.\d)", (ROOT / "docs" / "systemd.md").read_text())
    checked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={float(promised) * 10:.0f}", str(ROOT / "systemd" / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert f"{promised} OK" in checked.stdout


def test_an_instance_differs_from_the_service_only_in_its_places() -> None:
    """tunerd@.service has the same lines as tunerd.service but for name, configuration, ledger and control socket."""
    one, other = (
        [line for line in (ROOT / "systemd" / name).read_text().splitlines() if not line.startswith("#")] for name in UNITS
    )
    differing = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
    assert {line.partition("=")[0] for line, _ in differing} == OF_AN_INSTANCE
    assert all("%i" in line for _, line in differing)


def test_the_image_runs_without_rights() -> None:
    """The image runs as user 10001, as the docs promise."""
    assert re.search(r"^USER 10001", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_unit_does_not_restart_a_bad_configuration(tmp_path: Path) -> None:
    """The process whose exit code systemd evaluates finds that the configuration is bad, and exits with 78. A process before
    it (ExecStartPre, ExecCondition) would not do: systemd would restart it for ever."""
    unit = (ROOT / "systemd" / "tunerd.service").read_text()
    runs = dict(re.findall(r"^(Exec\w+)=(.*)$", unit, re.MULTILINE))
    assert runs.keys() == {"ExecStart", "ExecReload"}
    assert re.search(r"^RestartPreventExitStatus=78$", unit, re.MULTILINE)
    (tmp_path / "config.yaml").write_text("tuner: {nonsense: 1}\n")
    arguments = runs["ExecStart"].split()[1:]
    started = CliRunner().invoke(main, arguments, env={"TUNERD_CONFIG": str(tmp_path / "config.yaml")})
    assert started.exit_code == 78, started.output


def test_ci_runs_the_oldest_and_the_newest_python_that_are_promised() -> None:
    """CI tests the oldest and the newest Python of pyproject, and its last command runs all tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = sorted(
        (one.rpartition(" :: ")[2] for one in project["classifiers"] if " :: Python :: 3." in one),
        key=lambda version: int(version.partition(".")[2]),
    )
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert f">={promised[0]}" == project["requires-python"]
    assert any(f"command -v python{promised[0]}" in line for line in commands)
    assert any(f"$(python_of {promised[-1]})" in line for line in commands)
    assert commands[-1] == "or_alone .venv/bin/python make --no-print-directory test"


def test_the_version_stands_in_one_place() -> None:
    """The package contains its version, and pyproject takes it from there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "tunerd/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tunerd.__version__)
