"""Which daemon a command is for. A running daemon is found by its socket, by the place of its ledger, or by the
configuration file that it was started with; none of these needs a configuration on disk that is free of faults.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tunerd.cli.options import config_option
from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.loading.config_file import place_of_ledger, read_file
from tunerd.loading.ledger_section import LedgerPlace
from tunerd.ops.client import TIMEOUT_S, ControlClient, find_daemon, find_daemon_of_file
from tunerd.ops.redact import redact
from tunerd.ops.wire import ControlError
from tunerd.places import ConfigError, Problem

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the options of a command say of the daemon that it is for."""

    config: Path
    socket: Path | None = None


def target_options(command: F) -> Callable[..., Any]:
    """Adds `-c/--config` and `--socket`, passed to the command as `target: Target`."""

    @functools.wraps(command)
    def with_target(*arguments: Any, config: Path, socket: Path | None, **others: Any) -> Any:
        return command(*arguments, target=Target(config=config, socket=socket), **others)

    option = click.option("--socket", type=click.Path(path_type=Path), envvar="TUNERD_SOCKET", show_envvar=True, metavar="FILE",
                          help="The daemon's control socket, when the configuration does not lead to it.")  # fmt: skip
    return config_option(option(with_target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What can be read of the configuration on disk, keys left out."""

    file: Path
    ledger: LedgerPlace
    config: Config | None
    """As far as it could be read; None: not at all."""
    problems: tuple[Problem, ...]
    told: bool = False
    """What is wrong was told already."""

    @property
    def is_bad(self) -> bool:
        """Whether it is wrong wherever it is read. Variables that are not set here may well be set for the service."""
        return any(problem.variable is None for problem in self.problems)

    def error(self) -> ConfigError:
        return ConfigError(self.problems)


def read_known(file: Path, told: bool = False) -> Known:
    place = place_of_ledger(file, os.environ)
    try:
        reading = read_file(file, os.environ, resolve_secrets=False)
    except ConfigError as exc:
        return Known(file=file, ledger=place, config=None, problems=exc.problems, told=told)
    return Known(file=file, ledger=place, config=reading.config, problems=ConfigError(reading.problems).problems,
                 told=told)  # fmt: skip


def running_daemon(target: Target, known: Known, timeout_s: float = TIMEOUT_S) -> ControlClient | None:
    """The daemon that the command is for, and on stderr what is wrong with the configuration on disk; None: none runs.
    Raises ControlError where one is that may not be asked, or where `--socket` leads to none. Blocking."""
    if target.socket is not None:
        client = ControlClient(target.socket, timeout_s)
        if not client.answers():
            raise ControlError(f"no daemon answers at {target.socket}")
    else:
        found = _found(known, timeout_s)
        if found is None:
            return None
        client = found
    if known.is_bad:
        tell_bad(known, "the running daemon answers, with the configuration that it has loaded")
    return client


def _found(known: Known, timeout_s: float) -> ControlClient | None:
    place = known.ledger
    if place.path is not None and (client := find_daemon(place.path, timeout_s=timeout_s)) is not None:
        return client
    if place.path is not None and place.from_environment:
        return None  # a daemon with the same file and another ledger runs in another environment: not the one meant
    found = find_daemon_of_file(known.file, timeout_s=timeout_s)
    if found is None:
        return None
    if found.ledger is not None and place.path is not None and not known.is_bad and not known.told:
        say(f"tunerd: the running daemon has the ledger {found.ledger}; {known.file} names {place.path} now, which "
                   f"counts from the next start", err=True)  # fmt: skip
    return found.client


def tell_bad(known: Known, who_answers: str) -> None:
    """One line on stderr."""
    if known.told:
        return
    first, *others = known.problems
    more = f" ({len(others)} more: tunerd check)" if others else ""
    say(f"tunerd: the configuration on disk is bad: {redact(str(first))}{more}; {who_answers}", err=True)
