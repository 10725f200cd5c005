"""A missing part skips a test for a person and fails it in CI, each with a sentence; pytest runs as a process."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real_parts import may_mount

ROOT = Path(__file__).parent.parent
UNPRIVILEGED = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
"""Run as root without CAP_SYS_ADMIN, as in a plain container. A user who may not mount anyway is left as is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    told: str
    files: Sequence[str]
    chosen: Sequence[str]
    """The tests of these files that need the part."""
    environ: Mapping[str, str] = field(default_factory=dict)
    under: Callable[[], Sequence[str]] = tuple


MISSING = {
    "samples": Missing(
        told="needs the platforms' samples: there is no /nowhere",
        files=["mapping/presets/test_samples.py", "mapping/test_samples_table.py", "mapping/test_presets.py",
               "workbench/test_recognise.py", "cli/test_init.py"],
        chosen=["-m", "samples"],
        environ={"TUNERD_SAMPLES": "/nowhere"},
    ),
    "strace": Missing(
        told="needs strace: it makes system calls fail",
        files=["ledger/test_sqlite_faults.py", "e2e/test_disk.py"],
        chosen=["-k", "failing_syncs or failed_sync or (fails_and_comes_back and bad_syncs)"],
        environ={"PATH": "/nowhere"},
    ),
    "mount": Missing(
        told="needs the right to mount (root with CAP_SYS_ADMIN): it mounts a small file system",
        files=["ledger/test_sqlite_faults.py", "e2e/test_disk.py", "e2e/test_mount.py", "e2e/test_damage.py"],
        chosen=["-k", "a_full_disk or a_reserve or comes_back or before_the_disk or at_the_start or unmounted or read_only_file"],
        under=lambda: UNPRIVILEGED if may_mount() else (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "ci"),
    [("samples", False), *((part, True) for part in MISSING)],
    ids=lambda each: {True: "CI", False: "a person"}.get(each, each),
)
def test_a_missing_part(part: str, ci: bool) -> None:
    """No test that needs the part is run; with CI=true none is skipped. (Whether it is skipped or fails depends on no part:
    so one of them is enough for a person.)"""
    missing = MISSING[part]
    environ = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*missing.under(), sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist",
         *(f"tests/{file}" for file in missing.files), *missing.chosen],
        env={**environ, **({"CI": "true"} if ci else {}), **missing.environ},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    kinds = re.findall(r"\d+ (passed|failed|skipped|errors?)", done.stdout.splitlines()[-1])
    assert [kind.removesuffix("s") for kind in kinds] == ["error" if ci else "skipped"], done.stdout
    assert done.returncode == (1 if ci else 0)
    assert missing.told in done.stdout
    assert all(f"tests/{file}" in done.stdout for file in missing.files)
