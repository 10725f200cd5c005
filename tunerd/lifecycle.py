"""How a run continues and ends: the two conductors side by side until a signal, or until there is nothing left to do;
then a last scan and the drain.

Only the order of starting and stopping belongs here; app.py builds what is started.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from tunerd.call import AudioState, State
from tunerd.clock import Clock
from tunerd.delivery.contact_tracker import NoContact
from tunerd.delivery.run import DeliveryService
from tunerd.intake.sources import Intake
from tunerd.ledger import FAR_AT_ONCE, FAR_NOT_YET, Gauges
from tunerd.outcome import IntakeReason, PauseReason
from tunerd.record import record
from tunerd.statuses import DestinationStatus, UnreadFile

_TICK_S: Final = 0.2
_SWEEP_EVERY_S: Final = 5.0
"""How often a `run --once` that still waits looks for new files."""
NO_CONTACT_S: Final = 300.0
"""A `run --once` ends where Tuner has not answered once for so long: that is a wrong address rather than an outage."""
_CLOSING_S: Final = 1.0
"""Of the drain, kept for noting what was broken off and for closing the ledger: the process ends within it."""
_FOR_A_PERSON: Final = (PauseReason.AUTH, PauseReason.ENDPOINT, PauseReason.REJECTING, PauseReason.OPERATOR)
"""Pauses that time alone does not end: a `run --once` does not sit them out."""
_FOR_ROOM: Final = (IntakeReason.FULL, IntakeReason.DISK, IntakeReason.SPOOL)
"""Reading waits until something has been delivered, or until there is disk."""


@dataclass(slots=True)
class Stop:
    """What the signals say: the first `asked`, the second `now`."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    now: asyncio.Event = field(default_factory=asyncio.Event)
    by: str = ""
    is_superseded: bool = False
    """Another start took this instance's name."""

    def signalled(self, number: int) -> None:
        if self.asked.is_set():
            self.now.set()
        self.by = self.by or signal.Signals(number).name
        self.asked.set()

    def superseded(self) -> None:
        """As a first signal: what is in flight may end, since an acceptance that comes late still counts."""
        self.is_superseded = True
        self.by = self.by or "superseded"
        self.asked.set()


def on_signals(stop: Stop, hangup: asyncio.Event, stack: AsyncExitStack) -> None:
    """SIGTERM and SIGINT stop, SIGHUP sets `hangup`; as before again when the stack unwinds."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.signalled, number)
        stack.callback(loop.remove_signal_handler, number)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    stack.callback(loop.remove_signal_handler, signal.SIGHUP)


@record
class Conductors:
    """What is started and stopped."""

    intake: Intake
    delivery: DeliveryService
    gauges: Callable[[], Gauges]
    drain_s: Callable[[], float]
    """Asked when the stop begins: a reload may have changed it."""
    stopping: Callable[[], None]
    """Told when the stop begins."""
    stranded: Callable[[], int] = lambda: 0
    """Due calls whose destination is not configured: a `run --once` does not wait for them."""
    without_contact: Callable[[], Sequence[NoContact]] = tuple
    """Destinations that have not answered since the start, though they were asked."""


@record
class RunResult:
    """What is left when a run has ended."""

    gauges: Gauges
    is_superseded: bool = False
    """Another start took this instance's name."""
    unread: Sequence[UnreadFile] = ()
    without_contact: Sequence[NoContact] = ()
    kept: Sequence[UnreadFile] = ()
    """Files that `after_sent` left: their writer has them open, or may have."""
    all_left_out: int = 0
    """So many documents were left out by the rules, and nothing else is in the ledger or came; else 0. The last four are of a
    `run --once`."""


def pause_due(wait_s: float | None) -> dict[PauseReason, str]:
    """What a `run --once` makes of pauses, in words for whoever waits for it."""
    reasons = [reason for reason in PauseReason if reason is not PauseReason.OPERATOR]  # what ends that one is always the same
    if wait_s is not None:
        return dict.fromkeys(reasons, "run --once keeps trying until --wait is over; no call is lost")
    ends = "run --once does not wait for this and ends; the next start sends what is left"
    hints: dict[PauseReason, str] = {reason: ends for reason in reasons if reason in _FOR_A_PERSON}
    hints[PauseReason.UNREACHABLE] = (
        "run --once keeps trying until Tuner answers; limit the wait with --wait 10m, or end it with Ctrl-C; no call is lost; "
        f"if Tuner never answers, it ends after {NO_CONTACT_S / 60:g} min"
    )
    return hints


