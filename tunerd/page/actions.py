"""What the buttons of the status page do: a form becomes an order of admin/api.py, and its report becomes a few lines."""

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Final, TypeVar

from tunerd.admin.answer_types import CallProblem, Report
from tunerd.admin.api import Admin, DismissOrder, OrderRefused, PauseOrder, ResumeOrder, RetryOrder
from tunerd.admin.phrases import count_of, place
from tunerd.call import State
from tunerd.page.access import Result

_LONGEST_S: Final = 4.0
"""An action over many calls ends after this and says how to continue."""
_PROBLEMS_SHOWN: Final = 20
_FAILED: Final = frozenset({State.FAILED})
_RESULTS: Final = {
    "due": "sent again as soon as possible", "waiting": "waiting for a recording", "dismissed": "dismissed",
    "recording": "stored as a recording",
}  # fmt: skip

CallsAction = TypeVar("CallsAction", RetryOrder, DismissOrder)


async def act(admin: Admin, verb: str, fields: Mapping[str, str]) -> Result:
    """Raises OrderRefused, also for a form that names no call and no destination."""
    match verb:
        case "retry":
            return await _over_calls(admin, _selected(RetryOrder(states=_FAILED), fields), fields, "Retry")
        case "dismiss":
            return await _over_calls(admin, _selected(DismissOrder(states=_FAILED), fields), fields, "Dismiss")
        case "pause":
            names = await admin.ask(PauseOrder(destination=_destination(fields)))
            return Result(
                title="Paused", lines=[f"Nothing is sent to {name} until it is resumed." for name in names.destinations]
            )
        case "resume":
            names = await admin.ask(ResumeOrder(destination=_destination(fields)))
            return Result(title="Resumed", lines=[f"Sending to {name} again." for name in names.destinations])
        case _:
            raise OrderRefused("there is no such action")


def _destination(fields: Mapping[str, str]) -> str:
    if not fields.get("destination"):
        raise OrderRefused("destination is missing")
    return fields["destination"]


def _selected(order: CallsAction, fields: Mapping[str, str]) -> CallsAction:
    """Narrowed to the calls that the form names. Never everything: a form without a call or a reason is refused."""
    order = replace(order, after_row=_number(fields.get("after_row", "0")))
    if fields.get("call_id"):
        return replace(order, call_ids=frozenset({fields["call_id"]}))
    if fields.get("path"):
        return replace(order, path=fields["path"], offset=_number(fields.get("offset", "0")))
    if fields.get("reason"):
        return replace(order, reasons=frozenset({fields["reason"]}))
    raise OrderRefused("the form names no call")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise OrderRefused("the form holds something that is no number")
    return int(text)


async def _over_calls(admin: Admin, order: RetryOrder | DismissOrder, fields: Mapping[str, str], title: str) -> Result:
    """Page after page, as commands do."""
    report, until = Report(), monotonic() + _LONGEST_S
    while True:
        report.add(await admin.ask(order))
        if report.next_after_row is None or monotonic() > until:
            break
        order = replace(order, after_row=report.next_after_row)
    lines = [f"{count_of(count, 'call')}: {_RESULTS.get(state, f'now {state}')}" for state, count in sorted(report.done.items())]
    lines += _problems(report.failed, "failed again") + _problems(report.skipped, "not changed")
    again = {} if report.next_after_row is None else {**fields, "after_row": str(report.next_after_row)}
    if again:
        lines.append("There are more; they were not touched yet.")
    return Result(title=title, lines=lines or ["There was no such call any more."], again=again, path=f"/actions/{title.lower()}")


def _problems(problems: list[CallProblem], words: str) -> list[str]:
    lines = [
        f"{words}: {one.call_id or place(one.path, one.offset)}: {one.reason}: {one.what}" for one in problems[:_PROBLEMS_SHOWN]
    ]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"{words}: {len(problems) - _PROBLEMS_SHOWN:,} more")
    return lines
