"""`tunerd remap`: map calls again that are not sent yet, after a rule was mended."""

import sys
from collections.abc import Sequence

import click

from tunerd.call import State
from tunerd.cli.daemon import Target, target_options
from tunerd.cli.drawing import draw_report
from tunerd.cli.office import ask, order, since_option
from tunerd.cli.terminal import say, say_json
from tunerd.ledger import Filter
from tunerd.ops.answers import Report
from tunerd.ops.desk import Choice
from tunerd.ops.office import Operations

_STATES = (State.WAITING, State.DUE, State.FAILED)

_EPILOG = """\b
Examples:
  tunerd remap --state waiting
  tunerd remap --state waiting,due,failed --source agent
\b
The daemon must have reloaded the new rules before (systemctl reload tunerd). A call that is being
sent, or is sent, stays as it is.
"""


def _states(ctx: click.Context, param: click.Parameter, value: str) -> frozenset[State]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or any(name not in _STATES for name in names):
        raise click.BadParameter(f"write one or more of {','.join(_STATES)}")
    return frozenset(State(name) for name in names)


@click.command(epilog=_EPILOG)
@target_options
@click.option("--state", "states", required=True, callback=_states, metavar="STATE[,STATE]...", help="waiting, due and failed.")
@click.option("--source", "sources", multiple=True, help="Only of this source.")
@click.option("--since", callback=since_option, metavar="WHEN", help="Only those read since then: 2h, 7d, 2026-11-22.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def command(target: Target, states: frozenset[State], sources: Sequence[str], since: float | None, as_json: bool) -> None:
    """Map calls again, with the rules that are loaded now, that were admitted under older ones and are not sent yet."""
    choice = Choice(where=Filter(states=states, sources=frozenset(sources), since=since))

    async def again(office: Operations) -> Report:
        return await order(office.remap, choice)

    report = ask(target, again)
    if as_json:
        say_json(report)
    else:
        draw_report(report, "mapped again")
        if not report["done"] and not report["failed"] and not report["skipped"]:
            say("nothing to map again")
    sys.exit(1 if report["failed"] or report["skipped"] else 0)