async def serve(conductors: Conductors, stop: Stop, clock: Clock) -> None:
    """Intake and delivery until the first signal; then a last scan and the drain, within `delivery.drain`; a second
    signal cuts both short. What is still open stays in the ledger."""
    stop_delivery = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        intake = group.create_task(conductors.intake.run(stop.asked))
        delivery = group.create_task(conductors.delivery.run(stop_delivery))
        await stop.asked.wait()
        conductors.stopping()
        cut = group.create_task(_cut_short(stop, conductors.drain_s(), clock, [intake, delivery]))
        await asyncio.wait([intake])
        stop_delivery.set()
        await asyncio.wait([delivery])
        cut.cancel()


async def once(
    conductors: Conductors, stop: Stop, clock: Clock, *, wait_s: float | None, progress: Callable[[Gauges], None]
) -> RunResult:
    """Read what is there and deliver it; ends when every file has been read and no call is due any more, now or later, at
    `wait_s`, or at a signal. Files and directories that cannot be read are not waited for. A pause that needs a person ends
    it too, and so does a Tuner that has not answered once in NO_CONTACT_S. Each URL of `verify: get` is asked for once. Calls
    that wait for a recording are waited for only with `wait_s`: everything that is here has been read, so that recordings which
    are not near are taken then. At the end `after_sent` is carried out, not after a signal: the next start does that."""
    stop_delivery, until = asyncio.Event(), None if wait_s is None else clock.monotonic() + wait_s

    def given_up() -> bool:
        return _is_without_contact(conductors, clock) if until is None else clock.monotonic() >= until

    async with asyncio.TaskGroup() as group:
        delivery = group.create_task(conductors.delivery.run(stop_delivery))
        while not stop.asked.is_set():
            await conductors.delivery.set_far_rule(FAR_NOT_YET)
            reading = group.create_task(conductors.intake.sweep())
            while not reading.done() and not await clock.wait(stop.asked, _TICK_S):
                progress(conductors.gauges())
                if given_up() and any(status.paused in _FOR_ROOM for status in conductors.intake.statuses()):
                    stop.asked.set()  # nothing makes room for the rest
            if stop.asked.is_set():
                reading.cancel()
                break
            swept_at, incomplete = clock.monotonic(), reading.result()
            await conductors.delivery.set_far_rule(FAR_AT_ONCE)
            while clock.monotonic() < swept_at + _SWEEP_EVERY_S and not await clock.wait(stop.asked, _TICK_S):
                progress(conductors.gauges())
                if given_up() or (not incomplete and _is_done(conductors, waits=until is not None)):
                    stop.asked.set()
        conductors.stopping()
        stop_delivery.set()
        cut = group.create_task(_cut_short(stop, conductors.drain_s(), clock, [delivery]))
        await asyncio.wait([delivery])
        cut.cancel()
    if not stop.by:
        await conductors.intake.dispose(stop.now)
    intake = conductors.intake
    return RunResult(
        gauges=conductors.gauges(), unread=intake.unread(), without_contact=conductors.without_contact(), kept=intake.kept()
    )


def _is_without_contact(conductors: Conductors, clock: Clock) -> bool:
    """Whether no destination has anything to hope for: each is held until a person comes, or has not answered since the
    start, at least one of them for so long that nobody is there."""
    long_ago = {one.destination for one in conductors.without_contact() if clock.monotonic() - one.since >= NO_CONTACT_S}
    statuses = conductors.delivery.statuses()
    return bool(long_ago) and all(status.name in long_ago or _is_held(status) for status in statuses)


def _is_held(status: DestinationStatus) -> bool:
    return status.dry_run or (status.pause is not None and status.pause.reason in _FOR_A_PERSON)


def _is_done(conductors: Conductors, *, waits: bool) -> bool:
    """Whether a `run --once` has nothing left to do; with `waits` it stays for open calls of any kind."""
    calls, uploads = conductors.gauges().calls, conductors.gauges().audio.get(AudioState.UPLOADING)
    if uploads or not conductors.delivery.has_asked_for_urls():
        return False
    if waits:
        return not any(count and state.is_open for state, count in calls.items())
    if calls.get(State.DUE, 0) <= conductors.stranded() and not calls.get(State.SENDING):
        return True
    return all(map(_is_held, conductors.delivery.statuses())) and not calls.get(State.SENDING)


async def _cut_short(stop: Stop, drain_s: float, clock: Clock, tasks: Sequence[asyncio.Task[None]]) -> None:
    await clock.wait(stop.now, max(drain_s / 2, drain_s - _CLOSING_S))
    for task in tasks:
        task.cancel()
