"""The other end of the control socket: a running daemon, asked from a command. Same questions as office.Operations.

Blocking sockets in a thread: a command starts faster without an HTTP client library, and asks one thing at a time.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from json import JSONDecodeError
from pathlib import Path
from typing import Final, TypeVar, cast
from urllib.parse import urlencode

from tunerd.ops.answers import (
    VERSION,
    CallsPage,
    ConfigurationDocument,
    DocumentsPage,
    IdleDocument,
    Report,
    StatusDocument,
    StoryPage,
)
from tunerd.ops.desk import Choice
from tunerd.ops.encoding import decoded, encoded
from tunerd.ops.office import OrderRefused
from tunerd.ops.wire import BOUND_AS, RUN_DIRECTORY, ControlError, address_of, asked_of, socket_places

TIMEOUT_S: Final = 60.0
"""For orders and long lists."""
QUESTION_S: Final = 5.0
"""For a question that a daemon which makes progress answers at once."""
_NOBODY: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENXIO)
_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group at the other end of a Unix socket."""

T = TypeVar("T")


def find_daemon(
    ledger: str, env: Mapping[str, str] = os.environ, timeout_s: float = TIMEOUT_S, *, run_directory: str = RUN_DIRECTORY
) -> "ControlClient | None":
    """The daemon that holds this ledger; None: nobody answers. Raises ControlError where one is that we may not ask."""
    *likely, of_the_service = socket_places(ledger, env, run_directory)
    for path in likely:
        client = ControlClient(path, timeout_s)
        if client.answers():
            return client
    client = ControlClient(of_the_service, timeout_s)
    try:
        return client if client.answers() else None
    except ControlError as exc:
        if isinstance(exc.__cause__, PermissionError) and _is_for_us(ledger):
            return None  # the service's directory, on this machine for another ledger
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDaemon:
    client: "ControlClient"
    ledger: str | None
    """Where its ledger is, as it says."""


def find_daemon_of_file(
    config_file: Path, env: Mapping[str, str] = os.environ, timeout_s: float = TIMEOUT_S, *, run_directory: str = RUN_DIRECTORY
) -> FoundDaemon | None:
    """The daemon that was started with this configuration file, wherever its ledger is. Raises ControlError where there
    are several, or where the only ones may not be asked."""
    found: dict[str, FoundDaemon] = {}
    refused: ControlError | None = None
    for path in _sockets_here(env, run_directory):
        client = ControlClient(path, timeout_s)
        try:
            status = client.status_now() if client.answers() else None
        except ControlError as exc:
            refused = exc if isinstance(exc.__cause__, PermissionError) else refused
            continue
        except OrderRefused:
            continue
        if status is not None and _is_same_file(status["config"]["file"], config_file):
            found[os.path.realpath(path)] = FoundDaemon(client=client, ledger=status["daemon"].get("ledger"))
    if len(found) > 1:
        raise ControlError(f"several daemons run with {config_file}: name one with --socket: {', '.join(sorted(found))}")
    if not found and refused is not None and not os.access(config_file, os.R_OK):
        raise refused
    return next(iter(found.values()), None)


def _sockets_here(env: Mapping[str, str], run_directory: str) -> Iterator[Path]:
    """Control sockets of this machine or container: in the directories of the service, and wherever a daemon listens
    (the kernel names the path under which a socket was bound)."""
    directories = [
        Path(directory) for directory in (*env.get("RUNTIME_DIRECTORY", "").split(":")[:1], run_directory) if directory
    ]
    with suppress(OSError):
        for line in Path("/proc/net/unix").read_text("utf-8", "surrogateescape").splitlines():
            fields = line.split(" ", 7)
            if len(fields) == 8 and os.path.basename(fields[7]).startswith(BOUND_AS) and fields[7].startswith("/"):
                directories.append(Path(fields[7]).parent)
    for directory in dict.fromkeys(directories):
        with suppress(OSError):
            yield from sorted(path for path in directory.iterdir() if path.suffix == ".sock" and path.is_socket())


def _is_same_file(one: str, other: Path) -> bool:
    """The same path, whatever links lead to its directory: the file itself may have been replaced, or be gone."""
    first, second = os.path.abspath(one), os.path.abspath(other)
    return first == second or (
        os.path.basename(first) == os.path.basename(second)
        and os.path.realpath(os.path.dirname(first)) == os.path.realpath(os.path.dirname(second))
    )


def _is_for_us(ledger: str) -> bool:
    """It is not there yet, or we may read and write it: the daemon of such a ledger would be ours."""
    return not os.path.exists(ledger) or os.access(ledger, os.R_OK | os.W_OK, effective_ids=True)


