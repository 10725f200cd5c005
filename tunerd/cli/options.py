"""What every command that reads the configuration shares: the option `-c`, and how a bad configuration ends."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.ops.redact import redact
from tunerd.places import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = "/etc/tunerd/config.yaml"
EXIT_BAD_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: a supervisor need not restart."""


def config_option(command: F) -> F:
    """Adds `-c/--config`, passed to the command as `config: Path`."""
    option = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, readable=False),  # The loader tells it, with exit 78.
        envvar="TUNERD_CONFIG",
        default=DEFAULT_CONFIG,
        show_default=True,
        show_envvar=True,
        metavar="FILE",
        help="The configuration.",
    )
    return option(command)


def load_or_exit(path: Path, resolve_secrets: bool = True) -> Config:
    """The configuration, or every problem on stderr and exit 78. Commands that only need the ledger pass
    `resolve_secrets=False`: then keys are neither read nor demanded."""
    # Imported here: `--help` and commands without a configuration should not pay for YAML.
    from tunerd.loading.config_file import load

    try:
        return load(path, os.environ, resolve_secrets=resolve_secrets)
    except ConfigError as exc:
        exit_bad_config(exc)


def exit_bad_config(exc: ConfigError) -> NoReturn:
    """Print the problems, count them, and leave with 78."""
    for problem in exc.problems:
        say(redact(str(problem)), err=True)
    count = len(exc.problems)
    say(f"{count} problem{'s' if count != 1 else ''} in the configuration", err=True)
    sys.exit(EXIT_BAD_CONFIG)
