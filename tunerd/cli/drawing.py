"""How commands draw what tunerd answers: eighty columns, colours only on a terminal (click takes them away elsewhere).

Every function prints answers.py's shapes; what is wrapped, how long ago, and what to do about a reason stands here.
"""

import os
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from tunerd.cli.terminal import say, style
from tunerd.ops.answers import (
    CallRow,
    DestinationRow,
    PauseRow,
    Report,
    SourceRow,
    StatusDocument,
    StoryRow,
    StrandedRow,
    Trouble,
)
from tunerd.outcome import PauseReason
from tunerd.visible import visible

WIDTH: Final = 80
_SHOWN_TROUBLES: Final = 20
_COLOURS: Final = {"sent": "green", "failed": "red", "due": "yellow", "sending": "cyan", "waiting": "blue"}

_TO_DO: Final = {
    "unreadable": "mend the file: it is read again by itself",
    "too_large": "raise max_document of the source, then: tunerd retry {it}",
    "unmappable": "see the rule with: tunerd explain {path}; mend it, then: tunerd retry {it}",
    "invalid": "see the rule with: tunerd explain {path}; mend it, then: tunerd retry {it}",
    "refused": "a refuse: rule wants it so; else mend the rule, then: tunerd retry {it}",
    "id_conflict": "the call_id rule gives one id to two calls: mend it, then: tunerd retry {it}",
    "recording_missing": "goes on by itself when its recording comes; to look again now: tunerd retry {it}",
    "recording_ambiguous": "tunerd status {it} names the candidates; a nearer recording revives it, or: tunerd dismiss {it}",
    "recording_expired": "write the manifest anew with a fresh URL, then: tunerd retry {it}",
    "rejected": "Tuner does not take it as it is: tunerd explain {path}; mend the rule, then: tunerd retry {it}",
    "gave_up": "when Tuner is well again: tunerd retry {it}",
    "crashed": "please report it; to try again: tunerd retry {it}",
    "document_lost": "put its file back into the source's directory, and the call goes out; else: tunerd dismiss {it}",
    "incomplete": "to send the documents that are there: tunerd retry {it}; else: tunerd dismiss {it}",
}


_OF_A_400: Final = (
    "400 mostly means a wrong workspace_id or agent_remote_identifier: compare them with Tuner (tunerd check --online); "
    "mend, reload, then: tunerd retry {it}"
)


def draw_status(status: StatusDocument) -> None:
    now, daemon = status["generated_at"], status["daemon"]
    if daemon["running"]:
        since = "" if daemon["started_at"] is None else f" for {span(now - daemon['started_at'])}"
        mood = "stopping" if daemon["stopping"] else "running" if daemon["ready"] else "starting"
        say(f"tunerd {daemon['version']} is {mood}{since} (process {daemon['pid']})")
    else:
        say(style("tunerd is not running", fg="yellow") + "; this is what its ledger says")
    config = status["config"]
    say(f"configuration {config['file']}")
    if not config["last_reload_successful"]:
        say(style("  the last reload was refused; the configuration before it goes on:", fg="red"))
        for problem in config["problems"][:5]:
            _wrapped(problem, "    ")
    say()
    for state, row in status["calls"].items():
        if row["count"] or state in ("due", "sent", "failed"):
            oldest = "" if row["oldest_age_s"] is None or not row["count"] else f"   oldest {ago(row['oldest_age_s'])}"
            hint = "   tunerd failed" if state == "failed" and row["count"] else ""
            colour = _COLOURS.get(state) if row["count"] else None
            say(f"  {style(f'{state:<10}', fg=colour)}{row['count']:>11,}{oldest}{hint}")
    if status["destinations"]:
        say()
        say("Destinations")
        for destination in status["destinations"]:
            _destination(destination, now)
    if status["sources"]:
        say()
        say("Sources")
        for source in status["sources"]:
            _source(source)
    for stranded in status["stranded"]:
        say()
        _stranded(stranded)
    if status["last_failures"]:
        say()
        say("Last failures")
        for call in status["last_failures"]:
            say(f"  {name_of(call)}   {style(call['reason'] or '', fg='red')}   {ago(now - call['admitted_at'])}")
            _wrapped(_why(call), "    ")


