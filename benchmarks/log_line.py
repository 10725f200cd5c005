"""What a line of the log costs: that of a call that was sent (level debug), as JSON."""

import os
import time
from typing import Final

from benchmarks.bars import at_most
from tunerd.events import CallSent
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.log_writer import LogLevel, open_log

LINES: Final = 20_000


def measure(lines: int = LINES) -> list[str]:
    level = LogLevel("debug")
    with open(os.devnull, "w") as stream:
        logger = EventLogger(open_log("json", level, stream), level=level)
        best = min(_batch(logger, lines // 10) for _ in range(10))
    return [f"| a line of the log for each sent call | {best:.1f} us; {at_most(best, 15)} |"]


def _batch(logger: EventLogger, lines: int) -> float:
    """Microseconds of processor time a line."""
    began = time.process_time()
    for number in range(lines):
        logger(CallSent(source="calls", call_id=f"call-{number:07d}", tuner_call_id=str(number), already_there=False,
                        delivery_s=0.123, attempts=1))  # fmt: skip
    return (time.process_time() - began) / lines * 1e6
