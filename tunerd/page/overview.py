"""The first page: whether anything needs attention, what runs, the last hour, states, destinations, sources, oldest and failed
calls. Pure: a status document and lists of calls in, HTML out.
"""

from collections.abc import Sequence
from typing import Final

from tunerd.admin.answer_types import CallRow, StatusDocument, StrandedRow
from tunerd.admin.phrases import ago, count_of, instant, next_attempt, next_probe, source_warnings, span
from tunerd.outcome import PauseReason
from tunerd.page.call_parts import call_link, failed_groups
from tunerd.page.frame import Viewer, badge, card, form, row, state_badge
from tunerd.page.hour_picture import hour_picture
from tunerd.page.markup import NOTHING, Html, joined, tag
from tunerd.record import record
from tunerd.statuses import SILENT_S, DestinationStatus, InstanceStatus, SourceStatus

_TO_DO_BY_PAUSE: Final = {
    PauseReason.AUTH: "Tuner refuses the key: correct it in its file; tunerd reads the file every 5 s and resumes",
    PauseReason.ENDPOINT: "Tuner does not know this address: compare base_url and workspace_id (tunerd check --online)",
    PauseReason.REJECTING: "Tuner rejects call after call: see the failed calls below, correct the cause, then resume",
    PauseReason.UNREACHABLE: "Tuner cannot be reached; tunerd probes and resumes automatically, and no call is lost",
    PauseReason.OPERATOR: "an operator paused it; calls are kept until somebody resumes it",
    PauseReason.LOCAL: "this process has no free file descriptor: raise LimitNOFILE (ulimit -n)",
}


@record
class Overview:
    """What the first page shows."""

    status: StatusDocument
    failed: Sequence[CallRow]
    """The newest ones, a limited number."""
    oldest: Sequence[CallRow]
    """Of the open calls."""


def overview(shown: Overview, viewer: Viewer) -> Sequence[Html]:
    status = shown.status
    return [
        _verdict(status),
        card("The last hour", hour_picture(status.last_hour)) if status.last_hour is not None else NOTHING,
        card("Calls", _states(status)),
        tag("div", _destinations(status, viewer), _sources(status), class_="pair"),
        _instances(status) if len(status.instances) > 1 else NOTHING,
        *(_stranded(one) for one in status.stranded),
        _failed(shown, viewer),
        _oldest(shown),
        _daemon(status),
    ]


def _verdict(status: StatusDocument) -> Html:
    needs = attention(status)
    daemon = status.daemon
    since = "" if daemon.started_at is None else f"; it started {ago(status.generated_at - daemon.started_at)}"
    state = "stopping" if daemon.stopping else "running" if daemon.ready else "starting"
    runs = tag("p", f"tunerd {daemon.version} is {state}{since}.", class_="dim")
    if not needs:
        waits = sum(status.calls[name].count for name in ("gathering", "waiting", "due", "sending"))
        words = f"Nothing needs attention. {count_of(waits, 'call')} on the way." if waits else "Nothing needs attention."
        return tag("section", tag("strong", words), runs, class_="card verdict")
    points = tag("ul", *(tag("li", words) for words in needs))
    one = "One thing needs attention" if len(needs) == 1 else f"{len(needs)} things need attention"
    return tag("section", tag("strong", one), points, runs, class_="card verdict bad")


def attention(status: StatusDocument) -> list[str]:
    """What a person should look at, the worst first."""
    needs = [
        f"Delivery to {one.name} is paused ({one.pause.reason.value}): {_TO_DO_BY_PAUSE[one.pause.reason]}."
        for one in status.destinations
        if one.pause is not None
    ]
    needs += [
        f"Agent {agent.agent} of {one.name} is paused ({agent.reason.value})."
        for one in status.destinations
        for agent in one.agents
    ]
    for source in status.sources:
        if source.paused is not None:
            needs.append(f"Source {source.name} is not read ({source.paused.value}).")
        elif source_warnings(source):
            needs.append(f"Source {source.name} has a warning.")
    if stranded := sum(one.waiting + one.due for one in status.stranded):
        needs.append(f"{count_of(stranded, 'call')} belong to a destination or source that is not configured.")
    if not status.config.last_reload_successful:
        needs.append("The last reload was refused; tunerd keeps the previous configuration.")
    if failed := status.calls["failed"].count:
        needs.append(f"{count_of(failed, 'call')} failed and will not be sent unless somebody retries.")
    return needs