def draw_story(story: StoryRow, status: StatusDocument) -> None:
    """`status`: of the same moment; what stands still there holds this call up, too."""
    call, now = story["call"], status["generated_at"]
    state = call["state"]
    say(f"{style(name_of(call), bold=True)}   {style(state, fg=_COLOURS.get(state))}"
               + (" (dismissed)" if call["dismissed"] else ""))  # fmt: skip
    facts: list[tuple[str, str | None]] = [
        ("reason", call["reason"] and f"{call['reason']}: {_why(call)}"),
        ("http status", None if call["http_status"] is None else str(call["http_status"])),
        ("tuner call id", call["tuner_call_id"]),
        ("destination", call["destination"] and f"{call['destination']}, agent {call['agent']}"),
        ("source", call["source"]),
        ("recording", call["recording_url"]),
        ("started", None if call["started_at"] is None else instant(call["started_at"])),
        ("admitted", f"{instant(call['admitted_at'])} ({ago(now - call['admitted_at'])})"),
        ("attempts", str(call["attempts"]) if call["attempts"] else None),
        ("next attempt", _next_attempt(call, status) if state == "due" else None),
    ]
    for name, value in facts:
        if value:
            _wrapped(value, f"  {name:<14}", " " * 16)
    for number, origin in enumerate(story["origins"]):
        _wrapped(place(origin["path"], origin["offset"]), f"  {'read from' if number == 0 else '':<14}", " " * 16)
    if story["waits_for"]:
        say()
        say("  What its recording is looked for by")
        for line in story["waits_for"]:
            _wrapped(line, "    - ", "      ")
    if story["events"]:
        say()
        say("  What happened")
        for event in story["events"]:
            answer = f" {event['http_status']}" if event["http_status"] is not None else ""
            _wrapped(f"{event['what']}{answer}" + (f": {event['detail']}" if event["detail"] else ""),
                     f"    {instant(event['at'])}  ", " " * 27)  # fmt: skip
    if state == "failed" and not call["dismissed"]:
        say()
        _to_do(call, "  what to do    ", " " * 16)


def _next_attempt(call: CallRow, status: StatusDocument) -> str:
    """When a due call goes out, or what it waits for first."""
    now = status["generated_at"]
    if not status["daemon"]["running"]:
        return "when tunerd runs again; it is not running"
    due_at = call["due_at"] or now
    row = next((row for row in status["destinations"] if row["name"] == call["destination"]), None)
    if row is None:
        return f"none: its destination {call['destination']} is not configured; put it back, or: tunerd remap --state due"
    if row is not None:
        if row["dry_run"]:
            return "none: dry run, nothing is sent"
        if row["pause"]:
            return f"waits for the pause ({row['pause']['reason']}) of {row['name']} to end{_next_probe(row['pause'], now)}"
        if paused := next((one for one in row["agents"] if one["agent"] == call["agent"]), None):
            return f"waits for the pause ({paused['reason']}) of agent {paused['agent']} to end; a probe goes out now and then"
        if row["closed_until"] is not None and row["closed_until"] > max(now, due_at):
            return f"in {span(row['closed_until'] - now)}: Tuner asked for it (Retry-After)"
    return f"in {span(due_at - now)}" if due_at > now else "as soon as an upload is free"


def draw_failed(calls: Sequence[CallRow], now: float) -> None:
    for call in calls:
        say(f"{style(name_of(call), bold=True)}   {style(call['reason'] or '', fg='red')}"
                   f"   source {call['source']}, {ago(now - call['admitted_at'])}")  # fmt: skip
        _wrapped(_why(call), "  why   ", " " * 8)
        if call["call_id"]:
            _wrapped(place(call["path"], call["offset"]), "  from  ", " " * 8)
        _to_do(call, "  do    ", " " * 8)


