"""`tunerd dismiss`: mark failed calls as handled, so that lists and alerts show only new ones."""

import sys

from tunerd.admin.api import DismissOrder
from tunerd.cli.admin import all_pages_of_ids, ask, fail
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_report
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd dismiss call-4711
  tunerd dismiss --reason unreadable --since 7d
  tunerd dismiss --place /var/spool/calls/half.json
\b
Dismissed calls stay in the ledger for `ledger.keep_failed`. `tunerd failed --dismissed` lists them, and
`tunerd retry CALL_ID` still sends them.
"""


@order_command(DismissOrder, "call_ids", "reasons", "sources", "since", "place", "everything", epilog=_EPILOG)
@json_option("Print the report as JSON.")
def command(target: Target, order: DismissOrder, as_json: bool) -> None:
    report, unknown = ask(target, lambda admin: all_pages_of_ids(admin, order))
    if as_json:
        say_json(report)
    else:
        draw_report(report, "dismissed")
    if unknown:
        fail(f"not in the ledger: {', '.join(unknown)}")
    if not report.done and not report.skipped:
        say("there is nothing to dismiss", err=as_json)
    sys.exit(1 if report.skipped else 0)
