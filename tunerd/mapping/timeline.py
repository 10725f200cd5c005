"""The timeline: rows as the rules gave them become rows that Tuner takes, ordered and timed from the start of the call.

This file has the order of the steps, and the call's own times. transcript.py and row_values.py read each row alone,
neighbours.py completes rows by those around them. Each repair is counted under its name (docs/decisions/timeline.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunerd.call import Form, Json, Refusal
from tunerd.mapping.functions.times import half_up
from tunerd.mapping.limits import RefusalError, row_at
from tunerd.mapping.neighbours import (
    by_start,
    carry,
    complete_nodes,
    complete_tools,
    count,
    doubt,
    end_speech,
    fit_words,
    order,
    spread,
)
from tunerd.mapping.row_values import LONGEST_TIME, number_of, spoken_length, time_of
from tunerd.mapping.transcript import OUTSIDE_MS, PACE_MS, SPEECH, ReadRows, TranscriptRow, given_rows, raw_text, read
from tunerd.mapping.values import missing
from tunerd.outcome import FailReason
from tunerd.record import record


@record
class Placed:
    """Rows ready for Tuner in its current field names, and the call's times. Every time is a whole number."""

    rows: list[TranscriptRow]
    start_ms: int
    """Epoch milliseconds."""
    end_ms: int
    """Epoch milliseconds, not before the start."""
    repairs: dict[str, int]
    """Name of the repair -> how often."""
    fits_create_call: bool
    """All rows have one of Tuner's roles, and all speech has its times."""


def place(fields: Mapping[str, Json], *, form: Form | None, untimed: Literal["reject", "spread"]) -> Placed | Refusal:
    """Clean, time, order and complete the rows of a mapped call.

    `fields` are the call's mapped fields by name; they are not changed. `form` None: not known yet, so what create-call
    asks is done where the rows allow it, and send-calls' leniency is used where they do not.
    """
    try:
        return _place(fields, form, untimed)
    except RefusalError as refused:
        return refused.refusal


def _place(fields: Mapping[str, Any], form: Form | None, untimed: str) -> Placed:
    numbers, given = given_rows(fields)
    repairs: dict[str, int] = {}
    start, end = _call_times(fields, numbers, given, repairs)
    reading = read(numbers, given, start, strict=form is Form.CREATE_CALL, repairs=repairs)
    rows = reading.rows
    if end is None:
        end = start + _latest_end(rows)
        repairs["call_end_from_rows"] = 1
    if not 0 <= start <= LONGEST_TIME or end > LONGEST_TIME:
        raise RefusalError("start_timestamp", "the call's times are no epoch milliseconds: unit or time zone?")
    if end < start:
        raise RefusalError("end_timestamp", "is before start_timestamp: unit or time zone?")
    length = end - start
    if reading.earliest < 0 or reading.latest > length:
        _keep_in_call(reading, length, repairs)
    unordered = reading.unordered

    may_spread = untimed == "spread"
    if reading.untimed_speech and form is Form.CREATE_CALL and not may_spread:
        number = next(n for n, row in zip(reading.numbers, rows, strict=True) if "start_ms" not in row and row["role"] in SPEECH)
        raise RefusalError(
            row_at(number), "speech without a time: give start_at or start_ms, or set `untimed: spread` to estimate"
        )
    whole_timeline = form is not Form.SEND_CALLS and not reading.foreign_roles and (may_spread or not reading.untimed_speech)
    if whole_timeline and (reading.untimed_speech or reading.untimed_others):
        if reading.untimed_speech:
            spread(rows, length, repairs)
        if reading.untimed_others:
            carry(rows, length, repairs)
        unordered = True
    if whole_timeline or not (reading.untimed_speech or reading.untimed_others):
        if unordered:
            order(rows, repairs)
        timed: Sequence[TranscriptRow] = rows
    else:
        timed = sorted((row for row in rows if "start_ms" in row), key=by_start)
    if not reading.untimed_speech:
        doubt(timed, length, repairs)
    if reading.open_speech:
        end_speech(timed, length, repairs)
    if reading.worded:
        fit_words(timed, repairs)
    if reading.tools:
        complete_tools(rows, repairs)
    if reading.nodes:
        complete_nodes(rows, repairs)
    fits = not reading.foreign_roles and (whole_timeline or not reading.untimed_speech)
    return Placed(rows=rows, start_ms=start, end_ms=end, repairs=repairs, fits_create_call=fits)


