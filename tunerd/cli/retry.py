"""`tunerd retry`: send failed calls again, mapped with today's rules."""

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
  tunerd retry call-4711 call-4712
  tunerd retry --reason rejected --since 2h
  tunerd retry --place /var/spool/calls/agent.ndjson@81920
  tunerd retry --all
\b
Exit code 1: some could not be sent again; each is listed with its reason.
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
@click.option(
    "--place", callback=place_option, metavar="PATH[@OFFSET]", help="What failed to be read there (see `tunerd failed`)."
)
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
    """Send failed calls again: their stored documents are mapped with the rules as they are now; what could not be
    read is read again from its place."""
    if not (call_ids or reasons or sources or since or place or everything):
        raise click.UsageError("say which: CALL_ID..., --reason, --source, --since, --place or --all")
    if call_ids and (reasons or sources or place or everything or since):
        raise click.UsageError("either CALL_ID... or a selection, not both")
    states = frozenset[State]() if call_ids else frozenset({State.FAILED})
    where = Filter(
        states=states,
        reasons=frozenset(reasons),
        sources=frozenset(sources),
        call_ids=frozenset(call_ids),
        since=since,
        dismissed=None if call_ids or place else False,
    )

    async def again(office: Operations) -> tuple[Report, list[str]]:
        unknown = await unknown_ids(office, call_ids)
        return await order(office.retry, Choice(where=where, place=place)), unknown

    report, unknown = ask(target, again)
    if as_json:
        say_json(report)
    else:
        draw_report(report, "to be sent again")
    if unknown:
        fail(f"not in the ledger: {', '.join(unknown)}")
    if not any(report["done"].values()) and not report["failed"] and not report["skipped"]:
        if place:
            fail("nothing that failed comes from there; `tunerd failed` shows the places")
        say("nothing to send again")
    sys.exit(1 if report["failed"] or report["skipped"] else 0)
