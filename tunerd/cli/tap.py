"""`tunerd tap`: follow what happens to calls, a line for each event."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import click

from tunerd.admin.activity_answers import TapRow
from tunerd.admin.api import OrderRefused, TapOrder
from tunerd.admin.client import AdminClient
from tunerd.admin.phrases import instant
from tunerd.admin.protocol import ControlError
from tunerd.call import State
from tunerd.cli.admin import daemon_or_exit, fail
from tunerd.cli.options import json_option
from tunerd.cli.screen import Display, display
from tunerd.cli.tap_view import draw_event, draw_missed
from tunerd.cli.target import Target, target_options
from tunerd.cli.terminal import say, say_json_line
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason
from tunerd.record import record

_EPILOG = """\b
Examples:
  tunerd tap
  tunerd tap --state failed --state sent --source agent
  tunerd tap call-4711
  tunerd tap --last 20
  tunerd tap --state failed --count 1
  tunerd tap --json | jq -c 'select(.took_s > 5)'
\b
It shows when calls are admitted, matched with their recording, retried, sent or failed, and when a destination or a
source is paused or resumed. Ctrl-C ends it with exit code 130.
\b
The daemon never waits for a slow reader. It remembers the newest 4,096 events; of older ones, a line says how many
were missed. If the daemon is restarted, the tap waits for it.
"""
_EVERY_S: Final = 0.2
_AGAIN_S: Final = 1.0
_STATES: Final = [state.value for state in State if state.is_open or state in (State.SENT, State.FAILED)]
_REASONS: Final = sorted({one.value for kind in (FailReason, RetryReason, PauseReason, IntakeReason) for one in kind})


@record
class MissedEvents:
    """Stands in the place of events that the daemon no longer remembers."""

    at: float
    what: str = "missed"
    count: int


@click.command(epilog=_EPILOG)
@target_options
@json_option("Print one JSON object per line (docs/status-json.md).")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only events of this source (repeatable).")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), metavar="STATE",
              help="Only calls that are in this state after the event (repeatable).")  # fmt: skip
@click.option("--reason", "reasons", multiple=True, type=click.Choice(_REASONS), metavar="REASON",
              help="Only failures, retries and pauses with this reason (repeatable).")  # fmt: skip
@click.option("--last", type=click.IntRange(min=0), default=0, metavar="N", help="Begin with the last N events before now.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.argument("call_ids", nargs=-1, metavar="[CALL_ID]...")
def command(target: Target, as_json: bool, last: int, count: int | None, **selected: Sequence[str]) -> None:
    """Follow calls as they are admitted, matched, retried, sent and failed: a line for each event.

    No line contains a transcript or a URL's query."""
    order = TapOrder(
        last=last,
        sources=frozenset(selected["sources"]),
        states=frozenset(map(State, selected["states"])),
        reasons=frozenset(selected["reasons"]),
        call_ids=frozenset(selected["call_ids"]),
    )
    daemon = daemon_or_exit(target, "there is nothing to follow")
    with display(in_place=False) as shown:
        for row in islice(_followed(daemon, order, shown, as_json), count):
            if as_json:
                say_json_line(row)
            else:
                draw_event(row)


def _followed(daemon: AdminClient, order: TapOrder, shown: Display, as_json: bool) -> Iterator[TapRow]:
    """Each event, without end. Says what was missed, and that a daemon that went away is waited for."""
    is_away = False
    while True:
        try:
            page = daemon.ask_now(order)
        except (ControlError, OrderRefused) as exc:
            if not order.stream:
                fail(str(exc))
            if not is_away:
                say(f"{instant(time.time())}  {exc}; the tap waits for it", err=True)
            is_away = True
            shown.wait(_AGAIN_S)
            continue
        is_away = False
        if page.missed and as_json:
            say_json_line(MissedEvents(at=time.time(), count=page.missed))
        elif page.missed:
            draw_missed(page.missed)
        yield from page.events
        order = replace(order, after=page.next_after, stream=page.stream)
        if not page.is_more:
            shown.wait(_EVERY_S)