def _call_times(
    fields: Mapping[str, Any], numbers: Sequence[int], given: Sequence[Any], repairs: dict[str, int]
) -> tuple[int, int | None]:
    """Start and end in epoch ms; the end may still have to come from the rows."""
    start, end = _instant(fields, "start_timestamp"), _instant(fields, "end_timestamp")
    duration = number_of(fields.get("duration_ms"))
    if duration is not None and not 0 <= duration <= LONGEST_TIME:
        duration = None
    if start is None and end is not None and duration is not None:
        start = end - half_up(duration)
    if start is None:
        start = _start_from_rows(numbers, given)
        repairs["call_start_from_rows"] = 1
    if end is None and duration is not None:
        end = start + half_up(duration)
    return start, end


def _instant(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value.__class__ is int:
        return int(value)
    if missing(value):
        return None
    number = number_of(value)
    if number is None:
        raise RefusalError(name, "has to be a time (epoch_ms reads numbers, ISO 8601 and RFC 2822)")
    return half_up(number)


def _start_from_rows(numbers: Sequence[int], given: Sequence[Any]) -> int:
    earliest: int | None = None
    for number, row in zip(numbers, given, strict=True):
        if not isinstance(row, Mapping):
            raise RefusalError(row_at(number), "a row has to be an object")
        at = time_of(row.get("start_at"), number, "start_at")
        relative = time_of(row.get("start_ms"), number, "start_ms")
        if at is not None and relative is not None:
            return at - relative
        if at is None:
            ended = time_of(row.get("end_at"), number, "end_at")
            if ended is None:
                continue
            lasted = time_of(row.get("duration_ms"), number, "duration_ms")
            at = ended - (lasted if lasted is not None else PACE_MS * spoken_length(raw_text(row, number)))
        if earliest is None or at < earliest:
            earliest = at
    if earliest is None:
        raise RefusalError(
            "start_timestamp",
            "gave nothing, and no row has a start_at that could tell when the call began",
            FailReason.UNMAPPABLE,
        )
    return earliest


def _latest_end(rows: Sequence[TranscriptRow]) -> int:
    """From the start of the call. Speech of which only the start is known counts with the usual pace."""
    latest: int | None = None
    for row in rows:
        start = row.get("start_ms")
        if start is None:
            continue
        end = row.get("end_ms")
        if end is None:
            end = start + PACE_MS * spoken_length(row.get("text", "")) if row["role"] in SPEECH else start
        if latest is None or end > latest:
            latest = end
    if latest is None:
        raise RefusalError(
            "end_timestamp", "gave nothing, and no row has a time that could tell when the call ended", FailReason.UNMAPPABLE
        )
    return latest


def _keep_in_call(reading: ReadRows, length: int, repairs: dict[str, int]) -> None:
    """A little outside happens (clocks, late rows); far outside is another unit or another time zone."""
    before = after = 0
    for number, row in zip(reading.numbers, reading.rows, strict=True):
        if "start_ms" not in row:
            continue
        start: int = row["start_ms"]
        end: int = row.get("end_ms", start)
        if start < -OUTSIDE_MS or start > length + OUTSIDE_MS:
            raise RefusalError(row_at(number), "starts more than 60 s outside the call: unit or time zone?")
        if end > length + OUTSIDE_MS:
            raise RefusalError(row_at(number), "ends more than 60 s after the call: unit or time zone?")
        if start < 0:
            before += 1
            row["start_ms"] = 0
            if "end_ms" in row:
                row["end_ms"] = max(end, 0)
        if end > length:
            after += 1
    count(repairs, "before_start", before)
    count(repairs, "after_end", after)
