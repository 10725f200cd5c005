"""`tunerd pause`: stop sending to a destination."""

from tunerd.admin.api import PauseOrder
from tunerd.cli.admin import ask
from tunerd.cli.arguments import order_command
from tunerd.cli.target import Target
from tunerd.cli.terminal import say

_EPILOG = """\b
Examples:
  tunerd pause
  tunerd pause api.usetuner.ai/42
"""


@order_command(PauseOrder, "destination", epilog=_EPILOG)
def command(target: Target, order: PauseOrder) -> None:
    names = ask(target, order).destinations
    for name in names:
        say(f"paused: {name}")
    if not names:
        say("no destination is configured")
