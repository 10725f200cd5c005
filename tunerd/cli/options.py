"""What several commands share: the option `-c`, types of options, and how a bad configuration ends a command."""

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from tunerd.cli.terminal import say
from tunerd.config import Config
from tunerd.config.quantities import parse_duration
from tunerd.ops.mask import redact
from tunerd.yaml_location import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = "/etc/tunerd/config.yaml"
EXIT_BAD_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: a supervisor need not restart."""
FILE: Final = click.Path(path_type=Path)


class _Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`100ms`, `20s`, `1m`, `7d`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError:
            self.fail(f"{value!r} is not a duration; write 500ms, 30s, 10m or 1h", param, ctx)


class _Since(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`2h`, `7d`, `2026-11-22`, `2026-11-22T13:00Z`: the instant, in Unix seconds. A date without a zone is local time."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return time.time() - parse_duration(value)
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(value).astimezone().timestamp()
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2h, 7d, 2026-11-22 or 2026-11-22T13:00Z", param, ctx)


class _Place(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`PATH` or `PATH@OFFSET`, the path made absolute."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        if isinstance(value, tuple):
            return value
        path, at, offset = value.rpartition("@")
        if at and offset.isascii() and offset.isdigit() and path:
            return os.path.abspath(path), int(offset)
        return os.path.abspath(value), None


DURATION: Final = _Duration()
SINCE: Final = _Since()
PLACE: Final = _Place()


def config_option(command: F) -> F:
    """Adds `-c/--config`, passed to the command as `config: Path`."""
    option = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, readable=False),  # The loader reports an unreadable file, with exit code 78.
        envvar="TUNERD_CONFIG",
        default=DEFAULT_CONFIG,
        show_default=True,
        show_envvar=True,
        metavar="FILE",
        help="Configuration file.",
    )
    return option(command)


def json_option(text: str) -> Callable[[F], F]:
    """Adds `--json`, passed to the command as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def load_or_exit(path: Path, resolve_secrets: bool = True) -> Config:
    """The configuration; its problems are printed on stderr, with exit code 78. With `resolve_secrets=False`, keys are
    neither read nor required."""
    # Imported here: `--help` and commands without a configuration should not pay for YAML.
    from tunerd.loading.config_file import load

    try:
        return load(path, os.environ, resolve_secrets=resolve_secrets)
    except ConfigError as exc:
        exit_bad_config(exc)


def exit_bad_config(exc: ConfigError) -> NoReturn:
    """Print the problems and their number, and exit with 78."""
    for problem in exc.problems:
        say(redact(str(problem)), err=True)
    count = len(exc.problems)
    say(f"{count} problem{'s' if count != 1 else ''} in the configuration", err=True)
    sys.exit(EXIT_BAD_CONFIG)
