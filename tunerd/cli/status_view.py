"""`tunerd status` as text: the daemon, its calls by state, destinations, sources, stranded calls, last failures."""

from typing import Final

from tunerd.admin.answer_types import StatusDocument, StrandedRow
from tunerd.admin.phrases import ago, count_of, name_of, next_probe, source_warnings, span, why
from tunerd.cli.drawing import STATE_COLOURS, say_wrapped
from tunerd.cli.terminal import say, style
from tunerd.config.text_forms import FIRST_LABEL, POSTGRESQL
from tunerd.statuses import SILENT_S, DestinationStatus, InstanceStatus, SourceStatus

_PROBLEMS_SHOWN: Final = 5


def draw_status(status: StatusDocument) -> None:
    now = status.generated_at
    _daemon(status)
    say()
    for state, row in status.calls.items():
        if row.count or state in ("due", "sent", "failed"):
            oldest = "" if row.oldest_age_s is None or not row.count else f"   oldest {ago(row.oldest_age_s)}"
            hint = "   tunerd failed" if state == "failed" and row.count else ""
            colour = STATE_COLOURS.get(state) if row.count else None
            say(f"  {style(f'{state:<10}', fg=colour)}{row.count:>11,}{oldest}{hint}")
    if status.instances:
        say()
        say("Instances")
        for instance in status.instances:
            _instance(instance, now, is_this=status.daemon.running and instance.name == status.daemon.instance)
    if status.destinations:
        say()
        say("Destinations")
        for destination in status.destinations:
            draw_destination(destination, now)
    if status.sources:
        say()
        say("Sources")
        for source in status.sources:
            draw_source(source)
    for stranded in status.stranded:
        say()
        _stranded(stranded)
    if status.last_failures:
        say()
        say("Last failures")
        for call in status.last_failures:
            say(f"  {name_of(call)}   {style(call.reason or '', fg='red')}   {ago(now - call.admitted_at)}")
            say_wrapped(why(call), "    ")


def _daemon(status: StatusDocument) -> None:
    daemon, config = status.daemon, status.config
    if daemon.running:
        since = "" if daemon.started_at is None else f"; it started {ago(status.generated_at - daemon.started_at)}"
        state = "stopping" if daemon.stopping else "running" if daemon.ready else "starting"
        say(f"tunerd {daemon.version} is {state}{since} (process {daemon.pid})")
    else:
        where = " on this machine" if daemon.ledger.startswith(POSTGRESQL) else ""
        say(style(f"tunerd is not running{where}", fg="yellow") + "; this is the content of its ledger")
    say(f"configuration {config.file}")
    if not config.last_reload_successful:
        say(style("  the last reload was refused; tunerd keeps the previous configuration:", fg="red"))
        for problem in config.problems[:_PROBLEMS_SHOWN]:
            say_wrapped(problem, "    ")


def _instance(instance: InstanceStatus, now: float, *, is_this: bool) -> None:
    this = " (this one)" if is_this else ""
    say(f"  {instance.name}{this}   tunerd {instance.version} on {instance.host}, started {ago(now - instance.started_at)}, "
        f"{count_of(instance.in_flight, 'call')} in flight")  # fmt: skip
    if instance.heartbeat_age_s >= SILENT_S:
        silent = f"no heartbeat for {span(instance.heartbeat_age_s)}; others take over what it was sending"
        say_wrapped(silent, "    ", fg="yellow")


def draw_destination(status: DestinationStatus, now: float) -> None:
    limit = f" of {status.limit}" if status.limit else ""
    uploads = f"   {status.in_flight}{limit} uploads in flight" if status.limit or status.in_flight else ""
    label = f" ({status.label})" if status.label not in ("", FIRST_LABEL) else ""
    say(f"  {status.name}{label}{uploads}" + (style("   dry run: nothing is sent", fg="yellow") if status.dry_run else ""))
    if (pause := status.pause) is not None:
        since = "" if pause.since is None else f" for {span(now - pause.since)}"
        detail = f": {pause.detail}" if pause.detail else ""
        say_wrapped(f"paused ({pause.reason.value}){since}{next_probe(pause, now)}{detail}", "    ", fg="yellow")
    if status.closed_until is not None and status.closed_until > now:
        say(f"    no uploads for {span(status.closed_until - now)}: Tuner asked for this wait (Retry-After)")
    for agent in status.agents:
        since = "" if agent.since is None else f" for {span(now - agent.since)}"
        say(f"    agent {agent.agent} " + style(f"paused ({agent.reason.value})", fg="yellow") + since)


def draw_source(status: SourceStatus) -> None:
    counts = count_of(status.files, "file") + (f", {status.settling:,} not read yet" if status.settling else "")
    counts += f", {status.late_parts:,} parts arrived after their call was sent" if status.late_parts else ""
    state = style(f"paused ({status.paused.value})", fg="yellow") if status.paused else counts
    if status.read_by:
        say(f"  {status.name}   read by the instance {status.read_by}")
    else:
        say(f"  {status.name}   {state}" + ("" if status.watching or status.paused else ", found by scans"))
    say_wrapped(status.path, "    ")
    for warning in source_warnings(status):
        say_wrapped(warning, "    ", fg="yellow")


def _stranded(row: StrandedRow) -> None:
    if row.destination:
        cause = f"their destination {row.destination} is not configured, so they are not sent"
    else:
        cause = f"they need recordings of the source {row.manifest}, which is not configured"
    stranded = f"Stranded: {count_of(row.waiting + row.due, 'call')}: {cause}"
    say_wrapped(f"{stranded}. Restore it, or map them again with the current rules:", "", fg="yellow")
    say(f"  {row.command}")
