"""`tunerd resume`: resume sending to a destination."""

from tunerd.admin.api import ResumeOrder
from tunerd.cli.admin import ask
from tunerd.cli.arguments import order_command
from tunerd.cli.target import Target
from tunerd.cli.terminal import say

_EPILOG = """\b
Examples:
  tunerd resume
  tunerd resume api.usetuner.ai/42
"""


@order_command(ResumeOrder, "destination", epilog=_EPILOG)
def command(target: Target, order: ResumeOrder) -> None:
    names = ask(target, order).destinations
    for name in names:
        say(f"resumed: {name}")
    if not names:
        say("no destination is configured")
