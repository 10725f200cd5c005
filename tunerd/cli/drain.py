"""`tunerd drain`: wait until a running daemon has sent what is due. For shutdown hooks of plain-container sidecars."""

import asyncio
from typing import Final

import click

from tunerd.call import State
from tunerd.cli.daemon import Target, read_known, running_daemon, target_options
from tunerd.cli.office import FAILURE, fail
from tunerd.cli.options import exit_bad_config
from tunerd.cli.terminal import say
from tunerd.clock import Clock, SystemClock
from tunerd.config.quantities import parse_duration
from tunerd.ops.answers import IdleDocument
from tunerd.ops.client import ControlClient
from tunerd.ops.office import OrderRefused
from tunerd.ops.wire import ControlError

IDLE_FOR_S: Final = 3.0
"""So long nothing may be due, open or unread before it counts as the end: an agent writes its last file in that time."""
_LOOK_EVERY_S: Final = 0.25
_ANSWER_S: Final = 5.0

_EPILOG = """\b
Examples:
  tunerd drain --deadline 20s
\b
  lifecycle: {preStop: {exec: {command: [tunerd, drain, --deadline, 20s]}}}
\b
Exit code 0: nothing is left to send; 1: the deadline came first (what is left is printed, and stays in the ledger).
"""


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as exc:
        raise click.BadParameter("write 20s, 1m") from exc


@click.command(epilog=_EPILOG)
@target_options
@click.option("--deadline", "deadline_s", callback=_duration, default="20s", show_default=True, metavar="DURATION",
              help="Return after so long, whatever is left.")  # fmt: skip
def command(target: Target, deadline_s: float) -> None:
    """Wait until the running daemon has sent everything that is due. It goes on reading meanwhile, and is not stopped.

    Calls that wait for their recording are not waited for; they are printed if some are left."""
    known = read_known(target.config)
    try:
        daemon = running_daemon(target, known, timeout_s=_ANSWER_S)
        if daemon is None and known.ledger.path is None:
            exit_bad_config(known.error())
        if daemon is None:
            fail(f"no tunerd runs with the ledger {known.ledger.path}: nothing is being sent")
        last, is_idle = asyncio.run(drain(daemon, deadline_s, SystemClock()))
    except (ControlError, OrderRefused) as exc:
        fail(str(exc))
    if not is_idle:
        fail(f"not drained within {deadline_s:g} s: {_left(last) or 'files are still being read'}", FAILURE)
    waiting = f"; {left}" if (left := _left(last)) else ""
    say(f"drained: nothing is due{waiting}")


async def drain(daemon: ControlClient, deadline_s: float, clock: Clock) -> tuple[IdleDocument, bool]:
    """Ask until the daemon was idle for IDLE_FOR_S and then found nothing new in any directory, or the deadline is there;
    gives its last answer, and whether it is idle. Raises ControlError when it does not answer (any more)."""
    never = asyncio.Event()
    deadline_at, idle_since = clock.monotonic() + deadline_s, None
    first = last = await daemon.look()  # events do not tell of everything, and with `watch: poll` of nothing
    while True:
        answer, now = await daemon.idle(), clock.monotonic()
        if not answer["idle"]:
            idle_since, last = None, first
        elif idle_since is None:
            idle_since = now
        if idle_since is not None and now - idle_since >= IDLE_FOR_S:
            if last == first:
                last = await daemon.look()
            elif answer["looked"] >= last:
                return answer, True
        if now >= deadline_at:
            return answer, answer["idle"] and answer["looked"] >= first
        await clock.wait(never, min(_LOOK_EVERY_S, deadline_at - now))


def _left(answer: IdleDocument) -> str:
    """`2 due, 1 waiting for its recording`."""
    words = {State.WAITING: "waiting for a recording", State.SENDING: "being sent"}
    return ", ".join(f"{n} {words.get(State(state), state)}" for state, n in answer["left"].items() if n)
