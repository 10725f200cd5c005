"""`tunerd reload`: load the configuration file again in a running daemon. systemd's ExecReload= is this command."""

import asyncio

from tunerd.admin.api import OrderRefused, ReloadOrder
from tunerd.admin.protocol import ControlError
from tunerd.cli.admin import fail
from tunerd.cli.arguments import order_command
from tunerd.cli.options import exit_bad_config
from tunerd.cli.target import Target, read_known, running_daemon
from tunerd.cli.terminal import say
from tunerd.ops.mask import redact

_TEXT = """Load the configuration file of the running daemon again.

A changed configuration is loaded as a whole, without a restart. If it has a problem, the daemon keeps the previous one,
and this command lists every problem with file, line and column."""
_EPILOG = """\b
Examples:
  tunerd reload
  tunerd check --strict && tunerd reload
\b
Exit code 0: loaded; 1: refused, or no daemon is running.
"""


@order_command(ReloadOrder, text=_TEXT, epilog=_EPILOG)
def command(target: Target, order: ReloadOrder) -> None:
    known = read_known(target.config, is_reported=True)  # the daemon's answer reports the problems
    try:
        daemon = running_daemon(target, known)
        if daemon is None and known.ledger.path is None:
            exit_bad_config(known.error())
        if daemon is None:
            fail(f"no tunerd runs with the ledger {known.ledger.path}: there is nothing to reload")
        problems = asyncio.run(daemon.ask(order)).problems
    except (ControlError, OrderRefused) as exc:
        fail(str(exc))
    if not problems:
        say("reloaded")
        return
    for problem in problems:
        say(redact(problem), err=True)
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    fail(f"{count} in the configuration; the daemon keeps the previous one")