def draw_report(report: Report, verb: str) -> None:
    """`verb`: what was done to them, as in "sent again"."""
    for state, count in sorted(report["done"].items()):
        who = f"{count:,} {'calls' if count != 1 else 'call'}"
        say(f"{who} {_OWN_WORDS[state]}" if state in _OWN_WORDS else f"{who} {verb}: now {state}")
    _troubles(report["failed"], "still failed", "red")
    _troubles(report["skipped"], "not touched", "yellow")


_OWN_WORDS: Final = {
    "dismissed": "dismissed", "forgotten": "forgotten", "recording": "taken as a recording",
    "sending": "being sent already; nothing more to do", "sent": "sent already; nothing more to do",
}  # fmt: skip
"""What an order does not do by itself, or what was so before it."""


def _troubles(troubles: Sequence[Trouble], title: str, colour: str) -> None:
    if troubles:
        say(f"{len(troubles):,} {style(title, fg=colour)}:")
    for trouble in troubles[:_SHOWN_TROUBLES]:
        who = trouble["call_id"] or place(trouble["path"], trouble["offset"])
        _wrapped(f"{who}   {trouble['reason']}: {trouble['what']}", "  ", "    ")
    if len(troubles) > _SHOWN_TROUBLES:
        say(f"  and {len(troubles) - _SHOWN_TROUBLES:,} more; --json lists them all")


def name_of(call: CallRow) -> str:
    """A call is named by its id; where the mapping did not get that far, by its place."""
    return visible(call["call_id"] or place(call["path"], call["offset"]))


def place(path: str, offset: int) -> str:
    return f"{path}@{offset}" if offset else path


def span(seconds: float) -> str:
    """`12 s`, `4 min`, `3 h 12 min`, `2 d 5 h`."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def ago(seconds: float) -> str:
    return f"{span(seconds)} ago"


def instant(at: float) -> str:
    """UTC to the second, as in the log."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _destination(row: DestinationRow, now: float) -> None:
    limit = f" of {row['limit']}" if row["limit"] else ""
    uploads = f"   {row['in_flight']}{limit} uploads under way" if row["limit"] or row["in_flight"] else ""
    say(f"  {row['name']}{uploads}" + (style("   dry run: nothing is sent", fg="yellow") if row["dry_run"] else ""))
    if row["pause"]:
        _pause(row["pause"], now)
    if row["closed_until"] is not None and row["closed_until"] > now:
        say(f"    closed for {span(row['closed_until'] - now)} more: Tuner asked for it (Retry-After)")
    for agent in row["agents"]:
        since = "" if agent["since"] is None else f" for {span(now - agent['since'])}"
        say(f"    agent {agent['agent']} " + style(f"paused ({agent['reason']})", fg="yellow") + since)


def _stranded(row: StrandedRow) -> None:
    count = row["waiting"] + row["due"]
    if row["destination"]:
        what = f"their destination {row['destination']} is not configured, so nothing sends them"
    else:
        what = f"they look for recordings of the source {row['manifest']}, which is not configured"
    told = f"Stranded: {count:,} {'calls' if count != 1 else 'call'}: {what}"
    _wrapped(f"{told}. Put it back, or map them again with today's rules:", "", fg="yellow")
    say(f"  {row['command']}")


