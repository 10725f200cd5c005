"""Finding the daemon that a command is for: by the place of its ledger, or by its configuration file. Blocking."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from tunerd.admin.api import OrderRefused, StatusOrder
from tunerd.admin.client import TIMEOUT_S, AdminClient
from tunerd.admin.protocol import ControlError, socket_places
from tunerd.admin.socket_names import RUN_DIRECTORY, SUFFIX, bound_directories
from tunerd.record import record


def find_daemon(
    ledger: str,
    env: Mapping[str, str] = os.environ,
    timeout_s: float = TIMEOUT_S,
    *,
    configured: str | None = None,
    run_directory: str = RUN_DIRECTORY,
) -> AdminClient | None:
    """The daemon that holds this ledger; None: no daemon answers. `configured`: the key `control_socket`. Raises ControlError for
    one that this user may not ask."""
    *likely, of_the_service = socket_places(ledger, env, run_directory)
    likely = [*([Path(configured)] if configured else []), *likely]
    refused: ControlError | None = None
    for path in likely:
        try:
            if (client := AdminClient(path, timeout_s)).answers():
                return client
        except ControlError as exc:
            if not isinstance(exc.__cause__, PermissionError):
                raise
            refused = refused or exc  # a container's runtime directory may be closed to the daemon's own user, too
    if refused is not None:
        raise refused
    client = AdminClient(of_the_service, timeout_s)
    try:
        return client if client.answers() else None
    except ControlError as exc:
        if isinstance(exc.__cause__, PermissionError) and _is_for_us(ledger):
            return None  # the directory of the service, which holds another ledger
        raise


@record
class FoundDaemon:
    client: AdminClient
    ledger: str | None
    """The path of its ledger, as it answers."""


def find_daemon_of_file(
    config_file: Path, env: Mapping[str, str] = os.environ, timeout_s: float = TIMEOUT_S, *, run_directory: str = RUN_DIRECTORY
) -> FoundDaemon | None:
    """The daemon that was started with this configuration file, wherever its ledger is. Raises ControlError if there are
    several, or if this user may not ask the only ones."""
    found: dict[str, FoundDaemon] = {}
    refused: ControlError | None = None
    for path in _sockets_here(env, run_directory):
        client = AdminClient(path, timeout_s)
        try:
            status = client.ask_now(StatusOrder()) if client.answers() else None
        except ControlError as exc:
            refused = exc if isinstance(exc.__cause__, PermissionError) else refused
            continue
        except OrderRefused:
            continue
        if status is not None and _is_same_file(status.config.file, config_file):
            found[os.path.realpath(path)] = FoundDaemon(client=client, ledger=status.daemon.ledger)
    if len(found) > 1:
        raise ControlError(f"several daemons run with {config_file}; choose one with --socket: {', '.join(sorted(found))}")
    if not found and refused is not None and not os.access(config_file, os.R_OK):
        raise refused
    return next(iter(found.values()), None)


def _sockets_here(env: Mapping[str, str], run_directory: str) -> Iterator[Path]:
    """Control sockets of this machine or container: in the directories of the service, and wherever a daemon listens
    (the kernel names the path under which a socket was bound)."""
    directories = [
        Path(directory) for directory in (*env.get("RUNTIME_DIRECTORY", "").split(":")[:1], run_directory) if directory
    ]
    directories += map(Path, bound_directories())
    for directory in dict.fromkeys(directories):
        with suppress(OSError):
            yield from sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and path.is_socket())


def _is_same_file(one: str, other: Path) -> bool:
    """The same path, whatever links lead to its directory: the file itself may have been replaced, or be gone."""
    first, second = os.path.abspath(one), os.path.abspath(other)
    return first == second or (
        os.path.basename(first) == os.path.basename(second)
        and os.path.realpath(os.path.dirname(first)) == os.path.realpath(os.path.dirname(second))
    )


def _is_for_us(ledger: str) -> bool:
    """Whether this user may read and write the ledger, or it does not exist yet: its daemon would run as this user."""
    return not os.path.exists(ledger) or os.access(ledger, os.R_OK | os.W_OK, effective_ids=True)
