"""`tunerd failed` grouped by cause: for each how many calls, since when, why, some of them, and what to do about them all."""

from datetime import UTC, datetime
from typing import Final

from tunerd.admin.phrases import ago, count_of, name_of, selection, to_do, why
from tunerd.cli.calls_view import draw_failed
from tunerd.cli.causes import EXAMPLES, Cause, Causes
from tunerd.cli.drawing import say_wrapped, unbroken
from tunerd.cli.terminal import say, style

_CAUSES_SHOWN: Final = 50
_INDENT: Final = " " * 8

_OF_MANY: Final = {
    "unreadable": "correct the files; they are then read again automatically",
    "recording_missing": "each is sent when its recording arrives; to look for them again now: tunerd retry {it}",
    "recording_ambiguous": "tunerd status {one} names the candidates of one call, and tunerd retry CALL_ID --recording LOCATION "
                           "gives one of them to it. A nearer recording decides, too. To leave them: tunerd dismiss {it}",
    "audio_changed": "let each call record to a file of its own. If you know the file of one: "
                     "tunerd retry CALL_ID --recording LOCATION",
    "document_lost": "to send them, put their files back into the source's directory; else: tunerd dismiss {it}",
}  # fmt: skip
"""Where the words for one call do not fit several."""


def draw_causes(causes: Causes, now: float, since: float | None) -> None:
    """`since`: only calls read since this instant were looked at, and only those are selected by the commands to copy."""
    groups = causes.largest_first()
    for cause in groups[:_CAUSES_SHOWN]:
        if cause.count == 1:
            draw_failed([cause.newest], now)
        else:
            _draw(cause, causes.others(cause), now, since)
    if rest := groups[_CAUSES_SHOWN:]:
        say()
        say(f"and {count_of(sum(cause.count for cause in rest), 'call')} of {len(rest):,} more causes; --reason selects some")
    if groups and groups[0].count > 1:
        say()
        say("To list each call: tunerd failed --limit 0")


def _draw(cause: Cause, others: int, now: float, since: float | None) -> None:
    call = cause.newest
    reason, newest, oldest = style(call.reason or "", fg="red"), ago(now - cause.newest_at), ago(now - cause.oldest_at)
    when = newest if newest == oldest else f"{oldest} to {newest}"
    say(f"{style(count_of(cause.count, 'call'), bold=True)}   {reason}   source {call.source}, {when}")
    say_wrapped(why(call), "  why   ", _INDENT)
    more = f" and {cause.count - EXAMPLES:,} more" if cause.count > EXAMPLES else ""
    say_wrapped(", ".join(name_of(one) for one in cause.examples) + more, "  calls ", _INDENT)
    all_of_them, is_exact = _selection(cause, since)
    say_wrapped(_to_do(cause, all_of_them), "  do    ", _INDENT)
    if others and not is_exact:
        say_wrapped(f"These options also select the {count_of(others, 'other call')} that failed for this reason.",
                    _INDENT, _INDENT)  # fmt: skip


def _selection(cause: Cause, since: float | None) -> tuple[str, bool]:
    """The arguments that select the calls of a cause, and whether they select no others."""
    if cause.count <= EXAMPLES and all(one.call_id for one in cause.examples):
        ids = [unbroken(one.call_id or "") for one in cause.examples]
        return ("-- " if any(one.startswith("-") for one in ids) else "") + " ".join(ids), True
    at = "" if since is None else f" --since {datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"--reason {cause.newest.reason} --source {unbroken(cause.newest.source)}{at}", False


def _to_do(cause: Cause, all_of_them: str) -> str:
    call = cause.newest
    if call.reason == "unreadable" and cause.has_places:
        return f"correct them there, then: tunerd retry {all_of_them}"
    if what := _OF_MANY.get(call.reason or ""):
        return what.format(it=all_of_them, one=selection(call, unbroken))
    return to_do(call, all_of_them, unbroken)