def _source(row: SourceRow) -> None:
    files = row["files"]
    counts = f"{files:,} file{'' if files == 1 else 's'}" + (f", {row['settling']:,} not read yet" if row["settling"] else "")
    counts += f", {row['late_parts']:,} parts came after their call was sent" if row["late_parts"] else ""
    state = style(f"not read ({row['paused']})", fg="yellow") if row["paused"] else counts
    say(f"  {row['name']}   {state}" + ("" if row["watching"] or row["paused"] else ", found by scans"))
    _wrapped(row["path"], "    ")
    if to_do := _SOURCE_TO_DO.get(row["paused"] or ""):
        _wrapped(to_do, "    ", fg="yellow")
    if row["only_ignored"]:
        what = (
            f"the last {row['only_ignored']:,} documents were left out by `when:`, and none became a call: are the rules right?"
        )
        _wrapped(f"{what} tunerd explain FILE", "    ", fg="yellow")
    if row["unknown_roles"]:
        lost = sum(count for why, count in row["rows_dropped"].items() if why != "not_speech")
        told = f"; {lost:,} rows were left out" if lost else ""
        _wrapped(f"roles that no table names: {', '.join(row['unknown_roles'])}{told}", "    ", fg="yellow")
    if row["also_read_by"]:
        _wrapped(f"{row['also_read_by']} reads it, too: with two ledgers each call is sent twice", "    ", fg="yellow")
    if one := row["unreadable_example"]:
        count = f"{row['unreadable']:,} cannot be read, such as" if row["unreadable"] > 1 else "not read:"
        _wrapped(f"{count} {one['path']}: {one['why']}; tried again until it can be read or is gone", "    ", fg="yellow")


_SOURCE_TO_DO: Final = {
    "missing": "there is no such directory, or another one in its place: it is read as soon as it is back",
    "denied": "this process cannot read the directory: give it read and search permission (r-x); its log says more",
}


def _pause(pause: PauseRow, now: float) -> None:
    since = "" if pause["since"] is None else f" for {span(now - pause['since'])}"
    _wrapped(
        f"paused ({pause['reason']}){since}{_next_probe(pause, now)}" + (f": {pause['detail']}" if pause["detail"] else ""),
        "    ",
        fg="yellow",
    )


def _next_probe(pause: PauseRow, now: float) -> str:
    if pause["reason"] == PauseReason.OPERATOR.value:
        return "; it ends with: tunerd resume"
    return "" if pause["next_probe_at"] is None else f"; next probe in {span(pause['next_probe_at'] - now)}"


def _why(call: CallRow) -> str:
    return ": ".join(part for part in (call["where"], call["detail"]) if part) or "no more is known"


def _to_do(call: CallRow, head: str, indent: str) -> None:
    if call["call_id"]:
        it = ("-- " if call["call_id"].startswith("-") else "") + _in_shell(call["call_id"])
    else:
        it = f"--place {_in_shell(place(call['path'], call['offset']))}"
    to_do = _TO_DO.get(call["reason"] or "", "tunerd retry {it}")
    if call["reason"] == "rejected" and call["http_status"] == 400:
        to_do = f"{_OF_A_400}; if they are right: tunerd explain {{path}}; mend the rule, then: tunerd retry {{it}}"
    if call["reason"] == "unreadable" and call["offset"]:
        to_do = "mend it there, then: tunerd retry {it}"  # of a log or a list: other lines may move, and the row stays
    _wrapped(to_do.format(it=it, path=_in_shell(call["path"])), head, indent)


def _wrapped(text: str, head: str, indent: str | None = None, fg: str | None = None) -> None:
    """Lines of at most eighty columns; a long path or URL stays whole, to be copied."""
    lines: Iterable[str] = textwrap.wrap(
        visible(text), WIDTH, initial_indent=head, subsequent_indent=head if indent is None else indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    for line in lines:
        line = line.replace(_KEPT_BLANK, " ")
        say(style(line, fg=fg) if fg else line)


_KEPT_BLANK: Final = "\u2800"
"""Stands for a blank at which a line must not be broken, until it is printed."""


def _in_shell(text: str) -> str:
    """One word of a command to be copied, whatever a file or a call is called: quoted, and never broken at a blank."""
    if text.isprintable():
        return shlex.quote(text).replace(" ", _KEPT_BLANK)
    octets = "".join(chr(octet) if 32 < octet < 127 and octet not in b"'\\" else f"\\x{octet:02x}" for octet in os.fsencode(text))
    return f"$'{octets}'"
