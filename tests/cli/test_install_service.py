"""`tunerd install-service` prints what it does, does that, and keeps what belongs to the user. (That the service then runs is tested
in a booted Debian, tests/debian/.)"""

import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.real_parts import needs
from tunerd.cli import main

ROOT = Path(__file__).parent.parent.parent
WRITTEN = {
    "/etc/systemd/system/tunerd.service": "systemd/tunerd.service",
    "/etc/systemd/system/tunerd@.service": "systemd/tunerd@.service",
    "/etc/sysusers.d/tunerd.conf": "systemd/sysusers.conf",
    "/etc/tmpfiles.d/tunerd.conf": "systemd/tmpfiles.conf",
    "/etc/tunerd/config.yaml": "config.example.yaml",
    "/usr/local/share/man/man1/tunerd.1": "docs/tunerd.1",
}


def install(root: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["install-service", "--root", str(root), *options])


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """Every file, link and program is printed, and nothing is there afterwards."""
    result = install(tmp_path, "--dry-run")
    assert result.exit_code == 0, result.output
    assert set(re.findall(r"^write  (\S+)$", result.output, re.MULTILINE)) > WRITTEN.keys()
    assert re.search(r"^link   /usr/local/bin/tunerd -> /\S+/tunerd$", result.output, re.MULTILINE)
    assert re.search(rf"^run    systemd-sysusers --root={tmp_path} tunerd.conf ", result.output, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


@needs("root and systemd-sysusers", lambda: os.geteuid() == 0 and shutil.which("systemd-sysusers") is not None,
       "it creates a user below another root")  # fmt: skip
def test_a_service_is_installed_below_another_root(tmp_path: Path) -> None:
    """The files are those of the repository, the user exists, and only root and the group tunerd may look into /etc/tunerd. A
    second run keeps the configuration and replaces the unit."""
    result = install(tmp_path)
    assert result.exit_code == 0, result.output
    for path, source in WRITTEN.items():
        text = (tmp_path / path[1:]).read_text()
        assert text.replace("/usr/local/share/doc/", "/usr/share/doc/") == (ROOT / source).read_text(), path
    assert "complete -o nosort" in (tmp_path / "usr/local/share/bash-completion/completions/tunerd").read_text()
    (user,) = re.findall(r"^tunerd:x:(\d+):(\d+):.*:/usr/sbin/nologin$", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    directory = (tmp_path / "etc/tunerd").stat()
    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_gid) == (0o750, 0, int(user[1]))

    config, unit = tmp_path / "etc/tunerd/config.yaml", tmp_path / "etc/systemd/system/tunerd.service"
    config.write_text("mine")
    unit.write_text("mine")
    again = install(tmp_path)
    assert again.exit_code == 0
    assert "keep   /etc/tunerd/config.yaml\n" in again.output
    assert (config.read_text(), unit.read_text() == "mine") == ("mine", False)


def test_a_masked_unit_is_left_alone(tmp_path: Path) -> None:
    """A link in the place of a file is reported: what it leads to, such as /dev/null, is neither written nor given other rights."""
    unit, target = tmp_path / "etc/systemd/system/tunerd.service", tmp_path / "null"
    unit.parent.mkdir(parents=True)
    target.write_text("")
    target.chmod(0o666)
    unit.symlink_to(target)
    result = install(tmp_path)
    assert result.exit_code == 1, result.output
    assert f"{unit} is a link to {target}; remove it first" in result.output
    assert (target.read_text(), target.stat().st_mode & 0o777, unit.is_symlink()) == ("", 0o666, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str) -> None:
    """For each shell, the script that asks tunerd."""
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_TUNERD_COMPLETE={shell}_complete" in result.output
