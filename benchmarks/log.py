"""What a line of the log costs: that of a sent call, as `log: {level: debug}` writes one for each call."""

import os
import time
from collections.abc import Iterator

from benchmarks.bars import at_most
from tunerd.events import CallSent
from tunerd.ops.event_logger import EventLogger
from tunerd.ops.log_writer import LogLevel, open_log

ROUNDS = 20
LINES = 1_000
MOST_US = 15


def measure() -> Iterator[str]:
    for form in ("json", "text"):
        cost_us = min(_cost_us(form) for _ in range(ROUNDS))
        yield f"| log, a line per sent call ({form}) | {cost_us:.1f} us of processor time; {at_most(cost_us, MOST_US)} |"


def _cost_us(form: str) -> float:
    level = LogLevel("debug")
    with open(os.devnull, "w") as out:
        log = EventLogger(open_log("json" if form == "json" else "text", level, out), level=level)
        events = [
            CallSent(source="agent", call_id=f"0193f4c2-7d0a-7a3e-9a41-5a1c0f6f{n:04x}", already_there=False, delivery_s=0.5312,
                     tuner_call_id=f"6f1c2b9e-{n:04x}-4d0e-8d2b-3c5a9e7f1b20", attempts=1)
            for n in range(LINES)
        ]  # fmt: skip
        began = time.process_time()
        for event in events:
            log(event)
        return (time.process_time() - began) / LINES * 1e6
