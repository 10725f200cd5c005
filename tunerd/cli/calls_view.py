"""Calls as text: the history of one, the list of failed ones with what to do about each, and the report of an order."""

from collections.abc import Sequence
from typing import Final

from tunerd.admin.answer_types import CallProblem, CallRow, Report, StatusDocument, StoryRow
from tunerd.admin.phrases import ago, count_of, facts_of, instant, name_of, place, selection, to_do, why
from tunerd.cli.drawing import STATE_COLOURS, say_wrapped, unbroken
from tunerd.cli.terminal import say, style

_PROBLEMS_SHOWN: Final = 20
_INDENT: Final = " " * 16

_OWN_WORDS: Final = {
    "dismissed": "dismissed", "forgotten": "forgotten", "recording": "stored as a recording",
    "sending": "being sent already", "sent": "sent already",
}  # fmt: skip
"""Results that the verb of the order does not describe."""


def draw_story(story: StoryRow, status: StatusDocument) -> None:
    """`status`: of the same moment; it tells what delays the call."""
    call = story.call
    dismissed = " (dismissed)" if call.dismissed else ""
    say(f"{style(name_of(call), bold=True)}   {style(call.state, fg=STATE_COLOURS.get(call.state))}{dismissed}")
    for name, value in facts_of(call, status, story.audio):
        say_wrapped(value, f"  {name:<14}", _INDENT)
    for number, origin in enumerate(story.origins):
        say_wrapped(place(origin.path, origin.offset), f"  {'read from' if number == 0 else '':<14}", _INDENT)
    if story.waits_for:
        say()
        say("  It waits for a recording with")
        for line in story.waits_for:
            say_wrapped(line, "    - ", "      ")
    if story.events:
        say()
        say("  History")
        for event in story.events:
            answer = f" {event.http_status}" if event.http_status is not None else ""
            detail = f": {event.detail}" if event.detail else ""
            say_wrapped(f"{event.what}{answer}{detail}", f"    {instant(event.at)}  ", " " * 27)
    if (call.state == "failed" or call.audio == "failed") and not call.dismissed:
        say()
        say_wrapped(to_do(call, selection(call, unbroken), unbroken), "  what to do    ", _INDENT)


def draw_failed(calls: Sequence[CallRow], now: float) -> None:
    for call in calls:
        reason = style(call.reason or "", fg="red")
        say(f"{style(name_of(call), bold=True)}   {reason}   source {call.source}, {ago(now - call.admitted_at)}")
        say_wrapped(why(call), "  why   ", " " * 8)
        if call.call_id:
            say_wrapped(place(call.path, call.offset), "  from  ", " " * 8)
        say_wrapped(to_do(call, selection(call, unbroken), unbroken), "  do    ", " " * 8)


def draw_report(report: Report, verb: str) -> None:
    """`verb`: what was done to the calls, as in "to be sent again"."""
    for state, count in sorted(report.done.items()):
        done = _OWN_WORDS.get(state, f"{verb}: now {state}")
        say(f"{count_of(count, 'call')} {done}")
    _problems(report.failed, "still failed", "red")
    _problems(report.skipped, "not changed", "yellow")


def _problems(problems: Sequence[CallProblem], title: str, colour: str) -> None:
    if problems:
        say(f"{len(problems):,} {style(title, fg=colour)}:")
    for one in problems[:_PROBLEMS_SHOWN]:
        say_wrapped(f"{one.call_id or place(one.path, one.offset)}   {one.reason}: {one.what}", "  ", "    ")
    if len(problems) > _PROBLEMS_SHOWN:
        say(f"  and {len(problems) - _PROBLEMS_SHOWN:,} more; --json lists them all")
