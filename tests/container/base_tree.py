"""A base image without a registry: the running Python under /usr/local, a shell and a few programs of this machine, and the
libraries that they need. It stands in for python:3-slim when the tests build the image.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("sh", "install", "mkdir", "chmod", "cat", "env", "id", "ls", "sleep")
_LEFT_OUT: Final = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "config-*", "site-packages", "__pycache__"
)
LIBRARIES: Final = (
    *("libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0", "librt.so.1", "libdl.so.2", "libutil.so.1", "libresolv.so.2"),
    *("libnss_dns.so.2", "libnss_files.so.2"),
)
"""Those that wheels need or that are loaded by name; every Debian has them."""
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def make_base_tree(root: Path) -> None:
    """Fill an empty directory. Takes a few seconds."""
    for name in ("usr/bin", "usr/lib", "usr/lib64", "usr/local/bin", "etc", "dev", "proc", "sys", "run", "root"):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
        (root / name).chmod(0o1777)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    (root / "etc" / "ld.so.conf").write_text("/usr/local/lib\n")
    _put(root, _CERTIFICATES)
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin"))]
    _copy_python(root)
    linker = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    shared = [Path(found[1]) for name in LIBRARIES if (found := re.search(rf"\b{re.escape(name)} .*=> (\S+)", linker))]
    for file in (*programs, *shared, *_libraries([*programs, *_binaries(root)])):
        _put(root, file)
    subprocess.run(["ldconfig", "-r", str(root)], check=True)
    subprocess.run(["chroot", str(root), "/usr/local/bin/python", "-m", "ensurepip"], check=True, capture_output=True,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # fmt: skip


def _copy_python(root: Path) -> None:
    prefix, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    local = root / "usr" / "local"
    shutil.copytree(prefix / "lib" / name, local / "lib" / name, symlinks=True, ignore=_LEFT_OUT)
    (local / "lib" / name / "site-packages").mkdir()
    shutil.copy2(prefix / "bin" / name, local / "bin" / name)
    for library in prefix.glob("lib/libpython*.so*"):
        shutil.copy2(library, local / "lib" / library.name, follow_symlinks=False)
    for link in ("python", "python3"):
        (local / "bin" / link).symlink_to(name)


def _binaries(root: Path) -> list[Path]:
    """Of Python itself."""
    local = root / "usr" / "local"
    return [path for path in (*local.rglob("*.so*"), *(local / "bin").iterdir()) if path.is_file() and not path.is_symlink()]


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """What the dynamic linker loads for them from this machine."""
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=True).stdout
    found = {Path(path) for path in re.findall(r"(/\S+)(?= \(0x)", listed)}
    return {path for path in found if not path.is_relative_to(sys.base_prefix) or sys.base_prefix == "/usr"}


def _put(root: Path, file: Path) -> None:
    """Under the same path; through the tree's own /lib and /bin, which are links."""
    target = root / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)