def _states(status: StatusDocument) -> Html:
    def one(state: str) -> Html:
        found = status.calls[state]
        age = "" if found.oldest_age_s is None or not found.count else f"oldest {ago(found.oldest_age_s)}"
        return tag("div", tag("dt", state), tag("dd", f"{found.count:,}", tag("small", age) if age else NOTHING))

    return tag("dl", *(one(state) for state in status.calls), class_="states")


def _destinations(status: StatusDocument, viewer: Viewer) -> Html:
    rows = [_destination(one, status.generated_at, viewer) for one in status.destinations]
    return card("Destinations", *(rows or [tag("p", "none", class_="dim")]))


def _destination(one: DestinationStatus, now: float, viewer: Viewer) -> Html:
    is_closed = one.closed_until is not None and one.closed_until > now
    if one.pause is not None:
        mark = badge("bad", f"paused ({one.pause.reason.value})")
    elif one.dry_run:
        mark = badge("late", "dry run: nothing is sent")
    else:
        mark = badge("late", "waiting") if is_closed or one.agents else badge("good", "open")
    limit = f" of {one.limit}" if one.limit else ""
    parts = [
        tag("div", tag("strong", one.name), mark, class_="head"),
        tag("p", f"{one.in_flight}{limit} uploads in flight" + (f", {one.form.value}" if one.form else ""), class_="dim"),
    ]
    if one.pause is not None:
        since = "" if one.pause.since is None else f"since {instant(one.pause.since)} ({span(now - one.pause.since)})"
        parts.append(tag("p", f"paused {since}{next_probe(one.pause, now)}"))
        if one.pause.detail:
            parts.append(tag("p", one.pause.detail, class_="wrong"))
    if is_closed:
        parts.append(tag("p", f"no uploads for {span((one.closed_until or now) - now)}: Tuner asked for this wait (Retry-After)"))
    parts += [
        tag("p", f"agent {agent.agent} paused ({agent.reason.value})"
            + ("" if agent.since is None else f" for {span(now - agent.since)}"), class_="warn")
        for agent in one.agents
    ]  # fmt: skip
    if viewer.may_act:
        parts.append(_gates(one, viewer))
    return row(*parts)


def _gates(one: DestinationStatus, viewer: Viewer) -> Html:
    resume = form("/actions/resume", viewer, {"destination": one.name}, "Resume") if one.pause or one.agents else NOTHING
    is_paused = one.pause is not None and one.pause.reason is PauseReason.OPERATOR
    pause = NOTHING if is_paused else form("/actions/pause", viewer, {"destination": one.name}, "Pause")
    return tag("div", resume, pause, class_="acts")


def _sources(status: StatusDocument) -> Html:
    rows = [_source(one, status.generated_at) for one in status.sources]
    return card("Sources", *(rows or [tag("p", "none", class_="dim")]))


