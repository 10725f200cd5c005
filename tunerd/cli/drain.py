"""`tunerd drain`: wait until a running daemon has sent what is due. For shutdown hooks of plain-container sidecars."""

import asyncio
from typing import Final

import click

from tunerd.admin.answer_types import IdleDocument
from tunerd.admin.api import Admin, IdleOrder, OrderRefused, RescanOrder
from tunerd.admin.protocol import ControlError
from tunerd.call import State
from tunerd.cli.admin import FAILURE, daemon_or_exit, fail
from tunerd.cli.options import DURATION
from tunerd.cli.target import Target, target_options
from tunerd.cli.terminal import say
from tunerd.clock import Clock, SystemClock

IDLE_FOR_S: Final = 3.0
"""Nothing may be due, open or unread for this long before it counts as the end: an agent writes its last file meanwhile."""
_ASK_EVERY_S: Final = 0.25
_ANSWER_S: Final = 5.0

_EPILOG = """\b
Examples:
  tunerd drain --deadline 20s
\b
  lifecycle: {preStop: {exec: {command: [tunerd, drain, --deadline, 20s]}}}
\b
Exit code 0: nothing is left to send; 1: the deadline passed first (what is left is printed, and stays in the
ledger).
"""


@click.command(epilog=_EPILOG)
@target_options
@click.option("--deadline", "deadline_s", type=DURATION, metavar="DURATION", default="20s", show_default=True,
              help="Return after this time, whatever is left.")  # fmt: skip
def command(target: Target, deadline_s: float) -> None:
    """Wait until the running daemon has sent everything that is due. The daemon keeps reading meanwhile, and is not stopped.

    Calls that wait for their recording are not waited for; any that are left are printed."""
    daemon = daemon_or_exit(target, "nothing is being sent", timeout_s=_ANSWER_S)
    try:
        last, is_idle = asyncio.run(drain(daemon, deadline_s, SystemClock()))
    except (ControlError, OrderRefused) as exc:
        fail(str(exc))
    if not is_idle:
        fail(f"not drained within {deadline_s:g} s: {_left(last) or 'files are still being read'}", FAILURE)
    waiting = f"; {left}" if (left := _left(last)) else ""
    say(f"drained: nothing is due{waiting}")


async def drain(daemon: Admin, deadline_s: float, clock: Clock) -> tuple[IdleDocument, bool]:
    """Ask until the daemon was idle for IDLE_FOR_S and a scan after that found nothing new, or until the deadline. Gives its
    last answer, and whether it is idle. Raises ControlError when it does not answer."""
    never = asyncio.Event()
    deadline_at, idle_since = clock.monotonic() + deadline_s, None
    # File events do not report everything, and with `watch: poll` nothing.
    first = last = (await daemon.ask(RescanOrder())).look
    while True:
        answer, now = await daemon.ask(IdleOrder()), clock.monotonic()
        if not answer.idle:
            idle_since, last = None, first
        elif idle_since is None:
            idle_since = now
        if idle_since is not None and now - idle_since >= IDLE_FOR_S:
            if last == first:
                last = (await daemon.ask(RescanOrder())).look
            elif answer.looked >= last:
                return answer, True
        if now >= deadline_at:
            return answer, answer.idle and answer.looked >= first
        await clock.wait(never, min(_ASK_EVERY_S, deadline_at - now))


def _left(answer: IdleDocument) -> str:
    """`2 due, 1 waiting for a recording`."""
    words = {State.WAITING: "waiting for a recording", State.SENDING: "being sent"}
    return ", ".join(f"{n} {words.get(State(state), state)}" for state, n in answer.left.items() if n)
