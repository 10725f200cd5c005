"""The metrics: one `match` over the events for what is counted, one collector for what is read at scrape time.

Every name and label is in docs/metrics.md; renaming one is a breaking change. Labels contain no call ids, every reason and
state is at zero from the start, and nothing here needs a query of the ledger.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tunerd import events as e
from tunerd.call import ROWS_DROPPED, State
from tunerd.ledger import Gauges
from tunerd.outcome import FailReason, IntakeReason, PauseReason, RetryReason
from tunerd.statuses import DestinationStatus, SourceStatus

OUTCOMES: Final = ("sent", "retry", "failed", "refused", "unconfirmed")
FIELDS_A_SOURCE: Final = 18
"""More fields (or repairs) than this are counted together as `other`: labels stay few, whatever the rules contain."""
KINDS_A_SOURCE: Final = 8
"""The same for kinds of redactions."""

_ATTEMPT_BUCKETS: Final = (0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_BUCKETS: Final = (0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)
_WAIT_BUCKETS: Final = (1, 10, 60, 300, 900, 1800, 3600, 4 * 3600, 24 * 3600)
_OTHER: Final = "other"


class Gauged(Protocol):
    """What a scrape reads: values that are kept anyway."""

    def gauges(self) -> Gauges: ...
    def destinations(self) -> Sequence[DestinationStatus]: ...
    def sources(self) -> Sequence[SourceStatus]: ...
    def stranded(self) -> int: ...


class Metrics:
    """Call it with each event, in the event loop; `render` gives a scrape. Built once, with a registry of its own."""

    def __init__(self, registry: CollectorRegistry, sources: Iterable[str], *, version: str, now: Callable[[], float]) -> None:
        self._registry = registry
        self._now = now
        self._admitted = _Count("calls_admitted", "Calls that entered the ledger.", "source")
        self._sent = _Count("calls_sent", "Calls that Tuner accepted.", "source")
        self._failed = _Count("calls_failed", "Calls that failed, and are not retried automatically.", "source", "reason")
        self._retried = _Count("calls_retried", "Attempts that will be retried.", "reason")
        self._late = _Count("parts_late", "Documents of gathered calls that arrived after their call was sent.", "source")
        self._duplicate = _Count("calls_duplicate", "Documents of a call that was already known.", "source")
        self._already_there = _Count("calls_already_there", "First attempts that Tuner answered with 409.")
        self._read = _Count("documents_read", "Documents read from disk.", "source")
        self._ignored = _Count("documents_ignored", "Documents that the rules ignore on purpose.", "source")
        self._stuck = _Count("stuck", "What the self-check of delivery found stuck and repaired.", "what")
        self._rows_dropped = _Count("rows_dropped", "Rows of transcripts that were dropped, by reason.", "source", "why")
        self._only_ignored: dict[str, int] = {}
        self._rule_null = _LimitedCount("rule_null", "Rules that gave no value.", "source", "field")
        self._rule_error = _LimitedCount("rule_error", "Rules that failed; their optional field was omitted.", "source", "field")
        self._repairs = _LimitedCount("timeline_repairs", "Repairs made to the times of transcripts.", "source", "repair")
        self._redactions = _LimitedCount(
            "redactions", "Texts that redaction removed from calls.", "source", "kind", most=KINDS_A_SOURCE
        )
        self._upload = _Histogram("upload_duration_seconds", "One HTTP attempt.", "outcome", _ATTEMPT_BUCKETS)
        self._delivery = _Histogram("call_delivery_seconds", "From file settled to accepted.", "source", _DELIVERY_BUCKETS)
        self._wait = _Histogram("recording_wait_seconds", "How long calls waited for their recording.", "source", _WAIT_BUCKETS)
        self._reload_ok, self._reload_at = True, now()
        build = GaugeMetricFamily("tunerd_build_info", "The running version; always 1.", labels=("version", "python"))
        build.add_metric((version, platform.python_version()), 1)
        self._build = build

        self._already_there.know()
        for kind in e.StuckKind:
            self._stuck.know(kind.value)
        for retry in RetryReason:
            self._retried.know(retry.value)
        for outcome in OUTCOMES:
            self._upload.know(outcome)
        self.know(sources)
        registry.register(_Collector(self._counted))

    def know(self, sources: Iterable[str]) -> None:
        """Every series of these sources exists from now on, at zero."""
        for source in sources:
            for metric in (self._admitted, self._sent, self._duplicate, self._late, self._read, self._ignored):
                metric.know(source)
            self._delivery.know(source)
            self._wait.know(source)
            for reason in FailReason:
                self._failed.know(source, reason.value)
            for why in ROWS_DROPPED:
                self._rows_dropped.know(source, why)
            self._only_ignored.setdefault(source, 0)

    def add_gauges(self, gauged: Gauged) -> None:
        """From now on each scrape shows states, ages, pauses, bytes and uploads in flight."""
        self._registry.register(_Collector(lambda: _gauges(gauged, self._now())))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The scrape, and its content type: OpenMetrics where the asker wants it, else the text format."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def __call__(self, event: e.Event) -> None:
        match event:
            case e.AttemptEnded():
                self._upload.observe(event.outcome, event.took_s)
            case e.CallSent():
                self._sent.add(event.source)
                self._delivery.observe(event.source, max(0.0, event.delivery_s))
                if event.already_there and event.attempts <= 1:
                    self._already_there.add()
            case e.CallAdmitted():
                self._admitted.add(event.source)
            case e.DocumentsRead():
                self._read.add(event.source, by=event.count)
            case e.DocumentMapped():
                notes = event.notes
                for field in notes.missing:
                    self._rule_null.add(event.source, field)
                for field in notes.left_out:
                    self._rule_error.add(event.source, field)
                for repair, count in notes.repairs.items():
                    self._repairs.add(event.source, repair, by=count)
                for why, count in notes.rows_dropped.items():
                    self._rows_dropped.add(event.source, why, by=count)
                for kind, count in notes.redacted.items():
                    self._redactions.add(event.source, kind, by=count)
            case e.OnlyIgnored():
                self._only_ignored[event.source] = event.count
            case e.CallRetried():
                self._retried.add(event.reason.value)
            case e.CallFailed():
                self._failed.add(event.source, event.reason.value)
            case e.CallDuplicate():
                self._duplicate.add(event.source)
            case e.DocumentIgnored():
                self._ignored.add(event.source)
            case e.LinesIgnored():
                self._ignored.add(event.source, by=event.count)
            case e.PartsLate():
                self._late.add(event.source, by=event.count)
            case e.RecordingMatched():
                self._wait.observe(event.source, max(0.0, event.waited_s))
            case e.ConfigReloaded():
                self._reload_ok, self._reload_at = True, self._now()
            case e.Stuck():
                self._stuck.add(event.what.value, by=event.count)
            case e.ConfigRefused():
                self._reload_ok = False
            case _:
                pass

    def _counted(self) -> Iterable[Metric]:
        for counted in (
            self._admitted, self._sent, self._failed, self._retried, self._duplicate, self._late, self._already_there,
            self._stuck, self._read, self._ignored, self._rows_dropped, self._rule_null, self._rule_error, self._repairs,
            self._redactions, self._upload, self._delivery, self._wait,
        ):  # fmt: skip
            yield counted.family()
        only = GaugeMetricFamily(
            "tunerd_source_only_ignored",
            "Documents in a row that were ignored while none became a call.",
            labels=("source",),
        )
        for source, ignored in self._only_ignored.items():
            only.add_metric((source,), ignored)
        yield only
        yield GaugeMetricFamily("tunerd_config_last_reload_successful", "1: the last (re)load succeeded.", self._reload_ok)
        yield GaugeMetricFamily(
            "tunerd_config_last_reload_success_timestamp_seconds", "When a configuration was last loaded.", self._reload_at
        )
        yield self._build


# The library's own counters take 2 microseconds each, twelve of them a call; a dictionary takes a tenth.


class _Count:
    """A counter by its label values."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._about = (f"tunerd_{name}", text)
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {}

    def know(self, *labels: str) -> None:
        """The series exists from now on."""
        self._values.setdefault(labels, 0)

    def add(self, *labels: str, by: float = 1) -> None:
        self._values[labels] = self._values.get(labels, 0) + by

    def family(self) -> CounterMetricFamily:
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class _LimitedCount(_Count):
    """By (source, name from the rules): at most `most` names a source, then `other`."""

    def __init__(self, name: str, text: str, *labels: str, most: int = FIELDS_A_SOURCE) -> None:
        super().__init__(name, text, *labels)
        self._most = most

    def add(self, *labels: str, by: float = 1) -> None:
        if labels not in self._values and sum(of == labels[0] for of, _ in self._values) >= self._most:
            labels = (labels[0], _OTHER)
        super().add(*labels, by=by)


