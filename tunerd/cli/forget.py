"""`tunerd forget`: erase everything about one call, for a person who asks for it."""

import re
import sys
from pathlib import Path

import click

from tunerd.cli.daemon import Target, target_options
from tunerd.cli.drawing import draw_report, place
from tunerd.cli.office import ask, fail
from tunerd.cli.terminal import say, say_json
from tunerd.ops.answers import Report, StoryRow
from tunerd.ops.office import Operations
from tunerd.visible import visible

_EPILOG = """\b
Examples:
  tunerd forget call-4711
  tunerd forget --yes call-4711
\b
What Tuner has of the call, the file on disk, and whole copies of the ledger that were kept beside it (after damage,
before an upgrade) are not touched: the files are named, to be deleted by you.
"""


@click.command(epilog=_EPILOG)
@target_options
@click.argument("call_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def command(target: Target, call_id: str, yes: bool, as_json: bool) -> None:
    """Erase everything that the ledger has about a call: document, payload, recording, history. It cannot be undone."""

    async def stories(office: Operations) -> tuple[list[StoryRow], str]:
        return (await office.story(call_id))["stories"], (await office.status())["daemon"]["ledger"]

    found, ledger = ask(target, stories)
    copies = [f"may hold it too, a copy of the whole ledger: {visible(copy)}" for copy in _copies(Path(ledger))]
    if not found:
        for line in copies:
            say(line, err=True)
        fail(f"no call with the id {call_id!r} is in the ledger")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to ask; say --yes")
        states = ", ".join(sorted({story["call"]["state"] for story in found}))
        click.confirm(f"Erase everything about {visible(call_id)} ({states})?", abort=True)

    async def erase(office: Operations) -> Report:
        return await office.forget(call_id)

    report = ask(target, erase, again=True)
    if as_json:
        say_json(report)
    else:
        draw_report(report, "forgotten")
        if report["done"]:
            for where in sorted({place(origin["path"], origin["offset"]) for story in found for origin in story["origins"]}):
                say(f"still on disk, where it was read: {where}")
        for line in copies:
            say(line)
    sys.exit(1 if report["skipped"] else 0)


def _copies(ledger: Path) -> list[str]:
    """Files beside the ledger that hold what it held once: damaged ones that were set aside, and those of an upgrade."""
    is_copy = re.compile(re.escape(ledger.name) + r"\.(corrupt-.*|v\d+-\d+.*)", re.DOTALL).fullmatch
    try:
        return sorted(str(file) for file in ledger.parent.iterdir() if is_copy(file.name))
    except OSError:
        return []  # another user's: nothing can be said of it
