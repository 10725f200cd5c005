"""The `tunerd` command: one file a command. A command's module is imported only when it is called, so that
`tunerd run` does not pay for what only others need.
"""

import importlib
import os
from typing import Any, Final

import click

from tunerd import __version__
from tunerd.visible import visible

_COMMANDS: Final = {
    "run": "Run the daemon (or, with --once, send what is there and end).",
    "check": "Check the configuration; --online also tries the key.",
    "explain": "Show what the rules make of files, field by field; sends nothing.",
    "send": "Send one file now and show the answer.",
    "status": "Show where the calls stand, or the whole story of one.",
    "failed": "List the calls that failed, and why.",
    "retry": "Send failed calls again, mapped with today's rules.",
    "remap": "Map calls again that are not sent yet.",
    "dismiss": "Mark failed calls as handled.",
    "forget": "Erase everything about a call.",
    "pause": "Stop sending to a destination.",
    "resume": "Go on sending to a destination.",
    "audit": "Compare the documents on disk with the ledger.",
    "drain": "Wait until everything due is sent (for container shutdown hooks).",
    "sandbox": "Run a stand-in for Tuner on this machine.",
    "demo": "Watch tunerd work on sample calls; needs no account.",
    "schema": "Print the JSON Schema of the configuration.",
    "presets": "List the presets, or show one.",
    "init": "Write a configuration, from real files if there are some.",
    "test": "Check the examples of the configuration.",
    "diff": "Show what another configuration would change in the bodies of real calls.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tunerd.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            vars(exc)["message"] = visible(exc.message)  # click prints it; a file name or an id may stand in it
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunerd")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Get every finished voice call, with its recording, into Tuner."""
    if os.environ.get("NO_COLOR"):  # click does not look at it
        ctx.color = False
