"""The metrics: exact names, zero from the start, few series, and what each event counts."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import tunerd
from tests.ops.parts import NOW, Reading, destination, every_event, failed, sent, source
from tunerd import events as e
from tunerd.call import MappingNotes, State
from tunerd.ops.metrics import Metrics
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason

# design.md section 10, one name a line: a change here is a breaking change for operators.
NAMES = {
    "calls_admitted_total", "calls_sent_total", "calls_failed_total",
    "calls_retried_total", "calls_duplicate_total", "parts_late_total", "calls_already_there_total",
    "documents_read_total", "documents_ignored_total", "rows_dropped_total", "source_only_ignored", "rule_null_total",
    "rule_error_total", "timeline_repairs_total", "redactions_total", "stuck_total", "calls",
    "oldest_call_age_seconds", "uploads_in_flight", "upload_concurrency_limit",
    "upload_duration_seconds", "call_delivery_seconds", "recording_wait_seconds",
    "delivery_paused", "intake_paused", "files_unreadable", "calls_stranded", "ledger_pending_bytes",
    "config_last_reload_successful", "config_last_reload_success_timestamp_seconds", "build_info",
}  # fmt: skip


def make(sources: tuple[str, ...] = ("agent",), reading: Reading | None = None) -> tuple[Metrics, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = Metrics(registry, sources, version="1.2.3", now=lambda: NOW)
    metrics.add_gauges(reading or Reading())
    return metrics, registry


def test_exactly_the_documented_names() -> None:
    """No metric more, none less."""
    metrics, _ = make()
    families = text_string_to_metric_families(metrics.render()[0].decode())
    found = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert found == {f"tunerd_{name}" for name in NAMES}


def test_every_reason_is_there_at_zero() -> None:
    """An alert on a rate needs the series before the first failure."""
    _, registry = make()
    for reason in FailReason:
        assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "agent", "reason": reason}) == 0
    for retry in RetryReason:
        assert registry.get_sample_value("tunerd_calls_retried_total", {"reason": retry}) == 0
    for pause in PauseReason:
        assert registry.get_sample_value("tunerd_delivery_paused", {"reason": pause}) == 0
    for intake in IntakeReason:
        assert registry.get_sample_value("tunerd_intake_paused", {"reason": intake}) == 0
    for state in State:
        assert registry.get_sample_value("tunerd_calls", {"state": state}) == 0


def test_at_most_700_series_for_five_sources() -> None:
    """Even when every rule of every source gave nothing and failed at least once."""
    sources = tuple(f"source-{number}" for number in range(5))
    metrics, _ = make(sources, Reading(source_list=[source(name=name) for name in sources]))
    names = tuple(f"field_{number}" for number in range(200))
    for name in sources:
        notes = MappingNotes(missing=names, left_out=names, repairs=dict.fromkeys(names, 1), redacted=dict.fromkeys(names, 1))
        metrics(e.DocumentMapped(source=name, notes=notes))
    series = [line for line in metrics.render()[0].decode().splitlines() if line and not line.startswith("#")]
    assert len(series) <= 700
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
    assert value("tunerd_parts_late_total", {"source": "agent"}) == 2
    assert value("tunerd_documents_read_total", {"source": "agent"}) == 3
    assert value("tunerd_documents_ignored_total", {"source": "agent"}) == 4
    assert value("tunerd_rule_null_total", {"source": "agent", "field": "call_type"}) == 1
    assert value("tunerd_rule_error_total", {"source": "agent", "field": "summary"}) == 1
    assert value("tunerd_timeline_repairs_total", {"source": "agent", "repair": "swap"}) == 2
    assert value("tunerd_upload_duration_seconds_count", {"outcome": "sent"}) == 1
    assert value("tunerd_call_delivery_seconds_sum", {"source": "agent"}) == 0.5
    assert value("tunerd_recording_wait_seconds_sum", {"source": "agent"}) == 12
    assert value("tunerd_calls_already_there_total", {}) == 0


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
            destination(pause=PauseReason.AUTH, in_flight=2, limit=8),
            destination(agents={"bot": (PauseReason.AUTH, NOW)}, in_flight=1, limit=4),
        ],
        source_list=[source(paused=IntakeReason.MISSING), source(name="egress", unreadable=3)],
    )
    _, registry = make(reading=reading)
    value = registry.get_sample_value
    assert value("tunerd_calls", {"state": "due"}) == 7
    assert value("tunerd_oldest_call_age_seconds", {"state": "due"}) == 90
    assert value("tunerd_oldest_call_age_seconds", {"state": "waiting"}) == 0
    assert value("tunerd_delivery_paused", {"reason": "auth"}) == 2
    assert value("tunerd_intake_paused", {"reason": "missing"}) == 1
    assert value("tunerd_files_unreadable", {"source": "agent"}) == 0
    assert value("tunerd_files_unreadable", {"source": "egress"}) == 3
    assert value("tunerd_uploads_in_flight", {}) == 3
    assert value("tunerd_upload_concurrency_limit", {}) == 12
    assert value("tunerd_ledger_pending_bytes", {}) == 1234
    reading.calls[State.DUE] = 0
    assert value("tunerd_calls", {"state": "due"}) == 0


def test_a_new_source_of_a_reload_starts_at_zero() -> None:
    """`know` makes its series, and leaves those of others alone."""
    metrics, registry = make()
    metrics(failed())
    metrics.know(["agent", "late"])
    assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "late", "reason": "invalid"}) == 0
    assert registry.get_sample_value("tunerd_calls_failed_total", {"source": "agent", "reason": "invalid"}) == 1


def test_both_exposition_formats_parse() -> None:
    """Prometheus asks for OpenMetrics; curl gets the text format."""
    metrics, _ = make()
    for event in every_event():
        metrics(event)
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert list(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
    assert metrics.render()[1].startswith("text/plain")


@pytest.mark.needs_promtool
def test_promtool_has_nothing_to_say() -> None:
    """Prometheus' own linter: names, units, help texts."""
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing; CI must have it (Debian: prometheus)")
        pytest.skip("promtool is not installed (Debian: prometheus)")
    metrics, _ = make()
    for event in every_event():
        metrics(event)
    done = subprocess.run([promtool, "check", "metrics"], input=metrics.render()[0], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_every_state_and_metric_is_documented() -> None:
    """docs/metrics.md lists exactly the metrics of the code."""
    text = (Path(tunerd.__file__).parent.parent / "docs/metrics.md").read_text()
    assert {name.removeprefix("tunerd_") for name in re.findall(r"^\| `(tunerd_\w+)", text, re.MULTILINE)} == set(NAMES)
    assert all(f"`{state.value}`" in text for state in State)
