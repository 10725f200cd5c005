"""What is released: the lock files hold what pyproject asks for, with hashes and without a registry's address; and `make release`
makes a wheel, a source archive, a list of what they need, and checksums.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tunerd

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS: Final = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-build.lock": PROJECT["build-system"]["requires"],
}
_PIN: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)((?: ;[^\\]*)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    return {found[1]: found[2] for found in _PIN.finditer((ROOT / name).read_text())}


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_satisfies_what_is_asked_for(name: str) -> None:
    """Each dependency is locked to a version that its bounds allow; `make lock` renews the file."""
    versions = locked(name)
    for text in LOCKS[name]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{text}: say make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_the_lock_is_a_version_with_hashes(name: str) -> None:
    """Nothing is installed that the file does not pin, and the file names no registry: a mirror works as well."""
    text = (ROOT / name).read_text()
    assert len(locked(name)) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) >= 4
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="pip checks the lock with the oldest Python; others take minutes more"
)
def test_the_lock_is_complete(tmp_path: Path) -> None:
    """pip itself finds every package that the locked ones need, among the locked ones: `tunerd` as the lock installs it is whole."""
    versions = locked("requirements.lock")
    installed = {canonicalize_name(name) for name in versions}
    for name in versions:
        for text in _requirements_of(name):
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in installed, f"{name} needs {text}"


def _requirements_of(name: str) -> list[str]:
    from importlib.metadata import requires

    return requires(name) or []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_make_release(tmp_path: Path) -> None:
    """Wheel and source archive of this version; an SBOM that lists each locked package with its version, and tunerd; checksums that
    fit. It needs a package index."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in listed.split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / ".installed").touch()
    subprocess.run(["make", "--no-print-directory", "release"], cwd=tmp_path, check=True, capture_output=True)
    dist, version = tmp_path / "dist", tunerd.__version__
    wheel, archive, sbom = (f"tunerd-{version}{end}" for end in ("-py3-none-any.whl", ".tar.gz", ".cdx.json"))
    sums = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((dist / name).read_bytes()).hexdigest() for name in (wheel, archive, sbom)}
    with zipfile.ZipFile(dist / wheel) as packed:
        assert "tunerd/ledger/schema/0001.sql" in packed.namelist()
    with tarfile.open(dist / archive) as packed:
        assert f"tunerd-{version}/pyproject.toml" in packed.getnames()
    bill = json.loads((dist / sbom).read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {canonicalize_name(one["name"]): one["version"] for one in bill["components"]}
    assert found == {**locked("requirements.lock"), "tunerd": version}