class ControlClient:
    """Raises ControlError when the daemon does not answer, OrderRefused when it says no."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S, question_s: float = QUESTION_S) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._question_s = min(question_s, timeout_s)

    def answers(self) -> bool:
        """Whether somebody listens. Raises ControlError where rights are missing."""
        connection = _Connection(self.path, self._question_s)
        try:
            connection.connect()
        except OSError as exc:
            if exc.errno in _NOBODY:
                return False
            raise self._error(exc, connection) from exc
        finally:
            connection.close()
        return True

    async def status(self) -> StatusDocument:
        return await asyncio.to_thread(self.status_now)

    def status_now(self) -> StatusDocument:
        """As `status`; blocking."""
        return cast(StatusDocument, self._ask_blocking("GET", "/v1/status", None, self._question_s))

    async def idle(self) -> IdleDocument:
        return cast(IdleDocument, await self._ask("GET", "/v1/idle"))

    async def look(self) -> int:
        return cast(int, (await self._ask("POST", "/v1/look"))["look"])

    async def calls(self, choice: Choice, *, after_row: int = 0, limit: int = 100, newest: bool = False) -> CallsPage:
        asked = {**asked_of(choice), "after_row": after_row, "limit": limit, "newest": newest}
        return cast(CallsPage, await self._ask("POST", "/v1/calls", asked))  # hundreds of ids do not fit into a URL

    async def story(self, call_id: str) -> StoryPage:
        target = f"/v1/story?{urlencode({'call_id': call_id}, errors='surrogateescape')}"
        return cast(StoryPage, await self._ask("GET", target, timeout_s=self._question_s))

    async def documents(self, *, after_row: int = 0, limit: int = 100) -> DocumentsPage:
        return cast(DocumentsPage, await self._ask("GET", f"/v1/documents?{_query({'after_row': after_row, 'limit': limit})}"))

    async def retry(self, choice: Choice, *, after_row: int = 0) -> Report:
        return await self._order("retry", choice, after_row)

    async def remap(self, choice: Choice, *, after_row: int = 0) -> Report:
        return await self._order("remap", choice, after_row)

    async def dismiss(self, choice: Choice, *, after_row: int = 0) -> Report:
        return await self._order("dismiss", choice, after_row)

    async def forget(self, call_id: str) -> Report:
        return cast(Report, await self._ask("POST", "/v1/forget", {"call_id": call_id}))

    async def pause(self, destination: str | None) -> Sequence[str]:
        answer = await self._ask("POST", "/v1/pause", {"destination": destination})
        return cast(Sequence[str], answer["destinations"])

    async def resume(self, destination: str | None) -> Sequence[str]:
        answer = await self._ask("POST", "/v1/resume", {"destination": destination})
        return cast(Sequence[str], answer["destinations"])

    async def reload(self) -> Sequence[str]:
        return cast(Sequence[str], (await self._ask("POST", "/v1/reload"))["problems"])

    async def configuration(self) -> ConfigurationDocument:
        return cast(ConfigurationDocument, await self._ask("GET", "/v1/configuration"))

    async def _order(self, order: str, choice: Choice, after_row: int) -> Report:
        return cast(Report, await self._ask("POST", f"/v1/{order}", {**asked_of(choice), "after_row": after_row}))

    async def _ask(
        self, method: str, target: str, body: Mapping[str, object] | None = None, timeout_s: float | None = None
    ) -> dict[str, object]:
        told = None if body is None else encoded(body, exact=True)
        return await asyncio.to_thread(self._ask_blocking, method, target, told, timeout_s or self._timeout_s)

    def _ask_blocking(self, method: str, target: str, body: bytes | None, timeout_s: float) -> dict[str, object]:
        connection = _Connection(self.path, timeout_s)
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            answer = decoded(response.read())
        except (OSError, HTTPException, JSONDecodeError) as exc:
            raise self._error(exc, connection) from exc
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise ControlError(f"{self.path} answered something that is not tunerd's")
        if response.status != 200:
            raise OrderRefused(str(answer.get("error", f"the daemon answered {response.status}")))
        if answer.get("version") != VERSION:
            raise ControlError(f"the daemon speaks version {answer.get('version')}, this command {VERSION}: use the same tunerd")
        return answer

    def _error(self, exc: Exception, connection: "_Connection") -> ControlError:
        if isinstance(exc, TimeoutError):
            who = f"the daemon (pid {connection.pid})" if connection.pid else "the daemon"
            return ControlError(
                f"{who} did not answer within {connection.timeout:g} s ({self.path}): it makes no progress, or the machine is "
                f"overloaded; look at its last log lines, and if it stays so, restart it: what it has accepted is in the ledger"
            )
        if isinstance(exc, PermissionError):
            return ControlError(f"{self.path} answers only the user that tunerd runs as: try again as that user, or with sudo")
        if isinstance(exc, OSError):
            return ControlError(f"the daemon went away ({self.path}: {exc.strerror or type(exc).__name__}); try again")
        return ControlError(f"the daemon's answer broke off ({self.path}: {type(exc).__name__}); try again")


def _query(asked: Mapping[str, object]) -> str:
    return urlencode(asked, doseq=True, errors="surrogateescape")


class _Connection(HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("tunerd", timeout=timeout_s)
        self._path = path
        self.pid = 0
        """Of the process that listens; 0 while that is not known (it may be another machine's or container's)."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            with address_of(self._path) as address:
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self.pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
