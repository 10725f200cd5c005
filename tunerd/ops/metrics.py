"""The metrics: one `match` over the events for what is counted, one collector for what is read off at scrape time.

Every name and label is in docs/metrics.md; renaming one is a breaking change. No call ids in labels, every reason and
state at zero from the start, nothing here asks the ledger a question that needs a query.
"""

import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunerd import events as e
from tunerd.call import State
from tunerd.ledger import Gauges
from tunerd.ops.status import DestinationStatus, SourceStatus
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason

OUTCOMES: Final = ("sent", "retry", "failed", "refused")
FIELDS_A_SOURCE: Final = 24
"""More fields (or repairs) than this are counted together as `other`: labels stay few whatever the rules say."""

_ATTEMPT_BUCKETS: Final = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_BUCKETS: Final = (0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
_WAIT_BUCKETS: Final = (1, 10, 60, 300, 900, 1800, 3600, 4 * 3600, 24 * 3600)
_OTHER: Final = "other"


class Reading(Protocol):
    """What a scrape reads off: values that are kept anyway."""

    def gauges(self) -> Gauges: ...
    def destinations(self) -> Sequence[DestinationStatus]: ...
    def sources(self) -> Sequence[SourceStatus]: ...


class Metrics:
    """Call it with each event; `render` gives a scrape. Built once, with a registry of its own."""

    def __init__(self, registry: CollectorRegistry, sources: Iterable[str], *, version: str, now: Callable[[], float]) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        self._now = now
        self._labels: dict[tuple[str, str], set[str]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tunerd_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], label: str) -> Histogram:
            return Histogram(f"tunerd_{name}", text, (label,), buckets=buckets, registry=registry)

        self._admitted = counter("calls_admitted_total", "Calls that entered the ledger.", "source")
        self._sent = counter("calls_sent_total", "Calls that Tuner accepted.", "source")
        self._failed = counter("calls_failed_total", "Calls that are not tried again by themselves.", "source", "reason")
        self._retried = counter("calls_retried_total", "Attempts after which a call is due again.", "reason")
        self._duplicate = counter("calls_duplicate_total", "Documents of a call that was already known.", "source")
        self._already_there = counter("calls_already_there_total", "First attempts that Tuner answered with 409.")
        self._read = counter("documents_read_total", "Documents read from disk.", "source")
        self._ignored = counter("documents_ignored_total", "Documents that the rules leave out on purpose.", "source")
        self._rule_null = counter("rule_null_total", "Rules that gave nothing.", "source", "field")
        self._rule_error = counter("rule_error_total", "Rules that failed; the optional field was left out.", "source", "field")
        self._repairs = counter("timeline_repairs_total", "Repairs made to the times of transcripts.", "source", "repair")
        self._upload = histogram("upload_duration_seconds", "One HTTP attempt.", _ATTEMPT_BUCKETS, "outcome")
        self._delivery = histogram("call_delivery_seconds", "From file settled to accepted.", _DELIVERY_BUCKETS, "source")
        self._wait = histogram("recording_wait_seconds", "How long calls waited for their recording.", _WAIT_BUCKETS, "source")
        self._reload_ok = Gauge("tunerd_config_last_reload_successful", "1: the last (re)load was taken.", registry=registry)
        self._reload_at = Gauge(
            "tunerd_config_last_reload_success_timestamp_seconds", "When a configuration was last taken.", registry=registry
        )
        build = Gauge("tunerd_build_info", "The running version; always 1.", ("version", "python"), registry=registry)
        build.labels(version, platform.python_version()).set(1)

        self._reload_ok.set(1)
        self._reload_at.set(now())
        for retry in RetryReason:
            self._retried.labels(retry.value)
        for outcome in OUTCOMES:
            self._upload.labels(outcome)
        self.know(sources)

    def know(self, sources: Iterable[str]) -> None:
        """Every series of these sources exists from now on, at zero."""
        for source in sources:
            for metric in (self._admitted, self._sent, self._duplicate, self._read, self._ignored, self._delivery, self._wait):
                metric.labels(source)
            for reason in FailReason:
                self._failed.labels(source, reason.value)

    def read_off(self, reading: Reading) -> None:
        """From now on each scrape shows what `reading` says: states, ages, pauses, bytes, uploads in flight."""
        self._registry.register(_AtScrape(reading, self._now))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The scrape, and its content type: OpenMetrics where the asker wants it, else the text format."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def __call__(self, event: e.Event) -> None:
        match event:
            case e.AttemptEnded():
                self._upload.labels(event.outcome).observe(event.took_s)
            case e.CallSent():
                self._sent.labels(event.source).inc()
                self._delivery.labels(event.source).observe(max(0.0, event.delivery_s))
                if event.already_there and event.attempts <= 1:
                    self._already_there.inc()
            case e.CallAdmitted():
                self._admitted.labels(event.source).inc()
            case e.DocumentsRead():
                self._read.labels(event.source).inc(event.count)
            case e.DocumentMapped():
                notes = event.notes
                for field in notes.missing:
                    self._rule_null.labels(event.source, self._few("null", event.source, field)).inc()
                for field in notes.left_out:
                    self._rule_error.labels(event.source, self._few("error", event.source, field)).inc()
                for repair, count in notes.repairs.items():
                    self._repairs.labels(event.source, self._few("repair", event.source, repair)).inc(count)
            case e.CallRetried():
                self._retried.labels(event.reason.value).inc()
            case e.CallFailed():
                self._failed.labels(event.source, event.reason.value).inc()
            case e.CallDuplicate():
                self._duplicate.labels(event.source).inc()
            case e.DocumentIgnored():
                self._ignored.labels(event.source).inc()
            case e.RecordingMatched():
                self._wait.labels(event.source).observe(max(0.0, event.waited_s))
            case e.ConfigReloaded():
                self._reload_ok.set(1)
                self._reload_at.set(self._now())
            case e.ConfigRefused():
                self._reload_ok.set(0)
            case _:
                pass

    def _few(self, kind: str, source: str, label: str) -> str:
        known = self._labels.setdefault((kind, source), set())
        if label not in known:
            if len(known) >= FIELDS_A_SOURCE:
                return _OTHER
            known.add(label)
        return label


