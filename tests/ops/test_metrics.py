"""The metrics: exact names, zero from the start, few series, and what each event counts."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import tunerd
from tests.ops.parts import NOW, Reading, destination, every_event, failed, sent, source
from tests.real_parts import needs_program
from tunerd import events as e
from tunerd.call import MappingNotes, State
from tunerd.ops.measures import LedgerMeasures
from tunerd.ops.metrics import Metrics
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason

# design.md section 10, one name a line: a change here is a breaking change for operators.
NAMES = {
    "calls_admitted_total", "calls_sent_total", "calls_failed_total",
    "calls_retried_total", "calls_duplicate_total", "parts_late_total", "calls_already_there_total",
    "documents_read_total", "documents_ignored_total", "rows_dropped_total", "source_only_ignored", "rule_null_total",
    "rule_error_total", "timeline_repairs_total", "redactions_total", "stuck_total", "calls", "audio_uploads_total", "audio_upload_bytes_total", "calls_audio",
    "oldest_call_age_seconds", "uploads_in_flight", "upload_concurrency_limit",
    "upload_duration_seconds", "call_delivery_seconds", "recording_wait_seconds",
    "delivery_paused", "intake_paused", "files_unreadable", "calls_stranded", "ledger_pending_bytes",
    "config_last_reload_successful", "config_last_reload_success_timestamp_seconds", "build_info",
    "upload_responses_total", "last_success_timestamp_seconds", "longest_due_seconds", "call_lag_seconds", "intake_lag_seconds",
    "inotify_fallback", "after_sent_failures_total", "recordings_unmatched", "ledger_bytes", "ledger_max_pending_bytes",
    "ledger_disk_free_bytes", "ledger_min_free_bytes", "recording_url_checks_total", "after_upload_failures_total",
}  # fmt: skip
FLEET_NAMES = {"ledger_calls"}
"""Instead of `calls`, with a ledger that several instances share."""
TUNER = "tuner.example/42"


def make(
    sources: tuple[str, ...] = ("agent",), reading: Reading | None = None, destinations: Mapping[str, str] | None = None
) -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    labels = {TUNER: "default"} if destinations is None else destinations
    metrics = Metrics(registry, sources, version="1.2.3", now=lambda: NOW, destinations=labels)
    metrics.add_gauges(reading or Reading())
    return metrics, registry


def names_of(metrics: Metrics) -> set[str]:
    families = text_string_to_metric_families(metrics.render()[0]().decode())
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_a_fleet_has_a_name_of_its_own_for_its_counts() -> None:
    """Each instance shows the same: adding them up, as one may with tunerd_calls, would count each call several times."""
    found = names_of(make(reading=Reading(fleet=True, calls={State.DUE: 3}))[0])
    assert "tunerd_ledger_calls" in found
    assert "tunerd_calls" not in found


def test_exactly_the_documented_names() -> None:
    """No metric of tunerd more, none less; beside them are only those of the process and of Python's garbage collector."""
    found = names_of(make()[0])
    assert {name for name in found if name.startswith("tunerd_")} == {f"tunerd_{name}" for name in NAMES}
    assert {name.partition("_")[0] for name in found} == {"tunerd", "process", "python"}
    assert {"process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_resident_memory_bytes"} <= found
    assert {name for name in found if name.startswith("python_")} == {
        "python_gc_objects_collected_total", "python_gc_objects_uncollectable_total", "python_gc_collections_total",
    }  # fmt: skip


def test_every_reason_is_there_at_zero() -> None:
    """An alert on a rate needs the series before the first failure."""
    _, registry = make()
    for reason in FailReason:
        assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "agent", "reason": reason}) == 0
    for retry in RetryReason:
        assert registry.get_sample_value("tunerd_calls_retried_total", {"reason": retry}) == 0
    for pause in PauseReason:
        assert registry.get_sample_value("tunerd_delivery_paused", {"destination": "default", "reason": pause}) == 0
    for status in ("2xx", "3xx", "4xx", "5xx", "other", "none"):
        assert registry.get_sample_value("tunerd_upload_responses_total", {"destination": "default", "status": status}) == 0
    for state in State:
        assert registry.get_sample_value("tunerd_calls", {"state": state}) == 0


