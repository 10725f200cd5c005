"""Whether this process still makes progress: a pure decision over measured values, and the probe that measures them.

/healthz and the systemd watchdog share it. Trouble with Tuner, the disk or a source is never a reason for a restart: a restart
would not help.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from tunerd.clock import Clock
from tunerd.record import record

ANSWER_S: Final = 5.0
"""How long the ledger's writer may take to answer."""
MARGIN_S: Final = 30.0
"""How much longer than its timeout an attempt may last before the process counts as stuck."""
LAG_S: Final = 10.0
"""How late the event loop may be. (In a healthy process it is never more than 0.05 s late.)"""


@record
class Vitals:
    writer_answers: bool
    oldest_attempt_s: float | None
    """Age of the oldest open HTTP attempt; None: no attempt is open."""
    attempt_timeout_s: float
    loop_lag_s: float


def ailment(vitals: Vitals) -> str | None:
    """Why the process should be restarted, in one sentence; None: it is healthy. Pure."""
    if not vitals.writer_answers:
        return f"the ledger's writer did not answer within {ANSWER_S:.0f} s"
    if vitals.oldest_attempt_s is not None and vitals.oldest_attempt_s > vitals.attempt_timeout_s + MARGIN_S:
        return f"an upload has been open for {vitals.oldest_attempt_s:.0f} s; its timeout is {vitals.attempt_timeout_s:.0f} s"
    if vitals.loop_lag_s > LAG_S:
        return f"the event loop was {vitals.loop_lag_s:.0f} s late"
    return None


class LedgerWriter(Protocol):
    async def alive(self) -> bool: ...


class Health:
    """Measures the vitals. `attempt_timeout_s` is called each time, since a reload may change it."""

    def __init__(
        self,
        writer: LedgerWriter,
        oldest_attempt_age: Callable[[], float | None],
        attempt_timeout_s: Callable[[], float],
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._writer = writer
        self._oldest_attempt_age = oldest_attempt_age
        self._attempt_timeout_s = attempt_timeout_s
        self._answer_s = answer_s

    async def vitals(self, loop_lag_s: float = 0.0) -> Vitals:
        return Vitals(
            writer_answers=await self._answers(),
            oldest_attempt_s=self._oldest_attempt_age(),
            attempt_timeout_s=self._attempt_timeout_s(),
            loop_lag_s=loop_lag_s,
        )

    async def ailment(self, loop_lag_s: float = 0.0) -> str | None:
        return ailment(await self.vitals(loop_lag_s))

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._writer.alive()
        except TimeoutError:
            return False


async def lag_of(clock: Clock, stop: asyncio.Event, seconds: float) -> float | None:
    """Wait `seconds`, and return how much later than that the loop woke up; None: `stop` was set meanwhile."""
    began = clock.monotonic()
    if await clock.wait(stop, seconds):
        return None
    return max(0.0, clock.monotonic() - began - seconds)
