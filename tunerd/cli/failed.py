"""`tunerd failed`: which calls failed, why, and what to do about each."""

import time
from dataclasses import replace

import click

from tunerd.admin.answer_types import VERSION, CallRow
from tunerd.admin.api import Admin, CallsOrder
from tunerd.cli.admin import ask, every_call
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_failed
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd failed
  tunerd failed --reason rejected --since 2h
  tunerd failed --json | jq -r '.calls[].path'
"""
_PAGE: int = 1000


@order_command(CallsOrder, "reasons", "sources", "since", "dismissed", name="failed", epilog=_EPILOG,
               text="List the failed calls: each with its reason, its file, and what to do.")  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="Show the N newest (0 = all).", metavar="N"
)
@json_option("Print all of them as JSON (docs/status-json.md).")
def command(target: Target, order: CallsOrder, limit: int, as_json: bool) -> None:
    async def found(admin: Admin) -> list[CallRow]:
        if as_json or not limit:
            return [row async for row in every_call(admin, replace(order, limit=_PAGE))]
        rows: list[CallRow] = []
        async for row in every_call(admin, replace(order, newest=True, limit=min(limit + 1, _PAGE))):
            rows.append(row)
            if len(rows) > limit:  # one more than is shown, to know whether there are more
                break
        return rows

    calls = ask(target, found)
    if as_json:
        say_json({"version": VERSION, "calls": calls})
        return
    if not calls:
        is_narrowed = order.reasons or order.sources or order.since is not None or order.dismissed
        say("no call matches" if is_narrowed else "no call has failed")
        return
    draw_failed(calls[:limit] if limit else calls, time.time())
    if limit and len(calls) > limit:
        say()
        say(f"Only the {limit} newest are shown; --limit 0 shows all, --reason selects some.")
