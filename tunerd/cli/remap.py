"""`tunerd remap`: map unsent calls again, after a rule was corrected."""

import sys

from tunerd.admin.api import RemapOrder
from tunerd.cli.admin import all_pages, ask
from tunerd.cli.arguments import order_command
from tunerd.cli.calls_view import draw_report
from tunerd.cli.options import json_option
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd remap --state waiting
  tunerd remap --state waiting,due,failed --source agent
\b
Reload the daemon first, so that it uses the new rules (systemctl reload tunerd).
"""


@order_command(RemapOrder, "states", "sources", "since", epilog=_EPILOG)
@json_option("Print the report as JSON.")
def command(target: Target, order: RemapOrder, as_json: bool) -> None:
    report = ask(target, lambda admin: all_pages(admin, order))
    if as_json:
        say_json(report)
    else:
        draw_report(report, "mapped again")
        if not report.done and not report.failed and not report.skipped:
            say("there is nothing to map again")
    sys.exit(1 if report.failed or report.skipped else 0)
