"""`tunerd pause`: stop sending to a destination."""

from collections.abc import Sequence

import click

from tunerd.cli.daemon import Target, target_options
from tunerd.cli.office import ask
from tunerd.cli.terminal import say
from tunerd.ops.office import Operations

_EPILOG = """\b
Examples:
  tunerd pause
  tunerd pause api.usetuner.ai/42
"""


@click.command(epilog=_EPILOG)
@target_options
@click.argument("destination", required=False)
def command(target: Target, destination: str | None) -> None:
    """Stop sending to a destination (without DESTINATION: to all).

    Nothing is lost meanwhile: files are read, calls wait in the ledger. A restart does not end it."""

    async def do(office: Operations) -> Sequence[str]:
        return await office.pause(destination)

    names = ask(target, do)
    for name in names:
        say(f"paused: {name}")
    if not names:
        say("there is no destination")
