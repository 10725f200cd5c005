"""Calls as text: the history of one, the list of failed ones with what to do about each, and the report of an order."""

from collections.abc import Sequence
from typing import Final

from tunerd.admin.answer_types import CallProblem, CallRow, Report, StatusDocument, StoryRow
from tunerd.cli.drawing import STATE_COLOURS, ago, count_of, in_shell, instant, name_of, next_probe, place, say_wrapped, span, why
from tunerd.cli.terminal import say, style

_PROBLEMS_SHOWN: Final = 20
_INDENT: Final = " " * 16

_TO_DO: Final = {
    "unreadable": "correct the file; it is then read again automatically",
    "too_large": "raise max_document of the source, then: tunerd retry {it}",
    "unmappable": "find the rule with: tunerd explain {path}; correct it, then: tunerd retry {it}",
    "invalid": "find the rule with: tunerd explain {path}; correct it, then: tunerd retry {it}",
    "refused": "a `refuse:` rule matched. If it should not have: correct the rule, then: tunerd retry {it}",
    "id_conflict": "the call_id rule gives two calls one id: correct it, then: tunerd retry {it}",
    "recording_missing": "it is sent when its recording arrives; to look for it again now: tunerd retry {it}",
    "recording_ambiguous": "tunerd status {it} names the candidates. A nearer recording decides; else: tunerd dismiss {it}",
    "recording_expired": "write the manifest again with a fresh URL, then: tunerd retry {it}",
    "rejected": "Tuner does not accept it as it is: tunerd explain {path}; correct the rule, then: tunerd retry {it}",
    "gave_up": "when Tuner works again: tunerd retry {it}",
    "crashed": "please report it; to try again: tunerd retry {it}",
    "document_lost": "to send it, put its file back into the source's directory; else: tunerd dismiss {it}",
    "incomplete": "to send the documents that arrived: tunerd retry {it}; else: tunerd dismiss {it}",
}
_OF_A_400: Final = (
    "400 usually means a wrong workspace_id or agent_remote_identifier: compare them with Tuner (tunerd check --online), "
    "correct them, reload, then: tunerd retry {it}; if they are right: tunerd explain {path}; correct the rule, then: "
    "tunerd retry {it}"
)
_OWN_WORDS: Final = {
    "dismissed": "dismissed", "forgotten": "forgotten", "recording": "stored as a recording",
    "sending": "being sent already", "sent": "sent already",
}  # fmt: skip
"""Results that the verb of the order does not describe."""


def draw_story(story: StoryRow, status: StatusDocument) -> None:
    """`status`: of the same moment; it tells what delays the call."""
    call, now = story.call, status.generated_at
    dismissed = " (dismissed)" if call.dismissed else ""
    say(f"{style(name_of(call), bold=True)}   {style(call.state, fg=STATE_COLOURS.get(call.state))}{dismissed}")
    facts: list[tuple[str, str | None]] = [
        ("reason", call.reason and f"{call.reason}: {why(call)}"),
        ("http status", None if call.http_status is None else str(call.http_status)),
        ("tuner call id", call.tuner_call_id),
        ("destination", call.destination and f"{call.destination}, agent {call.agent}"),
        ("source", call.source),
        ("recording", call.recording_url),
        ("started", None if call.started_at is None else instant(call.started_at)),
        ("admitted", f"{instant(call.admitted_at)} ({ago(now - call.admitted_at)})"),
        ("attempts", str(call.attempts) if call.attempts else None),
        ("next attempt", _next_attempt(call, status) if call.state == "due" else None),
    ]
    for name, value in facts:
        if value:
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
    if call.state == "failed" and not call.dismissed:
        say()
        say_wrapped(to_do(call, selection(call)), "  what to do    ", _INDENT)


def _next_attempt(call: CallRow, status: StatusDocument) -> str:
    """When a due call is sent, or what it waits for first."""
    now = status.generated_at
    if not status.daemon.running:
        return "when tunerd runs again; it is not running"
    due_at = call.due_at or now
    destination = next((one for one in status.destinations if one.name == call.destination), None)
    if destination is None:
        return f"none: its destination {call.destination} is not configured; restore it, or: tunerd remap --state due"
    if destination.dry_run:
        return "none: dry run, nothing is sent"
    if destination.pause is not None:
        reason = destination.pause.reason.value
        return f"after the pause ({reason}) of {destination.name}{next_probe(destination.pause, now)}"
    if paused := next((one for one in destination.agents if one.agent == call.agent), None):
        return f"after the pause ({paused.reason.value}) of agent {paused.agent}; tunerd probes every 30 s"
    if destination.closed_until is not None and destination.closed_until > max(now, due_at):
        return f"in {span(destination.closed_until - now)}: Tuner asked for this wait (Retry-After)"
    return f"in {span(due_at - now)}" if due_at > now else "as soon as an upload slot is free"


def draw_failed(calls: Sequence[CallRow], now: float) -> None:
    for call in calls:
        reason = style(call.reason or "", fg="red")
        say(f"{style(name_of(call), bold=True)}   {reason}   source {call.source}, {ago(now - call.admitted_at)}")
        say_wrapped(why(call), "  why   ", " " * 8)
        if call.call_id:
            say_wrapped(place(call.path, call.offset), "  from  ", " " * 8)
        say_wrapped(to_do(call, selection(call)), "  do    ", " " * 8)


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


def selection(call: CallRow) -> str:
    """The arguments by which a command selects this call."""
    if call.call_id:
        return ("-- " if call.call_id.startswith("-") else "") + in_shell(call.call_id)
    return f"--place {in_shell(place(call.path, call.offset))}"


def to_do(call: CallRow, it: str) -> str:
    """What to do about a call that failed, and about others like it. `it`: the arguments that select them."""
    what = _TO_DO.get(call.reason or "", "tunerd retry {it}")
    if call.reason == "rejected" and call.http_status == 400:
        what = _OF_A_400
    if call.reason == "unreadable" and call.offset:
        what = "correct it there, then: tunerd retry {it}"  # in a log or a list other lines may move, and the row stays
    return what.format(it=it, path=in_shell(call.path))
