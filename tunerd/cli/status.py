"""`tunerd status`: the state of the daemon and its calls, or the history of one call; with `--watch` again and again."""

import time
from typing import Final

import click

from tunerd.admin.answer_types import StatusDocument, StoryPage
from tunerd.admin.api import Admin, OrderRefused, StatusOrder, StoryOrder
from tunerd.admin.client import AdminClient
from tunerd.admin.phrases import instant
from tunerd.admin.protocol import ControlError
from tunerd.cli.admin import ask, daemon_or_exit, fail
from tunerd.cli.calls_view import draw_story
from tunerd.cli.options import DURATION, json_option
from tunerd.cli.screen import display
from tunerd.cli.status_view import draw_status
from tunerd.cli.target import Target, target_options
from tunerd.cli.terminal import say, say_json, say_json_line

_EPILOG = """\b
Examples:
  tunerd status
  tunerd status call-4711
  tunerd status --watch
  tunerd status --json | jq .calls.due.oldest_age_s
\b
--watch shows it again every --interval: on a terminal in place, until q or Ctrl-C; in a pipe as further text, or with
--json as one line of JSON each time.
\b
Exit code 1: the ledger holds no call with this id; with --watch also: no daemon runs.
"""
_INTERVAL_S: Final = 2.0


@click.command(epilog=_EPILOG)
@target_options
@json_option("Print the same document as /status.json (docs/status-json.md).")
@click.option("--watch", is_flag=True, help="Show it again and again, until q or Ctrl-C.")
@click.option("--interval", "interval_s", type=DURATION, metavar="DURATION", help="With --watch: how often (2s).")
@click.argument("call_id", required=False)
def command(target: Target, as_json: bool, watch: bool, interval_s: float | None, call_id: str | None) -> None:
    """Show calls by state, pauses with the next probe, sources, and the last failures.

    With CALL_ID: the history of this call, with the time, attempt, HTTP status and reason of every change."""
    if interval_s is not None and not watch:
        raise click.UsageError("--interval needs --watch")
    if watch:
        _watch(target, call_id, as_json, _INTERVAL_S if interval_s is None else interval_s)
    elif call_id is None:
        _show_status(ask(target, StatusOrder()), as_json)
    else:
        _show_story(target, call_id, as_json)


def _show_status(status: StatusDocument, as_json: bool) -> None:
    if as_json:
        say_json(status)
    else:
        draw_status(status)


def _show_story(target: Target, call_id: str, as_json: bool) -> None:
    async def story(admin: Admin) -> tuple[StoryPage, StatusDocument]:
        return await admin.ask(StoryOrder(call_id=call_id)), await admin.ask(StatusOrder())

    page, status = ask(target, story)
    if as_json:
        say_json(page)
    if not page.stories:
        fail(f"{_unknown(call_id)}; `tunerd explain FILE` shows the id that the rules give a file")
    if not as_json:
        _draw_stories(page, status)


def _draw_stories(page: StoryPage, status: StatusDocument) -> None:
    for number, one in enumerate(page.stories):
        if number:
            say()
        draw_story(one, status)


def _unknown(call_id: str) -> str:
    return f"the ledger holds no call with the id {call_id!r}"


def _watch(target: Target, call_id: str | None, as_json: bool, interval_s: float) -> None:
    daemon = daemon_or_exit(target, "there is nothing to watch")
    with display(in_place=not as_json) as shown:

        def frame() -> None:
            try:
                if as_json:
                    say_json_line(daemon.ask_now(StatusOrder() if call_id is None else StoryOrder(call_id=call_id)))
                else:
                    _draw(daemon, call_id)
            except (ControlError, OrderRefused) as exc:  # it is restarted, for example: it is waited for
                say(f"{instant(time.time())}  {exc}", err=not shown.is_screen)

        while True:
            shown.show(frame)
            if not (shown.is_screen or as_json):
                say()
            if shown.wait(interval_s):
                return


def _draw(daemon: AdminClient, call_id: str | None) -> None:
    status = daemon.ask_now(StatusOrder())
    say(instant(status.generated_at))
    if call_id is None:
        draw_status(status)
        return
    page = daemon.ask_now(StoryOrder(call_id=call_id))
    if not page.stories:
        say(f"{_unknown(call_id)} yet")
    _draw_stories(page, status)
