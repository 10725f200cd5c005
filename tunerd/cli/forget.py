"""`tunerd forget`: erase everything about one call, for a person who asks for it."""

import re
import sys
from pathlib import Path

import click

from tunerd.admin.answer_types import StoryRow
from tunerd.admin.api import Admin, ForgetOrder, StatusOrder, StoryOrder
from tunerd.admin.phrases import place
from tunerd.cli.admin import ask, fail
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_report
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json
from tunerd.visible import visible

_EPILOG = """\b
Examples:
  tunerd forget call-4711
  tunerd forget --yes call-4711
\b
Tuner's copy of the call, the file on disk, and whole copies of the ledger beside it (kept after damage or
before an upgrade) are not touched. The files are named, so that you can delete them.
"""


@order_command(ForgetOrder, "call_id", epilog=_EPILOG)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option("Print the report as JSON.")
def command(target: Target, order: ForgetOrder, yes: bool, as_json: bool) -> None:
    async def stories(admin: Admin) -> tuple[list[StoryRow], str]:
        page, status = await admin.ask(StoryOrder(call_id=order.call_id)), await admin.ask(StatusOrder())
        return list(page.stories), status.daemon.ledger

    found, ledger = ask(target, stories)
    copies = [f"a copy of the whole ledger may contain it, too: {visible(copy)}" for copy in _copies(Path(ledger))]
    if not found:
        for line in copies:
            say(line, err=True)
        fail(f"the ledger holds no call with the id {order.call_id!r}")
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask for confirmation; use --yes")
        states = ", ".join(sorted({story.call.state for story in found}))
        click.confirm(f"Erase everything about {visible(order.call_id)} ({states})?", abort=True)
    report = ask(target, order, again=True)
    if as_json:
        say_json(report)
    else:
        draw_report(report, "forgotten")
        if report.done:
            for where in sorted({place(origin.path, origin.offset) for story in found for origin in story.origins}):
                say(f"its file is still on disk: {where}")
        for line in copies:
            say(line)
    sys.exit(1 if report.skipped else 0)


def _copies(ledger: Path) -> list[str]:
    """Files beside the ledger with its earlier content: damaged ones that were set aside, and those of an upgrade."""
    is_copy = re.compile(re.escape(ledger.name) + r"\.(corrupt-.*|v\d+-\d+.*)", re.DOTALL).fullmatch
    try:
        return sorted(str(file) for file in ledger.parent.iterdir() if is_copy(file.name))
    except OSError:
        return []  # another user's directory
