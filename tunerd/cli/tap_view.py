"""A line of `tunerd tap`: when, what, which call of which source, and the details of that event."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from tunerd.admin.activity_answers import TapRow
from tunerd.admin.phrases import count_of, span
from tunerd.call import State
from tunerd.cli.terminal import say, style

_COLOURS: Final = {"sent": "green", "failed": "red", "retried": "yellow", "paused": "yellow", "matched": "cyan"}
_WAITS: Final = {
    State.GATHERING: "waits for its other documents", State.WAITING: "waits for its recording", State.DUE: "is ready to be sent",
    State.SENDING: "is being sent",
}  # fmt: skip


def draw_event(row: TapRow) -> None:
    at = datetime.fromtimestamp(row.at, UTC)
    what = style(f"{row.what:<9}", fg=_COLOURS.get(row.what))
    say(f"{at:%H:%M:%S}.{at.microsecond // 1000:03}Z  {what}  {_subject(row)}   {', '.join(_details(row))}".rstrip())


def draw_missed(count: int) -> None:
    say(style(f"{count_of(count, 'event')} missed: the tap was slower than the daemon", fg="yellow"))


def duration(seconds: float) -> str:
    """`14 ms`, `1.4 s`, `4 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else span(seconds)


def _subject(row: TapRow) -> str:
    if row.destination is not None:
        return row.destination + (f"   agent {row.agent}" if row.agent else "")
    name = row.call_id or row.path
    return f"{name}   {row.source}" if name else f"source {row.source}"


def _details(row: TapRow) -> Iterator[str]:
    if row.what == "admitted" and row.state in _WAITS:
        yield _WAITS[row.state]
    if row.reason is not None:
        status = "" if row.http_status is None else f" {row.http_status}"
        yield f"{row.reason}{status}" + (f": {row.detail}" if row.detail else "")
    elif row.detail:
        yield row.detail
    if row.took_s is not None:
        yield f"after {duration(row.took_s)}"
    if row.attempts is not None and (row.attempts > 1 or row.what == "retried"):
        yield f"attempt {row.attempts}"
    if row.due_in_s is not None:
        yield f"again in {duration(row.due_in_s)}"
    if row.tuner_call_id is not None:
        yield f"Tuner's id {row.tuner_call_id}"
