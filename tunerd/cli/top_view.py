"""`tunerd top` as a picture, and as a line for a pipe."""

from collections.abc import Mapping
from typing import Final

from tunerd.admin.activity_answers import ActivityDocument, Durations
from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.phrases import instant, span
from tunerd.cli.drawing import STATE_COLOURS
from tunerd.cli.rates import Rates
from tunerd.cli.status_view import draw_destination, draw_source
from tunerd.cli.tap_view import duration
from tunerd.cli.terminal import say, style

_COUNTED: Final = ("admitted", "sent", "retried", "failed")
_ALWAYS: Final = ("waiting", "due", "sending", "sent", "failed")
_ALL: Final = "all sources"


def totals(activity: ActivityDocument) -> Mapping[str, int]:
    """The counts of all sources and of each one, by the names under which their rates are found."""
    found = dict.fromkeys((_name(what) for what in _COUNTED), 0)
    for source in activity.counts:
        for what in _COUNTED:
            count: int = getattr(source, what)
            found[_name(what)] += count
            found[_name(what, source.source)] = count
    return found


def _name(what: str, source: str = "") -> str:
    return f"{what} {source}"


def draw_top(status: StatusDocument, activity: ActivityDocument, rates: Rates) -> None:
    """Most important things first: what does not fit on the screen is cut at its end."""
    _heading(status)
    say()
    for state, row in status.calls.items():
        if row.count or state in _ALWAYS:
            oldest = "" if row.oldest_age_s is None or not row.count else f"   oldest {span(row.oldest_age_s)}"
            say(f"  {style(f'{state:<10}', fg=STATE_COLOURS.get(state) if row.count else None)}{row.count:>11,}{oldest}")
    say()
    say(style(f"  {'calls a second':<24}", bold=True) + "".join(f"{what:>10}" for what in _COUNTED))
    sources = [source.source for source in activity.counts]
    for source in ["", *(sources if len(sources) > 1 else [])]:
        say(f"  {source or _ALL:<24}" + "".join(f"{_rate(rates.of(_name(what, source))):>10}" for what in _COUNTED))
    say()
    say(
        style(f"  {'in the last 60 s':<24}", bold=True)
        + "".join(f"{name:>10}" for name in ("count", "median", "95 %", "longest"))
    )
    _durations("read to accepted", activity.deliveries)
    _durations("one upload", activity.uploads)
    say()
    for destination in status.destinations:
        draw_destination(destination, status.generated_at)
    for one in status.sources:
        if one.paused or one.settling or one.unreadable:
            draw_source(one)
    if status.last_failures:
        say()
        newest = status.last_failures[0]
        ago = span(status.generated_at - newest.admitted_at)
        say(f"  last failure {style(newest.reason or '', fg='red')}, read {ago} ago: see tunerd failed")


def _heading(status: StatusDocument) -> None:
    daemon, now = status.daemon, status.generated_at
    since = "" if daemon.started_at is None else f" for {span(now - daemon.started_at)}"
    state = "stopping" if daemon.stopping else "running" if daemon.ready else "starting"
    reload = "" if status.config.last_reload_successful else style("   the last reload was refused: see tunerd status", fg="red")
    say(f"tunerd {daemon.version} {state}{since} (process {daemon.pid})   {instant(now)}   q: end{reload}")


def _durations(name: str, found: Durations) -> None:
    values = [f"{found.count:,}", *map(_seconds, (found.median_s, found.p95_s, found.longest_s))]
    say(f"  {name:<24}" + "".join(f"{value:>10}" for value in values))


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:.1f}" if per_second < 100 else f"{per_second:,.0f}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def draw_line(status: StatusDocument, activity: ActivityDocument, rates: Rates) -> None:
    """One line, its parts apart by two blanks."""
    parts = [f"{what} {_rate(rates.of(_name(what)))}/s" for what in _COUNTED]
    parts += [f"{status.calls[state].count} {state}" for state in ("waiting", "due", "sending", "failed")]
    parts.append(f"median {_seconds(activity.deliveries.median_s)}")
    parts.append(f"95 % {_seconds(activity.deliveries.p95_s)}")
    paused = [f"{one.name} ({one.pause.reason.value})" for one in status.destinations if one.pause is not None]
    paused += [f"{one.name} ({one.paused.value})" for one in status.sources if one.paused is not None]
    parts += [f"paused: {', '.join(paused)}"] if paused else []
    say(f"{instant(activity.at)}  {'  '.join(parts)}")