class _AtScrape(Collector):
    def __init__(self, reading: Reading, now: Callable[[], float]) -> None:
        self._reading = reading
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """Nothing: or registering would already read."""
        return ()

    def collect(self) -> Iterable[Metric]:
        gauges, now = self._reading.gauges(), self._now()
        destinations, sources = self._reading.destinations(), self._reading.sources()

        calls = GaugeMetricFamily("tunerd_calls", "Calls in the ledger.", labels=("state",))
        for state in State:
            calls.add_metric((state.value,), gauges.calls.get(state, 0))
        oldest = GaugeMetricFamily(
            "tunerd_oldest_call_age_seconds", "Time since the oldest open call was admitted; 0: none.", labels=("state",)
        )
        for state in (state for state in State if state.is_open):
            at = gauges.oldest_at.get(state)
            oldest.add_metric((state.value,), 0.0 if at is None else max(0.0, now - at))
        delivery = GaugeMetricFamily(
            "tunerd_delivery_paused", "Destinations, and agents of destinations, that stand still.", labels=("reason",)
        )
        pauses = [p for d in destinations for p in (d.pause, *(reason for reason, _ in d.agents.values()))]
        for pause in PauseReason:
            delivery.add_metric((pause.value,), pauses.count(pause))
        intake = GaugeMetricFamily("tunerd_intake_paused", "Sources that are not (fully) read.", labels=("reason",))
        for reason in IntakeReason:
            intake.add_metric((reason.value,), sum(source.paused is reason for source in sources))
        yield from (calls, oldest, delivery, intake)
        yield GaugeMetricFamily("tunerd_uploads_in_flight", "HTTP attempts under way.", sum(d.in_flight for d in destinations))
        yield GaugeMetricFamily(
            "tunerd_upload_concurrency_limit", "Attempts that may be under way at once.", sum(d.limit for d in destinations)
        )
        yield GaugeMetricFamily("tunerd_ledger_pending_bytes", "Documents and payloads of open calls.", gauges.pending_bytes)
