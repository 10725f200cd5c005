"""Which daemon a command is for. A running daemon is found by its socket, by the place of its ledger, or by the configuration
file that it was started with; none of these needs a valid configuration on disk.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tunerd.admin.client import TIMEOUT_S, AdminClient
from tunerd.admin.discovery import find_daemon, find_daemon_of_file
from tunerd.admin.protocol import ControlError
from tunerd.cli.options import config_option
from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.loading.config_file import place_of_ledger, read_file
from tunerd.loading.ledger_section import LedgerPlace
from tunerd.ops.mask import redact
from tunerd.record import record
from tunerd.yaml_location import ConfigError, Problem

F = TypeVar("F", bound=Callable[..., Any])


@record
class Target:
    """The daemon that a command is for, as its options name it."""

    config: Path
    socket: Path | None = None


def target_options(command: F) -> Callable[..., Any]:
    """Adds `-c/--config` and `--socket`, passed to the command as `target: Target`."""

    @functools.wraps(command)
    def with_target(*arguments: Any, config: Path, socket: Path | None, **others: Any) -> Any:
        return command(*arguments, target=Target(config=config, socket=socket), **others)

    option = click.option("--socket", type=click.Path(path_type=Path), envvar="TUNERD_SOCKET", show_envvar=True, metavar="FILE",
                          help="Control socket of the daemon, if the configuration does not lead to it.")  # fmt: skip
    return config_option(option(with_target))


@record
class Known:
    """What could be read of the configuration on disk, without keys."""

    file: Path
    ledger: LedgerPlace
    config: Config | None
    """What could be read; None: nothing."""
    problems: tuple[Problem, ...]
    is_reported: bool = False
    """Its problems have been reported already."""

    @property
    def is_bad(self) -> bool:
        """Whether it is wrong for everybody. Variables that are not set here may be set for the service."""
        return any(problem.variable is None for problem in self.problems)

    def error(self) -> ConfigError:
        return ConfigError(self.problems)


def read_known(file: Path, is_reported: bool = False) -> Known:
    place = place_of_ledger(file, os.environ)
    try:
        reading = read_file(file, os.environ, resolve_secrets=False)
    except ConfigError as exc:
        return Known(file=file, ledger=place, config=None, problems=exc.problems, is_reported=is_reported)
    return Known(file=file, ledger=place, config=reading.config, problems=ConfigError(reading.problems).problems,
                 is_reported=is_reported)  # fmt: skip


def running_daemon(target: Target, known: Known, timeout_s: float = TIMEOUT_S) -> AdminClient | None:
    """The daemon that the command is for; None: none runs. Problems of the configuration on disk are reported on stderr.
    Raises ControlError for a daemon that this user may not ask, or where `--socket` leads to no daemon. Blocking."""
    if target.socket is not None:
        client = AdminClient(target.socket, timeout_s)
        if not client.answers():
            raise ControlError(f"no daemon answers at {target.socket}")
    else:
        found = _found(known, timeout_s)
        if found is None:
            return None
        client = found
    if known.is_bad:
        report_bad(known, "the running daemon answers, with the configuration it has loaded")
    return client


def _found(known: Known, timeout_s: float) -> AdminClient | None:
    place = known.ledger
    configured = known.config.control_socket if known.config is not None else None
    if place.path is not None and (client := find_daemon(place.path, timeout_s=timeout_s, configured=configured)) is not None:
        return client
    if place.path is not None and place.from_environment:
        return None  # a daemon with the same file and another ledger runs in another environment: it is not meant
    found = find_daemon_of_file(known.file, timeout_s=timeout_s)
    if found is None:
        return None
    if found.ledger is not None and place.path is not None and not place.is_server and not known.is_bad and not known.is_reported:
        say(f"tunerd: the running daemon uses the ledger {found.ledger}; {known.file} now names {place.path}, which takes "
                   f"effect at the next start", err=True)  # fmt: skip
    return found.client


def report_bad(known: Known, who_answers: str) -> None:
    """One line on stderr."""
    if known.is_reported:
        return
    first, *others = known.problems
    more = f" ({len(others)} more, see tunerd check)" if others else ""
    say(f"tunerd: the configuration on disk is invalid: {redact(str(first))}{more}; {who_answers}", err=True)
