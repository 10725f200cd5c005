"""`tunerd pause`: stop sending to a destination."""

from collections.abc import Sequence
from pathlib import Path

import click

from tunerd.cli.office import ask
from tunerd.cli.options import config_option
from tunerd.ops.office import Operations

_EPILOG = """\b
Examples:
  tunerd pause
  tunerd pause api.usetuner.ai/42
"""


@click.command(epilog=_EPILOG)
@config_option
@click.argument("destination", required=False)
def command(config: Path, destination: str | None) -> None:
    """Stop sending to a destination (without DESTINATION: to all).

    Nothing is lost meanwhile: files are read, calls wait in the ledger. A restart does not end it."""

    async def do(office: Operations) -> Sequence[str]:
        return await office.pause(destination)

    names = ask(config, do)
    for name in names:
        click.echo(f"paused: {name}")
    if not names:
        click.echo("there is no destination")
