"""`tunerd dismiss`: mark failed calls as handled, so that lists and alerts show what is new."""

import sys
from collections.abc import Sequence

import click

from tunerd.call import State
from tunerd.cli.daemon import Target, target_options
from tunerd.cli.drawing import draw_report
from tunerd.cli.office import ask, fail, order, place_option, since_option, unknown_ids
from tunerd.cli.terminal import say, say_json
from tunerd.ledger import Filter
from tunerd.ops.answers import Report
from tunerd.ops.desk import Choice
from tunerd.ops.office import Operations
from tunerd.outcome import FailReason

_EPILOG = """\b
Examples:
  tunerd dismiss call-4711
  tunerd dismiss --reason unreadable --since 7d
  tunerd dismiss --place /var/spool/calls/half.json
\b
They stay in the ledger until keep_failed is over: `tunerd failed --dismissed` lists them, `tunerd retry CALL_ID`
still sends them.
"""


@click.command(epilog=_EPILOG)
@target_options
@click.argument("call_ids", nargs=-1, metavar="[CALL_ID]...")
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([r.value for r in FailReason]),
    metavar="REASON",
    help="All that failed so.",
)
@click.option("--source", "sources", multiple=True, help="All of this source that failed.")
@click.option(
    "--since", callback=since_option, metavar="WHEN", help="All that failed and were read since then: 2h, 7d, 2026-11-22."
)
@click.option("--place", callback=place_option, metavar="PATH[@OFFSET]", help="What failed to be read there.")
@click.option("--all", "everything", is_flag=True, help="All that failed.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def command(
    target: Target,
    call_ids: Sequence[str],
    reasons: Sequence[str],
    sources: Sequence[str],
    since: float | None,
    place: tuple[str, int | None] | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Mark failed calls as handled: no longer listed, nor counted as failed."""
    if not (call_ids or reasons or sources or since or place or everything):
        raise click.UsageError("say which: CALL_ID..., --reason, --source, --since, --place or --all")
    if call_ids and (reasons or sources or place or everything or since):
        raise click.UsageError("either CALL_ID... or a selection, not both")
    where = Filter(
        states=frozenset() if call_ids else frozenset({State.FAILED}),
        reasons=frozenset(reasons),
        sources=frozenset(sources),
        call_ids=frozenset(call_ids),
        since=since,
    )

    async def away(office: Operations) -> tuple[Report, list[str]]:
        unknown = await unknown_ids(office, call_ids)
        return await order(office.dismiss, Choice(where=where, place=place)), unknown

    report, unknown = ask(target, away)
    if as_json:
        say_json(report)
    else:
        draw_report(report, "dismissed")
    if unknown:
        fail(f"not in the ledger: {', '.join(unknown)}")
    if not report["done"] and not report["skipped"]:
        say("nothing to dismiss", err=as_json)
    sys.exit(1 if report["skipped"] else 0)
