"""`tunerd retry`: send failed calls again, mapped with the current rules."""

import sys
from dataclasses import replace

from tunerd.admin.api import RetryOrder
from tunerd.cli.admin import all_pages_of_ids, ask, fail
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_report
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd retry call-4711 call-4712
  tunerd retry --reason rejected --since 2h
  tunerd retry --place /var/spool/calls/agent.ndjson@81920
  tunerd retry --audio
  tunerd retry call-4711 --recording https://audio.example/4711.wav
  tunerd retry --all
\b
Exit code 1: some calls could not be sent again; each is listed with its reason.
"""


@order_command(RetryOrder, "call_ids", "reasons", "sources", "since", "place", "audio", "recording", "everything", epilog=_EPILOG)
@json_option("Print the report as JSON.")
def command(target: Target, order: RetryOrder, as_json: bool) -> None:
    if order.call_ids or order.path is not None:
        order = replace(order, dismissed=None)

    report, unknown = ask(target, lambda admin: all_pages_of_ids(admin, order))
    if as_json:
        say_json(report)
    else:
        draw_report(report, "to be sent again")
    if unknown:
        fail(f"not in the ledger: {', '.join(unknown)}")
    if not any(report.done.values()) and not report.failed and not report.skipped:
        if order.path is not None:
            fail("no failed call was read from this place; `tunerd failed` shows the places")
        say("there is nothing to send again", err=as_json)
    sys.exit(1 if report.failed or report.skipped else 0)
