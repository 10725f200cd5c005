"""`tunerd status`: where the calls stand, or the whole story of one."""

import click

from tunerd.cli.daemon import Target, target_options
from tunerd.cli.drawing import draw_status, draw_story
from tunerd.cli.office import ask, fail
from tunerd.cli.terminal import say, say_json
from tunerd.ops.answers import StatusDocument, StoryPage
from tunerd.ops.office import Operations

_EPILOG = """\b
Examples:
  tunerd status
  tunerd status call-4711
  tunerd status --json | jq .calls.due.oldest_age_s
\b
Exit code 1: no call with this id.
"""


@click.command(epilog=_EPILOG)
@target_options
@click.option("--json", "as_json", is_flag=True, help="The same document as /status.json (docs/status-json.md).")
@click.argument("call_id", required=False)
def command(target: Target, as_json: bool, call_id: str | None) -> None:
    """Show where the calls stand: states, oldest, pauses and next probe, last failures. With CALL_ID: its whole story,
    every change with its time, attempt, HTTP status and reason."""
    if call_id is None:
        status = ask(target, lambda office: office.status())
        if as_json:
            say_json(status)
        else:
            draw_status(status)
        return

    async def story(office: Operations) -> tuple[StoryPage, StatusDocument]:
        return await office.story(call_id), await office.status()

    page, status = ask(target, story)
    if as_json:
        say_json(page)
    if not page["stories"]:
        fail(f"no call with the id {call_id!r} is in the ledger; `tunerd explain FILE` shows the id that the rules give")
    if not as_json:
        for number, one in enumerate(page["stories"]):
            if number:
                say()
            draw_story(one, status)
