"""`tunerd health`, for a container's health check and for exec probes: one request to the daemon, over its control socket or its
http port. It runs every few seconds beside the daemon, within its memory limit, so it imports little and nothing of the daemon.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tunerd.admin.socket_names import RUN_DIRECTORY, SUFFIX, address_of, bound_directories

TIMEOUT_S = 8.0
"""The daemon itself gives its ledger 5 s to answer."""
_MAX_ANSWER = 64 * 1024


class Unhealthy(Exception):
    """The daemon is not healthy, not ready, or not there; one line for an operator."""


def quick_main(words: Sequence[str], env: Mapping[str, str]) -> int | None:
    """`tunerd health` without a library for command lines; the exit code. None: click has to read these words, since they ask
    for help or have a mistake in them."""
    typed: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--ready" and not equals:
            typed[name] = name
        elif name in ("--socket", "--http") and (equals or rest):
            typed[name] = value if equals else rest.pop(0)
        else:
            return None
    if "--socket" in typed and "--http" in typed:
        return None
    socket_file = typed.get("--socket", env.get("TUNERD_SOCKET", ""))
    try:
        said = check(socket_file=socket_file, http=typed.get("--http", ""), ready="--ready" in typed, env=env)
    except Unhealthy as exc:
        os.write(2, f"tunerd: {exc}\n".encode("utf-8", "backslashreplace"))
        return 1
    os.write(1, f"{said}\n".encode())
    return 0


def check(*, socket_file: str, http: str, ready: bool, env: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> str:
    """Ask the daemon; gives `ok`. `socket_file`, `http`: where it listens; both empty: its control socket is looked for. Raises
    Unhealthy."""
    page = "/readyz" if ready else "/healthz"
    if http:
        with _connected(http, timeout_s) as connection:
            return _ask(connection, page, http)
    place = socket_file or _only_socket(env)
    with _connected_to_file(place, timeout_s) as connection:
        return _ask(connection, page, place)


def _only_socket(env: Mapping[str, str]) -> str:
    """The control socket in the runtime directory; without one there, the only one of this machine or container."""
    refused: Unhealthy | None = None
    for directories in (env.get("RUNTIME_DIRECTORY", "").split(":")[:1], [RUN_DIRECTORY], bound_directories()):
        found = set()
        for path in _sockets_in(directories):
            try:
                _connected_to_file(path, TIMEOUT_S).close()
                found.add(os.path.realpath(path))
            except Unhealthy as exc:
                refused = exc if isinstance(exc.__cause__, PermissionError) else refused
        if len(found) > 1:
            raise Unhealthy(f"several daemons run here; choose one with --socket: {', '.join(sorted(found))}")
        if found:
            return found.pop()
    raise refused or Unhealthy("no daemon answers here: none runs, or it has no control socket (then use --http HOST:PORT)")


def _sockets_in(directories: Iterable[str]) -> Iterator[str]:
    for directory in directories:
        try:
            names = os.listdir(directory or "/nonexistent")
        except OSError:
            continue
        yield from (os.path.join(directory, name) for name in sorted(names) if name.endswith(SUFFIX))


def _connected_to_file(path: str, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    try:
        with address_of(os.path.abspath(path)) as address:
            connection.connect(address)
    except OSError as exc:
        connection.close()
        raise Unhealthy(f"no daemon answers at {path}: {exc.strerror or 'timed out'}") from exc
    return connection


def _connected(http: str, timeout_s: float) -> socket.socket:
    host, colon, port = http.rpartition(":")
    if not (colon and port.isascii() and port.isdigit()):
        raise Unhealthy(f"--http takes HOST:PORT, like 127.0.0.1:9464, not {http}")
    try:
        return socket.create_connection((host.strip("[]") or "localhost", int(port)), timeout_s)
    except (OSError, OverflowError) as exc:
        raise Unhealthy(f"no daemon answers at {http}: {getattr(exc, 'strerror', None) or 'timed out'}") from exc


def _ask(connection: socket.socket, page: str, place: str) -> str:
    """The answer of a daemon that is well. Raises Unhealthy."""
    answer = b""
    try:
        connection.sendall(f"GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while len(answer) < _MAX_ANSWER and (part := connection.recv(4096)):
            answer += part
    except OSError as exc:
        raise Unhealthy(f"the daemon at {place} did not answer: {exc.strerror or 'timed out'}") from exc
    head, _, body = answer.partition(b"\r\n\r\n")
    status, said = head.split(b" ", 2)[1:2], body.decode("utf-8", "replace").strip()
    if status == [b"200"]:
        return said
    if status == [b"503"]:
        raise Unhealthy(said)
    raise Unhealthy(f"what answers at {place} is not this version of tunerd")
