"""The names under which control sockets are found, and how a path becomes a socket address. It imports next to nothing, because
`tunerd health` runs every few seconds.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

RUN_DIRECTORY = "/run/tunerd"
"""Of the service; other users may not look into it."""
BOUND_AS = ".control-"
"""A control socket is bound under a name with this prefix, and then renamed to its own."""
SUFFIX = ".sock"
_MAX_SUN_PATH = 107
"""Bytes that the address of a Unix socket may have."""


@contextmanager
def address_of(path: str) -> Iterator[str]:
    """The path as a socket address; through a descriptor of its directory where it is too long for one."""
    if len(os.fsencode(path)) <= _MAX_SUN_PATH:
        yield path
        return
    folder, name = os.path.split(path)
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)


def bound_directories() -> Iterator[str]:
    """Directories in which a control socket was bound, as the kernel names them: of this machine, container or pod."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
            lines = table.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(" ", 7)
        if len(fields) == 8 and os.path.basename(fields[7]).startswith(BOUND_AS) and fields[7].startswith("/"):
            yield os.path.dirname(fields[7])
