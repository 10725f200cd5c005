"""`tunerd top`: what the daemon does now, again and again."""

import time
from typing import Final

import click

from tunerd.admin.activity_answers import ActivityDocument
from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.api import ActivityOrder, OrderRefused, StatusOrder
from tunerd.admin.client import AdminClient
from tunerd.admin.phrases import instant
from tunerd.admin.protocol import ControlError
from tunerd.cli.admin import daemon_or_exit
from tunerd.cli.options import DURATION
from tunerd.cli.rates import Rates
from tunerd.cli.screen import Display, display
from tunerd.cli.target import Target, target_options
from tunerd.cli.terminal import say
from tunerd.cli.top_view import draw_line, draw_top, totals

_EPILOG = """\b
Examples:
  tunerd top
  tunerd top --interval 10s | tee -a /tmp/rates
  tunerd top --count 1
\b
On a terminal it fills the screen until q or Ctrl-C. In a pipe it prints one line every --interval. Rates on the
screen are those of the last 10 s, in a pipe those since the line before. Times are those of the calls and uploads
that ended in the last 60 s.
"""
_SCREEN_WINDOW_S: Final = 10.0
_LEAST_INTERVAL_S: Final = 0.1


@click.command(epilog=_EPILOG)
@target_options
@click.option("--interval", "interval_s", type=DURATION, default="1s", show_default=True, metavar="DURATION", help="How often.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N lines, or pictures.")
def command(target: Target, interval_s: float, count: int | None) -> None:
    """Show what the daemon does now: rates, how long calls and uploads take, calls by state, pauses."""
    daemon = daemon_or_exit(target, "there is nothing to show")
    with display() as shown:
        _Top(daemon, shown, max(_LEAST_INTERVAL_S, interval_s)).run(count)


class _Top:
    def __init__(self, daemon: AdminClient, shown: Display, interval_s: float) -> None:
        self._daemon = daemon
        self._shown = shown
        self._interval_s = interval_s
        self._rates = Rates(_SCREEN_WINDOW_S if shown.is_screen else 0.0)

    def run(self, count: int | None) -> None:
        """Until `count` pictures or lines, or until the user ends it. A line needs the counts of an interval before it."""
        if not self._shown.is_screen:
            self._look()
            self._shown.wait(self._interval_s)
        while True:
            self._shown.show(self._draw)
            count = None if count is None else count - 1
            if count == 0 or self._shown.wait(self._interval_s):
                return

    def _draw(self) -> None:
        seen = self._look()
        if seen is not None:
            status, activity = seen
            (draw_top if self._shown.is_screen else draw_line)(status, activity, self._rates)

    def _look(self) -> tuple[StatusDocument, ActivityDocument] | None:
        """None: the daemon does not answer. It is being restarted, for example, and top waits for it."""
        try:
            status, activity = self._daemon.ask_now(StatusOrder()), self._daemon.ask_now(ActivityOrder())
        except (ControlError, OrderRefused) as exc:
            say(f"{instant(time.time())}  {exc}", err=not self._shown.is_screen)
            return None
        self._rates.add(activity.at, totals(activity))
        return status, activity
