"""`tunerd health`: ask the daemon whether it is healthy, or ready. Only `-c`, `--help` and mistakes come here: __main__.py
answers every other command line without click.
"""

import os
from pathlib import Path

import click

from tunerd.admin.healthcheck import Unhealthy, check
from tunerd.cli.admin import FAILURE, daemon_or_exit, fail
from tunerd.cli.options import FILE
from tunerd.cli.target import Target
from tunerd.cli.terminal import say

_EPILOG = """\b
Examples:
  tunerd health
  tunerd health --ready --http 127.0.0.1:9464
\b
  HEALTHCHECK CMD ["tunerd", "health"]
\b
Exit code 0: healthy (or ready); 1: not, or no daemon answers within 8 s. An outage of Tuner is no reason to be
unhealthy.
"""


@click.command(epilog=_EPILOG)
@click.option("-c", "--config", type=FILE, metavar="FILE",
              help="Ask the daemon that runs with this configuration; this reads the file, and takes longer.")  # fmt: skip
@click.option("--ready", is_flag=True, help="Ask whether the ledger is open and tunerd is not stopping.")
@click.option("--socket", "socket_file", envvar="TUNERD_SOCKET", show_envvar=True, metavar="FILE", default="",
              help="Control socket of the daemon, if several daemons run here.")  # fmt: skip
@click.option(
    "--http", metavar="HOST:PORT", default="", help="Ask at this address instead, for a daemon without a control socket."
)
def command(config: Path | None, ready: bool, socket_file: str, http: str) -> None:
    """Ask the running daemon whether it makes progress; with --ready, whether it is ready.

    Made for health checks and exec probes: without -c it takes little time and memory, and reads no configuration."""
    if config is not None and not (socket_file or http):
        socket_file = str(daemon_or_exit(Target(config=config), "there is nothing to ask").path)
    try:
        say(check(socket_file=socket_file, http=http, ready=ready, env=os.environ))
    except Unhealthy as exc:
        fail(str(exc), FAILURE)
