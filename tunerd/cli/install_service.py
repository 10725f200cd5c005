"""`tunerd install-service`: make a tunerd that pip has installed a systemd service. `steps` decides, `_do` does it.

The Debian package does not use this: dpkg has to know each file.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, assert_never

import click

from tunerd.cli.admin import fail
from tunerd.cli.carried_files import carried
from tunerd.cli.completion import script
from tunerd.cli.terminal import say
from tunerd.loading.service_sandbox import is_in_a_home
from tunerd.record import record

_COMMAND: Final = "/usr/local/bin/tunerd"
"""Where the unit expects the command."""
_BOOTED: Final = Path("/run/systemd/system")
_EPILOG = """\b
Examples:
  tunerd install-service --dry-run
  sudo /opt/tunerd/bin/tunerd install-service
\b
Run it again after an upgrade. It replaces its own files, and never a configuration; your settings belong in a drop-in
(systemctl edit tunerd). It neither enables nor starts the service.
"""


@record
class WriteFile:
    path: str
    text: str
    keeps: bool = False
    """An existing file stays as it is."""


@record
class MakeLink:
    path: str
    target: str


@record
class RunProgram:
    words: tuple[str, ...]
    why: str


Step = WriteFile | MakeLink | RunProgram


@click.command("install-service", epilog=_EPILOG)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIRECTORY",
              help="Install into the system below this directory (for building an image).")  # fmt: skip
def command(dry_run: bool, root: Path | None) -> None:
    """Make this tunerd a systemd service: user, unit, configuration directory, man page and shell completion.

    For a tunerd that pip or uv has installed; the Debian package is complete without this. Needs root."""
    own = _own_command(Path(sys.argv[0]).absolute())
    if root is None and (hidden := _in_a_home(own)):
        fail(
            f"{hidden} belongs to this tunerd, and the service cannot see it (ProtectHome=yes). Install tunerd into "
            "/opt/tunerd, with a Python outside home directories (docs/systemd.md)"
        )
    found = list(steps(str(own), root, is_booted=_BOOTED.is_dir()))
    if dry_run:
        for step in found:
            say(_said(step, root))
        return
    if os.geteuid() != 0:
        fail("only root can install a service; `tunerd install-service --dry-run` shows what would be done")
    try:
        for step in found:
            say(_said(step, root))
            _do(step, root or Path("/"))
    except (OSError, subprocess.CalledProcessError) as exc:
        why = str(exc).rstrip(".")
        fail(f"the service is not (fully) installed: {why}. Correct this, and run the command again")
    say()
    say("Next: write /etc/tunerd/config.yaml and the key, then")
    say("  tunerd check --online && systemctl enable --now tunerd")


def _own_command(called: Path) -> Path:
    """The command `tunerd` of this installation, also where it was called as `python -m tunerd`."""
    return called if called.name == "tunerd" else Path(sys.executable).with_name("tunerd")


def _in_a_home(own: Path) -> str | None:
    """A part of this installation that is in a home directory: the command, the virtual environment, or its Python."""
    return next((one for one in (str(own), sys.prefix, sys.base_prefix) if is_in_a_home(os.path.realpath(one))), None)


def steps(own: str, root: Path | None, *, is_booted: bool) -> Iterator[Step]:
    """What has to be done on a system with systemd for the command `own`, in this order. Pure, but for the carried files."""
    if own != _COMMAND:
        yield MakeLink(path=_COMMAND, target=own)
    for unit in ("tunerd.service", "tunerd@.service"):
        yield WriteFile(
            path=f"/etc/systemd/system/{unit}", text=carried(unit).replace("/usr/share/doc/", "/usr/local/share/doc/")
        )
    yield WriteFile(path="/etc/sysusers.d/tunerd.conf", text=carried("sysusers.conf"))
    yield WriteFile(path="/etc/tmpfiles.d/tunerd.conf", text=carried("tmpfiles.conf"))
    below = () if root is None else (f"--root={root}",)
    yield RunProgram(words=("systemd-sysusers", *below, "tunerd.conf"), why="creates the user tunerd")
    yield RunProgram(words=("systemd-tmpfiles", "--create", *below, "tunerd.conf"), why="creates /etc/tunerd")
    yield WriteFile(path="/etc/tunerd/config.yaml", text=carried("config.example.yaml"), keeps=True)
    yield WriteFile(path="/usr/local/share/doc/tunerd/systemd.md", text=carried("systemd.md"))
    yield WriteFile(path="/usr/local/share/man/man1/tunerd.1", text=carried("tunerd.1"))
    yield WriteFile(path="/usr/local/share/bash-completion/completions/tunerd", text=script("bash"))
    yield WriteFile(path="/usr/local/share/zsh/site-functions/_tunerd", text=script("zsh"))
    yield WriteFile(path="/usr/local/share/fish/vendor_completions.d/tunerd.fish", text=script("fish"))
    if root is None and is_booted:
        yield RunProgram(words=("systemctl", "daemon-reload"), why="systemd reads the units")


def _said(step: Step, root: Path | None) -> str:
    match step:
        case WriteFile():
            is_kept = step.keeps and _below(root or Path("/"), step.path).exists()
            return f"keep   {step.path}" if is_kept else f"write  {step.path}"
        case MakeLink():
            return f"link   {step.path} -> {step.target}"
        case RunProgram():
            return f"run    {' '.join(step.words)}   ({step.why})"
        case _:
            assert_never(step)


def _do(step: Step, root: Path) -> None:
    match step:
        case WriteFile():
            _write(_below(root, step.path), step)
        case MakeLink():
            place = _below(root, step.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(step.target)
        case RunProgram():
            if shutil.which(step.words[0]) is None:
                raise FileNotFoundError(f"there is no {step.words[0]} here; this command needs systemd")
            subprocess.run(step.words, check=True)  # noqa: S603 - words of `steps`
        case _:
            assert_never(step)


def _write(place: Path, step: WriteFile) -> None:
    if step.keeps and place.exists():
        return
    if place.is_symlink():
        raise FileExistsError(f"{place} is a link to {place.readlink()}; remove it first (a masked unit: systemctl unmask)")
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.new")
    fresh.write_text(step.text)
    fresh.chmod(0o644)
    fresh.replace(place)


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
