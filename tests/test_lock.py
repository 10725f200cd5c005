"""The lock files hold what pyproject asks for, with hashes and without a registry's address."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
_EXTRAS: Final = PROJECT["project"]["optional-dependencies"]
LOCKS: Final = {
    "requirements.lock": [*PROJECT["project"]["dependencies"], *_EXTRAS["cloud"], *_EXTRAS["postgres"]],
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


def test_the_lock_is_complete() -> None:
    """Every package that a locked one needs is locked, too, by the metadata of what is installed here."""
    versions = locked("requirements.lock")
    for name in versions:
        for text in requires(name) or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in versions, f"{name} needs {text}"
