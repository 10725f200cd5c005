"""`tunerd ledger copy`: move a ledger to another place, such as from a file to PostgreSQL."""

import asyncio
import os
from pathlib import Path

import click

from tunerd.cli.admin import fail
from tunerd.cli.terminal import say
from tunerd.config.text_forms import Unusable, bare_server, parse_instance, parse_ledger_url
from tunerd.ledger import LedgerRefused

_EPILOG = """\b
Examples:
  tunerd ledger copy sqlite:///var/lib/tunerd/ledger.db postgresql://tunerd@db/tunerd --instance web-1
  tunerd ledger copy postgresql://tunerd@db/tunerd sqlite:///var/lib/tunerd/ledger.db --instance web-1
\b
Stop every tunerd that uses FROM or TO before. The copy is whole or not there: if it was broken off, type the same
command again. A finished copy marks FROM as moved, and no tunerd opens it any more. Passwords come from PGPASSFILE,
PGPASSWORD or the URL.
\b
Exit code 1: the copy cannot be made; 75: a tunerd uses FROM or TO; 78: a URL, or the server, cannot be used.
"""


@click.command("ledger", epilog=_EPILOG)
@click.argument("action", metavar="copy", type=click.Choice(["copy"]))
@click.argument("from_url", metavar="FROM")
@click.argument("to_url", metavar="TO")
@click.option(
    "--instance",
    required=True,
    metavar="NAME",
    help="The tunerd whose files the ledger in a file knows: its name in PostgreSQL.",
)
def command(action: str, from_url: str, to_url: str, instance: str) -> None:
    """Copy the ledger FROM to the place TO, and mark FROM as moved.

    FROM and TO are URLs as in `ledger.url`."""
    source, target = _place(from_url, "FROM"), _place(to_url, "TO")
    try:
        parse_instance(instance)
    except ValueError as exc:
        raise click.UsageError(f"--instance: {exc}") from None
    if source == target:
        raise click.UsageError("FROM and TO are the same place")
    from tunerd.copy_ledger import copy_to

    try:
        counts = asyncio.run(copy_to(source, target, instance))
    except LedgerRefused as exc:
        fail(str(exc), exc.exit_code)
    if counts:
        calls, recordings = counts.get("call", 0), counts.get("recording", 0)
        say(f"copied {calls:,} calls and {recordings:,} recordings, {sum(counts.values()):,} rows in all")
    say(f"moved: {_shown(source)} is not opened any more; now set ledger.url to {_shown(target)}")
    spool = Path(f"{source}.audio")
    if source.startswith("/") and spool.is_dir() and os.listdir(spool):
        say(f"audio that came inside documents is in {spool}: move it to {instance}.audio in ledger.directory (/var/lib/tunerd)")


def _place(url: str, name: str) -> str:
    try:
        return parse_ledger_url(url)
    except (Unusable, ValueError) as exc:
        raise click.UsageError(f"{name}: {exc}") from None


def _shown(place: str) -> str:
    return f"sqlite://{place}" if place.startswith("/") else bare_server(place)
