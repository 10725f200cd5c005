"""What some tests need from the machine besides Python: programs, the right to mount, the platforms' samples.

Without the part such a test is skipped with the reason, or fails if `CI=true` (conftest.py). Each part is looked for once, and
only when a test that needs it is about to run.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import yaml

SAMPLES: Final = Path(os.environ.get("TUNERD_SAMPLES") or Path(__file__).parents[2] / "shared" / "samples")
"""Files of the platforms. They are not part of this repository: they are next to it, or in the directory that TUNERD_SAMPLES
names."""

CASES: Final = Path(os.environ.get("TUNERD_CASES") or Path(__file__).parents[2] / "shared" / "cases")
"""Small inputs that were handled wrongly once, with the right results; they are next to this repository, too."""


def needs(part: str, is_there: Callable[[], bool], why: str) -> pytest.MarkDecorator:
    """Marks a test, a class or a file that needs this part."""
    return pytest.mark.needs(part, is_there, why)


def needs_program(name: str, why: str) -> pytest.MarkDecorator:
    return needs(name, lambda: shutil.which(name) is not None, why)


@cache
def may_mount() -> bool:
    """Whether a small file system can be mounted (in a container, being root is not enough). It is unmounted again."""
    with tempfile.TemporaryDirectory(prefix="tunerd-mount-") as place:
        try:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False).returncode == 0
        except OSError:
            return False
        if mounted:
            subprocess.run(["umount", "-l", place], check=True)
    return mounted


needs_mount: Final = needs("the right to mount (root with CAP_SYS_ADMIN)", may_mount, "it mounts a small file system")


@cache
def may_unshare_network() -> bool:
    """Whether a process can have a network of its own."""
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_network_namespace: Final = needs(
    "the right to make a network namespace (root with CAP_SYS_ADMIN)", may_unshare_network, "it switches off IPv6 for one process"
)
needs_strace: Final = needs_program("strace", "it makes system calls fail")
needs_chromium: Final = needs(
    "chromium, and playwright of requirements-dev.txt",
    lambda: shutil.which("chromium") is not None and importlib.util.find_spec("playwright") is not None,
    "it looks at the status page in a real browser",
)
needs_samples: Final = needs(
    "the platforms' samples", SAMPLES.is_dir, f"there is no {SAMPLES}; TUNERD_SAMPLES names another directory"
)
needs_cases: Final = needs("the shared cases", CASES.is_dir, f"there is no {CASES}; TUNERD_CASES names another directory")
needs_libyaml: Final = needs("PyYAML with libyaml", lambda: bool(yaml.__with_libyaml__), "it compares both scanners")
