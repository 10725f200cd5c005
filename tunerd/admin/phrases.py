"""Words for people about calls, destinations and sources: names, times, what delays a call, and what to do about it. The commands
and the status page say the same with them. Pure.
"""

import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tunerd.admin.answer_types import CallRow, StatusDocument
from tunerd.outcome import IntakeReason, PauseReason
from tunerd.statuses import PauseStatus, SourceStatus
from tunerd.visible import visible

_TO_DO: Final = {
    "unreadable": "correct the file; it is then read again automatically",
    "too_large": "raise what the message names, max_document of the source or ledger.max_spool, then: tunerd retry {it}",
    "unmappable": "find the rule with: tunerd explain {path}; correct it, then: tunerd retry {it}",
    "invalid": "find the rule with: tunerd explain {path}; correct it, then: tunerd retry {it}",
    "refused": "a `refuse:` rule matched. If it should not have: correct the rule, then: tunerd retry {it}",
    "id_conflict": "the call_id rule gives two calls one id: correct it, then: tunerd retry {it}",
    "recording_missing": "it is sent when its recording arrives; to look for it again now: tunerd retry {it}",
    "recording_too_long": "write `audio: upload` (docs/buckets.md), reload, then: tunerd remap --state failed",
    "recording_ambiguous": "tunerd status {it} names the candidates. A nearer recording decides, or you do: "
    "tunerd retry {it} --recording LOCATION",
    "recording_expired": "write the manifest again with a fresh URL, then: tunerd retry {it}",
    "rejected": "Tuner does not accept it as it is: tunerd explain {path}; correct the rule, then: tunerd retry {it}",
    "gave_up": "when Tuner works again: tunerd retry {it}",
    "crashed": "please report it; to try again: tunerd retry {it}",
    "document_lost": "to send it, put its file back into the source's directory; else: tunerd dismiss {it}",
    "audio_unreadable": "correct what is said there, then: tunerd retry {it}",
    "audio_changed": "let each call record to a file of its own. If you know the call's file: "
    "tunerd retry {it} --recording LOCATION",
    "audio_too_large": "record in a smaller format, or convert the file in its place, then: tunerd retry {it}",
    "audio_form": "put a create-call key (tr_api_...) in place, or set `audio: presign`, then: tunerd retry {it}",
    "audio_host_lost": "start the instance that has the audio again, with its disk, then: tunerd retry {it}",
    "upload_target_lost": "Tuner has the call without its audio, and nobody can add it; to clear it: tunerd dismiss {it}",
    "upload_not_offered": "Tuner has the call without its audio: ask Tuner about uploads, then: tunerd dismiss {it}",
    "upload_expired": "Tuner has the call without its audio: see why its storage could not be reached; tunerd dismiss {it}",
    "incomplete": "to send the documents that arrived: tunerd retry {it}; else: tunerd dismiss {it}",
}
_OF_A_400: Final = (
    "400 usually means a wrong workspace_id or agent_remote_identifier: compare them with Tuner (tunerd check --online), "
    "correct them, reload, then: tunerd retry {it}; if they are right: tunerd explain {path}; correct the rule, then: "
    "tunerd retry {it}"
)
_SOURCE_TO_DO: Final = {
    IntakeReason.MISSING: "the directory does not exist, or another one is in its place; reading resumes when it is back",
    IntakeReason.DENIED: "this process cannot read the directory: give it read and search permission (r-x); see its log",
}


def in_shell(text: str) -> str:
    """One word of a command that can be copied, whatever a file or a call is called."""
    if text.isprintable():
        return shlex.quote(text)
    octets = "".join(chr(octet) if 32 < octet < 127 and octet not in b"'\\" else f"\\x{octet:02x}" for octet in os.fsencode(text))
    return f"$'{octets}'"


def name_of(call: CallRow) -> str:
    """The id of a call; its place, if the mapping gave it none."""
    return visible(call.call_id or place(call.path, call.offset))


def why(call: CallRow) -> str:
    return ": ".join(part for part in (call.where, call.detail) if part) or "no details are known"


def place(path: str, offset: int) -> str:
    return f"{path}@{offset}" if offset else path


def next_probe(pause: PauseStatus, now: float) -> str:
    if pause.reason is PauseReason.OPERATOR:
        return "; end it with: tunerd resume"
    return "" if pause.next_probe_at is None else f"; next probe in {span(pause.next_probe_at - now)}"


def count_of(count: int, one: str) -> str:
    """`1 call`, `1,234 calls`."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


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


def next_attempt(call: CallRow, status: StatusDocument) -> str:
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


def facts_of(call: CallRow, status: StatusDocument, audio: str = "") -> list[tuple[str, str]]:
    """What is known about a call, by name, without what is empty. `status`: of the same moment; it tells what delays the call."""
    found: list[tuple[str, str | None]] = [
        ("reason", call.reason and f"{call.reason}: {why(call)}"),
        ("http status", None if call.http_status is None else str(call.http_status)),
        ("tuner call id", call.tuner_call_id),
        ("destination", call.destination and f"{call.destination}, agent {call.agent}"),
        ("source", call.source),
        ("recording", call.recording_url),
        ("audio", audio),
        ("started", None if call.started_at is None else instant(call.started_at)),
        ("admitted", f"{instant(call.admitted_at)} ({ago(status.generated_at - call.admitted_at)})"),
        ("attempts", str(call.attempts) if call.attempts else None),
        ("next attempt", next_attempt(call, status) if call.state == "due" else None),
    ]
    return [(name, value) for name, value in found if value]


def source_warnings(status: SourceStatus) -> list[str]:
    warnings = [_SOURCE_TO_DO[status.paused]] if status.paused in _SOURCE_TO_DO else []
    if status.only_ignored:
        warnings.append(f"`when:` ignored the last {status.only_ignored:,} documents, and none became a call. Check the rules: "
                        "tunerd explain FILE")  # fmt: skip
    if status.unknown_roles:
        dropped = sum(count for reason, count in status.rows_dropped.items() if reason != "not_speech")
        lost = f"; {dropped:,} rows were dropped" if dropped else ""
        warnings.append(f"roles missing from the table of roles: {', '.join(status.unknown_roles)}{lost}")
    if status.also_read_by:
        warnings.append(f"{status.also_read_by} also reads it: with two ledgers, each call is sent twice")
    if (one := status.unreadable_example) is not None:
        count = f"{status.unreadable:,} cannot be read, for example" if status.unreadable > 1 else "not read:"
        warnings.append(f"{count} {one.path}: {one.why}; tunerd keeps trying until it can be read or is gone")
    return warnings


def selection(call: CallRow, quoted: Callable[[str], str] = in_shell) -> str:
    """The arguments by which a command selects this call. `quoted`: makes one word of a command."""
    if call.call_id:
        return ("-- " if call.call_id.startswith("-") else "") + quoted(call.call_id)
    return f"--place {quoted(place(call.path, call.offset))}"


def to_do(call: CallRow, it: str, quoted: Callable[[str], str] = in_shell) -> str:
    """What to do about a call that failed, and about others like it. `it`: the arguments that select them."""
    what = _TO_DO.get(call.reason or "", "tunerd retry {it}")
    if call.state == "sent":
        what = _TO_DO["upload_target_lost"] if "dismiss" not in what else what
    if call.reason == "rejected" and call.http_status == 400:
        what = _OF_A_400
    if call.reason == "unreadable" and call.offset:
        what = "correct it there, then: tunerd retry {it}"  # in a log or a list other lines may move, and the row stays
    return what.format(it=it, path=quoted(call.path))
