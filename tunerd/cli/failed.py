"""`tunerd failed`: which calls failed, why, and what to do about each."""

import time
from dataclasses import replace
from typing import Final

import click

from tunerd.admin.answer_types import VERSION, CallRow
from tunerd.admin.api import Admin, CallsOrder
from tunerd.cli.admin import ask, every_call
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_failed
from tunerd.cli.causes import Causes
from tunerd.cli.failed_view import draw_causes
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd failed
  tunerd failed --reason rejected --since 2h
  tunerd failed --limit 0
  tunerd failed --json | jq -r '.calls[].path'
"""
_PAGE: Final = 1000
_LISTED: Final = 50
"""Dismissed calls that are listed without `--limit`."""


@order_command(CallsOrder, "reasons", "sources", "since", "dismissed", name="failed", epilog=_EPILOG,
               text="List the failed calls, grouped by cause: how many, why, and what to do.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=0), metavar="N",
              help="List the N newest calls one by one (0 = all), each with its file.")  # fmt: skip
@json_option("Print all of them as JSON (docs/status-json.md).")
def command(target: Target, order: CallsOrder, limit: int | None, as_json: bool) -> None:
    if as_json:
        say_json({"version": VERSION, "calls": ask(target, lambda admin: _every(admin, order))})
    elif limit is None and not order.dismissed:
        _grouped(target, order)
    else:
        _listed(target, order, _LISTED if limit is None else limit)


async def _every(admin: Admin, order: CallsOrder) -> list[CallRow]:
    return [row async for row in every_call(admin, replace(order, limit=_PAGE))]


def _grouped(target: Target, order: CallsOrder) -> None:
    async def found(admin: Admin) -> Causes:
        causes = Causes()
        async for row in every_call(admin, replace(order, newest=True, limit=_PAGE)):
            causes.add(row)
        return causes

    causes = ask(target, found)
    if causes.largest_first():
        draw_causes(causes, time.time(), order.since)
    else:
        _say_that_there_is_none(order)


def _listed(target: Target, order: CallsOrder, limit: int) -> None:
    async def found(admin: Admin) -> list[CallRow]:
        if not limit:
            return await _every(admin, order)
        rows: list[CallRow] = []
        async for row in every_call(admin, replace(order, newest=True, limit=min(limit + 1, _PAGE))):
            rows.append(row)
            if len(rows) > limit:  # one more than is shown, to know whether there are more
                break
        return rows

    calls = ask(target, found)
    if not calls:
        _say_that_there_is_none(order)
        return
    draw_failed(calls[:limit] if limit else calls, time.time())
    if limit and len(calls) > limit:
        say()
        say(f"Only the {limit} newest are shown; --limit 0 shows all, --reason selects some.")


def _say_that_there_is_none(order: CallsOrder) -> None:
    is_narrowed = order.reasons or order.sources or order.since is not None or order.dismissed
    say("no call matches" if is_narrowed else "no call has failed")
