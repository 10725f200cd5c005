"""A real mount that hangs, as a hard NFS mount does whose server is gone: a FUSE file system that nobody serves."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_parts import may_mount, needs

_DEVICE = "/dev/fuse"

needs_hanging_mount = needs(
    "the right to mount, and /dev/fuse", lambda: os.path.exists(_DEVICE) and may_mount(), "it mounts a file system that hangs"
)


@contextmanager
def hanging(directory: Path) -> Iterator[None]:
    """Until the end of the block, whoever touches this directory waits. Then those come back with an error, and what was in the
    directory before is there again."""
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
        subprocess.run(["mount", "-i", "-t", "fuse", "nobody", str(directory), "-o", options], pass_fds=[fd], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(directory)], check=True)
    finally:
        os.close(fd)
