"""`tunerd status`: the state of the daemon and its calls, or the history of one call."""

import click

from tunerd.admin.answer_types import StatusDocument, StoryPage
from tunerd.admin.api import Admin, StatusOrder, StoryOrder
from tunerd.cli.admin import ask, fail
from tunerd.cli.calls_view import draw_story
from tunerd.cli.options import json_option
from tunerd.cli.status_view import draw_status
from tunerd.cli.target import Target, target_options
from tunerd.cli.terminal import say, say_json

_EPILOG = """\b
Examples:
  tunerd status
  tunerd status call-4711
  tunerd status --json | jq .calls.due.oldest_age_s
\b
Exit code 1: the ledger holds no call with this id.
"""


@click.command(epilog=_EPILOG)
@target_options
@json_option("Print the same document as /status.json (docs/status-json.md).")
@click.argument("call_id", required=False)
def command(target: Target, as_json: bool, call_id: str | None) -> None:
    """Show calls by state, pauses with the next probe, sources, and the last failures.

    With CALL_ID: the history of this call, with the time, attempt, HTTP status and reason of every change."""
    if call_id is None:
        status = ask(target, StatusOrder())
        if as_json:
            say_json(status)
        else:
            draw_status(status)
        return

    async def story(admin: Admin) -> tuple[StoryPage, StatusDocument]:
        return await admin.ask(StoryOrder(call_id=call_id)), await admin.ask(StatusOrder())

    page, status = ask(target, story)
    if as_json:
        say_json(page)
    if not page.stories:
        fail(f"the ledger holds no call with the id {call_id!r}; `tunerd explain FILE` shows the id that the rules give a file")
    if not as_json:
        for number, one in enumerate(page.stories):
            if number:
                say()
            draw_story(one, status)
