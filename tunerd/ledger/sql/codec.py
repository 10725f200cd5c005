"""How rows, strategies, gates and file names are written in SQLite's types, and read back."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeAlias

import orjson

from tunerd.call import Fail, Form, Hold, ManifestStrategy, OnMissing, SendAnyway, State, Strategy, UrlStrategy
from tunerd.ledger import FileMark, Gate
from tunerd.ledger.rows import Body, PauseClock, Row, RowKind
from tunerd.outcome import PauseReason


class Unsound(sqlite3.DatabaseError):
    """The file holds what no version of tunerd writes."""


# File names need not be UTF-8: Python carries their odd bytes as lone surrogates, which SQLite's text cannot. They are
# stored as characters of the private use area.
_TO_PRIVATE: Final = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_FROM_PRIVATE: Final = {private: lone for lone, private in _TO_PRIVATE.items()}


def to_text(text: str) -> str:
    if text.isascii():
        return text
    return text.translate(_TO_PRIVATE).encode("utf-8", "replace").decode()


def from_text(text: str) -> str:
    return text if text.isascii() else text.translate(_FROM_PRIVATE)


def to_signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def from_signed(number: int) -> int:
    return number + 2**64 if number < 0 else number


# Rows.

_ROW_FIELDS: Final = tuple(field.name for field in fields(Row) if field.name != "told")
COLUMNS: Final = ", ".join(f'"{name}"' for name in _ROW_FIELDS)
"""Of table call, in the order of `row_of` and `values_of`."""
_STATES: Final = {state.value: state for state in State}
_KINDS: Final = {kind.value: kind for kind in RowKind}
FORMS: Final = {form.value: form for form in Form}


def _optional_text(text: object) -> object:
    return None if text is None else str(text)


Conversions: TypeAlias = tuple[tuple[int, Callable[[Any], object]], ...]
"""Positions of values that are written in another form, and how."""

_TO_COLUMN: Final[Mapping[str, Callable[[Any], object]]] = {
    "kind": str,
    "state": str,
    "form": _optional_text,
    "path": to_text,
    "place": to_text,
    "detail": to_text,
}


def conversions(names: Sequence[str]) -> Conversions:
    """What has to be done to values of these columns, in this order, before they are written."""
    return tuple((index, _TO_COLUMN[name]) for index, name in enumerate(names) if name in _TO_COLUMN)


_CONVERTED: Final = conversions(_ROW_FIELDS)
_attributes: Final = attrgetter(*_ROW_FIELDS)


def values_of(row: Row) -> list[object]:
    values = list(_attributes(row))
    for index, convert in _CONVERTED:
        values[index] = convert(values[index])
    return values


def row_of(columns: Sequence[Any]) -> Row:
    """Past Row's own constructor, which takes eight times as long with so many names. Every column is set here, in the
    order of COLUMNS."""
    row = object.__new__(Row)
    (
        row.row, row.kind, row.state, row.source, row.destination, row.workspace, row.agent, row.call_id, row.path,
        row.offset, row.mtime_ns, row.started_at_ms, row.ended_at_ms, row.admitted_at, row.settled_at, row.changed_at, row.due_at,
        row.waits_from, row.attempts, row.first_attempt_at, row.claimed_at, row.paused_before_s,
        row.may_have_arrived, row.status, row.reason, row.place, row.detail, row.tuner_call_id, row.recording_url,
        row.recording_expires_at, row.joined, row.form, row.patch, row.frozen_by_claim, row.size, row.gathers,
        row.fragments_size, row.dismissed, row.seeks, row.copies,
    ) = columns  # fmt: skip
    try:
        row.state = _STATES[row.state]
        row.kind = _KINDS[row.kind]
        if row.form is not None:
            row.form = FORMS[row.form]
    except KeyError:
        raise Unsound("a row is in a state that does not exist") from None
    row.may_have_arrived = row.may_have_arrived != 0
    row.frozen_by_claim = row.frozen_by_claim != 0
    row.gathers = row.gathers != 0
    row.dismissed = row.dismissed != 0
    row.seeks = row.seeks != 0
    row.copies = row.copies != 0
    if not row.path.isascii():
        row.path = from_text(row.path)
    if row.place:
        row.place = from_text(row.place)
    if row.detail:
        row.detail = from_text(row.detail)
    row.told = -1
    return row


# Bodies.


def matching_text(body: Body) -> str:
    """Strategies and on_missing; lists with the kind first."""
    return orjson.dumps([[_strategy_list(s) for s in body.strategies], _on_missing_list(body.on_missing)]).decode()


def _strategy_list(strategy: Strategy) -> list[object]:
    if isinstance(strategy, UrlStrategy):
        return ["url", strategy.url, strategy.expires_at]
    return ["manifest", strategy.source, strategy.key, strategy.within_s, strategy.wait_s, strategy.near_s]


def _on_missing_list(on_missing: OnMissing) -> list[object]:
    match on_missing:
        case Hold():
            return ["hold", on_missing.hold_s]
        case Fail():
            return ["fail"]
        case SendAnyway():
            return ["send", on_missing.url]


def body_of(columns: Sequence[Any]) -> Body:
    """From (checked_for, matching, head, payload, document)."""
    checked_for, matching, head, payload, document = columns
    strategies, on_missing = matching_of(matching)
    return Body(
        document=document,
        payload=payload,
        head=head,
        strategies=strategies,
        on_missing=on_missing,
        checked_for=None if checked_for is None else FORMS[checked_for],
    )


def matching_of(text: str) -> tuple[tuple[Strategy, ...], OnMissing]:
    strategies, on_missing = orjson.loads(text)
    return tuple(map(_strategy_of, strategies)), _on_missing_of(on_missing)


def _strategy_of(items: Sequence[Any]) -> Strategy:
    if items[0] == "url":
        return UrlStrategy(url=items[1], expires_at=items[2])
    return ManifestStrategy(source=items[1], key=items[2], within_s=items[3], wait_s=items[4], near_s=items[5])


def _on_missing_of(items: Sequence[Any]) -> OnMissing:
    if items[0] == "hold":
        return Hold(hold_s=items[1])
    return Fail() if items[0] == "fail" else SendAnyway(url=items[1])


# Destinations and files.


def gate_text(gate: Gate) -> str:
    agents = {agent: [reason.value, since] for agent, (reason, since) in gate.agents.items()}
    pause = None if gate.pause is None else gate.pause.value
    probe = [gate.probe_row, gate.probe_every_s, gate.next_probe_at]
    return orjson.dumps([gate.closed_until, pause, gate.paused_since, gate.detail, agents, probe]).decode()


def gate_of(text: str) -> Gate:
    closed_until, pause, paused_since, detail, agents, (probe_row, probe_every_s, next_probe_at) = orjson.loads(text)
    return Gate(
        closed_until=closed_until,
        pause=None if pause is None else PauseReason(pause),
        paused_since=paused_since,
        detail=detail,
        agents={agent: (PauseReason(reason), since) for agent, (reason, since) in agents.items()},
        probe_row=probe_row,
        probe_every_s=probe_every_s,
        next_probe_at=next_probe_at,
    )


def clock_text(clock: PauseClock) -> str:
    return orjson.dumps([clock.at, clock.total_s, dict(clock.agents)]).decode()


def clock_of(text: str) -> PauseClock:
    at, total_s, agents = orjson.loads(text)
    return PauseClock(at=at, total_s=total_s, agents=agents)


MARK_COLUMNS: Final = (
    'source, path, log, device, inode, size, mtime_ns, ctime_ns, "offset", content, whole, '
    "refused, summary_at, carry, home, home_inode"
)


def mark_values(mark: FileMark) -> tuple[object, ...]:
    path, device, inode = to_text(mark.path), to_signed(mark.device), to_signed(mark.inode)
    times = (mark.mtime_ns, mark.ctime_ns)
    return (mark.source, path, mark.log, device, inode, mark.size, *times, mark.offset, mark.content, mark.whole,
            mark.refused, mark.summary_at, mark.carry, to_text(mark.home), to_signed(mark.home_inode))  # fmt: skip


def mark_of(columns: Sequence[Any]) -> FileMark:
    source, path, log, device, inode, size, mtime_ns, ctime_ns, offset, content, whole, *of_log = columns
    refused, summary_at, carry, home, home_inode = of_log
    return FileMark(
        source=source,
        path=from_text(path),
        log=log,
        device=from_signed(device),
        inode=from_signed(inode),
        size=size,
        mtime_ns=mtime_ns,
        ctime_ns=ctime_ns,
        offset=offset,
        content=content,
        whole=bool(whole),
        carry=carry,
        refused=refused,
        summary_at=summary_at,
        home=from_text(home),
        home_inode=from_signed(home_inode),
    )