def test_each_source_has_its_gauges_at_zero() -> None:
    """Pauses of intake by source and reason, how late it reads, and whether it hears of files."""
    _, registry = make(reading=Reading(source_list=[source()]))
    for intake in IntakeReason:
        assert registry.get_sample_value("tunerd_intake_paused", {"source": "agent", "reason": intake}) == 0
    for name in ("intake_lag_seconds", "inotify_fallback", "files_unreadable"):
        assert registry.get_sample_value(f"tunerd_{name}", {"source": "agent"}) == 0


def test_at_most_870_series_for_five_sources() -> None:
    """Even when every rule of every source gave nothing and failed at least once."""
    sources = tuple(f"source-{number}" for number in range(5))
    metrics, _ = make(sources, Reading(source_list=[source(name=name) for name in sources]))
    names = tuple(f"field_{number}" for number in range(200))
    for name in sources:
        notes = MappingNotes(missing=names, left_out=names, repairs=dict.fromkeys(names, 1), redacted=dict.fromkeys(names, 1))
        metrics(e.DocumentMapped(source=name, notes=notes))
    series = [line for line in metrics.render()[0]().decode().splitlines() if line and not line.startswith("#")]
    assert len(series) <= 870
    assert not [line for line in series if "_created" in line]


def test_every_event_counts_what_it_should() -> None:
    """Each fact, once, in its series."""
    metrics, registry = make()
    for event in every_event():
        metrics(event)
    value = registry.get_sample_value
    assert value("tunerd_calls_admitted_total", {"source": "agent"}) == 1
    assert value("tunerd_calls_sent_total", {"source": "agent"}) == 1
    assert value("tunerd_calls_failed_total", {"source": "agent", "reason": "invalid"}) == 1
    assert value("tunerd_calls_retried_total", {"reason": "server_error"}) == 1
    assert value("tunerd_calls_duplicate_total", {"source": "agent"}) == 1
    outcomes = ("uploaded", "retry", "upload_expired", "upload_target_lost")
    assert [value("tunerd_audio_uploads_total", {"outcome": outcome}) for outcome in outcomes] == [1, 1, 1, 0]
    assert value("tunerd_audio_upload_bytes_total") == 10
    assert [value("tunerd_recording_url_checks_total", {"found": one}) for one in ("there", "absent")] == [0, 1]
    assert value("tunerd_parts_late_total", {"source": "agent"}) == 2
    assert value("tunerd_documents_read_total", {"source": "agent"}) == 3
    assert value("tunerd_documents_ignored_total", {"source": "agent"}) == 4
    assert value("tunerd_rule_null_total", {"source": "agent", "field": "call_type"}) == 1
    assert value("tunerd_rule_error_total", {"source": "agent", "field": "summary"}) == 1
    assert value("tunerd_timeline_repairs_total", {"source": "agent", "repair": "swap"}) == 2
    assert value("tunerd_upload_duration_seconds_count", {"outcome": "sent"}) == 1
    assert value("tunerd_call_delivery_seconds_sum", {"source": "agent"}) == 0.5
    assert value("tunerd_recording_wait_seconds_sum", {"source": "agent"}) == 12
    assert value("tunerd_call_lag_seconds_sum", {"source": "agent"}) == 90
    assert value("tunerd_after_sent_failures_total", {"source": "agent"}) == 1
    assert value("tunerd_after_upload_failures_total", {"source": "agent"}) == 1
    assert value("tunerd_calls_already_there_total", {}) == 0


def test_a_call_without_an_end_has_no_lag() -> None:
    """Its document does not say when it ended, so nothing is observed."""
    metrics, registry = make()
    metrics(replace(sent(), lag_s=None))
    assert registry.get_sample_value("tunerd_call_lag_seconds_count", {"source": "agent"}) == 0
    assert registry.get_sample_value("tunerd_call_delivery_seconds_count", {"source": "agent"}) == 1


@pytest.mark.parametrize(
    ("status", "label"),
    [(200, "2xx"), (201, "2xx"), (302, "3xx"), (409, "4xx"), (503, "5xx"), (700, "other"), (102, "other"), (None, "none")],
)
def test_answers_are_counted_by_class(status: int | None, label: str) -> None:
    """By destination and class of the HTTP status; an attempt without an answer is `none`."""
    metrics, registry = make()
    metrics(e.AttemptEnded(destination=TUNER, outcome="retry", took_s=0.1, status=status))
    labels = {"destination": "default", "status": label}
    assert registry.get_sample_value("tunerd_upload_responses_total", labels) == 1


