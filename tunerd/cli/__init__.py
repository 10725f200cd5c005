"""The `tunerd` command: one file a command. A command's module is imported only when it is called, so that `tunerd run` does not
pay for what only others need.
"""

import importlib
import os
from typing import Any, Final

import click

from tunerd import __version__
from tunerd.visible import visible

_COMMANDS: Final = {
    "run": "Run the daemon; with --once, send what is there and exit.",
    "check": "Check the configuration; with --online, also try address and key.",
    "explain": "Show how the rules map files, field by field; nothing is sent.",
    "send": "Send the calls of one file now, and show Tuner's answer.",
    "status": "Show calls, pauses and sources, or the history of one call.",
    "top": "Show rates, durations, states and pauses as they change.",
    "tap": "Follow calls as they are admitted, matched, sent and failed.",
    "failed": "List failed calls by cause, with what to do.",
    "retry": "Send failed calls again, mapped with the current rules.",
    "remap": "Map unsent calls again, with the current rules.",
    "dismiss": "Mark failed calls as handled.",
    "forget": "Erase everything the ledger holds about a call.",
    "pause": "Stop sending to a destination.",
    "resume": "Resume sending to a destination.",
    "reload": "Load the configuration file again, without a restart.",
    "audit": "Compare the documents on disk with the ledger.",
    "health": "Ask whether the daemon is healthy, or ready; for container probes.",
    "drain": "Wait until everything due is sent, for shutdown hooks.",
    "ledger": "Move the ledger to another place (copy).",
    "sandbox": "Run a local stand-in for Tuner.",
    "demo": "Watch tunerd deliver sample calls; needs no account.",
    "schema": "Print the JSON Schema of the configuration.",
    "presets": "List the presets, or show one.",
    "init": "Write a configuration, based on real files if there are some.",
    "test": "Check the examples in the configuration.",
    "diff": "Show what a new configuration would change in real calls.",
    "completion": "Print the script that completes commands in a shell.",
    "install-service": "Make this tunerd a systemd service.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tunerd.cli.{cmd_name.replace('-', '_')}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            vars(exc)["message"] = visible(exc.message)  # click prints it, and it may contain a file name or an id
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunerd")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Deliver every finished voice call, with its recording, to Tuner."""
    if os.environ.get("NO_COLOR"):  # click does not look at it
        ctx.color = False