class _Histogram:
    """A histogram by one label."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float]) -> None:
        self._about = (f"tunerd_{name}", text)
        self._label = label
        self._bounds = [float(bound) for bound in bounds]
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def know(self, label: str) -> None:
        if label not in self._counts:
            self._counts[label] = [0] * (len(self._bounds) + 1)
            self._sums[label] = 0.0

    def observe(self, label: str, value: float) -> None:
        if label not in self._counts:
            self.know(label)
        self._counts[label][bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def family(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(*self._about, labels=(self._label,))
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for label, counts in self._counts.items():
            family.add_metric((label,), list(zip(names, map(float, accumulate(counts)), strict=True)), self._sums[label])
        return family


class _Collector(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise registering would already read."""
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _gauges(gauged: Gauged, now: float) -> Iterable[Metric]:
    gauges, destinations, sources = gauged.gauges(), gauged.destinations(), gauged.sources()

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
        "tunerd_delivery_paused", "Destinations, and agents of destinations, that are paused.", labels=("reason",)
    )
    pauses = [one.reason for d in destinations for one in (d.pause, *d.agents) if one is not None]
    for pause in PauseReason:
        delivery.add_metric((pause.value,), pauses.count(pause))
    intake = GaugeMetricFamily("tunerd_intake_paused", "Sources that are not (fully) read.", labels=("reason",))
    for reason in IntakeReason:
        intake.add_metric((reason.value,), sum(source.paused is reason for source in sources))
    unreadable = GaugeMetricFamily(
        "tunerd_files_unreadable", "Files, and directories below a source's, that cannot be read.", labels=("source",)
    )
    for source in sources:
        unreadable.add_metric((source.name,), source.unreadable)
    yield from (calls, oldest, delivery, intake, unreadable)
    yield GaugeMetricFamily("tunerd_uploads_in_flight", "HTTP attempts in flight.", sum(d.in_flight for d in destinations))
    yield GaugeMetricFamily(
        "tunerd_upload_concurrency_limit", "Attempts that may be in flight at once.", sum(d.limit or 0 for d in destinations)
    )
    yield GaugeMetricFamily(
        "tunerd_calls_stranded", "Open calls whose destination or manifest source is not configured.", gauged.stranded()
    )
    yield GaugeMetricFamily("tunerd_ledger_pending_bytes", "Documents and payloads of open calls.", gauges.pending_bytes)