def test_a_destination_that_is_gone_is_counted_as_removed() -> None:
    """What it counted moves there, so that sums do not fall; so do attempts that end later, its pauses and its due calls. No
    label is ever a URL, a workspace or an agent."""
    reading = Reading(
        destination_list=[destination(TUNER), destination("old.example/7", agents={"bot": (PauseReason.AUTH, NOW)}, in_flight=1)],
        due_since={"old.example/7": NOW - 60, TUNER: NOW - 5, "older.example/1": NOW + 60},
    )
    metrics, registry = make(reading=reading, destinations={TUNER: "eu", "old.example/7": "us"})
    value = registry.get_sample_value
    metrics(e.AttemptEnded(destination="old.example/7", outcome="sent", took_s=0.1, status=201))
    assert value("tunerd_upload_responses_total", {"destination": "us", "status": "2xx"}) == 1
    assert value("tunerd_delivery_paused", {"destination": "us", "reason": "auth"}) == 1
    metrics.know(["agent"], {TUNER: "eu"})
    metrics(e.AttemptEnded(destination="old.example/7", outcome="sent", took_s=0.1, status=201))
    assert value("tunerd_upload_responses_total", {"destination": "us", "status": "2xx"}) is None
    assert value("tunerd_upload_responses_total", {"destination": "removed", "status": "2xx"}) == 2
    assert value("tunerd_delivery_paused", {"destination": "removed", "reason": "auth"}) == 1
    assert value("tunerd_uploads_in_flight", {"destination": "removed"}) == 1
    assert value("tunerd_longest_due_seconds", {"destination": "removed"}) == 60
    assert value("tunerd_longest_due_seconds", {"destination": "eu"}) == 5
    labels = set(re.findall(r'destination="([^"]*)"', metrics.render()[0]().decode()))
    assert labels == {"eu", "removed"}


def test_a_destination_that_comes_back_begins_anew() -> None:
    """Its old counts stay with `removed`: a counter that starts again at zero is what Prometheus expects."""
    metrics, registry = make()
    metrics(e.AttemptEnded(destination=TUNER, outcome="sent", took_s=0.1, status=200))
    metrics.know(["agent"], {})
    metrics.know(["agent"], {TUNER: "default"})
    value = registry.get_sample_value
    assert value("tunerd_upload_responses_total", {"destination": "default", "status": "2xx"}) == 0
    assert value("tunerd_upload_responses_total", {"destination": "removed", "status": "2xx"}) == 1


def test_only_a_first_attempt_counts_as_already_there() -> None:
    """A 409 after an answer that got lost is expected; a 409 at first sight hints at a wrong call_id rule."""
    metrics, registry = make()
    metrics(sent(already_there=True, attempts=1))
    metrics(sent(already_there=True, attempts=2))
    assert registry.get_sample_value("tunerd_calls_already_there_total", {}) == 1


def test_a_refused_reload_shows_until_a_good_one() -> None:
    """The pair that a config alert is made of."""
    metrics, registry = make()
    metrics(e.ConfigRefused(problems=("x",)))
    assert registry.get_sample_value("tunerd_config_last_reload_successful", {}) == 0
    metrics(e.ConfigReloaded(sources=1))
    assert registry.get_sample_value("tunerd_config_last_reload_successful", {}) == 1
    assert registry.get_sample_value("tunerd_config_last_reload_success_timestamp_seconds", {}) == NOW


