"""The small tasks beside the two conductors: retention, the ledger's place, jumps of the clock, a configuration file that
changed.

Each runs until its `stop` is set and never fails for a reason that may pass with time.
"""

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

from tunerd.clock import Clock, SteadyClock
from tunerd.config import LedgerConfig
from tunerd.events import ClockJumped, Emit
from tunerd.ledger import FarRule, LedgerUnavailable, Retention

TRIM_EVERY_S: Final = 60.0
JUMP_S: Final = 5.0
"""If wall and monotonic time differ by more than this, waits are moved. Smaller differences come from NTP."""
_LOOK_EVERY_S: Final = 1.0
WATCH_EVERY_S: Final = 5.0
PLACE_EVERY_S: Final = 2.0
FIRST_READ_S: Final = 600.0


class Trimmed(Protocol):
    async def trim(self, keep: Retention, now: float) -> int: ...


class PlacedLedger(Protocol):
    async def check_place(self) -> None:
        """Raises when its file is not the one that is open."""


class ShiftedLedger(Protocol):
    async def shift(self, seconds: float) -> None:
        """Returns when it is durable, however long the ledger cannot be written."""


class ShiftedDelivery(Protocol):
    def shift(self, seconds: float) -> None: ...


def keep_from(ledger: LedgerConfig) -> Retention:
    return Retention(
        sent_s=ledger.keep_sent_s,
        failed_s=ledger.keep_failed_s,
        recordings_s=ledger.keep_recordings_s,
        max_failed_bytes=ledger.max_failed_bytes,
        documents=ledger.keep_documents,
        marks_s=ledger.keep_marks_s,
    )


async def trim_forever(ledger: Trimmed, keep: Callable[[], Retention], clock: Clock, stop: asyncio.Event) -> None:
    """Once a minute, remove what is past its time, a thousand rows at a time, others at the ledger between."""
    while not await clock.wait(stop, TRIM_EVERY_S):
        try:
            while await ledger.trim(keep(), clock.now()) and not stop.is_set():
                pass
        except LedgerUnavailable:
            continue  # the ledger tells of it; the next minute tries again


async def watch_place(ledger: PlacedLedger, clock: Clock, stop: asyncio.Event) -> None:
    """Every 2 s: a ledger whose file was removed keeps nothing any more, and no write fails for it."""
    while not await clock.wait(stop, PLACE_EVERY_S):
        await ledger.check_place()


async def follow_clock(ledger: ShiftedLedger, delivery: ShiftedDelivery, clock: SteadyClock, emit: Emit,
                       stop: asyncio.Event) -> None:  # fmt: skip
    """When wall time jumps, move what is due with it: nothing is retried at once, and nothing is given up early. At no
    moment does anything look due by the jump alone. Suspend is no jump: the monotonic clock counts it (clock.py)."""
    while not await clock.wait(stop, _LOOK_EVERY_S):
        jumped = clock.behind()
        if abs(jumped) <= JUMP_S:
            clock.step(jumped)
            continue
        if jumped > 0:  # what is due moves ahead first, time follows
            await ledger.shift(jumped)
        clock.step(jumped)
        delivery.shift(jumped)
        if jumped < 0:
            await ledger.shift(jumped)
        emit(ClockJumped(seconds=jumped))


class FarDelivery(Protocol):
    async def set_far_rule(self, rule: FarRule) -> None: ...


async def take_far_ones(delivery: FarDelivery, all_read: Callable[[], bool], clock: Clock, stop: asyncio.Event) -> None:
    """Recordings that are not near are only taken when what lay there at the start was read: a nearer one may be in it. A
    source that cannot be read holds them up for FIRST_READ_S at most."""
    until = clock.monotonic() + FIRST_READ_S
    while not all_read() and clock.monotonic() < until:
        if await clock.wait(stop, _LOOK_EVERY_S):
            return
    await delivery.set_far_rule(FarRule())


async def watch_content(file: Path, loaded: str, changed: Callable[[], None], clock: Clock, stop: asyncio.Event) -> None:
    """Call `changed` when the content is no longer the loaded one (a ConfigMap changes by symlink, times say nothing)."""
    before: bytes | None = _digest(loaded.encode())
    while not await clock.wait(stop, WATCH_EVERY_S):
        now = await asyncio.to_thread(_digest_of, file)
        if now not in (None, before):
            before = now
            changed()


def _digest_of(file: Path) -> bytes | None:
    """None while it cannot be read (it is being replaced)."""
    try:
        return _digest(file.read_bytes())
    except OSError:
        return None


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
