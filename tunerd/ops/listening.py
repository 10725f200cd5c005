"""Listening sockets that never take the process's last file descriptors, and that stay quiet when none is left.

asyncio logs every connection that it cannot accept, up to a hundred lines at a time, and takes whatever descriptor is left.
"""

import errno
import os
import resource
import socket
from contextlib import suppress
from typing import Final

_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


def descriptor_limit() -> int:
    """The current RLIMIT_NOFILE."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


class GuardedSocket(socket.socket):
    """Accepts as any socket does, with two differences. A connection that would take one of the last `keep` descriptors is
    closed at once. When no descriptor is left, a spare one is released for a moment to accept and close the connection: in the
    queue it would wake the event loop again and again."""

    __slots__ = ("_keep", "_spare")

    def __init__(self, family: int = -1, keep: float = 0.0) -> None:
        """`keep`: the share of RLIMIT_NOFILE that is reserved for others."""
        super().__init__(family, socket.SOCK_STREAM)
        self._keep = keep
        self._spare = _spare()

    def accept(self) -> tuple[socket.socket, object]:
        """Raises BlockingIOError also after a connection was turned away: the loop asks again if others wait."""
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
            self._turn_away()
            raise BlockingIOError from None
        if self._spare < 0:
            self._spare = _spare()
        if self._keep and connection.fileno() >= descriptor_limit() * (1 - self._keep):
            connection.close()
            raise BlockingIOError
        return connection, address

    def _turn_away(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        with suppress(OSError):
            super().accept()[0].close()
        self._spare = _spare()

    def close(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        super().close()


def _spare() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
