"""`tunerd failed`: which calls failed, why, and what to do about each."""

import time
from collections.abc import Sequence

import click

from tunerd.call import State
from tunerd.cli.daemon import Target, target_options
from tunerd.cli.drawing import draw_failed
from tunerd.cli.office import ask, every_call, since_option
from tunerd.cli.terminal import say, say_json
from tunerd.ledger import Filter
from tunerd.ops.answers import VERSION, CallRow
from tunerd.ops.desk import Choice
from tunerd.ops.office import Operations
from tunerd.outcome import FailReason

_EPILOG = """\b
Examples:
  tunerd failed
  tunerd failed --reason rejected --since 2h
  tunerd failed --json | jq -r '.calls[].path'
"""


@click.command(epilog=_EPILOG)
@target_options
@click.option(
    "--reason", "reasons", multiple=True, type=click.Choice([r.value for r in FailReason]), metavar="REASON", help="Only these."
)
@click.option("--source", "sources", multiple=True, help="Only of this source.")
@click.option("--since", callback=since_option, metavar="WHEN", help="Read since then: 2h, 7d, 2026-11-22.")
@click.option("--dismissed", is_flag=True, help="Those that were dismissed, instead.")
@click.option("--limit", type=click.IntRange(min=0), default=50, show_default=True, help="The newest so many; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="All of them as JSON (docs/status-json.md).")
def command(
    target: Target,
    reasons: Sequence[str],
    sources: Sequence[str],
    since: float | None,
    dismissed: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the calls that failed: which, why, from where, and what to do."""
    choice = Choice(
        where=Filter(
            states=frozenset({State.FAILED}),
            reasons=frozenset(reasons),
            sources=frozenset(sources),
            since=since,
            dismissed=dismissed,
        )
    )

    async def found(office: Operations) -> list[CallRow]:
        if as_json or not limit:
            return [row async for row in every_call(office, choice)]
        rows: list[CallRow] = []
        async for row in every_call(office, choice, newest=True, page_rows=min(limit + 1, 1000)):
            rows.append(row)
            if len(rows) > limit:  # one more than is shown, to know whether there are more
                break
        return rows

    calls = ask(target, found)
    if as_json:
        say_json({"version": VERSION, "calls": calls})
        return
    if not calls:
        say("nothing has failed" if not (reasons or sources or since or dismissed) else "nothing of that kind")
        return
    draw_failed(calls[:limit] if limit else calls, time.time())
    if limit and len(calls) > limit:
        say()
        say(f"These are the newest {limit}; there are more (--limit 0 shows all, --reason narrows).")
