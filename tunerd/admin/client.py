"""The client's end of the control socket: a running daemon, asked by a command.

It uses blocking sockets in a thread: a command starts faster without an HTTP client library, and asks one thing at a time.
"""

import asyncio
import errno
import socket
import struct
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from json import JSONDecodeError
from pathlib import Path
from typing import Final, TypeVar, cast

from tunerd.admin.answer_types import VERSION
from tunerd.admin.api import Order, OrderRefused
from tunerd.admin.protocol import ControlError
from tunerd.admin.socket_names import address_of
from tunerd.admin.typed_json import from_json
from tunerd.ops.encoding import decoded, encoded

TIMEOUT_S: Final = 60.0
"""For orders over many calls, and long lists."""
QUICK_S: Final = 5.0
"""For orders that a daemon which makes progress answers at once."""
_NOBODY: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENXIO)
_SAME: Final = "use the same version of tunerd for both"
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group at the other end of a Unix socket."""

A = TypeVar("A")


class AdminClient:
    """Raises ControlError when the daemon does not answer, OrderRefused when it refuses."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S, quick_s: float = QUICK_S) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._quick_s = min(quick_s, timeout_s)

    def answers(self) -> bool:
        """Whether a daemon listens. Raises ControlError if this user may not connect."""
        connection = _SocketConnection(self.path, self._quick_s)
        try:
            connection.connect()
        except OSError as exc:
            if exc.errno in _NOBODY:
                return False
            raise self._error(exc, connection) from exc
        finally:
            connection.close()
        return True

    async def ask(self, order: Order[A]) -> A:
        return await asyncio.to_thread(self.ask_now, order)

    def ask_now(self, order: Order[A]) -> A:
        """As `ask`; blocking."""
        connection = _SocketConnection(self.path, self._quick_s if order.is_quick else self._timeout_s)
        try:
            connection.request("POST", f"/v1/{order.name}", encoded(order, exact=True))
            response = connection.getresponse()
            if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
                raise ControlError(f"the daemon does not know the order {order.name!r}: {_SAME}")
            answer = decoded(response.read())
        except (OSError, HTTPException, JSONDecodeError) as exc:
            raise self._error(exc, connection) from exc
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise ControlError(f"the answer at {self.path} is not from tunerd")
        if response.status != 200:
            raise OrderRefused(str(answer.get("error", f"the daemon answered {response.status}")))
        if answer.get("version") != VERSION:
            raise ControlError(f"the daemon speaks version {answer.get('version')}, this command version {VERSION}: {_SAME}")
        try:
            return cast(A, from_json(order.answer, answer, is_lenient=True))
        except ValueError as exc:
            raise ControlError(f"the daemon's answer at {self.path} is not understood ({exc}): {_SAME}") from exc

    def _error(self, exc: Exception, connection: "_SocketConnection") -> ControlError:
        if isinstance(exc, TimeoutError):
            who = f"the daemon (pid {connection.pid})" if connection.pid else "the daemon"
            return ControlError(
                f"{who} did not answer within {connection.timeout:g} s ({self.path}): it makes no progress, or the machine is "
                f"overloaded. Look at its last log lines, and restart it if this continues: accepted calls are in the ledger"
            )
        if isinstance(exc, PermissionError):
            return ControlError(
                f"{self.path} answers only the user that tunerd runs as: run this command as that user, or with sudo"
            )
        if isinstance(exc, OSError):
            return ControlError(f"the daemon went away ({self.path}: {exc.strerror or type(exc).__name__}); try again")
        return ControlError(f"the daemon's answer was cut off ({self.path}: {type(exc).__name__}); try again")


class _SocketConnection(HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("tunerd", timeout=timeout_s)
        self._path = path
        self.pid = 0
        """Of the process that listens; 0 while that is not known (it may be another machine's or container's)."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            with address_of(str(self._path)) as address:
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self.pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
