"""`tunerd resume`: go on sending to a destination."""

from collections.abc import Sequence

import click

from tunerd.cli.daemon import Target, target_options
from tunerd.cli.office import ask
from tunerd.cli.terminal import say
from tunerd.ops.office import Operations

_EPILOG = """\b
Examples:
  tunerd resume
  tunerd resume api.usetuner.ai/42
"""


@click.command(epilog=_EPILOG)
@target_options
@click.argument("destination", required=False)
def command(target: Target, destination: str | None) -> None:
    """Go on sending to a destination (without DESTINATION: to all).

    Ends every pause, whatever its reason; a Retry-After of the server still counts."""

    async def do(office: Operations) -> Sequence[str]:
        return await office.resume(destination)

    names = ask(target, do)
    for name in names:
        say(f"goes on: {name}")
    if not names:
        say("there is no destination")