def test_gauges_are_read_at_scrape_time() -> None:
    """States, ages, pauses of destinations and of single agents, uploads, bytes."""
    reading = Reading(
        calls={State.DUE: 7, State.SENT: 100},
        oldest_at={State.DUE: NOW - 90},
        destination_list=[
            destination(pause=PauseReason.AUTH, in_flight=2, limit=8, agents={"bot": (PauseReason.AUTH, NOW)}),
            destination("other.example/1", in_flight=1, limit=4, last_accepted_at=NOW - 3),
        ],
        source_list=[
            source(paused=IntakeReason.MISSING, unread_since=NOW - 12.5),
            source(name="egress", unreadable=3, inotify_fallback=True),
        ],
        measured=LedgerMeasures(file_bytes=10, disk_free_bytes=20, unmatched={"egress": 4}),
    )
    _, registry = make(reading=reading, destinations={TUNER: "default", "other.example/1": "other"})
    value = registry.get_sample_value
    assert value("tunerd_calls", {"state": "due"}) == 7
    assert value("tunerd_oldest_call_age_seconds", {"state": "due"}) == 90
    assert value("tunerd_oldest_call_age_seconds", {"state": "waiting"}) == 0
    assert value("tunerd_delivery_paused", {"destination": "default", "reason": "auth"}) == 2
    assert value("tunerd_delivery_paused", {"destination": "other", "reason": "auth"}) == 0
    assert value("tunerd_intake_paused", {"source": "agent", "reason": "missing"}) == 1
    assert value("tunerd_intake_paused", {"source": "egress", "reason": "missing"}) == 0
    assert value("tunerd_intake_lag_seconds", {"source": "agent"}) == 12.5
    assert value("tunerd_inotify_fallback", {"source": "egress"}) == 1
    assert value("tunerd_last_success_timestamp_seconds", {"destination": "default"}) == 0
    assert value("tunerd_last_success_timestamp_seconds", {"destination": "other"}) == NOW - 3
    assert value("tunerd_recordings_unmatched", {"source": "egress"}) == 4
    assert value("tunerd_ledger_bytes", {}) == 10
    assert value("tunerd_ledger_disk_free_bytes", {}) == 20
    assert value("tunerd_ledger_max_pending_bytes", {}) == 5000
    assert value("tunerd_ledger_min_free_bytes", {}) == 64
    assert value("tunerd_files_unreadable", {"source": "agent"}) == 0
    assert value("tunerd_files_unreadable", {"source": "egress"}) == 3
    assert value("tunerd_uploads_in_flight", {"destination": "default"}) == 2
    assert value("tunerd_upload_concurrency_limit", {"destination": "other"}) == 4
    assert value("tunerd_ledger_pending_bytes", {}) == 1234
    reading.calls[State.DUE] = 0
    assert value("tunerd_calls", {"state": "due"}) == 0


def test_a_new_source_of_a_reload_starts_at_zero() -> None:
    """`know` makes its series, and leaves those of others alone."""
    metrics, registry = make()
    metrics(failed())
    metrics.know(["agent", "late"], {TUNER: "default"})
    assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "late", "reason": "invalid"}) == 0
    assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "agent", "reason": "invalid"}) == 1


def test_both_exposition_formats_parse() -> None:
    """Prometheus asks for OpenMetrics; curl gets the text format."""
    metrics, _ = make()
    for event in every_event():
        metrics(event)
    write, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert list(parse_openmetrics(write().decode()))  # type: ignore[no-untyped-call]
    assert metrics.render()[1].startswith("text/plain")


def test_a_scrape_shows_one_moment() -> None:
    """What is counted while the text is written is in the next scrape."""
    metrics, _ = make()
    write, _ = metrics.render()
    metrics(sent())
    assert 'tunerd_calls_sent_total{source="agent"} 0.0' in write().decode()
    assert 'tunerd_calls_sent_total{source="agent"} 1.0' in metrics.render()[0]().decode()


@needs_program("promtool", "Prometheus' own linter (Debian: prometheus)")
def test_promtool_has_nothing_to_say() -> None:
    """Names, units and help texts, of the process's metrics too."""
    reading = Reading(source_list=[source()], measured=LedgerMeasures(unmatched={"egress": 1}))
    metrics, _ = make(reading=reading)
    for event in every_event():
        metrics(event)
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics.render()[0](), capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_every_state_and_metric_is_documented() -> None:
    """docs/metrics.md lists exactly the metrics of the code."""
    text = (Path(tunerd.__file__).parent.parent / "docs/metrics.md").read_text()
    assert {name.removeprefix("tunerd_") for name in re.findall(r"^\| `(tunerd_\w+)", text, re.MULTILINE)} == NAMES | FLEET_NAMES
    assert all(f"`{state.value}`" in text for state in State)
