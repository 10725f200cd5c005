"""`make release`: a wheel, a source archive, a list of what they need, and checksums. It needs a package index, and takes as long as
the image.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import tunerd
from tests.docs.fences import ROOT
from tests.test_lock import locked


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_make_release(tmp_path: Path) -> None:
    """Wheel and source archive of this version; an SBOM that lists each locked package with its version, and tunerd; checksums that
    fit."""
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