def _source(one: SourceStatus, now: float) -> Html:
    if one.paused:
        mark = badge("bad", f"not read ({one.paused.value})")
    elif one.read_by:
        mark = badge("good", f"read by the instance {one.read_by}")
    else:
        mark = badge("late", f"{one.settling:,} not read yet") if one.settling else badge("good", "read")
    scanned = "not scanned yet" if one.last_scan_at is None else f"scanned {ago(now - one.last_scan_at)}"
    events = "" if one.watching or one.paused else ", found by scans only"
    late = f", {one.late_parts:,} parts arrived after their call was sent" if one.late_parts else ""
    parts = [
        tag("div", tag("strong", one.name), mark, class_="head"),
        tag("p", tag("span", one.path, class_="place")),
        tag("p", f"{count_of(one.files, 'file')} known, {scanned}{events}{late}", class_="dim") if not one.read_by else NOTHING,
    ]
    if one.paused:
        since = "" if one.paused_since is None else f"not read for {span(now - one.paused_since)}: "
        parts.append(tag("p", f"{since}{one.detail}", class_="wrong"))
    return row(*parts, *(tag("p", warning, class_="warn") for warning in source_warnings(one)))


def _instances(status: StatusDocument) -> Html:
    rows = [_instance(one, status) for one in status.instances]
    return card("Instances that share the ledger", *rows)


def _instance(one: InstanceStatus, status: StatusDocument) -> Html:
    is_silent = one.heartbeat_age_s >= SILENT_S
    mark = badge("bad", f"no heartbeat for {span(one.heartbeat_age_s)}") if is_silent else badge("good", "alive")
    this = " (this one)" if one.name == status.daemon.instance else ""
    started = ago(status.generated_at - one.started_at)
    return row(
        tag("div", tag("strong", one.name + this), mark, class_="head"),
        tag(
            "p",
            f"tunerd {one.version} on {one.host}, started {started}, {count_of(one.in_flight, 'call')} in flight",
            class_="dim",
        ),
    )


def _stranded(one: StrandedRow) -> Html:
    cause = (
        f"their destination {one.destination} is not configured, so they are not sent"
        if one.destination
        else f"they need recordings of the source {one.manifest}, which is not configured"
    )
    words = f"{count_of(one.waiting + one.due, 'call')}: {cause}. Restore it, or map them again with the current rules: "
    return card("Stranded calls", tag("p", words, tag("code", one.command), class_="warn"))


def _failed(shown: Overview, viewer: Viewer) -> Html:
    count = shown.status.calls["failed"].count
    if not count:
        return card("Failed calls", tag("p", "none", class_="dim"))
    some = f"Grouped are the newest {len(shown.failed):,} of {count:,}." if count > len(shown.failed) else ""
    groups = failed_groups(shown.failed, shown.status.generated_at, viewer, are_all=not some)
    return card("Failed calls", tag("p", some, class_="dim") if some else NOTHING, groups)


def _oldest(shown: Overview) -> Html:
    now = shown.status.generated_at

    def one(call: CallRow) -> Html:
        age = tag("span", ago(now - call.admitted_at), class_="dim end")
        attempt = f"; next attempt {next_attempt(call, shown.status)}" if call.state == "due" else ""
        head = tag("div", call_link(call), state_badge(call.state), age, class_="head")
        return row(head, tag("p", f"source {call.source}{attempt}", class_="dim"))

    rows = [one(call) for call in shown.oldest]
    return card("Oldest open calls", *(rows or [tag("p", "none", class_="dim")]))


def _daemon(status: StatusDocument) -> Html:
    daemon, config = status.daemon, status.config
    facts = [
        ("running since", "" if daemon.started_at is None else instant(daemon.started_at)),
        ("process", str(daemon.pid or "")),
        ("ledger", daemon.ledger),
        ("open calls need", f"{status.pending_bytes / 1024 / 1024:,.1f} MiB of the ledger"),
        ("configuration", config.file),
        ("its version", config.fingerprint),
        ("last reload", "" if config.last_reload_at is None else instant(config.last_reload_at)),
    ]
    table = tag("table", *(tag("tr", tag("th", name), tag("td", value)) for name, value in facts if value), class_="facts")
    if config.last_reload_successful:
        return card("Daemon", table)
    refused = tag("p", "The last reload was refused; tunerd keeps the previous configuration:", class_="wrong")
    return card("Daemon", table, refused, joined(*(tag("p", tag("code", problem)) for problem in config.problems)))
