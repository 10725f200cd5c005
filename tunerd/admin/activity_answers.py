"""What `tap` and `activity` answer, as answer_types.py has it for the other orders. Made in activity_report.py."""

from collections.abc import Sequence

from tunerd.admin.answer_types import VERSION
from tunerd.call import State
from tunerd.record import record


@record
class TapRow:
    """One event. What an event does not know is null."""

    number: int
    at: float
    what: str
    """admitted | duplicate | matched | retried | sent | failed | paused | resumed"""
    state: State | None = None
    """Of the call, after the event."""
    source: str | None = None
    destination: str | None = None
    """Of a pause."""
    agent: str | None = None
    """Of a pause of one agent only."""
    call_id: str | None = None
    path: str | None = None
    """Where a call that failed was read."""
    reason: str | None = None
    http_status: int | None = None
    detail: str = ""
    attempts: int | None = None
    took_s: float | None = None
    """sent: from settled file to accepted; matched: the wait for the recording; resumed: the pause."""
    due_in_s: float | None = None
    tuner_call_id: str | None = None


@record
class TapPage:
    version: int = VERSION
    stream: str
    next_after: int
    """For the next page, together with `stream`."""
    missed: int
    """Events before this page, of all calls, that the daemon no longer remembers: the reader was too slow."""
    is_more: bool
    """The page is full: more events are waiting."""
    events: Sequence[TapRow]


@record
class SourceActivity:
    """Since the start of the daemon."""

    source: str
    admitted: int
    retried: int
    sent: int
    failed: int


@record
class Durations:
    """In seconds; null: there were none."""

    count: int
    median_s: float | None
    p95_s: float | None
    longest_s: float | None


@record
class ActivityDocument:
    version: int = VERSION
    stream: str
    at: float
    counts: Sequence[SourceActivity]
    """By source, for each that has any."""
    deliveries: Durations
    """From settled file to accepted, of the calls sent in the last 60 s, at most the newest 1,000."""
    uploads: Durations
    """Of HTTP attempts, likewise."""
