"""`tunerd forget`: erase everything about one call, for a person who asks for it."""

import sys
from pathlib import Path

import click

from tunerd.cli.drawing import draw_report, place
from tunerd.cli.office import ask, fail
from tunerd.cli.options import config_option
from tunerd.ops.answers import Report, StoryRow
from tunerd.ops.encoding import encoded
from tunerd.ops.office import Operations

_EPILOG = """\b
Examples:
  tunerd forget call-4711
  tunerd forget --yes call-4711
\b
What Tuner has of the call, and the file on disk, are not touched: they are named, to be deleted by you.
"""


@click.command(epilog=_EPILOG)
@config_option
@click.argument("call_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def command(config: Path, call_id: str, yes: bool, as_json: bool) -> None:
    """Erase everything that the ledger has about a call: document, payload, recording, history. It cannot be undone."""

    async def stories(office: Operations) -> list[StoryRow]:
        return (await office.story(call_id))["stories"]

    found = ask(config, stories)
    if not found:
        fail(f"no call with the id {call_id!r} is in the ledger")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to ask; say --yes")
        states = ", ".join(sorted({story["call"]["state"] for story in found}))
        click.confirm(f"Erase everything about {call_id} ({states})?", abort=True)

    async def erase(office: Operations) -> Report:
        return await office.forget(call_id)

    report = ask(config, erase)
    if as_json:
        click.echo(encoded(report, indent=True))
    else:
        draw_report(report, "forgotten")
        if report["done"]:
            for where in sorted({place(origin["path"], origin["offset"]) for story in found for origin in story["origins"]}):
                click.echo(f"still on disk, where it was read: {where}")
    sys.exit(1 if report["skipped"] else 0)
